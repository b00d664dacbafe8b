//! A backend in use: what it is at work on, how it does, how fast it is.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::health::probe::ProbeError;
use crate::lanes::{Lanes, Seat};
use crate::outlier::OutlierDetection;
use crate::outlier::ejection::Ejections;
use crate::outlier::record::Record;
use crate::pick::Outcome;
use crate::room::Room;
use crate::slow_start::SlowStart;
use crate::status::{Change, Changes, Counters, State};
use crate::strategy::ewma::{Decay, Ewma};

/// Names one backend among all that this process ever had: one that is replaced under the same name
/// has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub(crate) u64);

/// Why a backend gets nothing, or less: a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Flag {
    /// Its health check says so.
    Unhealthy = 1,
    /// It isn't in the pool any more.
    Removed = 2,
    /// It has failed where others didn't.
    Ejected = 4,
    /// Somebody says that it isn't healthy.
    Marked = 8,
    /// It gets a part of its share: the only one with which it is up.
    Warming = 16,
}

/// What all members of a pool share, and need at every pick.
#[derive(Debug)]
pub(crate) struct Common {
    start: Instant,
    /// If the strategy goes by how fast backends are.
    pub(crate) decay: Option<Decay>,
    /// What all are at work on, if the strategy goes by that.
    pub(crate) in_flight: Option<AtomicU64>,
    /// Where members' counts are, if the strategy compares all of them.
    pub(crate) lanes: Option<Lanes>,
    /// If a newcomer gets its share little by little, and the strategy can do that.
    pub(crate) slow_start: Option<SlowStart>,
    /// If backends that fail are ejected.
    pub(crate) outlier: OnceLock<OutlierDetection>,
    /// Those who wait until one can take something again.
    pub(crate) room: Room,
    /// Wakes the pool's keeper.
    pub(crate) wake: Notify,
    pub(crate) counters: Counters,
    pub(crate) changes: broadcast::Sender<Change>,
}

impl Common {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            decay: None,
            in_flight: None,
            lanes: None,
            slow_start: None,
            outlier: OnceLock::new(),
            room: Room::default(),
            wake: Notify::new(),
            counters: Counters::default(),
            changes: broadcast::Sender::new(Changes::KEPT),
        }
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
    /// How many requests it is at work on; or 0, and that is at its seat.
    in_flight: AtomicU32,
    seat: Option<Seat>,
    /// If the strategy goes by that.
    ewma: Option<Ewma>,
    /// Told when it has been removed and is done with what it had.
    drained: Notify,
    /// For outlier detection.
    pub(crate) record: Record,
    /// Since when it has been [warming](Flag::Warming): microseconds after the clock's start.
    warming_since: AtomicU64,
    /// What no pick reads.
    history: Mutex<History>,
    /// The task that checks it.
    check: OnceLock<AbortHandle>,
}

/// How it has done.
#[derive(Debug)]
pub(crate) struct History {
    /// Why its last check failed, if it did.
    pub(crate) error: Option<ProbeError>,
    pub(crate) ejections: Ejections,
}

impl<T> Member<T> {
    pub(crate) fn new(name: Arc<str>, target: T, common: Arc<Common>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let seat = common.lanes.as_ref().map(Lanes::seat);
        let ewma = common.decay.map(|decay| Ewma::new(common.now(), decay));
        let history = History { error: None, ejections: Ejections::new(Instant::now()) };
        Self {
            id: BackendId(NEXT.fetch_add(1, Ordering::Relaxed)),
            name,
            target,
            common,
            flags: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            seat,
            ewma,
            drained: Notify::new(),
            record: Record::default(),
            warming_since: AtomicU64::new(0),
            history: Mutex::new(history),
            check: OnceLock::new(),
        }
    }

    /// Whether it may be given something.
    pub(crate) fn is_up(&self) -> bool {
        self.flags.load(Ordering::Acquire) & !(Flag::Warming as u32) == 0
    }

