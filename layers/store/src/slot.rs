//! A slot: one entry as the first tier holds it.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::early::Beta;
use crate::epoch::Moment;
use crate::tag::Tag;
use crate::tag_table::{Stamps, TagStamp};
use crate::throttle::{Retry, Throttle};
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
    took: u32,
    softened: AtomicBool,
    /// The last turn of the first tier's judge in which it was told that this is read.
    read_in: AtomicU32,
    /// No early refresh begins before this, in milliseconds.
    early_after: AtomicU64,
    /// What came of refreshing it.
    throttle: Throttle,
    value: Arc<dyn Any + Send + Sync>,
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

/// An entry that a lookup found: its value, to which it derefs, and what that is good for.
pub struct Hit<V> {
    value: Arc<V>,
    slot: Arc<Slot>,
    state: State,
}

impl<V: Send + Sync + 'static> Hit<V> {
    /// `None` if the entry is gone, or of another type.
    pub(crate) fn new(slot: Arc<Slot>, now: Timestamp) -> Option<Self> {
        let state = slot.state(now);
        if state == State::Gone {
            return None;
        }
        let value = Arc::clone(&slot.value).downcast().ok()?;
        Some(Self { value, slot, state })
    }
}

impl<V> Hit<V> {
    /// The value, shared.
    pub fn into_value(self) -> Arc<V> {
        self.value
    }

    /// What it was good for when it was looked up.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its instants.
    pub fn lifetime(&self) -> &Lifetime {
        &self.slot.lifetime
    }

    /// The tags that it was stored with.
    pub fn tags(&self) -> impl Iterator<Item = &Tag> {
        self.slot.stamps.iter().map(|stamp| stamp.cell.tag()).filter(|tag| !tag.is_own())
    }

    /// The same entry as found at `now`: an invalidation may have come since the lookup. `None` if it
    /// is gone.
    pub fn again(&self, now: Timestamp) -> Option<Self> {
        let state = self.slot.state(now);
        (state != State::Gone).then(|| Self { state, ..self.clone() })
    }

    pub(crate) fn slot(&self) -> Arc<Slot> {
        Arc::clone(&self.slot)
    }

    /// Whether it may be given to one for whom what was fetched before `oldest` is too old.
    pub(crate) fn is_given(&self, oldest: Timestamp) -> bool {
        self.slot.fetched_at >= oldest
    }

    /// Those, and the ones of [parts of its space](crate::Space::part_tag).
    pub fn all_tags(&self) -> impl Iterator<Item = &Tag> {
        let tags = self.slot.stamps.iter().map(|stamp| stamp.cell.tag());
        tags.filter(|tag| !tag.is_own() || tag.is_part())
    }

    /// Whether this fresh entry is to be refreshed already, `beta` being the eagerness: by the die, and
    /// not again within `pause`, whatever becomes of it. One who is told so has that to do.
    #[inline]
    pub(crate) fn is_due_early(&self, beta: Beta, now: Timestamp, pause: Duration) -> bool {
        let slot = &self.slot;
        beta.is_due(slot.took, &slot.lifetime, now, fastrand::f64)
            && self.state == State::Fresh
            && self.claim_early(now, pause)
    }

    #[cold]
    fn claim_early(&self, now: Timestamp, pause: Duration) -> bool {
        let after = self.slot.early_after.load(Ordering::Relaxed);
        let next = now.saturating_add(pause).as_millis();
        now.as_millis() >= after
            && !self.slot.throttle.is_paused(now)
            && self
                .slot
                .early_after
                .compare_exchange(after, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// What one does who finds this, and it isn't fresh. After a failure its origin is asked again
    /// once in each `pause`, behind the caller's back, which takes `longest` at most. An invalidation
    /// ends the pause.
    pub fn retry(&self, now: Timestamp, pause: Duration, longest: Duration) -> Retry {
        self.slot.throttle.turn(now, pause, longest, &self.slot.stamps)
    }

    /// Whether a refresh of this has failed lately, so that it is served in need.
    pub(crate) fn is_relied_on(&self, now: Timestamp) -> bool {
        self.slot.throttle.is_relied_on(now, &self.slot.stamps)
    }

    pub(crate) fn refresh_failed(&self, now: Timestamp, pause: Duration, as_of: Moment) {
        self.slot.throttle.failed(now, pause, as_of);
    }

    /// What it is good for at `now`: an invalidation may have come since the lookup.
    pub fn state_at(&self, now: Timestamp) -> State {
        self.slot.state(now)
    }
}

impl<V> Deref for Hit<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

impl<V> Clone for Hit<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), slot: Arc::clone(&self.slot), state: self.state }
    }
}

impl<V> fmt::Debug for Hit<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hit")
            .field("slot", &self.slot)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
