//! A backend in use: what it is at work on, how it does, how fast it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::pick::Outcome;
use crate::strategy::ewma::{Decay, Ewma};

/// Names one backend among all that this process ever had: one that is replaced under the same name
/// has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(u64);

/// Why a backend gets nothing: a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Flag {
    /// Its health check says so.
    Unhealthy = 1,
    /// It isn't in the pool any more.
    Removed = 2,
}

/// What all members of a pool share, and need at every pick.
#[derive(Debug)]
pub(crate) struct Common {
    start: Instant,
    /// If the strategy goes by how fast backends are.
    pub(crate) decay: Option<Decay>,
    /// What all are at work on, if the strategy goes by that.
    pub(crate) in_flight: Option<AtomicU64>,
}

impl Common {
    pub(crate) fn new(decay: Option<Decay>, counts: bool) -> Self {
        Self { start: Instant::now(), decay, in_flight: counts.then(AtomicU64::default) }
    }

    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

#[derive(Debug)]
pub(crate) struct Member<T> {
    pub(crate) id: BackendId,
    pub(crate) name: Arc<str>,
    pub(crate) target: T,
    pub(crate) common: Arc<Common>,
    flags: AtomicU32,
    in_flight: AtomicU32,
    /// If the strategy goes by that.
    ewma: Option<Ewma>,
    /// Told when it has been removed and is done with what it had.
    drained: Notify,
}

impl<T> Member<T> {
    pub(crate) fn new(name: Arc<str>, target: T, common: Arc<Common>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let ewma = common.decay.map(|decay| Ewma::new(common.now(), decay));
        Self {
            id: BackendId(NEXT.fetch_add(1, Ordering::Relaxed)),
            name,
            target,
            common,
            flags: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            ewma,
            drained: Notify::new(),
        }
    }

    /// Whether it may be given something.
    pub(crate) fn is_up(&self) -> bool {
        self.flags.load(Ordering::Acquire) == 0
    }

    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags.load(Ordering::Acquire) & flag as u32 != 0
    }

    /// Says whether that changed anything.
    pub(crate) fn set(&self, flag: Flag, on: bool) -> bool {
        let bit = flag as u32;
        let before = if on {
            self.flags.fetch_or(bit, Ordering::AcqRel)
        } else {
            self.flags.fetch_and(!bit, Ordering::AcqRel)
        };
        if on && flag == Flag::Removed && self.in_flight() == 0 {
            self.drained.notify_waiters();
        }
        (before & bit != 0) != on
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// How long it is expected to take, in microseconds.
    pub(crate) fn expected(&self, now: Duration, decay: Decay) -> f32 {
        self.ewma.as_ref().map_or(0.0, |ewma| ewma.expected(now, decay))
    }

    /// How one ended that began at `began`.
    pub(crate) fn observe(&self, outcome: Outcome, began: Duration) {
        let (Some(ewma), Some(decay)) = (&self.ewma, self.common.decay) else { return };
        let now = self.common.now();
        let latency = now.saturating_sub(began);
        let latency = match outcome {
            Outcome::Success => latency,
            // One that fails at once is not to be preferred for it.
            Outcome::Failure => latency.max(decay.initial()),
        };
        ewma.observe(latency, now, decay);
    }

    /// Takes on one more, unless that is more than `limit`.
    pub(crate) fn acquire(&self, limit: u32) -> bool {
        let taken = if limit == u32::MAX {
            self.in_flight.fetch_add(1, Ordering::AcqRel);
            true
        } else {
            let more = |count: u32| (count < limit).then_some(count + 1);
            self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
        };
        if let (true, Some(all)) = (taken, &self.common.in_flight) {
            all.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    pub(crate) fn release(&self) {
        if let Some(all) = &self.common.in_flight {
            all.fetch_sub(1, Ordering::Relaxed);
        }
        if self.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 && self.has(Flag::Removed) {
            self.drained.notify_waiters();
        }
    }

    /// Waits until it has been removed and is done with what it had.
    pub(crate) async fn drained(&self) {
        loop {
            let mut told = std::pin::pin!(self.drained.notified());
            told.as_mut().enable();
            if self.has(Flag::Removed) && self.in_flight() == 0 {
                return;
            }
            told.await;
        }
    }
}
