//! How long to wait before another attempt: at a request, or at a registry.

use std::time::Duration;

use crate::span::part;

/// Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015): before
/// the first retry somewhere between nothing and `base`, and up to twice as long before each next
/// one, never longer than `max`.
///
/// Default: 25 ms and 250 ms, as Envoy's.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Backoff {
    pub(crate) base: Duration,
    pub(crate) max: Duration,
}

#[cfg(feature = "http")]
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
        part(doubled(self.base, self.max, number), fastrand::f64())
    }
}

#[cfg(feature = "http")]
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(25), Duration::from_millis(250))
    }
}

/// What to wait before the retry `number`, from 1, at most: `base`, doubled each time up to `max`.
fn doubled(base: Duration, max: Duration, number: u32) -> Duration {
    let factor = 1u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(max)
}

/// The waits between attempts that go on until one succeeds. None is shorter than the least, so that
/// many who lost the same server neither come back at once nor ask without a pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    least: Duration,
    most: Duration,
    failures: u32,
}

impl Waits {
    pub(crate) fn new(least: Duration, most: Duration) -> Self {
        Self { least, most: most.max(least), failures: 0 }
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Until the next attempt, after another failure; `dice` is in 0.0..1.0.
    pub(crate) fn next(&mut self, dice: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let most = doubled(self.least, self.most, self.failures);
        self.least + part(most.saturating_sub(self.least), dice)
    }
}

/// `span`, shortened at random by up to a tenth.
pub(crate) fn jittered(span: Duration) -> Duration {
    part(span, 1.0 - 0.1 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[cfg(feature = "http")]
    #[test]
    fn waits_anything_up_to_twice_as_long_each_time_and_never_longer_than_the_most() {
        let backoff = Backoff::new(10 * MS, 35 * MS);
        let bounds = [(1, 10 * MS), (2, 20 * MS), (3, 35 * MS), (4, 35 * MS), (99, 35 * MS)];
        for (number, most) in bounds {
            let waits: Vec<_> = (0..1_000).map(|_| backoff.wait(number)).collect();
            assert!(waits.iter().all(|wait| *wait <= most), "{number}");
            assert!(waits.iter().any(|wait| *wait < most / 4), "{number}");
            assert!(waits.iter().any(|wait| *wait > most * 3 / 4), "{number}");
        }
    }

    #[test]
    fn grows_to_its_bound_and_begins_anew() {
        let (least, most) = (10 * MS, Duration::from_secs(1));
        let mut waits = Waits::new(least, most);
        let longest: Vec<_> = (0..10).map(|_| waits.next(1.0)).collect();
        assert_eq!(longest[..3], [10 * MS, 20 * MS, 40 * MS]);
        assert_eq!(longest[9], most);
        for _ in 0..100 {
            assert!((least..=most).contains(&waits.next(fastrand::f64())));
        }
        waits.reset();
        assert_eq!(waits.next(0.5), least);
    }

    #[test]
    fn what_has_no_end_panics_nowhere() {
        let mut waits = Waits::new(Duration::MAX, Duration::MAX);
        assert_eq!(waits.next(1.0), Duration::MAX);
        assert_eq!(Waits::new(MS, Duration::MAX).next(0.0), MS);
    }
}
