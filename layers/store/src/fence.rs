//! Fences: a removal overtakes the fills that run while it happens.
//!
//! A fill reads its origin at some moment; if its key is removed after that moment, what the fill
//! read is old, and storing it would undo the removal. So every fill holds a [`Ticket`] under its
//! keys, and a removal marks the tickets. (Tags need no ticket: their epochs tell.)

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use smallvec::SmallVec;

use crate::epoch::Moment;
use crate::hit::Hit;
use crate::key::{KeyRef, Prehashed};
use crate::slot::Slot;
use crate::time::Timestamp;

/// Set once a fill has been overtaken.
pub(crate) type Fence = Arc<AtomicBool>;

/// The tickets of all running fills, by the hash of their keys. Two keys that share a hash merely
/// overtake each other's fills.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    tickets: Mutex<ByHash>,
    begun: AtomicU64,
}

type ByHash = HashMap<u64, SmallVec<[Fence; 1]>, Prehashed>;

fn mark(map: &ByHash, key: KeyRef<'_>) {
    for fence in map.get(&key.hash()).into_iter().flatten() {
        fence.store(true, Ordering::Release);
    }
}

impl Fences {
    fn lock(&self) -> MutexGuard<'_, ByHash> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for something that begins now, higher than those of all that began before.
    pub(crate) fn next_order(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed)
    }

    /// A ticket for a fill that begins now: `as_of` by the epoch clocks, `began` by the wall's.
    pub(crate) fn begin(
        self: &Arc<Self>,
        keys: &[KeyRef<'_>],
        as_of: Moment,
        began: Timestamp,
    ) -> Ticket {
        self.issue(&mut self.lock(), keys, as_of, began)
    }

    fn issue(
        self: &Arc<Self>,
        map: &mut ByHash,
        keys: &[KeyRef<'_>],
        as_of: Moment,
        began: Timestamp,
    ) -> Ticket {
        let fence = Fence::default();
        let hashes: SmallVec<[u64; 2]> = keys.iter().map(|key| key.hash()).collect();
        for hash in &hashes {
            map.entry(*hash).or_default().push(Arc::clone(&fence));
        }
        let order = self.next_order();
        let base = OnceLock::new();
        Ticket { fences: Arc::clone(self), fence, hashes, as_of, began, order, base }
    }

    /// As [`overtake`](Self::overtake), and a ticket for the one who does so.
    pub(crate) fn take_over(
        self: &Arc<Self>,
        key: KeyRef<'_>,
        as_of: Moment,
        began: Timestamp,
        change: impl FnOnce(),
    ) -> Ticket {
        let mut map = self.lock();
        mark(&map, key);
        change();
        self.issue(&mut map, &[key], as_of, began)
    }

    /// Overtakes the fills of `key`, and does `change` before any of them can store anything.
    pub(crate) fn overtake<T>(&self, key: KeyRef<'_>, change: impl FnOnce() -> T) -> T {
        let map = self.lock();
        mark(&map, key);
        change()
    }

    /// As [`overtake`](Self::overtake), for one who has [taken over](Self::take_over): `change` is
    /// told whether another has overtaken `ticket` since.
    pub(crate) fn overtake_again<T>(
        &self,
        key: KeyRef<'_>,
        ticket: &Ticket,
        change: impl FnOnce(bool) -> T,
    ) -> T {
        let map = self.lock();
        let was_overtaken = ticket.is_overtaken();
        mark(&map, key);
        change(was_overtaken)
    }

    /// Overtakes all fills: once this returns, none that runs now stores anything any more.
    pub(crate) fn overtake_all(&self) {
        for fence in self.lock().values().flatten() {
            fence.store(true, Ordering::Release);
        }
    }
}

/// A fill's permission to store what it gets.
#[derive(Debug)]
pub struct Ticket {
    fences: Arc<Fences>,
    fence: Fence,
    hashes: SmallVec<[u64; 2]>,
    as_of: Moment,
    began: Timestamp,
    order: u64,
    base: OnceLock<Arc<Slot>>,
}

impl Ticket {
    /// What the fill gets may be made of the entry `hit`, as where the origin merely validates it. Such a
    /// value is older than the fill: it isn't stored, nor given to any who wait for it, once the entry
    /// has been invalidated. One entry counts, the first.
    pub fn builds_on<V>(&self, hit: &Hit<V>) {
        let _ = self.base.set(hit.slot());
    }

    /// The entry that the fill [builds on](Self::builds_on).
    pub(crate) fn base(&self) -> Option<&Arc<Slot>> {
        self.base.get()
    }

    /// What the fill had seen when it began.
    pub(crate) fn as_of(&self) -> Moment {
        self.as_of
    }

    pub(crate) fn began(&self) -> Timestamp {
        self.began
    }

    /// When the oldest was fetched of what the fill gets.
    pub(crate) fn oldest(&self) -> Timestamp {
        self.base().map_or(self.began, |base| base.fetched_at.min(self.began))
    }

    /// Where it comes in the order in which fills began, whatever the clocks say.
    pub(crate) fn order(&self) -> u64 {
        self.order
    }

    pub(crate) fn fence(&self) -> Fence {
        Arc::clone(&self.fence)
    }

    /// Whether one of the fill's keys was removed or set since it began.
    pub fn is_overtaken(&self) -> bool {
        self.fence.load(Ordering::Acquire)
    }

    /// Does `store`, unless the fill was overtaken; a removal waits until it is done.
    pub(crate) fn redeem<T>(&self, store: impl FnOnce() -> T) -> Option<T> {
        // The lock is what orders this against a removal: it comes wholly before or wholly after.
        let _map = self.fences.lock();
        (!self.is_overtaken()).then(store)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut map = self.fences.lock();
        for hash in &self.hashes {
            if let Entry::Occupied(mut fences) = map.entry(*hash) {
                fences.get_mut().retain(|fence| !Arc::ptr_eq(fence, &self.fence));
                if fences.get().is_empty() {
                    fences.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fills_of_the_removed_key_are_overtaken_and_nothing_leaks() {
        let fences = Arc::new(Fences::default());
        let [a, b] = [b"a", b"b"].map(|k| KeyRef::new(k));
        let both = fences.begin(&[a, b], Moment::default(), Timestamp::default());
        let other = fences.begin(&[b], Moment::default(), Timestamp::default());
        fences.overtake(a, || ());
        assert_eq!((both.redeem(|| 1), other.redeem(|| 2)), (None, Some(2)));
        let later = fences.begin(&[a], Moment::default(), Timestamp::default());
        assert!(!later.is_overtaken());
        fences.overtake_again(a, &later, |overtaken| assert!(!overtaken, "by nobody else"));
        fences.overtake_again(a, &later, |overtaken| assert!(overtaken));
        drop((both, other, later));
        assert!(fences.lock().is_empty());
    }

    #[test]
    fn all_fills_are_overtaken_at_once() {
        let fences = Arc::new(Fences::default());
        let tickets = [b"a", b"b"]
            .map(|key| fences.begin(&[KeyRef::new(key)], Moment::default(), Timestamp::default()));
        fences.overtake_all();
        assert!(tickets.iter().all(Ticket::is_overtaken));
    }
}
