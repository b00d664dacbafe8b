//! A second tier in memory that announces nothing: what a node sees that has lost touch with the
//! others, in an order that a test can force.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tower_keep_store::remote::{Epochs, Listener, Put, Remote, RemoteFuture, Stored};
use tower_keep_store::{Error, Strength, Tag};

/// All clones are the same.
#[derive(Clone, Debug, Default)]
pub struct SilentRemote(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Bytes, Bytes>,
    tags: HashMap<Tag, Epochs>,
}

impl Remote for SilentRemote {
    fn is_available(&self) -> bool {
        true
    }

    fn get(&self, key: Bytes) -> RemoteFuture<'_, Option<Bytes>> {
        Box::pin(async move { Ok(self.0.lock().unwrap().entries.get(&key).cloned()) })
    }

    fn put(&self, put: Put) -> RemoteFuture<'_, Stored> {
        Box::pin(async move {
            let entries = &mut self.0.lock().unwrap().entries;
            if let Some(expected) = &put.only_if {
                let there = entries.get(&put.key).map_or(&b""[..], |frame| frame);
                let as_expected =
                    there.starts_with(expected) && there.is_empty() == expected.is_empty();
                if !as_expected {
                    return Ok(Stored::Refused);
                }
            }
            entries.insert(put.key, put.frame);
            Ok(Stored::Yes)
        })
    }

    fn resolve(&self, tags: Vec<Tag>, _: u64) -> RemoteFuture<'_, Vec<Epochs>> {
        Box::pin(async move {
            let known = &mut self.0.lock().unwrap().tags;
            let new = Epochs { hard: 1, soft: 1, touched: 0 };
            Ok(tags.into_iter().map(|tag| *known.entry(tag).or_insert(new)).collect())
        })
    }

    fn invalidate(&self, tag: Tag, _: Strength, known: u64, _: u64) -> RemoteFuture<'_, u64> {
        Box::pin(async move {
            self.0.lock().unwrap().tags.insert(tag, Epochs::all(known + 1));
            Ok(known + 1)
        })
    }

    fn buckets(&self) -> u16 {
        1
    }

    fn bucket(&self, _: &[u8]) -> u16 {
        0
    }

    fn removals(&self, buckets: Vec<u16>) -> RemoteFuture<'_, Vec<u64>> {
        Box::pin(async move { Ok(vec![1; buckets.len()]) })
    }

    fn listen(&self, _: Arc<dyn Listener>) -> Result<(), Error> {
        Ok(())
    }
}
