//! The second tier on Redis or Valkey, through fred.
//!
//! One multiplexed connection, or several, carry the operations, pipelined; another carries the
//! announcements (pub/sub). What lies on the server, for the prefix `tk`:
//!
//! | key | holds |
//! | --- | --- |
//! | `tk:2:{space}:{key}` | an entry's frame, the tombstone of a removal, or a lease |
//! | `tk:r:2:{bucket}` | the removal epoch of a bucket of keys |
//! | `{tk}:t:{tag}` (the braces of `{tk}` are literal) | "hard soft touched", the tag's epochs |
//! | `{tk}:epoch` | "last since evicted", the epoch clock |
//! | channel `tk:events:{database}` | announcements |
//! | channel `tk:events:{database}:{node}` | that node's beats |
//!
//! There are 1,024 buckets; on a Cluster, one for each of the 16,384 slots, whose key ends with a number
//! in literal braces that leads to that slot.

mod beats;
mod breaker;
mod buckets;
mod clocks;
mod config;
mod connection;
mod follow;
mod link;
mod operation;
mod pool;
mod scripts;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;

pub use self::config::RedisBuilder;
use self::connection::Connection;
use self::follow::Follower;
use self::operation::Operation;
use self::scripts::random;
use crate::epoch::Epochs;
use crate::error::{Error, RemoteError};
use crate::event::Announcement;
use crate::lease::LONGEST_LEASE;
use crate::remote::{Claim, Health, Leased, Listener, Put, Remote, RemoteFuture, Stored, Term};
use crate::tag::{Strength, Tag};

/// The layout of keys and frames. Another layout gets another number, and so never reads this one.
const LAYOUT: u8 = 2;

/// What is shorter than the header of a frame is a mark.
const LEAST_VALUE: usize = crate::frame::HEADER_LEN;

/// A connection to Redis or Valkey, for [`StoreBuilder::l2`](crate::StoreBuilder::l2).
///
/// Addresses: `redis://[user:password@]host[:port][/database]`, `rediss://…` with the feature
/// `tls`, `redis-cluster://…?node=…`, `redis-sentinel://…?sentinelServiceName=…&node=…`.
///
/// The server may be down when the service starts (see [`RedisBuilder::connect_lazy`]) and at any
/// time after: connections are tried again without end, with backoff.
///
/// # Topologies
///
/// - **One server**, with replicas or without.
/// - **Sentinel**: the primary is asked of the sentinels whenever connections are made anew. Name all
///   of them in the address.
/// - **Cluster**: one node in the address is enough to begin with; the primaries that were found are
///   asked, too, when others have to be found. Entries are spread over all slots; tags share one, that
///   of `{prefix}`. While a primary is being replaced, the second tier as a whole is out of use: for as
///   long as the Cluster takes, and up to about two seconds more. Slots may be moved under
///   load. While the tags' slot is on its way, invalidations and values with tags that are new may
///   have to wait until it has arrived: they return [`Reach::ThisNode`](crate::Reach::ThisNode)
///   meanwhile, and the second tier is out of use. Removals in a slot that is on its way may take two
///   round trips instead of one.
///
/// Replicas are never read. What a failover can lose: see
/// [`Reach::Everywhere`](crate::Reach::Everywhere). A primary that hangs is left after four
/// [heartbeats](RedisBuilder::heartbeat). Let the servers wait longer than that before they replace it
/// (`cluster-node-timeout`, `down-after-milliseconds`; their defaults do): else a node may be with the
/// old primary, should that wake up, while others are with the new one. The same holds where a network
/// is cut so that a node reaches only the old primary: `min-replicas-to-write 1` has that refuse what
/// nobody else would see.
///
/// Redis 7, or Valkey.
#[derive(Clone)]
pub struct Redis(Arc<Connection>);

