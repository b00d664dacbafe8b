//! The memory for responses that are kept while they are sent.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

/// Bounded room. Where it is short, what is kept for longest goes: the client that reads it is slow, or
/// doesn't read at all.
#[derive(Debug)]
pub(super) struct Room<T> {
    max: usize,
    taken: AtomicUsize,
    kept: Mutex<Queue<T>>,
}

/// What is kept, the oldest first, with what is gone and not yet swept out.
#[derive(Debug)]
struct Queue<T> {
    places: VecDeque<Weak<Mutex<Option<T>>>>,
    /// How many there may be before those that are gone are swept out.
    sweep_at: usize,
}

/// The fewest that are worth sweeping.
const FEW: usize = 16;

impl<T> Queue<T> {
    fn push(&mut self, place: Weak<Mutex<Option<T>>>) {
        if self.places.len() >= self.sweep_at {
            self.places.retain(|place| place.strong_count() > 0);
            // As many must come as are left, so that each of them is looked at but twice on average.
            self.sweep_at = FEW.max(2 * self.places.len());
        }
        self.places.push_back(place);
    }
}

/// Something that is kept, and may be gone at any time.
pub(super) type Place<T> = Arc<Mutex<Option<T>>>;

impl<T> Room<T> {
    pub(super) fn new(max: usize) -> Self {
        let queue = Queue { places: VecDeque::new(), sweep_at: FEW };
        Self { max, taken: AtomicUsize::new(0), kept: Mutex::new(queue) }
    }

    /// Keeps `what`, until room is short.
    pub(super) fn keep(&self, what: T) -> Place<T> {
        let place = Arc::new(Mutex::new(Some(what)));
        self.queue().push(Arc::downgrade(&place));
        place
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes so many bytes, from others if need be. Whether there are as many.
    pub(super) fn take(&self, bytes: usize) -> bool {
        if bytes > self.max {
            return false;
        }
        let mut others = self.queue().places.len();
        while !self.try_take(bytes) {
            let Some(left) = others.checked_sub(1) else { return false };
            others = left;
            let Some(oldest) = self.queue().places.pop_front() else { return false };
            let Some(place) = oldest.upgrade() else { continue };
            let gone = match place.try_lock() {
                Ok(mut there) => there.take(),
                Err(TryLockError::Poisoned(there)) => there.into_inner().take(),
                // Something is being added to it, perhaps by whoever needs the room.
                Err(TryLockError::WouldBlock) => {
                    self.queue().places.push_back(oldest);
                    None
                }
            };
            drop(gone);
        }
        true
    }

    fn try_take(&self, bytes: usize) -> bool {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|all| *all <= self.max);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Bytes(Arc<Room<Bytes>>, usize);

    impl Drop for Bytes {
        fn drop(&mut self) {
            self.0.give_back(self.1);
        }
    }

    #[test]
    fn who_needs_room_has_it_from_the_oldest() {
        let room = Arc::new(Room::new(100));
        let places: Vec<_> = (0..10)
            .map(|_| {
                assert!(room.take(10));
                room.keep(Bytes(Arc::clone(&room), 10))
            })
            .collect();
        let there = |places: &[Place<Bytes>]| -> Vec<bool> {
            places.iter().map(|place| place.lock().unwrap().is_some()).collect()
        };
        let growing = places[0].lock().unwrap();
        assert!(room.take(15));
        drop(growing);
        assert_eq!(there(&places)[..4], [true, false, false, true], "but for one in use");
        assert!(!room.take(101) && room.take(85));
        assert_eq!(there(&places), [false; 10]);
        assert!(!room.take(1));
        room.give_back(100);
        assert!(room.take(100));
    }

    #[test]
    fn many_are_swept_seldom_and_what_is_gone_soon() {
        let room = Room::new(100);
        let swept = Cell::new(0);
        let keep = |n| -> Vec<Place<()>> {
            let keep = |_| {
                let before = room.queue().sweep_at;
                let place = room.keep(());
                if room.queue().sweep_at != before {
                    swept.set(swept.get() + 1);
                }
                place
            };
            (0..n).map(keep).collect()
        };
        let held = keep(5000);
        for _ in 0..5000 {
            drop(keep(1));
        }
        assert!(swept.get() < 12, "{} times", swept.get());
        assert!(room.queue().places.len() <= 2 * held.len());
        drop(held);
        for _ in 0..20_000 {
            drop(keep(1));
        }
        assert!(room.queue().places.len() <= FEW);
    }
}