    /// Whether `flag` alone keeps it down.
    pub(crate) fn is_up_but_for(&self, flag: Flag) -> bool {
        self.flags.load(Ordering::Acquire) & !(Flag::Warming as u32) == flag as u32
    }

    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags.load(Ordering::Acquire) & flag as u32 != 0
    }

    /// Says whether that changed anything.
    pub(crate) fn set(&self, flag: Flag, on: bool) -> bool {
        let bit = flag as u32;
        let before = if on {
            self.flags.fetch_or(bit, Ordering::SeqCst)
        } else {
            self.flags.fetch_and(!bit, Ordering::AcqRel)
        };
        if on && flag == Flag::Removed && self.count().load(Ordering::SeqCst) == 0 {
            self.drained.notify_waiters();
        }
        (before & bit != 0) != on
    }

    /// Gives it a part of its share from now on, that grows.
    pub(crate) fn warm_up(&self) {
        let now = u64::try_from(self.common.now().as_micros()).unwrap_or(u64::MAX);
        self.warming_since.store(now, Ordering::Release);
        self.set(Flag::Warming, true);
    }

    /// Whether it takes a request whose dice, in 0.0..1.0, are these: as likely as its part of its
    /// share is large.
    pub(crate) fn admits(&self, dice: f32, now: impl FnOnce() -> Duration) -> bool {
        !self.has(Flag::Warming) || self.warmth(now()).is_none_or(|warmth| dice < warmth)
    }

    /// The part of its share that it gets; nothing if that is all.
    fn warmth(&self, now: Duration) -> Option<f32> {
        let since = Duration::from_micros(self.warming_since.load(Ordering::Acquire));
        let passed = now.saturating_sub(since);
        let warmth = self.common.slow_start.and_then(|settings| settings.factor(passed));
        if warmth.is_none() {
            self.set(Flag::Warming, false);
        }
        warmth
    }

    pub(crate) fn is_warming(&self) -> bool {
        self.has(Flag::Warming) && self.warmth(self.common.now()).is_some()
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In which state it is. If in several, the one that weighs most.
    pub(crate) fn state(&self) -> State {
        if self.has(Flag::Removed) {
            return State::Draining;
        }
        let history = self.history();
        if self.has(Flag::Unhealthy) {
            return history.error.clone().map_or(State::Unchecked, State::Unhealthy);
        }
        if self.has(Flag::Marked) {
            return State::Marked;
        }
        match history.ejections.current() {
            Some((until, why)) => State::Ejected { why, until: until.into_std() },
            None if self.is_warming() => State::SlowStart,
            None => State::Up,
        }
    }

    /// Tells all who want to know in which state it is now.
    pub(crate) fn announce(&self) {
        let change = Change { name: Arc::clone(&self.name), id: self.id, state: self.state() };
        change.log();
        // It is nothing if nobody listens.
        let _ = self.common.changes.send(change);
    }

    /// `check` is the task that checks it.
    pub(crate) fn is_checked_by(&self, check: AbortHandle) {
        if let Err(check) = self.check.set(check) {
            check.abort();
        }
    }

    pub(crate) fn end_check(&self) {
        if let Some(check) = self.check.get() {
            check.abort();
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.count().load(Ordering::Acquire)
    }

    fn count(&self) -> &AtomicU32 {
        self.seat.as_ref().map_or(&self.in_flight, Seat::count)
    }

    /// Where it is counted, if the strategy compares all of them.
    pub(crate) fn seat(&self) -> Option<&Seat> {
        self.seat.as_ref()
    }

    /// How long it is expected to take, in microseconds.
    pub(crate) fn expected(&self, now: Duration) -> f32 {
        let ewma = self.ewma.as_ref().zip(self.common.decay);
        ewma.map_or(0.0, |(ewma, decay)| ewma.expected(now, decay))
    }

    /// How long this one and another are expected to take, in microseconds.
    pub(crate) fn expected_beside(&self, other: &Self) -> (f32, f32) {
        match (&self.ewma, &other.ewma, self.common.decay) {
            (Some(ewma), Some(others), Some(decay)) => ewma.beside(others, decay),
            _ => (0.0, 0.0),
        }
    }

    /// How one ended that began at `began`, and was answered at `answered` if not just now.
    pub(crate) fn observe(&self, outcome: Outcome, began: Duration, answered: Option<Duration>) {
        if let Some(outlier) = self.common.outlier.get()
            && self.record.observe(outcome, outlier.consecutive)
        {
            self.common.wake.notify_one();
        }
        let (Some(ewma), Some(decay)) = (&self.ewma, self.common.decay) else { return };
        // What came after the answer isn't the backend's business, and reading the clock takes time.
        let now = answered.unwrap_or_else(|| self.common.now());
        let latency = now.saturating_sub(began);
        let latency = match outcome {
            Outcome::Success => latency,
            // One that fails at once is not to be preferred for it.
            Outcome::Failure => latency.max(decay.initial()),
        };
        ewma.observe(latency, now, decay);
    }

    /// One that began at `began` was given up before it was answered: it would have taken that long at
    /// least. Where one waits in vain, one who leaves is all that tells of it.
    pub(crate) fn given_up(&self, began: Duration) {
        if self.ewma.is_some() {
            let now = self.common.now();
            self.takes_at_least(now.saturating_sub(began), now);
        }
    }

    /// It is expected to take no less than `latency`.
    pub(crate) fn takes_at_least(&self, latency: Duration, now: Duration) {
        if let (Some(ewma), Some(decay)) = (&self.ewma, self.common.decay) {
            ewma.observe_at_least(latency, now, decay);
        }
    }

    /// Takes on one more, unless that is more than `limit`, or it has been removed.
    pub(crate) fn acquire(&self, limit: u32) -> bool {
        // Sequentially consistent, as what sets the flag and then looks whether anything is in flight:
        // at least one of the two sees the other, so nothing begins after it was said to be drained.
        let taken = if limit == u32::MAX {
            self.count().fetch_add(1, Ordering::SeqCst);
            true
        } else {
            let more = |count: u32| (count < limit).then_some(count + 1);
            self.count().fetch_update(Ordering::SeqCst, Ordering::Acquire, more).is_ok()
        };
        if let (true, Some(all)) = (taken, &self.common.in_flight) {
            all.fetch_add(1, Ordering::Relaxed);
        }
        if taken && self.flags.load(Ordering::SeqCst) & Flag::Removed as u32 != 0 {
            self.release();
            return false;
        }
        taken
    }

    pub(crate) fn release(&self) {
        if let Some(all) = &self.common.in_flight {
            all.fetch_sub(1, Ordering::Relaxed);
        }
        // Sequentially consistent: `Room` tells why.
        if self.count().fetch_sub(1, Ordering::SeqCst) == 1 && self.has(Flag::Removed) {
            self.drained.notify_waiters();
        }
        self.common.room.freed();
    }

    /// Waits until it has been removed and is done with what it had.
    pub(crate) async fn drained(&self) {
        loop {
            let mut told = std::pin::pin!(self.drained.notified());
            told.as_mut().enable();
            if self.has(Flag::Removed) && self.count().load(Ordering::SeqCst) == 0 {
                return;
            }
            told.await;
        }
    }
}
