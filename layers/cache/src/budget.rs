//! A bound on the memory that all bodies in progress take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that are left for bodies in progress.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<AtomicUsize>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Nothing as yet.
    pub(crate) fn reservation(&self) -> Reservation {
        Reservation { budget: self.clone(), taken: 0 }
    }
}

/// What one body takes from the budget; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    taken: usize,
}

impl Reservation {
    /// Takes `bytes` more, if the budget allows.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let granted =
            self.budget.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok();
        if granted {
            self.taken += bytes;
        }
        granted
    }

    /// Gives `bytes` back.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.taken);
        self.taken -= bytes;
        self.budget.0.fetch_add(bytes, Relaxed);
    }

    /// Gives all back.
    pub(crate) fn release(&mut self) {
        self.shrink(self.taken);
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
}
