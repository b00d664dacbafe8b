//! A second tier whose announcements don't arrive for a while.
#![allow(unreachable_pub, dead_code, reason = "not every test needs all of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use bytes::Bytes;
use tower_keep_store::remote::{Epochs, Listener, Put, Remote, RemoteFuture, Stored};
use tower_keep_store::{Error, Redis, Strength, Tag};

use crate::nodes::forward;

/// Redis, whose announcements its node doesn't hear while it is deaf. It notices nothing of that.
#[derive(Clone, Debug)]
pub struct Deaf {
    pub redis: Redis,
    ears: Arc<Ears>,
}

#[derive(Debug, Default)]
struct Ears {
    shut: AtomicBool,
    missed: AtomicU32,
}

impl Deaf {
    pub fn new(redis: Redis) -> Self {
        Self { redis, ears: Arc::default() }
    }

    /// Hears nothing from now on, or everything again.
    pub fn set(&self, deaf: bool) {
        self.ears.shut.store(deaf, SeqCst);
    }

    /// How many announcements it hasn't heard.
    pub fn missed(&self) -> u32 {
        self.ears.missed.load(SeqCst)
    }
}

impl Remote for Deaf {
    forward! { is_available get put resolve invalidate buckets bucket removals }

    fn listen(&self, listener: Arc<dyn Listener>) -> Result<(), Error> {
        self.redis.listen(Arc::new(HardOfHearing { listener, ears: Arc::clone(&self.ears) }))
    }
}

struct HardOfHearing {
    listener: Arc<dyn Listener>,
    ears: Arc<Ears>,
}

impl Listener for HardOfHearing {
    fn heard(&self, announcement: &[u8]) {
        if self.ears.shut.load(SeqCst) {
            self.ears.missed.fetch_add(1, SeqCst);
        } else {
            self.listener.heard(announcement);
        }
    }

    fn lost(&self) {
        self.listener.lost();
    }

    fn replaced(&self) {
        self.listener.replaced();
    }

    fn regained(&self) -> RemoteFuture<'_, ()> {
        self.listener.regained()
    }

    fn check(&self) -> RemoteFuture<'_, ()> {
        self.listener.check()
    }
}
