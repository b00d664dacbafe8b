//! Hit-for-miss: remembers which resources can't be stored, so that nobody waits for another's
//! response only to learn that it isn't shared.
//!
//! A table of fixed size, without locks. A mark may be lost to another one, which costs a wait; one
//! that is taken for another's costs a fill that isn't shared. Both are rare.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use tower_keep_store::KeyBuf;

const SLOTS: usize = 4096;

/// The marks of one layer.
pub(crate) struct Marks {
    /// In the upper half the upper half of a hash, in the lower when the mark ends, in seconds
    /// since the Unix epoch.
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
    window_ms: u64,
}

/// The place of a mark: a resource, as asked for with or without credentials.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MarkId(u64);

impl Marks {
    /// None as yet; each ends after `window`.
    pub(crate) fn new(window: Duration) -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        Self { slots, hasher: RandomState::new(), window_ms }
    }

    /// The mark of a resource. What is stored for nobody in particular may well be stored though
    /// the answer to one who said who he is was not.
    pub(crate) fn id(&self, primary: &KeyBuf, request: &HeaderMap) -> MarkId {
        MarkId(self.hasher.hash_one((primary.as_bytes(), is_identified(request))))
    }

    fn slot(&self, id: MarkId) -> Option<&AtomicU64> {
        // Only the lower bits count.
        #[allow(clippy::cast_possible_truncation, reason = "the lower bits are what is wanted")]
        self.slots.get(id.0 as usize % SLOTS)
    }

    /// Whether the mark is set.
    pub(crate) fn is_set(&self, id: MarkId, now_ms: u64) -> bool {
        let found = self.slot(id).map_or(0, |slot| slot.load(Relaxed));
        found >> 32 == id.0 >> 32 && now_ms / 1000 < found & u64::from(u32::MAX)
    }

    /// Sets the mark.
    pub(crate) fn set(&self, id: MarkId, now_ms: u64) {
        let until = now_ms.saturating_add(self.window_ms) / 1000;
        let secs = u32::try_from(until).unwrap_or(u32::MAX);
        if let Some(slot) = self.slot(id) {
            slot.store((id.0 >> 32) << 32 | u64::from(secs), Relaxed);
        }
    }

    /// Takes the mark away.
    pub(crate) fn clear(&self, id: MarkId) {
        if let Some(slot) = self.slot(id) {
            slot.store(0, Relaxed);
        }
    }
}

impl std::fmt::Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Marks").finish_non_exhaustive()
    }
}

/// Whether a request says whose it is.
pub(crate) fn is_identified(request: &HeaderMap) -> bool {
    request.contains_key(AUTHORIZATION) || request.contains_key(COOKIE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> KeyBuf {
        let mut key = KeyBuf::new();
        key.push(text.as_bytes());
        key
    }

    #[test]
    fn a_mark_is_for_one_resource_and_ends() {
        let (marks, nobody) = (Marks::new(Duration::from_secs(60)), HeaderMap::new());
        let somebody = HeaderMap::from_iter([(COOKIE, "a=b".parse().unwrap())]);
        let id = marks.id(&key("/a"), &nobody);
        assert!(!marks.is_set(id, 0));
        marks.set(id, 0);
        assert!(marks.is_set(id, 59_999) && !marks.is_set(id, 60_000));
        assert!(!marks.is_set(marks.id(&key("/b"), &nobody), 0));
        assert!(!marks.is_set(marks.id(&key("/a"), &somebody), 0));
        marks.clear(id);
        assert!(!marks.is_set(id, 0));
    }
}
