//! A bound on the memory that all bodies in progress take together.
//!
//! There are two pools of the same size: for bodies that are to be stored, and for those that turned
//! out not to be but are still being read. So clients who read slowly what isn't stored keep nothing
//! from being stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that bodies in progress may take.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Pools>);

#[derive(Debug)]
struct Pools {
    size: usize,
    kept: AtomicUsize,
    passing: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Pools {
            size: bytes,
            kept: AtomicUsize::new(0),
            passing: AtomicUsize::new(0),
        }))
    }

    /// Nothing as yet, for a body that is to be stored.
    pub(crate) fn reservation(&self) -> Reservation {
        Reservation { budget: self.clone(), taken: 0, passing: false, refused: false }
    }
}

/// What one body takes from the budget; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    taken: usize,
    passing: bool,
    /// Whether it was refused what it last asked for.
    refused: bool,
}

impl Reservation {
    fn pool(&self) -> &AtomicUsize {
        if self.passing { &self.budget.0.passing } else { &self.budget.0.kept }
    }

    /// Takes `bytes` more, if the budget allows.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let size = self.budget.0.size;
        let more = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= size);
        let granted = self.pool().fetch_update(Relaxed, Relaxed, more).is_ok();
        if granted {
            self.taken += bytes;
        }
        self.refused = !granted;
        granted
    }

    /// Gives `bytes` back.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.taken);
        self.taken -= bytes;
        self.pool().fetch_sub(bytes, Relaxed);
    }

    /// Gives all back.
    pub(crate) fn release(&mut self) {
        self.shrink(self.taken);
    }

    /// The body will not be stored. What it has taken is there already, so the other pool takes it
    /// even beyond its size, and is [short](Self::is_short) then.
    pub(crate) fn pass(&mut self) {
        if !self.passing {
            self.budget.0.kept.fetch_sub(self.taken, Relaxed);
            self.budget.0.passing.fetch_add(self.taken, Relaxed);
            self.passing = true;
        }
    }

    /// Whether what passes takes all that it may, or as much as leaves too little for this.
    pub(crate) fn is_short(&self) -> bool {
        let all = self.budget.0.passing.load(Relaxed) >= self.budget.0.size;
        self.passing && (all || self.refused)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_all_together_and_takes_back() {
        let budget = Budget::new(10);
        let (mut a, mut b) = (budget.reservation(), budget.reservation());
        assert!(a.grow(8) && !b.grow(3) && b.grow(2));
        a.shrink(3);
        assert!(b.grow(3) && !b.grow(1));
        drop(a);
        assert!(b.grow(5) && !b.grow(1));
        b.release();
        assert!(b.grow(10));
    }

    #[test]
    fn what_passes_takes_nothing_from_what_is_kept() {
        let budget = Budget::new(10);
        let (mut a, mut b) = (budget.reservation(), budget.reservation());
        assert!(a.grow(8));
        a.pass();
        assert!(b.grow(8) && !b.is_short());
        b.pass();
        assert!(b.is_short() && !a.grow(1) && budget.reservation().grow(10));
        drop(b);
        assert!(a.is_short(), "it was refused");
        assert!(a.grow(1) && !a.is_short());
    }
}
