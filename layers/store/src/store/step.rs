//! Whether this node is in step with the others: hears what they announce, and has caught up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::slot::Slot;
use crate::time::Timestamp;

/// In step, or out of it since some instant; and for how long entries are served in that case.
#[derive(Debug)]
pub(crate) struct Step {
    /// In milliseconds; 0 while in step.
    lost_at: AtomicU64,
    /// When it began to be as it is, in milliseconds.
    changed_at: AtomicU64,
    /// Until when, in milliseconds, it may be taken to hear all: the end of time for a second tier that
    /// never confirms it.
    good_until: AtomicU64,
    max_unsynced: Duration,
}

impl Step {
    /// With others to be in step with, it begins out of it.
    pub(super) fn new(now: Timestamp, has_others: bool, max_unsynced: Duration) -> Self {
        let lost_at = if has_others { at(now) } else { 0 };
        let (changed_at, good_until) = (at(now).into(), u64::MAX.into());
        Self { lost_at: lost_at.into(), changed_at, good_until, max_unsynced }
    }

    /// It is known to have heard all, and need not hear more before `until`.
    pub(super) fn confirm(&self, until: Timestamp) {
        let later =
            |known| (known == u64::MAX || known < until.as_millis()).then(|| until.as_millis());
        // That it isn't later is no failure.
        let _ = self.good_until.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
    }

    /// Since when this node hasn't been told that it hears all, if it should have been by `now`. Also
    /// when it can't have noticed, since its process stood still.
    #[inline]
    fn silent_since(&self, now: Timestamp) -> Option<u64> {
        let lost_at = self.lost_at.load(Ordering::Acquire);
        let good_until = self.good_until.load(Ordering::Acquire);
        match lost_at {
            0 => (now.as_millis() >= good_until).then_some(good_until),
            lost_at => Some(lost_at.min(good_until)),
        }
    }

    /// Whether what the others announce is known here at `now`.
    pub(crate) fn hears_at(&self, now: Timestamp) -> bool {
        self.silent_since(now).is_none()
    }

    /// Whether it has been confirmed lately enough that this node hears all. Whether the second tier says
    /// that it doesn't is another matter.
    pub(super) fn is_confirmed(&self, now: Timestamp) -> bool {
        now.as_millis() < self.good_until.load(Ordering::Acquire)
    }

    /// Announcements may have been missed from now on. Says whether that is news.
    pub(super) fn lose(&self, now: Timestamp) -> bool {
        let lost = self.lost_at.compare_exchange(0, at(now), Ordering::AcqRel, Ordering::Acquire);
        if lost.is_ok() {
            self.changed_at.store(at(now), Ordering::Release);
            tracing::warn!("out of step with the second tier: announcements may be missed");
        }
        lost.is_ok()
    }

    /// None is missed any more, and what was is made up for.
    pub(super) fn regain(&self, now: Timestamp) {
        let lost_at = self.lost_at.swap(0, Ordering::AcqRel);
        if lost_at > 0 {
            self.changed_at.store(at(now), Ordering::Release);
            let lasted = now.saturating_since(Timestamp::from_millis(lost_at));
            tracing::info!(?lasted, "in step with the second tier");
        }
    }

    pub(crate) fn is_in(&self) -> bool {
        self.lost_at.load(Ordering::Acquire) == 0
    }

    pub(super) fn since(&self) -> Timestamp {
        Timestamp::from_millis(self.changed_at.load(Ordering::Acquire))
    }

    /// When what one who asks at `now` is given must have been fetched, at the earliest.
    pub(crate) fn oldest(&self, now: Timestamp) -> Timestamp {
        match self.silent_since(now).map(Timestamp::from_millis) {
            Some(since) if now >= since.saturating_add(self.max_unsynced) => {
                now.saturating_sub(self.max_unsynced)
            }
            _ => Timestamp::default(),
        }
    }

    /// Whether this node may serve `slot`: out of step, only for so long, or for so long after it was
    /// fetched from the origin.
    #[inline]
    pub(crate) fn vouches_for(&self, slot: &Slot, now: Timestamp) -> bool {
        self.silent_since(now).is_none_or(|since| {
            let since = Timestamp::from_millis(since).max(slot.fetched_at);
            now < since.saturating_add(self.max_unsynced)
        })
    }
}

/// Never 0, which stands for no instant.
fn at(now: Timestamp) -> u64 {
    now.as_millis().max(1)
}
