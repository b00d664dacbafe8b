//! What a layer has done so far, counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// What a [`JwtLayer`](crate::JwtLayer), all services that it has made, and what is required inside of
/// them have done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests with a token that was accepted, whether or not it was enough.
    pub accepted: u64,
    /// Requests that were let through without one.
    pub anonymous: u64,
    /// Requests that were refused, by [`Denial::as_str`](crate::Denial::as_str).
    pub denied: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    anonymous: AtomicU64,
    // The names are of a fixed set, so this stays small; and only refusals take the lock.
    denied: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    pub(crate) fn anonymous(&self) {
        self.anonymous.fetch_add(1, Relaxed);
    }

    pub(crate) fn denied(&self, why: &'static str) {
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        *denied.entry(why).or_default() += 1;
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            accepted: self.accepted.load(Relaxed),
            anonymous: self.anonymous.load(Relaxed),
            denied: self.denied.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
