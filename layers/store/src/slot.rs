//! A slot: one entry as the first tier holds it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::tag_table::{Stamps, TagStamp};
use crate::throttle::Throttle;
use crate::time::Timestamp;
use crate::ttl::{Lifetime, State};

/// What an entry takes beside its value and key: the slot, and its places in the maps, as measured:
/// see `tests/memory.rs`.
const OVERHEAD: usize = 440;

/// An entry, its value decoded. The type of the value is erased, so that all types share one bound.
pub(crate) struct Slot {
    pub(crate) lifetime: Lifetime,
    pub(crate) stamps: Stamps,
    pub(crate) weight: u32,
    /// When that began by which it was fetched, in the order of this process.
    pub(crate) order: u64,
    /// When this node began to fetch it from its origin; for one that came from the second tier, never.
    pub(crate) fetched_at: Timestamp,
    /// How long its fill took, in milliseconds; 0 if that isn't known, or there was none.
    pub(crate) took: u32,
    softened: AtomicBool,
    /// The last turn of the first tier's judge in which it was told that this is read.
    read_in: AtomicU32,
    /// No early refresh begins before this, in milliseconds.
    pub(crate) early_after: AtomicU64,
    /// What came of refreshing it.
    pub(crate) throttle: Throttle,
    pub(crate) value: Arc<dyn Any + Send + Sync>,
}

impl Slot {
    /// `bytes` is what the key and the value take.
    pub(crate) fn new<V: Send + Sync + 'static>(
        value: Arc<V>,
        lifetime: Lifetime,
        softened: bool,
        stamps: Stamps,
        order: u64,
        bytes: usize,
        fetched_at: Timestamp,
    ) -> Self {
        let weight = bytes
            .saturating_add(OVERHEAD + if stamps.spilled() { size_of_val(&*stamps) } else { 0 });
        Self {
            lifetime,
            stamps,
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
            order,
            fetched_at,
            took: 0,
            softened: AtomicBool::new(softened),
            read_in: AtomicU32::new(0),
            early_after: AtomicU64::new(0),
            throttle: Throttle::default(),
            value,
        }
    }

    pub(crate) fn was_read_in(&self, turn: u32) -> bool {
        self.read_in.load(Ordering::Relaxed) == turn
    }

    pub(crate) fn read_in(&self, turn: u32) {
        self.read_in.store(turn, Ordering::Relaxed);
    }

    /// The same, of which the fill took so many milliseconds.
    pub(crate) fn took(self, took: u32) -> Self {
        Self { took, ..self }
    }

    /// If this is what lies in `there`, read once more: takes over what came of refreshing that.
    pub(crate) fn inherit(&self, there: &Self) {
        let is_softened = |slot: &Self| slot.softened.load(Ordering::Acquire);
        if there.lifetime == self.lifetime && is_softened(there) == is_softened(self) {
            self.throttle.inherit(&there.throttle);
            let early_after = there.early_after.load(Ordering::Relaxed);
            self.early_after.store(early_after, Ordering::Relaxed);
        }
    }

    /// Makes it stale from now on.
    pub(crate) fn soften(&self) {
        self.softened.store(true, Ordering::Release);
        self.throttle.end();
    }

    /// Whether none of its tags was invalidated since it was stored. It may be too old all the same.
    pub(crate) fn is_valid(&self) -> bool {
        self.stamps.iter().all(TagStamp::is_valid)
    }

    pub(crate) fn state(&self, now: Timestamp) -> State {
        let mut softened = self.softened.load(Ordering::Acquire);
        for stamp in &self.stamps {
            if !stamp.is_valid() {
                return State::Gone;
            }
            softened |= !stamp.is_fresh();
        }
        self.lifetime.state(now, softened)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("lifetime", &self.lifetime)
            .field("stamps", &self.stamps)
            .finish_non_exhaustive()
    }
}
