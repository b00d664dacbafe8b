//! What a backend's requests came to: counted where they end, without a lock or a clock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::pick::Outcome;

/// Counters that every request changes, and the pool's keeper reads.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Failures in a row.
    run: AtomicU32,
    /// Successes (the lower half) and failures since they were last taken.
    counts: AtomicU64,
}

impl Record {
    /// Takes an outcome into account. Says whether it makes so many failures in a row.
    pub(crate) fn observe(&self, outcome: Outcome, limit: u32) -> bool {
        match outcome {
            Outcome::Success => {
                self.counts.fetch_add(1, Relaxed);
                // Written only if it changes, as it hardly ever does.
                if self.run.load(Relaxed) != 0 {
                    self.run.store(0, Relaxed);
                }
                false
            }
            Outcome::Failure => {
                self.counts.fetch_add(1 << 32, Relaxed);
                self.run.fetch_add(1, Relaxed).wrapping_add(1) == limit
            }
        }
    }

    pub(crate) fn run(&self) -> u32 {
        self.run.load(Relaxed)
    }

    /// Takes the successes and failures.
    pub(crate) fn take(&self) -> (u32, u32) {
        let counts = self.counts.swap(0, Relaxed);
        #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
        let successes = counts as u32;
        (successes, u32::try_from(counts >> 32).unwrap_or(u32::MAX))
    }

    /// Forgets what was.
    pub(crate) fn clear(&self) {
        self.run.store(0, Relaxed);
        self.counts.store(0, Relaxed);
    }
}
