//! A second tier whose announcements don't arrive for a while.
#![allow(unreachable_pub, dead_code, reason = "not every test needs all of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use bytes::Bytes;
use tower_keep_store::remote::{Epochs, Listener, Put, Remote, RemoteFuture, Stored};
use tower_keep_store::{Error, Redis, Strength, Tag};

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
    fn is_available(&self) -> bool {
        self.redis.is_available()
    }

    fn get(&self, key: Bytes) -> RemoteFuture<'_, Option<Bytes>> {
        self.redis.get(key)
    }

    fn put(&self, put: Put) -> RemoteFuture<'_, Stored> {
        self.redis.put(put)
    }

    fn resolve(&self, tags: Vec<Tag>, known: u64) -> RemoteFuture<'_, Vec<Epochs>> {
        self.redis.resolve(tags, known)
    }

    fn invalidate(
        &self,
        tag: Tag,
        strength: Strength,
        known: u64,
        sender: u64,
    ) -> RemoteFuture<'_, u64> {
        self.redis.invalidate(tag, strength, known, sender)
    }

    fn buckets(&self) -> u16 {
        self.redis.buckets()
    }

    fn bucket(&self, key: &[u8]) -> u16 {
        self.redis.bucket(key)
    }

    fn removals(&self, buckets: Vec<u16>) -> RemoteFuture<'_, Vec<u64>> {
        self.redis.removals(buckets)
    }

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
