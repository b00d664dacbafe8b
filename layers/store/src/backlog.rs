//! Invalidations made while the second tier is out of reach, kept in order until it is back.

use std::collections::{HashMap, VecDeque};
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
    order: VecDeque<Target>,
    strengths: HashMap<Target, Strength>,
}

impl Backlog {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { queue: Mutex::default(), capacity: capacity.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, debt: Debt) {
        let mut queue = self.lock();
        if !queue.strengths.contains_key(&debt.target) && queue.order.len() >= self.capacity {
            tracing::warn!(
                capacity = self.capacity,
                "too many invalidations wait for the second tier; everything will be invalidated"
            );
            *queue = Queue::default();
            queue.add(Debt { target: Target::Tag(Tag::everything()), strength: Strength::Hard });
        }
        queue.add(debt);
    }

    /// The oldest debt. It stays until it is [settled](Backlog::settle).
    pub(crate) fn first(&self) -> Option<Debt> {
        let queue = self.lock();
        let target = queue.order.front()?.clone();
        let strength = *queue.strengths.get(&target)?;
        Some(Debt { target, strength })
    }

    /// Drops `debt`, unless a stronger one has taken its place meanwhile.
    pub(crate) fn settle(&self, debt: &Debt) {
        let mut queue = self.lock();
        if queue.strengths.get(&debt.target) == Some(&debt.strength) {
            queue.strengths.remove(&debt.target);
            queue.order.retain(|target| *target != debt.target);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().order.is_empty()
    }
}

impl Queue {
    fn add(&mut self, debt: Debt) {
        match self.strengths.get_mut(&debt.target) {
            Some(strength) if debt.strength == Strength::Hard => *strength = Strength::Hard,
            Some(_) => {}
            None => {
                self.strengths.insert(debt.target.clone(), debt.strength);
                self.order.push_back(debt.target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debt(name: &str, strength: Strength) -> Debt {
        Debt { target: Target::Tag(Tag::new(name).unwrap()), strength }
    }

    #[test]
    fn keeps_order_and_the_strongest_of_each() {
        let backlog = Backlog::new(10);
        for (name, strength) in [
            ("a", Strength::Soft),
            ("b", Strength::Hard),
            ("a", Strength::Hard),
            ("b", Strength::Soft),
        ] {
            backlog.push(debt(name, strength));
        }
        for name in ["a", "b"] {
            let first = backlog.first().unwrap();
            assert_eq!(first, debt(name, Strength::Hard));
            backlog.settle(&first);
        }
        assert!(backlog.is_empty());
    }

    #[test]
    fn a_debt_that_grew_while_it_was_paid_is_still_owed() {
        let backlog = Backlog::new(10);
        backlog.push(debt("a", Strength::Soft));
        let paying = backlog.first().unwrap();
        backlog.push(debt("a", Strength::Hard));
        backlog.settle(&paying);
        assert_eq!(backlog.first(), Some(debt("a", Strength::Hard)));
    }

    #[test]
    fn overflow_becomes_an_invalidation_of_everything() {
        let backlog = Backlog::new(2);
        for name in ["a", "b", "c"] {
            backlog.push(debt(name, Strength::Soft));
        }
        let first = backlog.first().unwrap();
        assert_eq!(
            first,
            Debt { target: Target::Tag(Tag::everything()), strength: Strength::Hard }
        );
    }
}
