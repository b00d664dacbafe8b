//! Active health checks: what to ask a backend, how often, and what to make of the answers.

pub(crate) mod checker;
pub(crate) mod probe;
pub(crate) mod tally;

#[cfg(feature = "probe-tcp")]
mod address;
#[cfg(feature = "probe-tcp")]
mod connect;
#[cfg(feature = "probe-http")]
mod exchange;
#[cfg(feature = "probe-grpc")]
mod grpc;
#[cfg(feature = "probe-http")]
mod http;
#[cfg(feature = "probe-tcp")]
mod tcp;

use std::time::Duration;

#[cfg(feature = "probe-tcp")]
pub use self::address::Address;
#[cfg(feature = "probe-tcp")]
pub use self::connect::{ByTarget, Connect, Connection, Plain, Versions};
#[cfg(feature = "probe-grpc")]
pub use self::grpc::Grpc;
#[cfg(feature = "probe-http")]
pub use self::http::Http;
pub use self::probe::{Probe, ProbeError};
#[cfg(feature = "probe-tcp")]
pub use self::tcp::Tcp;
use crate::error::BuildError;
use crate::span::part;

/// What a backend counts as before its first check has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Initially {
    /// Healthy: a process that has just started can serve at once.
    #[default]
    Healthy,
    /// Unhealthy: it gets nothing until it has passed one check. A pool of which nothing has been
    /// checked yet uses all, unless it is set to
    /// [`WhenNoneHealthy::Refuse`](crate::WhenNoneHealthy::Refuse).
    Unhealthy,
}

/// Active checks of the backends of a pool: each is asked at intervals by a
/// [`Probe`].
///
/// | setting | default | HAProxy | Envoy |
/// | --- | --- | --- | --- |
/// | [`interval`](Self::interval) | 10 s | `inter` | `interval` |
/// | [`timeout`](Self::timeout) | 2 s, or the interval if that is shorter | `timeout check` | `timeout` |
/// | [`rise`](Self::rise) | 2 | `rise` | `healthy_threshold` |
/// | [`fall`](Self::fall) | 3 | `fall` | `unhealthy_threshold` |
/// | [`jitter`](Self::jitter) | 20 % | `spread-checks` | `interval_jitter_percent` |
/// | [`initially`](Self::initially) | healthy | | |
///
/// So one that dies gets nothing more after 3 intervals and a timeout, or sooner: 32 s.
///
/// The checks of a backend begin when it is added and end when it is removed or the last handle of
/// the pool is dropped. One waits for the one before, so they never pile up, and one that panics is
/// one that failed.
///
/// ```
/// use std::time::Duration;
///
/// use tower_keep_balance::health::ProbeError;
/// use tower_keep_balance::{Backend, HealthCheck, Pool};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let check = HealthCheck::new(|target: &u16| {
///     let target = *target;
///     async move { if target == 1 { Ok(()) } else { Err(ProbeError::other("it is down")) } }
/// });
/// let pool = Pool::builder()
///     .backend(Backend::new("up", 1))
///     .backend(Backend::new("down", 2))
///     .health_check(check.interval(Duration::from_millis(10)).fall(1))
///     .build()?;
/// let mut changes = pool.changes();
/// assert_eq!(changes.next().await.map(|change| change.name.to_string()), Some("down".to_owned()));
/// assert_eq!(pool.pick()?.name(), "up");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HealthCheck<P> {
    pub(crate) probe: P,
    pub(crate) timing: Timing,
}

/// When to check, and how often to believe it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    interval: Duration,
    timeout: Option<Duration>,
    pub(crate) rise: u32,
    pub(crate) fall: u32,
    jitter: u8,
    pub(crate) initially: Initially,
}

impl<P> HealthCheck<P> {
    /// Checks by `probe`.
    pub fn new(probe: P) -> Self {
        let timing = Timing {
            interval: Duration::from_secs(10),
            timeout: None,
            rise: 2,
            fall: 3,
            jitter: 20,
            initially: Initially::default(),
        };
        Self { probe, timing }
    }

    /// How long from the beginning of a check to that of the next, at most. Default: 10 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.timing.interval = interval;
        self
    }

    /// After how long without an answer a check has failed: at most the interval. Default: 2 s, or
    /// the interval if that is shorter.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timing.timeout = Some(timeout);
        self
    }

    /// How many checks in a row one that is unhealthy has to pass to be healthy again. At least 1.
    /// Default: 2.
    pub fn rise(mut self, checks: u32) -> Self {
        self.timing.rise = checks;
        self
    }

    /// How many checks in a row one that is healthy has to fail to be unhealthy. At least 1.
    /// Default: 3.
    pub fn fall(mut self, checks: u32) -> Self {
        self.timing.fall = checks;
        self
    }

    /// By how many percent an interval is shortened at random, and within how many percent of it the
    /// first check takes place, so that many backends, or many balancers, don't check all at once.
    /// Default: 20.
    pub fn jitter(mut self, percent: u8) -> Self {
        self.timing.jitter = percent;
        self
    }

    /// What a backend counts as before its first check. Default: healthy.
    pub fn initially(mut self, initially: Initially) -> Self {
        self.timing.initially = initially;
        self
    }
}

impl Timing {
    /// Whether it can work.
    pub(crate) fn validate(&self) -> Result<(), BuildError> {
        let text = if self.interval.is_zero() {
            "a health check needs an interval above zero; the default is 10 s"
        } else if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            "a health check needs a timeout above zero; the default is 2 s"
        } else if self.timeout.is_some_and(|timeout| timeout > self.interval) {
            "the timeout of a health check is longer than its interval; make the interval longer"
        } else if self.rise == 0 || self.fall == 0 {
            "the thresholds of a health check, rise and fall, begin at 1"
        } else if self.jitter > 100 {
            "the jitter of a health check is a percentage, at most 100"
        } else {
            return Ok(());
        };
        Err(BuildError::Setting(text))
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(self.interval.min(Duration::from_secs(2)))
    }

    /// Until the first check; `dice` is in 0.0..1.0.
    pub(crate) fn first(&self, dice: f64) -> Duration {
        part(self.interval, self.spread() * dice)
    }

    /// From the beginning of a check to that of the next.
    pub(crate) fn next(&self, dice: f64) -> Duration {
        part(self.interval, 1.0 - self.spread() * dice)
    }

    fn spread(&self) -> f64 {
        f64::from(self.jitter) / 100.0
    }
}
