//! Buckets: which keys share a removal epoch, and where it lies.
//!
//! A removal writes the tombstone of its key and the epoch of its bucket in one step, so on a Cluster
//! both must be in one hash slot: there, the bucket of a key is its slot. The name of a bucket's own
//! key leads to that slot by a hash tag, a number in braces.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use fred::types::{Key, Value};
use fred::util::redis_keyslot;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use xxhash_rust::xxh3::xxh3_64;

use super::connection::Connection;
use super::operation::{Operation, is_elsewhere};
use super::scripts::random;
use crate::error::RemoteError;
use crate::event::Announcement;
use crate::remote::Removal;

/// How many slots a Cluster has.
const SLOTS: u16 = 16_384;

/// How many buckets there are where there are no slots.
const HASHED: u16 = 1_024;

/// How many buckets are asked for one by one at once.
const ASKED_AT_ONCE: usize = 64;

/// What decides on the bucket of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Buckets {
    /// Its slot on the Cluster.
    Slots,
    /// Its hash.
    Hashed,
}

impl Buckets {
    pub(super) fn count(self) -> u16 {
        match self {
            Self::Slots => SLOTS,
            Self::Hashed => HASHED,
        }
    }

    /// What the name of a bucket's key ends with.
    fn suffix(self, bucket: u16) -> String {
        match self {
            Self::Slots => format!("{{{}}}", hash_tag(bucket)),
            Self::Hashed => bucket.to_string(),
        }
    }
}

/// A number whose digits hash to `slot`. The table of them takes 64 KiB, and is made once, where it is
/// used.
fn hash_tag(slot: u16) -> u32 {
    static TAGS: OnceLock<Vec<u32>> = OnceLock::new();
    let tags = TAGS.get_or_init(|| {
        let mut tags = vec![u32::MAX; usize::from(SLOTS)];
        let mut missing = tags.len();
        for number in 0.. {
            if missing == 0 {
                break;
            }
            let slot = redis_keyslot(number.to_string().as_bytes());
            if let Some(tag) = tags.get_mut(usize::from(slot)).filter(|tag| **tag == u32::MAX) {
                *tag = number;
                missing -= 1;
            }
        }
        tags
    });
    tags.get(usize::from(slot)).copied().unwrap_or_default()
}

impl Connection {
    pub(super) fn bucket(&self, key: &[u8]) -> u16 {
        match self.buckets {
            Buckets::Slots => redis_keyslot(self.entry_key(key).as_bytes()),
            Buckets::Hashed => u16::try_from(xxh3_64(key) % u64::from(HASHED)).unwrap_or_default(),
        }
    }

    /// The key that holds the epoch of `bucket`.
    pub(super) fn bucket_key(&self, bucket: u16) -> Key {
        let (prefix, suffix) = (&self.prefix, self.buckets.suffix(bucket));
        format!("{prefix}:r:{LAYOUT}:{suffix}", LAYOUT = super::LAYOUT).into()
    }

    /// Stores a frame as the script `put` does with `args`, and gives the bucket of its key a new epoch,
    /// in one step.
    pub(super) async fn replace(
        self: &Arc<Self>,
        key: &[u8],
        entry: Key,
        args: Vec<Value>,
        Removal { sender, strength }: Removal,
    ) -> Result<Value, RemoteError> {
        self.is_in_use()?;
        let (link, scripts) = (self.link.get(), &self.scripts);
        let (bucket, begin) = (self.bucket_key(self.bucket(key)), self.entry_prefix().len() + 1);
        let prefix = Bytes::from(Announcement::key_prefix(sender, strength));
        let channel = self.channel();
        let both = async {
            let how: [Value; 4] =
                [(&channel).into(), prefix.clone().into(), begin.try_into()?, random()];
            let keys = vec![entry.clone(), bucket.clone()];
            let all = args.iter().cloned().chain(how).collect();
            let replace = Operation::Run { script: &scripts.replace, keys, args: all };
            match replace.on(&link, Duration::ZERO).await {
                Err(error) if is_elsewhere(&error) => {}
                answer => return answer,
            }
            // Their slot is on its way, and one of them is here and one there. So one after the
            // other: nobody hears of the new epoch before the old frame is gone.
            let patience = self.deadline / 4;
            let put = Operation::Run { script: &scripts.put, keys: vec![entry], args };
            let stored = put.on(&link, patience).await?;
            if stored.as_i64() == Some(1) {
                let key = Bytes::copy_from_slice(key);
                let args = vec![channel.into(), prefix.into(), key.into(), random()];
                let touch = Operation::Run { script: &scripts.touch, keys: vec![bucket], args };
                touch.on(&link, patience).await?;
            }
            Ok(stored)
        };
        self.within_deadline(both).await
    }

