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

    /// Nothing as yet, to grow up to `limit`.
    pub(crate) fn reservation(&self, limit: usize) -> Reservation {
        Reservation { budget: self.clone(), taken: 0, limit }
    }
}

/// What one body takes from the budget; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    taken: usize,
    limit: usize,
}

impl Reservation {
    /// Takes `bytes` more, if the limit and the budget allow.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let within = self.taken.checked_add(bytes).is_some_and(|taken| taken <= self.limit);
        let granted = within
            && self.budget.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok();
        if granted {
            self.taken += bytes;
        }
        granted
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.taken, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_one_and_all_and_takes_back() {
        let budget = Budget::new(10);
        let (mut a, mut b) = (budget.reservation(8), budget.reservation(8));
        assert!(a.grow(8) && !a.grow(1) && !b.grow(3) && b.grow(2));
        drop(a);
        assert!(b.grow(6) && !b.grow(1));
    }
}
