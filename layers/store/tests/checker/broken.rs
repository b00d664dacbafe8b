//! Second tiers that are broken on purpose. The checker must find out.

#[path = "../support/forward.rs"]
mod forward;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tower_keep_store::remote::{
    Announcement, Epochs, Event, Listener, Put, Remote, RemoteFuture, Stored,
};
use tower_keep_store::{Error, Redis, Strength, Tag};

pub(super) use forward::forward;

/// What doesn't work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The check of tags is off: whatever is announced of a tag, its epochs stay those that were
    /// found first.
    Tags,
    /// What other nodes announce isn't heard, and tags are not checked now and then.
    Announcements,
    /// The removal of a key is acknowledged, but what is removed stays in Redis.
    Removals,
}

pub struct Broken {
    redis: Redis,
    fault: Fault,
    first: Mutex<HashMap<Tag, Epochs>>,
}

impl Broken {
    /// `redis`, with the fault of this name; nothing if there is no such fault.
    pub fn named(name: &str, redis: Redis) -> Option<Self> {
        let faults = [Fault::Tags, Fault::Announcements, Fault::Removals];
        let fault = faults.into_iter().find(|fault| format!("{fault:?}") == name)?;
        Some(Self { redis, fault, first: Mutex::default() })
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis without {:?}", self.fault)
    }
}

impl Remote for Broken {
    forward! { is_available get invalidate buckets bucket removals }

    fn put(&self, put: Put) -> RemoteFuture<'_, Stored> {
        // A tombstone is shorter than any value.
        if self.fault == Fault::Removals && put.frame.len() < 36 {
            return Box::pin(async { Ok(Stored::Yes) });
        }
        self.redis.put(put)
    }

    fn resolve(&self, tags: Vec<Tag>, known: u64) -> RemoteFuture<'_, Vec<Epochs>> {
        if self.fault != Fault::Tags {
            return self.redis.resolve(tags, known);
        }
        Box::pin(async move {
            let found = self.redis.resolve(tags.clone(), known).await?;
            let mut first = self.first.lock().unwrap();
            let tags = tags.into_iter().zip(found);
            Ok(tags.map(|(tag, epochs)| *first.entry(tag).or_insert(epochs)).collect())
        })
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Result<(), Error> {
        let hears = match self.fault {
            Fault::Tags => is_of_key,
            Fault::Announcements => |_: &[u8]| false,
            Fault::Removals => |_: &[u8]| true,
        };
        self.redis.listen(Arc::new(Deaf { listener, hears }))
    }
}

fn is_of_key(announcement: &[u8]) -> bool {
    let announcement = Announcement::decode(announcement).unwrap();
    matches!(announcement.event, Event::Key { .. })
}

/// A listener that doesn't hear everything, and never checks.
struct Deaf {
    listener: Arc<dyn Listener>,
    hears: fn(&[u8]) -> bool,
}

impl Listener for Deaf {
    fn heard(&self, announcement: &[u8]) {
        if (self.hears)(announcement) {
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
}