impl Redis {
    /// Connects to `url` with the defaults, and waits for the connection.
    ///
    /// # Errors
    ///
    /// As [`RedisBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// Settings for a connection to `url`.
    pub fn builder(url: &str) -> RedisBuilder {
        RedisBuilder::new(url)
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the address: it may hold a password.
        f.debug_struct("Redis")
            .field("prefix", &self.0.prefix)
            .field("available", &self.is_available())
            .finish_non_exhaustive()
    }
}

impl Remote for Redis {
    fn is_available(&self) -> bool {
        self.0.is_available()
    }

    fn health(&self) -> Health {
        self.0.breaker.health()
    }

    fn get(&self, key: Bytes) -> RemoteFuture<'_, Option<Bytes>> {
        let connection = &self.0;
        Box::pin(async move {
            // GETRANGE, not GET: whatever somebody put there, no more than the bound is read. One
            // byte more than allowed comes back of what is too large, and its checksum fails.
            let (key, most) = (connection.entry_key(&key), connection.max_value);
            let found = match connection.perform(Operation::Read { key, most }).await {
                Err(RemoteError::Protocol(text)) if text.starts_with("WRONGTYPE") => {
                    Bytes::from_static(b"?")
                }
                found => found?.into_bytes().unwrap_or_default(),
            };
            Ok((!found.is_empty()).then_some(found))
        })
    }

    fn put(&self, put: Put) -> RemoteFuture<'_, Stored> {
        let connection = &self.0;
        Box::pin(async move {
            if put.frame.len() > connection.max_value {
                return Ok(Stored::TooLarge);
            }
            let key = connection.entry_key(&put.key);
            // A tombstone may come late: it undoes nothing but a value.
            let latest = if put.frame.len() < LEAST_VALUE {
                String::new()
            } else {
                connection.latest(&key).ok_or(RemoteError::Unavailable)?.to_string()
            };
            let args: Vec<Value> = vec![
                put.frame.into(),
                millis(put.keep.max(Duration::from_millis(1))),
                if put.only_if.is_some() { "if" } else { "always" }.into(),
                put.only_if.unwrap_or_default().into(),
                latest.into(),
            ];
            let stored = match put.announce {
                None => {
                    let (script, keys) = (&connection.scripts.put, vec![key]);
                    connection.perform(Operation::Run { script, keys, args }).await?
                }
                Some(removal) => connection.replace(&put.key, key, args, removal).await?,
            };
            match stored.as_i64() {
                Some(1) => Ok(Stored::Yes),
                Some(2) => Err(RemoteError::Deadline),
                _ => Ok(Stored::Refused),
            }
        })
    }

    fn lease(&self, claim: Claim) -> RemoteFuture<'_, Leased> {
        let connection = &self.0;
        Box::pin(async move {
            let key = connection.entry_key(&claim.key);
            let latest = connection.latest(&key).ok_or(RemoteError::Unavailable)?;
            let args: Vec<Value> = vec![
                claim.expected.into(),
                Bytes::copy_from_slice(&claim.token.to_le_bytes()).into(),
                micros(claim.span),
                millis(claim.keep.max(Duration::from_millis(1))),
                latest.to_string().into(),
                micros(LONGEST_LEASE),
            ];
            let answer: (u8, u64, Bytes) =
                connection.run(&connection.scripts.lease, vec![key], args).await?;
            match answer {
                (0, ..) => Ok(Leased::Changed),
                (1, _, expected) => Ok(Leased::Granted(expected)),
                (2, left, begins) => Ok(Leased::Held(Duration::from_micros(left), begins)),
                (3, _, begins) => Ok(Leased::Passes(begins)),
                _ => Err(RemoteError::Deadline),
            }
        })
    }

    fn update_lease(&self, key: Bytes, token: u64, term: Term) -> RemoteFuture<'_, bool> {
        let connection = &self.0;
        Box::pin(async move {
            let key = connection.entry_key(&key);
            let latest = connection.latest(&key).ok_or(RemoteError::Unavailable)?;
            let (span, passes) = match term {
                Term::Renewed(span) => (span, ""),
                Term::Ended => (Duration::ZERO, ""),
                Term::Passes(span) => (span, "pass"),
            };
            let args: Vec<Value> = vec![
                Bytes::copy_from_slice(&token.to_le_bytes()).into(),
                micros(span.min(LONGEST_LEASE)),
                passes.into(),
                latest.to_string().into(),
            ];
            match connection.run(&connection.scripts.update_lease, vec![key], args).await? {
                0 => Ok(false),
                1 => Ok(true),
                _ => Err(RemoteError::Deadline),
            }
        })
    }

    fn resolve(&self, tags: Vec<Tag>, known: u64) -> RemoteFuture<'_, Vec<Epochs>> {
        let connection = &self.0;
        Box::pin(async move {
            let keys = std::iter::once(connection.clock_key())
                .chain(tags.iter().map(|tag| connection.tag_key(tag)));
            let args = vec![known.to_string().into(), millis(connection.tag_lifetime), random()];
            let answer: Vec<String> =
                connection.run(&connection.scripts.resolve, keys.collect(), args).await?;
            let numbers = answer.iter().map(|n| n.parse()).collect::<Result<Vec<u64>, _>>();
            let numbers =
                numbers.map_err(|_| RemoteError::Protocol("epochs that are not numbers".into()))?;
            let (tags_found, []) = numbers.as_chunks() else {
                return Err(RemoteError::Protocol("a wrong number of epochs".into()));
            };
            Ok(tags_found
                .iter()
                .map(|&[hard, soft, touched]| Epochs { hard, soft, touched })
                .collect())
        })
    }

    fn last_epoch(&self) -> RemoteFuture<'_, u64> {
        let connection = &self.0;
        Box::pin(async move {
            let clock = Operation::Read { key: connection.clock_key(), most: 20 };
            // The clock may not have begun; and whatever else lies there is replaced when one is drawn.
            let text = match connection.perform(clock).await {
                Err(RemoteError::Protocol(_)) => return Ok(0),
                found => found?.into_bytes().unwrap_or_default(),
            };
            let last = str::from_utf8(&text).ok().and_then(|text| text.split(' ').next());
            Ok(last.and_then(|last| last.parse().ok()).unwrap_or_default())
        })
    }

    fn invalidate(
        &self,
        tag: Tag,
        strength: Strength,
        known: u64,
        sender: u64,
    ) -> RemoteFuture<'_, u64> {
        let connection = &self.0;
        Box::pin(async move {
            let args: Vec<Value> = vec![
                known.to_string().into(),
                millis(connection.tag_lifetime),
                if strength == Strength::Hard { "hard" } else { "soft" }.into(),
                connection.channel().into(),
                Bytes::from(Announcement::tag_prefix(sender, strength)).into(),
                tag.as_str().into(),
                random(),
            ];
            let keys = vec![connection.clock_key(), connection.tag_key(&tag)];
            let epoch: String = connection.run(&connection.scripts.invalidate, keys, args).await?;
            epoch.parse().map_err(|_| RemoteError::Protocol("an epoch that is not a number".into()))
        })
    }

    fn buckets(&self) -> u16 {
        self.0.buckets.count()
    }

    fn bucket(&self, key: &[u8]) -> u16 {
        self.0.bucket(key)
    }

    fn removals(&self, buckets: Vec<u16>) -> RemoteFuture<'_, Vec<u64>> {
        Box::pin(async move { self.0.epochs_of(&buckets).await })
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Result<(), Error> {
        if self.0.is_followed.swap(true, Ordering::AcqRel) {
            let text = "this Redis serves another store already; connect once more for this one, or use clones of the store";
            return Err(Error::Config(text.into()));
        }
        tokio::spawn(Follower::new(&self.0, listener).run());
        Ok(())
    }
}

fn micros(span: Duration) -> Value {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 2).into()
}

fn millis(span: Duration) -> Value {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 2).into()
}
