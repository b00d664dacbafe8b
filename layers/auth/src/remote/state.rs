//! What is known of an issuer's keys, shared between who fetches them and who waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::error::FetchError;
use crate::health::KeyHealth;
use crate::source::{Keys, LookAgain, Looked, Wanted};

/// How fetching goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// How many refreshes have begun.
    pub(super) begun: u64,
    /// How many of them are over.
    pub(super) done: u64,
    /// How many of them brought another set.
    pub(super) changes: u64,
    /// Why the last one failed, if it did.
    pub(super) error: Option<FetchError>,
    /// When the last one that worked began.
    pub(super) confirmed_at: Option<Instant>,
    pub(super) fresh_until: Option<Instant>,
    /// Before which no token makes the issuer be asked.
    pub(super) may_begin: Option<Instant>,
    /// Names of keys that the issuer has taken out.
    pub(super) former: Arc<[Box<str>]>,
}

impl Progress {
    fn rests(&self, now: Instant) -> Option<Duration> {
        let rest = self.may_begin?.checked_duration_since(now)?;
        (self.begun == self.done && !rest.is_zero()).then_some(rest)
    }

    /// How the refresh that is done ended for those who waited for it.
    fn looked(&self) -> Looked {
        if self.error.is_none() { Looked::Asked } else { Looked::Failed }
    }
}

/// What has happened to a [`RemoteKeys`](super::RemoteKeys) so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchStats {
    /// How often the keys were fetched, or found to be the same.
    pub refreshes: u64,
    /// How often they could not be, each after up to three attempts.
    pub failures: u64,
    /// Refreshes that brought other keys.
    pub changes: u64,
    /// Refreshes that were answered with 304.
    pub not_modified: u64,
    /// Refreshes that a token with an unknown key has caused.
    pub on_demand: u64,
    /// Tokens with an unknown key that waited for a refresh.
    pub waited: u64,
    /// Tokens with an unknown key that could not wait: too many did, or the issuer was away.
    pub turned_away: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) refreshes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) not_modified: AtomicU64,
    pub(super) on_demand: AtomicU64,
    waited: AtomicU64,
    turned_away: AtomicU64,
}

/// What decides over those who wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) max_wait: Duration,
    pub(super) max_waiting: usize,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) keys: Keys,
    pub(super) counters: Counters,
    /// Told when somebody waits for a refresh that hasn't begun.
    pub(super) wanted: Notify,
    /// The last refresh, by its number, that anybody has waited for.
    needed: AtomicU64,
    waiting: AtomicUsize,
    patience: Patience,
}

impl State {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            keys: Keys::unavailable(),
            counters: Counters::default(),
            wanted: Notify::new(),
            needed: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            patience,
        }
    }

    /// Whether anybody waits for a refresh after the one with the number `done`.
    pub(super) fn is_needed_after(&self, done: u64) -> bool {
        self.needed.load(Ordering::Relaxed) > done && self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn stats(&self, progress: &Progress) -> FetchStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FetchStats {
            refreshes: load(&self.counters.refreshes),
            failures: load(&self.counters.failures),
            changes: progress.changes,
            not_modified: load(&self.counters.not_modified),
            on_demand: load(&self.counters.on_demand),
            waited: load(&self.counters.waited),
            turned_away: load(&self.counters.turned_away),
        }
    }

    pub(super) fn health(&self, progress: &Progress) -> KeyHealth {
        let now = Instant::now();
        KeyHealth {
            age: progress.confirmed_at.map(|at| now.saturating_duration_since(at)),
            stale: progress.fresh_until.is_some_and(|until| until < now),
            failure: progress.error.as_ref().map(FetchError::as_str),
            ..KeyHealth::of(&self.keys)
        }
    }

    /// See [`KeySource::look_again`](crate::KeySource::look_again).
    ///
    /// Nothing is kept of the names that tokens give, so there is nothing to fill up: not by a flood
    /// of names, and not by one who guesses the name of the next key and has it refused in advance.
    pub(super) fn look(
        self: &Arc<Self>,
        mut receiver: watch::Receiver<Progress>,
        wanted: Wanted<'_>,
    ) -> Option<LookAgain> {
        let known = receiver.borrow_and_update().clone();
        if let Some(rest) = known.rests(Instant::now()) {
            // Tokens of a key that has left are common for as long as they live. They are told apart
            // by a name that the issuer gave, so none of them waits for nothing.
            if wanted.kid.is_some_and(|kid| known.former.iter().any(|it| **it == *kid)) {
                return None;
            }
            // An issuer that is away is not waited for, nor one that can't be asked in time.
            if known.error.is_some() || rest > self.patience.max_wait {
                return Some(self.turn_away());
            }
        }
        let Some(waiting) = Waiting::enter(self) else { return Some(self.turn_away()) };
        self.counters.waited.fetch_add(1, Ordering::Relaxed);
        let kid = wanted.kid.map(Box::<str>::from);
        Some(Box::pin(async move {
            let state = &*waiting.0;
            let looking = state.wait(receiver, known, kid);
            // In time, and as long as somebody fetches at all.
            let looked = timeout(state.patience.max_wait, looking).await;
            looked.ok().flatten().unwrap_or(Looked::Failed)
        }))
    }

    async fn wait(
        &self,
        mut receiver: watch::Receiver<Progress>,
        known: Progress,
        kid: Option<Box<str>>,
    ) -> Option<Looked> {
        if known.begun > known.done {
            // What is being fetched may have it, or have been answered before the key was there.
            let now = receiver.wait_for(|now| now.done > known.done).await.ok()?;
            let is_changed = now.changes > known.changes;
            let is_there = kid.is_none_or(|kid| self.keys.contains(&kid));
            if now.error.is_some() || (is_changed && is_there) {
                return Some(now.looked());
            }
        }
        self.needed.fetch_max(known.begun + 1, Ordering::Relaxed);
        self.wanted.notify_one();
        let now = receiver.wait_for(|now| now.done > known.begun).await.ok()?;
        Some(now.looked())
    }

    fn turn_away(&self) -> LookAgain {
        self.counters.turned_away.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Looked::Failed))
    }
}

/// One of those who wait, for as long as it is there.
struct Waiting(Arc<State>);

impl Waiting {
    fn enter(state: &Arc<State>) -> Option<Self> {
        let entered = Self(Arc::clone(state));
        let before = state.waiting.fetch_add(1, Ordering::Relaxed);
        (before < state.patience.max_waiting).then_some(entered)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
