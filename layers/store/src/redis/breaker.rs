//! A small circuit breaker: after a run of failures, operations are left out for a while.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::remote::Health;

/// A rest is shortened at random by up to this share, so that not all nodes try at the same time a
/// server that all of them have lost.
const JITTER: f64 = 0.25;

/// A year: as good as for ever.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// - **Closed**: all operations are let through. `threshold` failures in a row open it.
/// - **Open**, for `rest` or up to a quarter less: none is.
/// - **Half-open**, after that: one is. Its success closes the breaker; its failure, or that nothing
///   is heard of it for another rest, keeps it open.
///
/// Whatever succeeds closes it, also what began before it opened: the server is there.
#[derive(Debug)]
pub(super) struct Breaker {
    threshold: u64,
    rest: Duration,
    start: Instant,
    /// In one word, so that no change is half made: below `threshold`, the failures in a row;
    /// from there on, `threshold` and the milliseconds after `start` until which it is open.
    state: AtomicU64,
    opened: AtomicU64,
}

impl Breaker {
    pub(super) fn new(threshold: u32, rest: Duration) -> Self {
        Self {
            threshold: threshold.into(),
            rest: rest.min(LONGEST),
            start: Instant::now(),
            state: AtomicU64::new(0),
            opened: AtomicU64::new(0),
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Open from now on, for one rest.
    fn open(&self) -> u64 {
        let rest = self.rest.mul_f64(1.0 - JITTER * fastrand::f64()).as_millis();
        let rest = u64::try_from(rest).unwrap_or(u64::MAX);
        self.elapsed().saturating_add(rest).saturating_add(self.threshold)
    }

    fn is_closed(&self, state: u64) -> bool {
        state < self.threshold
    }

    /// Whether, not being closed, it is half-open.
    fn is_half_open(&self, state: u64) -> bool {
        self.elapsed() >= state - self.threshold
    }

    /// Whether an operation may be let through.
    pub(super) fn is_worth_trying(&self) -> bool {
        let state = self.state.load(Relaxed);
        self.is_closed(state) || self.is_half_open(state)
    }

    /// Lets an operation through, or not. While half-open, it lets one through.
    pub(super) fn admits(&self) -> bool {
        let state = self.state.load(Relaxed);
        self.is_closed(state)
            || (self.is_half_open(state)
                && self.state.compare_exchange(state, self.open(), Relaxed, Relaxed).is_ok())
    }

    pub(super) fn succeeded(&self) {
        // On the way of every operation: written only if it makes a difference.
        if self.state.load(Relaxed) != 0 {
            self.state.store(0, Relaxed);
        }
    }

    pub(super) fn failed(&self) {
        let next = |state: u64| if state + 1 < self.threshold { state + 1 } else { self.open() };
        let before = self.state.fetch_update(Relaxed, Relaxed, |state| Some(next(state)));
        if before.is_ok_and(|state| state + 1 == self.threshold) {
            self.opened.fetch_add(1, Relaxed);
            tracing::warn!("the second tier has failed {} times in a row", self.threshold);
        }
    }

    /// Whether it isn't closed.
    pub(super) fn rests(&self) -> bool {
        !self.is_closed(self.state.load(Relaxed))
    }

    /// How it stands.
    pub(super) fn health(&self) -> Health {
        Health { resting: self.rests(), rests: self.opened.load(Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(1);

    fn open() -> Breaker {
        let breaker = Breaker::new(3, REST);
        (0..3).for_each(|_| breaker.failed());
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_a_run_of_failures_and_closes_on_a_success() {
        let breaker = Breaker::new(3, REST);
        breaker.failed();
        breaker.failed();
        breaker.succeeded();
        breaker.failed();
        breaker.failed();
        assert!(breaker.admits(), "the failures were not in a row");
        assert_eq!(breaker.health(), Health::default());
        breaker.failed();
        assert!(!breaker.is_worth_trying() && !breaker.admits());
        assert_eq!(breaker.health(), Health { resting: true, rests: 1 });
        tokio::time::advance(REST).await;
        assert!(breaker.is_worth_trying(), "an attempt is due");
        assert!(breaker.admits());
        assert!(!breaker.is_worth_trying() && !breaker.admits(), "but only one");
        breaker.failed();
        tokio::time::advance(REST).await;
        assert!(breaker.admits(), "one that is never heard of again");
        tokio::time::advance(REST).await;
        assert!(breaker.admits(), "keeps no other from being made");
        assert_eq!(breaker.health(), Health { resting: true, rests: 1 }, "it was open throughout");
        breaker.succeeded();
        assert!(breaker.admits() && breaker.admits());
        assert_eq!(breaker.health(), Health { resting: false, rests: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_try_a_lost_server_one_after_another() {
        let breakers: Vec<_> = (0..1000).map(|_| open()).collect();
        let mut tried = Vec::new();
        for _ in 0..REST.as_millis() {
            tokio::time::advance(Duration::from_millis(1)).await;
            tried.push(breakers.iter().filter(|breaker| breaker.admits()).count());
        }
        let early: usize = tried.iter().take(749).sum();
        assert_eq!((early, tried.iter().sum()), (0, 1000), "within the last quarter, each once");
        assert!(tried.iter().all(|now| *now < 20), "{tried:?}");
    }

    #[test]
    fn of_many_threads_one_is_let_through() {
        for _ in 0..200 {
            let breaker = Breaker::new(3, Duration::from_secs(60));
            // Its rest is over.
            breaker.state.store(breaker.threshold, Relaxed);
            let (barrier, breaker) = (&std::sync::Barrier::new(4), &breaker);
            let admitted: usize = std::thread::scope(|scope| {
                let admit = || {
                    barrier.wait();
                    usize::from(breaker.admits())
                };
                [(); 4].map(|()| scope.spawn(admit)).into_iter().map(|it| it.join().unwrap()).sum()
            });
            assert_eq!(admitted, 1);
        }
    }

    #[test]
    fn the_longest_rest_is_long() {
        let breaker = Breaker::new(1, Duration::MAX);
        breaker.failed();
        assert!(!breaker.admits());
    }
}
