//! What can be seen of a pool: how its backends stand, what changes, what happened so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::broadcast;

use crate::health::probe::ProbeError;
use crate::member::BackendId;
use crate::outlier::Ejection;

/// How a backend stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Its name.
    pub name: Arc<str>,
    /// Names it among all that ever were.
    pub id: BackendId,
    /// Its weight.
    pub weight: u16,
    /// Its priority.
    pub priority: u8,
    /// How many requests it is at work on.
    pub in_flight: u32,
    /// Whether it gets new ones.
    pub is_up: bool,
    /// In which state it is. If in several, the one that weighs most.
    pub state: State,
}

/// In which state a backend is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum State {
    /// It gets its share.
    Up,
    /// It came, or came back, a while ago, and gets a growing part of its share.
    SlowStart,
    /// It gets nothing until it has passed its first check.
    Unchecked,
    /// Its checks fail, the last one by this.
    Unhealthy(ProbeError),
    /// [`Pool::set_healthy`](crate::Pool::set_healthy) says that it isn't healthy.
    Marked,
    /// It failed where others didn't, and gets nothing for a while.
    Ejected {
        /// By what.
        why: Ejection,
        /// Until when.
        until: Instant,
    },
    /// It was removed, and finishes what it has.
    Draining,
}

impl State {
    /// One word for it, for logs and the labels of metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::SlowStart => "slow_start",
            Self::Unchecked => "unchecked",
            Self::Unhealthy(_) => "unhealthy",
            Self::Marked => "marked",
            Self::Ejected { .. } => "ejected",
            Self::Draining => "draining",
        }
    }
}

/// A backend has come into another state.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Change {
    /// Its name.
    pub name: Arc<str>,
    /// Names it among all that ever were.
    pub id: BackendId,
    /// In which state it is now.
    pub state: State,
}

impl Change {
    /// Writes it to the log.
    pub(crate) fn log(&self) {
        let backend = &*self.name;
        match &self.state {
            State::Unhealthy(error) => {
                tracing::warn!(backend, %error, "a backend fails its checks");
            }
            State::Ejected { why, until } => {
                let time = until.saturating_duration_since(tokio::time::Instant::now().into_std());
                tracing::warn!(backend, ?why, ?time, "a backend is ejected");
            }
            state => tracing::info!(backend, state = state.as_str(), "a backend has changed"),
        }
    }
}

/// The changes of a pool from one moment on: see [`Pool::changes`](crate::Pool::changes).
#[derive(Debug)]
pub struct Changes(pub(crate) broadcast::Receiver<Change>);

impl Changes {
    /// How many are kept for one who doesn't take them.
    pub(crate) const KEPT: usize = 256;

    /// The next one; `None` when the pool is gone. One who is slower than the pool changes misses
    /// the oldest: who has to know each backend's state looks at
    /// [`Pool::status`](crate::Pool::status) when something has changed.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            match self.0.recv().await {
                Ok(change) => return Some(change),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// What has happened in a pool since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Checks that were made.
    pub checks: u64,
    /// Those that failed.
    pub failed_checks: u64,
    /// How often a backend was ejected.
    pub ejections: u64,
    /// How often one was to be ejected, and wasn't, because too many were, or it was the last.
    pub spared: u64,
    /// How often there came to be no healthy backend, so that all were used.
    pub panics: u64,
    /// How often what picks are made from was made anew.
    pub rebuilds: u64,
}

/// [`Stats`], being counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) checks: AtomicU64,
    pub(crate) failed_checks: AtomicU64,
    pub(crate) ejections: AtomicU64,
    pub(crate) spared: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) rebuilds: AtomicU64,
}

impl Counters {
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            checks: self.checks.load(Relaxed),
            failed_checks: self.failed_checks.load(Relaxed),
            ejections: self.ejections.load(Relaxed),
            spared: self.spared.load(Relaxed),
            panics: self.panics.load(Relaxed),
            rebuilds: self.rebuilds.load(Relaxed),
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
