//! How long to wait before another attempt.

use std::time::Duration;

/// Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015): before
/// the first retry somewhere between nothing and `base`, and up to twice as long before each next
/// one, never longer than `max`.
///
/// Default: 25 ms and 250 ms, as Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Backoff {
    pub(crate) base: Duration,
    pub(crate) max: Duration,
}

impl Backoff {
    /// From `base` up to `max`.
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max }
    }

    /// No wait.
    pub fn none() -> Self {
        Self::new(Duration::ZERO, Duration::ZERO)
    }

    /// Before the retry `number`, from 1.
    pub(crate) fn wait(self, number: u32) -> Duration {
        let doubled = 1u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX);
        let most = self.base.saturating_mul(doubled).min(self.max);
        most.mul_f64(fastrand::f64())
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(25), Duration::from_millis(250))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_anything_up_to_twice_as_long_each_time_and_never_longer_than_the_most() {
        let ms = Duration::from_millis;
        let backoff = Backoff::new(ms(10), ms(35));
        for (number, most) in [(1, ms(10)), (2, ms(20)), (3, ms(35)), (4, ms(35)), (99, ms(35))] {
            let waits: Vec<_> = (0..1_000).map(|_| backoff.wait(number)).collect();
            assert!(waits.iter().all(|wait| *wait <= most), "{number}");
            assert!(waits.iter().any(|wait| *wait < most / 4), "{number}");
            assert!(waits.iter().any(|wait| *wait > most * 3 / 4), "{number}");
        }
    }
}
