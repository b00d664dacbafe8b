//! A second tier without a server.
#![allow(unreachable_pub, dead_code, reason = "not every test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tower_keep_store::remote::{Epochs, Listener, Put, Remote, RemoteFuture, Stored};
use tower_keep_store::{Error, RemoteError, Strength, Tag};

/// Keys that end alike share a bucket.
const BUCKETS: u16 = 16;

/// A second tier that holds nothing, and counts what it is asked.
#[derive(Clone, Default)]
pub struct Counting(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    listener: Option<Arc<dyn Listener>>,
    batches: Vec<usize>,
    answers: Option<usize>,
    epochs: HashMap<u16, u64>,
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

impl Counting {
    /// Who is to be told what happens.
    pub fn listener(&self) -> Arc<dyn Listener> {
        Arc::clone(self.0.lock().unwrap().listener.as_ref().unwrap())
    }

    /// Answers so many questions from now on.
    pub fn answers(&self, many: usize) {
        let mut counted = self.0.lock().unwrap();
        counted.answers = Some(many);
        counted.batches.clear();
    }

    /// The bucket of keys that end with `byte` has the removal epoch `epoch` from now on.
    pub fn has_epoch(&self, byte: u8, epoch: u64) {
        self.0.lock().unwrap().epochs.insert(u16::from(byte) % BUCKETS, epoch);
    }

    /// How many tags were asked for at once, each time.
    pub fn batches(&self) -> Vec<usize> {
        self.0.lock().unwrap().batches.clone()
    }
}

impl Remote for Counting {
    fn is_available(&self) -> bool {
        true
    }

    fn get(&self, _: Bytes) -> RemoteFuture<'_, Option<Bytes>> {
        Box::pin(async { Ok(None) })
    }

    fn put(&self, _: Put) -> RemoteFuture<'_, Stored> {
        Box::pin(async { Ok(Stored::Yes) })
    }

    fn resolve(&self, tags: Vec<Tag>, _: u64) -> RemoteFuture<'_, Vec<Epochs>> {
        Box::pin(async move {
            let mut counted = self.0.lock().unwrap();
            counted.batches.push(tags.len());
            match &mut counted.answers {
                Some(0) => return Err(RemoteError::Deadline),
                Some(left) => *left -= 1,
                None => {}
            }
            Ok(vec![Epochs::all(1); tags.len()])
        })
    }

    fn invalidate(&self, _: Tag, _: Strength, known: u64, _: u64) -> RemoteFuture<'_, u64> {
        Box::pin(async move { Ok(known + 1) })
    }

    fn buckets(&self) -> u16 {
        BUCKETS
    }

    fn bucket(&self, key: &[u8]) -> u16 {
        u16::from(*key.last().unwrap()) % BUCKETS
    }

    fn removals(&self, buckets: Vec<u16>) -> RemoteFuture<'_, Vec<u64>> {
        Box::pin(async move {
            let epochs = &self.0.lock().unwrap().epochs;
            Ok(buckets.iter().map(|bucket| epochs.get(bucket).copied().unwrap_or(1)).collect())
        })
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Result<(), Error> {
        self.0.lock().unwrap().listener = Some(listener);
        Ok(())
    }
}
