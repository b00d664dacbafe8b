//! Entries that a lookup found: borrowed from the first tier for a moment, or shared with it.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::early::Beta;
use crate::epoch::Moment;
use crate::slot::Slot;
use crate::tag::Tag;
use crate::throttle::Retry;
use crate::time::Timestamp;
use crate::ttl::{Lifetime, State};

/// An entry that is only looked at, where it lies in the first tier: to count references to it and its
/// value takes longer than the lookup. [`to_hit`](Self::to_hit) is for whoever keeps it.
pub struct Found<'a, V> {
    value: &'a V,
    slot: &'a Arc<Slot>,
    state: State,
}

impl<V> Clone for Found<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Found<'_, V> {}

impl<'a, V: Send + Sync + 'static> Found<'a, V> {
    /// `None` if the entry is gone, or of another type.
    #[inline]
    pub(crate) fn new(slot: &'a Arc<Slot>, now: Timestamp) -> Option<Self> {
        let state = slot.state(now);
        if state == State::Gone {
            return None;
        }
        Some(Self { value: slot.value.downcast_ref()?, slot, state })
    }

    /// The same entry, to be kept. It is there: `None` is for the type system.
    pub fn to_hit(self) -> Option<Hit<V>> {
        let value = Arc::clone(&self.slot.value).downcast().ok()?;
        Some(Hit { value, slot: Arc::clone(self.slot), state: self.state })
    }
}

impl<'a, V> Found<'a, V> {
    /// The value.
    #[inline]
    pub fn value(self) -> &'a V {
        self.value
    }

    /// What it was good for when it was looked up.
    #[inline]
    pub fn state(self) -> State {
        self.state
    }

    /// Its instants.
    pub fn lifetime(self) -> &'a Lifetime {
        &self.slot.lifetime
    }

    /// What it is good for at `now`: an invalidation may have come since the lookup.
    pub fn state_at(self, now: Timestamp) -> State {
        self.slot.state(now)
    }

    /// What one does who finds this, and it isn't fresh. After a failure its origin is asked again
    /// once in each `pause`, behind the caller's back, which takes `longest` at most. An invalidation
    /// ends the pause.
    pub fn retry(self, now: Timestamp, pause: Duration, longest: Duration) -> Retry {
        self.slot.throttle.turn(now, pause, longest, &self.slot.stamps)
    }

    /// Whether this fresh entry is to be refreshed already, `beta` being the eagerness: by the die, and
    /// not again within `pause`, whatever becomes of it. One who is told so has that to do.
    #[inline]
    pub(crate) fn is_due_early(self, beta: Beta, now: Timestamp, pause: Duration) -> bool {
        beta.is_due(self.slot.took, &self.slot.lifetime, now, fastrand::f64)
            && self.state == State::Fresh
            && self.claim_early(now, pause)
    }

    #[cold]
    fn claim_early(self, now: Timestamp, pause: Duration) -> bool {
        let slot = self.slot;
        let after = slot.early_after.load(Ordering::Relaxed);
        let next = now.saturating_add(pause).as_millis();
        now.as_millis() >= after
            && !slot.throttle.is_paused(now)
            && slot
                .early_after
                .compare_exchange(after, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

impl<V> Deref for Found<'_, V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.value
    }
}

impl<V> fmt::Debug for Found<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("slot", &self.slot)
            .field("state", &self.state)
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
    pub(crate) fn new(slot: &Arc<Slot>, now: Timestamp) -> Option<Self> {
        Found::<V>::new(slot, now)?.to_hit()
    }
}

impl<V> Hit<V> {
    /// The same, borrowed.
    #[inline]
    pub fn found(&self) -> Found<'_, V> {
        Found { value: &self.value, slot: &self.slot, state: self.state }
    }

    /// The value, shared.
    pub fn into_value(self) -> Arc<V> {
        self.value
    }

    /// The way back to it, for [`Space::glance_again`](crate::Space::glance_again).
    pub fn trail(&self) -> Trail<V> {
        Trail { slot: Arc::downgrade(&self.slot), value: PhantomData }
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

    /// As [`Found::retry`].
    pub fn retry(&self, now: Timestamp, pause: Duration, longest: Duration) -> Retry {
        self.found().retry(now, pause, longest)
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

/// The way back to an entry, which it doesn't keep.
pub struct Trail<V> {
    slot: Weak<Slot>,
    value: PhantomData<fn() -> V>,
}

impl<V> Trail<V> {
    pub(crate) fn slot(&self) -> Option<Arc<Slot>> {
        self.slot.upgrade()
    }
}

impl<V> fmt::Debug for Trail<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").finish_non_exhaustive()
    }
}

/// An entry that a [`Trail`] led to: its value, whatever that is good for by now.
pub struct Held<V> {
    slot: Arc<Slot>,
    value: PhantomData<fn() -> V>,
}

impl<V: Send + Sync + 'static> Held<V> {
    pub(crate) fn new(slot: Arc<Slot>) -> Self {
        Self { slot, value: PhantomData }
    }

    /// The value.
    pub fn value(&self) -> Option<&V> {
        self.slot.value.downcast_ref()
    }
}

impl<V> fmt::Debug for Held<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("slot", &self.slot).finish_non_exhaustive()
    }
}
