//! A small circuit breaker: after a run of failures, operations are left out for a while.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// Closed while operations succeed; open for `rest` after `threshold` failures in a row; then one
/// failure more opens it again, and one success closes it.
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

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.failures.load(Relaxed) < self.threshold
            || self.elapsed() >= self.open_until.load(Relaxed)
    }

    pub(super) fn succeeded(&self) {
        self.failures.store(0, Relaxed);
    }

    pub(super) fn failed(&self) {
        if self.failures.fetch_add(1, Relaxed).saturating_add(1) >= self.threshold {
            let rest = u64::try_from(self.rest.as_millis()).unwrap_or(u64::MAX);
            self.open_until.store(self.elapsed().saturating_add(rest), Relaxed);
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
        assert!(breaker.is_closed(), "the failures were not in a row");
        breaker.failed();
        assert!(!breaker.is_closed());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(breaker.is_closed(), "an attempt is due");
        breaker.failed();
        assert!(!breaker.is_closed(), "and failed");
        tokio::time::advance(Duration::from_secs(1)).await;
        breaker.succeeded();
        assert!(breaker.is_closed());
    }
}
