//! A small circuit breaker: after a run of failures, operations are left out for a while.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// Closed while operations succeed; open for `rest` after `threshold` failures in a row; then one
/// operation is let through, whose success closes it.
#[derive(Debug)]
pub(super) struct Breaker {
    threshold: u32,
    rest: Duration,
    start: Instant,
    failures: AtomicU32,
    /// Milliseconds after `start`.
    open_until: AtomicU64,
}

impl Breaker {
    pub(super) fn new(threshold: u32, rest: Duration) -> Self {
        Self { threshold, rest, start: Instant::now(), failures: 0.into(), open_until: 0.into() }
    }

    fn rest_millis(&self) -> u64 {
        u64::try_from(self.rest.as_millis()).unwrap_or(u64::MAX)
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_closed(&self) -> bool {
        self.failures.load(Relaxed) < self.threshold
    }

    /// Whether an operation may be let through.
    pub(super) fn is_worth_trying(&self) -> bool {
        self.is_closed() || self.elapsed() >= self.open_until.load(Relaxed)
    }

    /// Lets an operation through, or not. While open, it lets one through for each `rest`.
    pub(super) fn admits(&self) -> bool {
        if self.is_closed() {
            return true;
        }
        let (now, until) = (self.elapsed(), self.open_until.load(Relaxed));
        let next = now.saturating_add(self.rest_millis());
        now >= until && self.open_until.compare_exchange(until, next, Relaxed, Relaxed).is_ok()
    }

    pub(super) fn succeeded(&self) {
        self.failures.store(0, Relaxed);
    }

    pub(super) fn failed(&self) {
        if self.failures.fetch_add(1, Relaxed).saturating_add(1) >= self.threshold {
            self.open_until.store(self.elapsed().saturating_add(self.rest_millis()), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn opens_after_a_run_of_failures_and_closes_on_a_success() {
        let breaker = Breaker::new(3, Duration::from_secs(1));
        breaker.failed();
        breaker.failed();
        breaker.succeeded();
        breaker.failed();
        breaker.failed();
        assert!(breaker.admits(), "the failures were not in a row");
        breaker.failed();
        assert!(!breaker.is_worth_trying() && !breaker.admits());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(breaker.is_worth_trying(), "an attempt is due");
        assert!(breaker.admits());
        assert!(!breaker.is_worth_trying() && !breaker.admits(), "but only one");
        breaker.failed();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(breaker.admits(), "one that is never heard of again");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(breaker.admits(), "keeps no other from being made");
        breaker.succeeded();
        assert!(breaker.admits() && breaker.admits());
    }
}
