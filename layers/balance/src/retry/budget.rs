//! How many attempts may be made beyond the first ones, so that those who try again don't bring
//! down what is merely slow.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

/// Over how many seconds it is counted, as in Finagle and tower.
const SECONDS: u32 = 10;

/// A retry budget, as Finagle's: over ten seconds, retries and hedges may be a share of all
/// requests, and a few a second on top, for services that get few.
///
/// Counted by the second, without a lock. Default: 20 %, and 10 a second.
#[derive(Debug)]
#[must_use]
pub struct Budget {
    percent: u32,
    per_second: u32,
    start: Instant,
    requests: Window,
    retries: Window,
}

impl Budget {
    /// So many per cent of the requests, and so many a second on top.
    pub fn new(percent: u32, per_second: u32) -> Self {
        let (requests, retries) = (Window::default(), Window::default());
        Self { percent, per_second, start: Instant::now(), requests, retries }
    }

    /// No retry but those that cost nothing.
    pub fn none() -> Self {
        Self::new(0, 0)
    }

    fn now(&self) -> u32 {
        // Never more, in any life of a process.
        u32::try_from(self.start.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// A request comes.
    pub(crate) fn deposit(&self) {
        self.requests.add(self.now());
    }

    /// One more attempt is to be made. Says whether it may.
    pub(crate) fn withdraw(&self) -> bool {
        let now = self.now();
        let share = self.requests.sum(now) * u64::from(self.percent) / 100;
        let allowed = share + u64::from(self.per_second) * u64::from(SECONDS);
        // Taken first and given back, so that many at a time don't take the same.
        self.retries.add(now);
        let is_within = self.retries.sum(now) <= allowed;
        if !is_within {
            self.retries.undo(now);
        }
        is_within
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(20, 10)
    }
}

/// Counts of the last seconds. A word each: the second (the upper half), and what happened in it.
#[derive(Debug)]
struct Window([AtomicU64; SECONDS as usize]);

impl Default for Window {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

fn unpack(word: u64) -> (u32, u32) {
    #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
    let count = word as u32;
    #[allow(clippy::cast_possible_truncation, reason = "the upper half")]
    let second = (word >> 32) as u32;
    (second, count)
}

fn pack(second: u32, count: u32) -> u64 {
    u64::from(second) << 32 | u64::from(count)
}

impl Window {
    fn slot(&self, now: u32) -> &AtomicU64 {
        &self.0[(now % SECONDS) as usize]
    }

    fn add(&self, now: u32) {
        let _ = self.slot(now).fetch_update(Relaxed, Relaxed, |word| {
            let (second, count) = unpack(word);
            // One that was held up for seconds doesn't put back the clock.
            let newest = second.max(now);
            let count = if second == newest { count } else { 0 };
            Some(pack(newest, count.saturating_add(1)))
        });
    }

    /// Takes back what was added `now`.
    fn undo(&self, now: u32) {
        let _ = self.slot(now).fetch_update(Relaxed, Relaxed, |word| {
            let (second, count) = unpack(word);
            (second == now).then(|| pack(second, count.saturating_sub(1)))
        });
    }

    fn sum(&self, now: u32) -> u64 {
        let counts = self.0.iter().map(|word| unpack(word.load(Relaxed)));
        let recent = counts.filter(|(second, _)| now.saturating_sub(*second) < SECONDS);
        recent.map(|(_, count)| u64::from(count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn paused<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(test)
    }

    proptest! {
        /// Against a list of what happened when.
        #[test]
        fn allows_exactly_its_share_of_the_last_ten_seconds(
            percent in 0u32..150,
            per_second in 0u32..3,
            steps in proptest::collection::vec((0u64..2_500, 0usize..20, 0usize..20), 1..60),
        ) {
            paused(async {
                let budget = Budget::new(percent, per_second);
                let (mut requests, mut retries) = (VecDeque::new(), VecDeque::new());
                let mut at = 0;
                for (pause, deposits, wishes) in steps {
                    tokio::time::advance(Duration::from_millis(pause)).await;
                    at += pause;
                    let second = at / 1_000;
                    for _ in 0..deposits {
                        budget.deposit();
                        requests.push_back(second);
                    }
                    requests.retain(|then| second - then < 10);
                    retries.retain(|then| second - then < 10);
                    for _ in 0..wishes {
                        let allowed = requests.len() * percent as usize / 100
                            + 10 * per_second as usize;
                        let is_within = retries.len() < allowed;
                        prop_assert_eq!(budget.withdraw(), is_within);
                        if is_within {
                            retries.push_back(second);
                        }
                    }
                }
                Ok(())
            })?;
        }
    }

    #[test]
    fn many_at_a_time_take_no_more_than_there_is() {
        let budget = Budget::new(0, 20);
        let taken: usize = std::thread::scope(|scope| {
            let take = || (0..500).filter(|_| budget.withdraw()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // One that gives back may have kept another from taking.
        assert!((197..=200).contains(&taken), "{taken}");
    }
}
