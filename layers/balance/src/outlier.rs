//! Passive health checks, as Envoy's outlier detection: a backend that fails where others don't gets
//! nothing for a while.

pub(crate) mod ejection;
pub(crate) mod rate;
pub(crate) mod record;

use std::time::Duration;

use crate::error::BuildError;

/// Why a backend was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ejection {
    /// So many failures in a row.
    ConsecutiveFailures,
    /// Its success rate was much lower than that of the others.
    SuccessRate,
    /// Its share of failures was above the limit.
    FailurePercentage,
}

/// Ejects backends by how requests end ([`Pick::finish`](crate::Pick::finish)), as Envoy's outlier
/// detection and HAProxy's `observe layer7`. It needs no request of its own, and sees what an active
/// check doesn't.
///
/// | setting | default | Envoy |
/// | --- | --- | --- |
/// | [`consecutive_failures`](Self::consecutive_failures) | 5 | `consecutive_5xx`: 5 |
/// | [`window`](Self::window) | 10 s | `interval`: 10 s |
/// | [`minimum_requests`](Self::minimum_requests) | 100 a window | `success_rate_request_volume`: 100 |
/// | [`success_rate_deviation`](Self::success_rate_deviation) | 1.9, with 5 backends or more | `success_rate_stdev_factor`: 1.9, 5 |
/// | [`failure_percentage`](Self::failure_percentage) | off | off |
/// | [`base_ejection`](Self::base_ejection) | 30 s | `base_ejection_time`: 30 s |
/// | [`max_ejection`](Self::max_ejection) | 300 s | `max_ejection_time`: 300 s |
/// | [`max_ejected_percent`](Self::max_ejected_percent) | 50 %, rounded up | `max_ejection_percent`: 10 % |
///
/// An ejection ends at once, whatever is left of it, when a health check that had failed passes again.
///
/// The last backend that is up is never ejected; and when a health check takes the last one that is
/// up, those that were only ejected come back at once. The ejected one comes back when its time is
/// over, through [slow start](crate::SlowStart) if that is on; if it fails again, the next ejection
/// is longer by the base, up to the maximum. For each window of good conduct, it is shorter by the
/// base again.
///
/// Why 50 % where Envoy has 10 %: two of three backends that are killed are to be left alone, and
/// what is ejected has failed by its own record, not by a guess.
///
/// ```
/// use std::time::Duration;
///
/// use tower_keep_balance::{Backend, Outcome, OutlierDetection, Pool};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::builder()
///     .backends(["a", "b"].map(|name| Backend::new(name, ())))
///     .outlier_detection(OutlierDetection::new().consecutive_failures(3))
///     .build()?;
/// while pool.stats().ejections == 0 {
///     let pick = pool.pick()?;
///     let outcome = if pick.name() == "a" { Outcome::Failure } else { Outcome::Success };
///     pick.finish(outcome);
///     tokio::task::yield_now().await;
/// }
/// assert_eq!(pool.pick()?.name(), "b");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct OutlierDetection {
    pub(crate) consecutive: u32,
    pub(crate) window: Duration,
    pub(crate) minimum_requests: u32,
    pub(crate) deviation: Option<f64>,
    pub(crate) failure_percentage: Option<u8>,
    pub(crate) base: Duration,
    pub(crate) longest: Duration,
    pub(crate) max_percent: u8,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive: 5,
            window: Duration::from_secs(10),
            minimum_requests: 100,
            deviation: Some(1.9),
            failure_percentage: None,
            base: Duration::from_secs(30),
            longest: Duration::from_secs(300),
            max_percent: 50,
        }
    }
}

impl OutlierDetection {
    /// With the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ejects after so many failures in a row; 0 is never. Default: 5.
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive = failures;
        self
    }

    /// Over how long success and failure are counted, in ten buckets that come and go. Default: 10 s.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Backends that ended fewer requests within the window aren't judged by their rates, as a few
    /// mean nothing. Default: 100.
    pub fn minimum_requests(mut self, requests: u32) -> Self {
        self.minimum_requests = requests;
        self
    }

    /// Ejects those whose success rate is lower than the mean by more than `factor` standard
    /// deviations, and by five percentage points, without which one failure in a thousand would
    /// stand out where the others have none. At least five backends must have the
    /// [`minimum_requests`](Self::minimum_requests). What fails everywhere ejects nobody. `None`
    /// turns it off. Default: 1.9.
    pub fn success_rate_deviation(mut self, factor: impl Into<Option<f64>>) -> Self {
        self.deviation = factor.into();
        self
    }

    /// Ejects those of whose requests `percent` or more have failed, however many backends there
    /// are. `None` turns it off. Default: off.
    pub fn failure_percentage(mut self, percent: impl Into<Option<u8>>) -> Self {
        self.failure_percentage = percent.into();
        self
    }

    /// How long the first ejection lasts. Default: 30 s.
    pub fn base_ejection(mut self, time: Duration) -> Self {
        self.base = time;
        self
    }

    /// How long an ejection lasts at most. Default: 300 s.
    pub fn max_ejection(mut self, time: Duration) -> Self {
        self.longest = time;
        self
    }

    /// How many of the backends may be ejected at a time, in percent, rounded up. Default: 50.
    pub fn max_ejected_percent(mut self, percent: u8) -> Self {
        self.max_percent = percent;
        self
    }

    /// Whether it can work.
    pub(crate) fn validate(&self) -> Result<(), BuildError> {
        let text = if self.window < Duration::from_millis(10) {
            "the window of outlier detection is at least 10 ms; the default is 10 s"
        } else if self.base.is_zero() || self.longest < self.base {
            "an ejection lasts longer than zero, and at most max_ejection is base_ejection or more"
        } else if self.deviation.is_some_and(|factor| !(factor.is_finite() && factor > 0.0)) {
            "the factor of success_rate_deviation is above 0; None turns it off"
        } else if self.failure_percentage.is_some_and(|percent| !(1..=100).contains(&percent)) {
            "failure_percentage is 1 to 100; None turns it off"
        } else if !(1..=100).contains(&self.max_percent) {
            "max_ejected_percent is 1 to 100; leave outlier detection out to eject none"
        } else {
            return Ok(());
        };
        Err(BuildError::Setting(text))
    }

    /// How often the buckets are changed.
    pub(crate) fn tick(&self) -> Duration {
        self.window / rate::BUCKETS
    }

    /// How many of so many backends may be ejected.
    pub(crate) fn allowed(&self, backends: usize) -> usize {
        (backends * usize::from(self.max_percent)).div_ceil(100)
    }
}
