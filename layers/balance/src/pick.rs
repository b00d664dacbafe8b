//! A pick: a backend that one request is given to, and counts as in flight until it is done.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::member::{BackendId, Member};

/// What one who picks would like.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Wish<'a> {
    pub(crate) hash: Option<u64>,
    pub(crate) avoid: &'a [BackendId],
}

impl<'a> Wish<'a> {
    /// Anyone.
    pub fn new() -> Self {
        Self::default()
    }

    /// The one that belongs to `hash`, if the strategy is [`Hash`](crate::Strategy::Hash). It should
    /// be spread over all 64 bits, and the same on all machines: [`hash_bytes`](Self::hash_bytes).
    pub fn hash(mut self, hash: u64) -> Self {
        self.hash = Some(hash);
        self
    }

    /// As [`hash`](Self::hash), by XXH3 of `bytes`.
    pub fn hash_bytes(self, bytes: &[u8]) -> Self {
        self.hash(xxhash_rust::xxh3::xxh3_64(bytes))
    }

    /// None of these, unless there is no other: for one who tries again elsewhere. Such picks have a
    /// turn of their own in [round robin](crate::Strategy::RoundRobin), and take none from others.
    pub fn avoid(mut self, backends: &'a [BackendId]) -> Self {
        self.avoid = backends;
        self
    }
}

/// How a request ended, as far as its backend is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend did what it was asked.
    Success,
    /// It didn't.
    Failure,
}

/// A backend of a [`Pool`](crate::Pool), in use. It derefs to the target.
///
/// Dropping it ends the use without a word on how it went, as when a client has gone away. If no answer
/// had begun to come by then, [`PeakEwma`](crate::PeakEwma) takes it that one would have taken longer.
pub struct Pick<T> {
    member: Arc<Member<T>>,
    /// After the start of the pool's clock, if the strategy goes by how fast backends are.
    began: Duration,
    /// When the answer began to come, likewise.
    answered: Option<Duration>,
    /// Whether it has been said how it went.
    is_told: bool,
}

impl<T> Pick<T> {
    /// Of one that has been acquired.
    pub(crate) fn new(member: Arc<Member<T>>, began: Duration) -> Self {
        Self { member, began, answered: None, is_told: false }
    }

    /// The backend's name.
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// As [`name`](Self::name), for those who keep it.
    #[cfg(feature = "http")]
    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.member.name)
    }

    /// Names the backend among all that ever were.
    pub fn id(&self) -> BackendId {
        self.member.id
    }

    /// The target.
    pub fn target(&self) -> &T {
        &self.member.target
    }

    /// Says that the answer has begun to come: only until now it was the backend that took its time.
    /// How long the rest takes is up to who reads it.
    pub fn answered(&mut self) {
        let common = &self.member.common;
        self.answered = common.decay.is_some().then(|| common.now());
    }

    /// Ends the use, and says how it went: [`OutlierDetection`](crate::OutlierDetection) and
    /// [`PeakEwma`](crate::PeakEwma) go by that.
    pub fn finish(mut self, outcome: Outcome) {
        self.is_told = true;
        self.member.observe(outcome, self.began, self.answered);
    }

    /// Ends the use, of which nothing can be said: what took its time was not the backend.
    pub(crate) fn forget(mut self) {
        self.is_told = true;
    }
}

impl<T> Drop for Pick<T> {
    fn drop(&mut self) {
        if !self.is_told && self.answered.is_none() {
            self.member.given_up(self.began);
        }
        self.member.release();
    }
}

impl<T> Deref for Pick<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.member.target
    }
}

impl<T> fmt::Debug for Pick<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pick").field("name", &self.name()).field("id", &self.id()).finish()
    }
}
