//! Invalidations that the second tier hasn't got, kept in order until it has.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::tag::{Strength, Tag};

/// What an invalidation was about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Tag(Tag),
    Key(Vec<u8>),
}

/// One invalidation that the other nodes haven't heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Debt {
    pub(crate) target: Target,
    pub(crate) strength: Strength,
}

/// Where a debt stands in the queue. No two debts ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

/// The queue. It holds each target once, at its strongest.
///
/// When it is full, everything in it is replaced by one invalidation of everything: a large
/// outage costs misses, never a stale read.
#[derive(Debug)]
pub(crate) struct Backlog {
    queue: Mutex<Queue>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Queue {
    debts: BTreeMap<Place, Debt>,
    places: HashMap<Target, Place>,
    next: u64,
}

impl Backlog {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { queue: Mutex::default(), capacity: capacity.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `debt`. If its target is owed already, it takes a new place: the payment that may be
    /// under way doesn't cover it.
    pub(crate) fn push(&self, debt: Debt) {
        let mut queue = self.lock();
        if !queue.places.contains_key(&debt.target) && queue.debts.len() >= self.capacity {
            tracing::warn!(
                capacity = self.capacity,
                "too many invalidations wait for the second tier; everything will be invalidated"
            );
            queue.debts.clear();
            queue.places.clear();
            queue.add(Debt { target: Target::Tag(Tag::everything()), strength: Strength::Hard });
        }
        queue.add(debt);
    }

    /// The oldest debts, at most so many. They stay until they are [settled](Backlog::settle).
    pub(crate) fn oldest(&self, most: usize) -> Vec<(Place, Debt)> {
        self.lock().debts.iter().take(most).map(|(place, debt)| (*place, debt.clone())).collect()
    }

    /// Drops the debt at `place`, unless its target was owed anew meanwhile.
    pub(crate) fn settle(&self, place: Place) {
        let mut queue = self.lock();
        if let Some(debt) = queue.debts.remove(&place) {
            queue.places.remove(&debt.target);
        }
    }

    /// Moves the debt at `place` behind all others.
    pub(crate) fn postpone(&self, place: Place) {
        let mut queue = self.lock();
        if let Some(debt) = queue.debts.remove(&place) {
            queue.add(debt);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().debts.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().debts.is_empty()
    }
}

impl Queue {
    fn add(&mut self, mut debt: Debt) {
        let place = Place(self.next);
        self.next += 1;
        let earlier = self.places.insert(debt.target.clone(), place);
        if let Some(earlier) = earlier.and_then(|place| self.debts.remove(&place))
            && earlier.strength == Strength::Hard
        {
            debt.strength = Strength::Hard;
        }
        self.debts.insert(place, debt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debt(name: &str, strength: Strength) -> Debt {
        Debt { target: Target::Tag(Tag::new(name).unwrap()), strength }
    }

    fn pay_first(backlog: &Backlog) -> Debt {
        let (place, debt) = backlog.oldest(1).remove(0);
        backlog.settle(place);
        debt
    }

    #[test]
    fn keeps_order_and_the_strongest_of_each() {
        let backlog = Backlog::new(10);
        for (name, strength) in [
            ("a", Strength::Soft),
            ("b", Strength::Hard),
            ("c", Strength::Soft),
            ("a", Strength::Hard),
            ("b", Strength::Soft),
        ] {
            backlog.push(debt(name, strength));
        }
        assert_eq!(pay_first(&backlog), debt("c", Strength::Soft));
        assert_eq!(pay_first(&backlog), debt("a", Strength::Hard));
        assert_eq!(pay_first(&backlog), debt("b", Strength::Hard));
        assert!(backlog.is_empty());
    }

    #[test]
    fn a_debt_owed_anew_while_it_was_paid_is_still_owed() {
        let backlog = Backlog::new(10);
        for (before, after) in [(Strength::Soft, Strength::Hard), (Strength::Hard, Strength::Hard)]
        {
            backlog.push(debt("a", before));
            let (paying, _) = backlog.oldest(1).remove(0);
            backlog.push(debt("a", after));
            backlog.settle(paying);
            assert_eq!(pay_first(&backlog), debt("a", after));
            assert!(backlog.is_empty());
        }
    }

    #[test]
    fn a_debt_that_cannot_be_paid_lets_the_others_pass() {
        let backlog = Backlog::new(10);
        backlog.push(debt("a", Strength::Hard));
        backlog.push(debt("b", Strength::Hard));
        let (first, _) = backlog.oldest(1).remove(0);
        backlog.postpone(first);
        assert_eq!(pay_first(&backlog), debt("b", Strength::Hard));
        assert_eq!(pay_first(&backlog), debt("a", Strength::Hard));
    }

    #[test]
    fn overflow_becomes_an_invalidation_of_everything() {
        let backlog = Backlog::new(2);
        for name in ["a", "b", "c"] {
            backlog.push(debt(name, Strength::Soft));
        }
        let everything = Debt { target: Target::Tag(Tag::everything()), strength: Strength::Hard };
        assert_eq!(pay_first(&backlog), everything);
        assert_eq!(pay_first(&backlog), debt("c", Strength::Soft));
    }
}
