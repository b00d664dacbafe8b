//! Rates over a window that slides in buckets, and who stands out by them.
//!
//! Not a moving average: where few requests come, that forgets by time what it hasn't seen enough of
//! to judge, and one failure decides (linkerd2-proxy PR 4561).

use super::{Ejection, OutlierDetection};

/// Into how many buckets a window is cut.
pub(crate) const BUCKETS: u32 = 10;

/// Fewer backends say nothing about what is usual. Envoy's `success_rate_minimum_hosts`.
const MINIMUM_BACKENDS: usize = 5;

/// A success rate that is lower than the mean by less is never an outlier.
const TOLERANCE: f64 = 0.05;

/// Successes and failures of one backend, by bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    buckets: [(u32, u32); BUCKETS as usize],
    at: usize,
}

/// How many requests ended within a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
}

impl Window {
    /// A bucket is full: it takes the place of the oldest one.
    pub(crate) fn push(&mut self, counts: (u32, u32)) {
        if let Some(bucket) = self.buckets.get_mut(self.at) {
            *bucket = counts;
        }
        self.at = (self.at + 1) % self.buckets.len();
    }

    pub(crate) fn rate(&self) -> Rate {
        let sum = |rate: Rate, (successes, failures): &(u32, u32)| Rate {
            successes: rate.successes + u64::from(*successes),
            failures: rate.failures + u64::from(*failures),
        };
        self.buckets.iter().fold(Rate::default(), sum)
    }
}

impl Rate {
    fn requests(self) -> u64 {
        self.successes + self.failures
    }

    #[allow(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    fn success(self) -> f64 {
        self.successes as f64 / self.requests().max(1) as f64
    }
}

/// Which of these stand out, and why.
pub(crate) fn outliers(rates: &[Rate], settings: &OutlierDetection) -> Vec<Option<Ejection>> {
    let enough = |rate: &Rate| rate.requests() >= u64::from(settings.minimum_requests.max(1));
    let judged: Vec<f64> = rates.iter().copied().filter(enough).map(Rate::success).collect();
    #[allow(clippy::cast_precision_loss, reason = "there are no 2^52 backends")]
    let count = judged.len() as f64;
    let least = settings.deviation.filter(|_| judged.len() >= MINIMUM_BACKENDS).map(|factor| {
        let mean = judged.iter().sum::<f64>() / count;
        let variance = judged.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
        mean - (factor * variance.sqrt()).max(TOLERANCE)
    });
    let most = settings.failure_percentage.map(u64::from);
    let why = |rate: &Rate| {
        if !enough(rate) {
            None
        } else if most.is_some_and(|most| rate.failures * 100 >= most * rate.requests()) {
            Some(Ejection::FailurePercentage)
        } else if least.is_some_and(|least| rate.success() < least) {
            Some(Ejection::SuccessRate)
        } else {
            None
        }
    };
    rates.iter().map(why).collect()
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(rates: &[(u64, u64)]) -> Vec<Rate> {
        rates.iter().map(|&(successes, failures)| Rate { successes, failures }).collect()
    }

    fn found(rates: &[(u64, u64)], settings: &OutlierDetection) -> Vec<Option<Ejection>> {
        outliers(&of(rates), settings)
    }

    #[test]
    fn one_that_fails_more_than_the_others_stands_out() {
        let settings = OutlierDetection::new();
        let rates = [(1_000, 0), (995, 5), (800, 200), (1_000, 1), (999, 0), (990, 10)];
        let expected = [None, None, Some(Ejection::SuccessRate), None, None, None];
        assert_eq!(found(&rates, &settings), expected);
        assert_eq!(
            found(&rates[..4], &settings),
            [None; 4],
            "four say nothing about what is usual"
        );
    }

    #[test]
    fn a_single_failure_does_not_stand_out() {
        let mut rates = [(1_000, 0); 20];
        rates[7] = (999, 1);
        assert_eq!(found(&rates, &OutlierDetection::new()), [None; 20]);
    }

    #[test]
    fn what_fails_everywhere_ejects_nobody() {
        let rates = [(10, 190), (0, 200), (4, 180), (2, 300), (9, 199), (0, 150)];
        assert_eq!(found(&rates, &OutlierDetection::new()), [None; 6]);
    }

    #[test]
    fn a_percentage_needs_no_others() {
        let settings = OutlierDetection::new().failure_percentage(50);
        let expected = [Some(Ejection::FailurePercentage), None, None];
        assert_eq!(found(&[(50, 50), (51, 50), (10, 80)], &settings), expected);
    }

    #[test]
    fn a_window_forgets_its_oldest_bucket() {
        let mut window = Window::default();
        window.push((1, 7));
        for _ in 1..BUCKETS {
            window.push((2, 0));
        }
        assert_eq!(window.rate(), Rate { successes: 19, failures: 7 });
        window.push((2, 0));
        assert_eq!(window.rate(), Rate { successes: 20, failures: 0 });
    }

    proptest! {
        #[test]
        fn low_traffic_ejects_nobody(rates in prop::collection::vec((0u64..50, 0u64..50), 0..30)) {
            let settings = OutlierDetection::new().failure_percentage(1);
            prop_assert!(found(&rates, &settings).iter().all(Option::is_none));
        }

        #[test]
        fn those_that_do_no_worse_than_the_mean_stay(
            rates in prop::collection::vec((0u64..1_000, 0u64..1_000), 0..30),
        ) {
            let rates = of(&rates);
            let judged: Vec<_> = rates.iter().filter(|rate| rate.requests() >= 100).collect();
            let mean = judged.iter().map(|rate| rate.success()).sum::<f64>() / judged.len() as f64;
            for (rate, why) in rates.iter().zip(outliers(&rates, &OutlierDetection::new())) {
                prop_assert!(why.is_none() || rate.success() < mean - TOLERANCE);
            }
        }
    }
}