    /// The epochs of `buckets`: with one question for each primary; and one by one those that aren't
    /// where they were looked for, because their slots have moved or are moving.
    pub(super) async fn epochs_of(
        self: &Arc<Self>,
        buckets: &[u16],
    ) -> Result<Vec<u64>, RemoteError> {
        self.is_in_use()?;
        let link = self.link.get();
        let routing = link.routing();
        let mut by_server: HashMap<_, Vec<u16>> = HashMap::new();
        for &bucket in buckets {
            let server = routing.as_ref().and_then(|routing| routing.get_server(bucket)).cloned();
            by_server.entry(server).or_default().push(bucket);
        }
        let mut found: HashMap<u16, u64> = HashMap::with_capacity(buckets.len());
        for (server, buckets) in by_server {
            if server.is_none() && self.buckets == Buckets::Slots {
                continue;
            }
            let args = buckets.iter().map(|bucket| self.bucket_key(*bucket).into()).collect();
            let operation = Operation::Run { script: &self.scripts.epochs, keys: vec![], args };
            let answer = self.within_deadline(operation.at(&link.pool.take(), server)).await?;
            found.extend(buckets.into_iter().zip(parse(answer)?).filter(|(_, epoch)| *epoch > 0));
        }
        let elsewhere = buckets.iter().copied().filter(|bucket| !found.contains_key(bucket));
        let elsewhere = stream::iter(elsewhere.collect::<Vec<u16>>())
            .map(async |bucket| Ok::<_, RemoteError>((bucket, self.epoch_of(bucket).await?)))
            .buffer_unordered(ASKED_AT_ONCE)
            .try_collect::<Vec<_>>();
        found.extend(elsewhere.await?);
        Ok(buckets.iter().filter_map(|bucket| found.get(bucket).copied()).collect())
    }

    /// The epoch of one bucket, wherever its slot is.
    async fn epoch_of(self: &Arc<Self>, bucket: u16) -> Result<u64, RemoteError> {
        let key = self.bucket_key(bucket);
        let args = vec![key.clone().into()];
        let operation = Operation::Run { script: &self.scripts.epochs, keys: vec![key], args };
        match parse(self.perform(operation).await?)?.as_slice() {
            [epoch] if *epoch > 0 => Ok(*epoch),
            _ => Err(RemoteError::Protocol("a bucket that is nowhere".into())),
        }
    }
}

/// Epochs as the script returns them: 8 bytes each, and 0 for one that isn't there.
fn parse(answer: Value) -> Result<Vec<u64>, RemoteError> {
    let bytes: Bytes = answer.into_bytes().unwrap_or_default();
    let (epochs, []) = bytes.as_chunks() else {
        return Err(RemoteError::Protocol("removal epochs that are none".into()));
    };
    Ok(epochs.iter().map(|epoch| u64::from_le_bytes(*epoch)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_each_slots_bucket_is_in_that_slot() {
        for slot in 0..SLOTS {
            let key = format!("tk:r:2:{}", Buckets::Slots.suffix(slot));
            assert_eq!(redis_keyslot(key.as_bytes()), slot, "{key}");
        }
        let longest = (0..SLOTS).map(hash_tag).max().unwrap();
        assert!(longest < 1_000_000, "{longest}");
    }
}
