//! How long to wait before trying again.

use std::time::Duration;

/// Exponential backoff with full jitter, but for a least part, so that many who lost the same server
/// don't come back at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(least: Duration, most: Duration) -> Self {
        Self { least, most: most.max(least), failures: 0 }
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Until the next attempt, after another failure; `dice` is in 0.0..1.0.
    pub(super) fn next(&mut self, dice: f64) -> Duration {
        let most = self.least.saturating_mul(2u32.saturating_pow(self.failures)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        self.least + most.saturating_sub(self.least).mul_f64(dice)
    }
}

/// `span`, shortened at random by up to a tenth.
pub(super) fn jittered(span: Duration) -> Duration {
    span.mul_f64(1.0 - 0.1 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_begins_anew() {
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(1));
        let mut backoff = Backoff::new(least, most);
        let longest: Vec<_> = (0..10).map(|_| backoff.next(1.0)).collect();
        assert_eq!(longest[..3], [10, 20, 40].map(Duration::from_millis));
        assert_eq!(longest[9], most);
        for _ in 0..100 {
            assert!((least..=most).contains(&backoff.next(fastrand::f64())));
        }
        backoff.reset();
        assert_eq!(backoff.next(0.5), least);
    }
}
