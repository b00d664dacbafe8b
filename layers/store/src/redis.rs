//! The second tier on Redis or Valkey, through fred.
//!
//! One multiplexed connection carries the operations, pipelined; another carries the
//! announcements (pub/sub). What lies on the server, for the prefix `tk`:
//!
//! | key | holds |
//! | --- | --- |
//! | `tk:1:{space}:{key}` | an entry's frame, or the tombstone of a removal |
//! | `{tk}:t:{tag}` (the braces of `{tk}` are literal) | "hard soft touched", the tag's epochs |
//! | `{tk}:epoch` | "last since evicted", the epoch clock |
//! | channel `tk:events:{database}` | announcements |
//! | channel `tk:events:{database}:{node}` | that node's beats |

mod breaker;
mod config;
mod follow;
mod scripts;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::{Client, SubscriberClient};
use fred::error::ErrorKind;
use fred::interfaces::{ClientLike, KeysInterface, LuaInterface};
use fred::types::scripts::Script;
use fred::types::{FromValue, Key, MultipleKeys, Value};
use tokio::sync::Notify;

use self::breaker::Breaker;
pub use self::config::RedisBuilder;
use self::follow::Follower;
use self::scripts::Scripts;
use crate::epoch::Epochs;
use crate::error::{Error, RemoteError};
use crate::event::Announcement;
use crate::remote::{Listener, Put, Remote, RemoteFuture, Stored};
use crate::tag::{Strength, Tag};

/// The layout of keys and frames. Another layout gets another number, and so never reads this one.
const LAYOUT: u8 = 1;

/// A connection to Redis or Valkey, for [`StoreBuilder::l2`](crate::StoreBuilder::l2).
///
/// Addresses: `redis://[user:password@]host[:port][/database]`, `rediss://…` with the feature
/// `tls`, `redis-cluster://…?node=…`, `redis-sentinel://…?sentinelServiceName=…&node=…`.
///
/// The server may be down when the service starts (see [`RedisBuilder::connect_lazy`]) and at any
/// time after: connections are tried again without end, with backoff.
#[derive(Clone)]
pub struct Redis(Arc<Connection>);

struct Connection {
    client: Client,
    subscriber: SubscriberClient,
    scripts: Scripts,
    breaker: Breaker,
    /// Whether the announcements arrive and this node has caught up with them.
    synced: AtomicBool,
    /// Whether a store listens.
    is_followed: AtomicBool,
    /// Told when the server turns out to be none that can be written to.
    demoted: Arc<Notify>,
    prefix: String,
    database: u8,
    deadline: Duration,
    heartbeat: Duration,
    tag_lifetime: Duration,
    max_value: usize,
}

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

impl Drop for Connection {
    fn drop(&mut self) {
        // fred's own tasks keep the connections open until they are told. The runtime may be gone.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (client, subscriber) = (self.client.clone(), self.subscriber.clone());
            runtime.spawn(async move { futures_util::join!(client.quit(), subscriber.quit()) });
        }
    }
}

impl Remote for Redis {
    fn is_available(&self) -> bool {
        let connection = &self.0;
        connection.synced.load(Ordering::Acquire)
            && connection.client.is_connected()
            && connection.breaker.is_worth_trying()
    }

    fn get(&self, key: Bytes) -> RemoteFuture<'_, Option<Bytes>> {
        let connection = &self.0;
        Box::pin(async move {
            // GETRANGE, not GET: whatever somebody put there, no more than the bound is read. One
            // byte more than allowed comes back of what is too large, and its checksum fails.
            let range =
                connection.client.getrange(connection.entry_key(&key), 0, connection.max_value);
            let found: Bytes = match connection.within_deadline(range).await {
                Err(RemoteError::Protocol(text)) if text.starts_with("WRONGTYPE") => {
                    Bytes::from_static(b"?")
                }
                found => found?,
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
            let announcement = put.announce.as_ref().map(Announcement::encode).unwrap_or_default();
            let args: Vec<Value> = vec![
                put.frame.into(),
                millis(put.keep.max(Duration::from_millis(1))),
                if put.only_if.is_some() { "if" } else { "always" }.into(),
                put.only_if.unwrap_or_default().into(),
                connection.channel().into(),
                Bytes::from(announcement).into(),
            ];
            let keys = vec![connection.entry_key(&put.key)];
            let stored: i64 = connection.run(&connection.scripts.put, keys, args).await?;
            Ok(if stored == 1 { Stored::Yes } else { Stored::Refused })
        })
    }

    fn resolve(&self, tags: Vec<Tag>, known: u64) -> RemoteFuture<'_, Vec<Epochs>> {
        let connection = &self.0;
        Box::pin(async move {
            let keys = std::iter::once(connection.clock_key())
                .chain(tags.iter().map(|tag| connection.tag_key(tag)));
            let args = vec![known.to_string().into(), millis(connection.tag_lifetime)];
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
            ];
            let keys = vec![connection.clock_key(), connection.tag_key(&tag)];
            let epoch: String = connection.run(&connection.scripts.invalidate, keys, args).await?;
            epoch.parse().map_err(|_| RemoteError::Protocol("an epoch that is not a number".into()))
        })
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

impl Connection {
    fn entry_key(&self, key: &[u8]) -> Key {
        let prefix = format!("{}:{LAYOUT}:", self.prefix);
        Key::from(Bytes::from([prefix.as_bytes(), key].concat()))
    }

    fn tag_key(&self, tag: &Tag) -> Key {
        format!("{{{}}}:t:{tag}", self.prefix).into()
    }

    fn clock_key(&self) -> Key {
        format!("{{{}}}:epoch", self.prefix).into()
    }

    /// Channels don't belong to a database of the server, as keys do; so the name says which.
    fn channel(&self) -> String {
        format!("{}:events:{}", self.prefix, self.database)
    }

    /// Runs a script by its digest, and in full if the server hasn't seen it.
    async fn run<R: FromValue>(
        &self,
        script: &Script,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<R, RemoteError> {
        let keys = MultipleKeys::from(keys);
        let value = self.within_deadline(async {
            match self
                .client
                .evalsha::<Value, _, _, _>(script.sha1().clone(), keys.clone(), args.clone())
                .await
            {
                Err(error) if error.details().starts_with("NOSCRIPT") => {
                    let source = script.lua().cloned().unwrap_or_default();
                    self.client.eval(source, keys, args).await
                }
                answer => answer,
            }
        });
        value
            .await?
            .convert()
            .map_err(|error: fred::error::Error| RemoteError::Protocol(error.details().to_owned()))
    }

    async fn within_deadline<T>(
        &self,
        operation: impl Future<Output = Result<T, fred::error::Error>>,
    ) -> Result<T, RemoteError> {
        if !self.breaker.admits() {
            return Err(RemoteError::Unavailable);
        }
        let error = match tokio::time::timeout(self.deadline, operation).await {
            Ok(Ok(value)) => {
                self.breaker.succeeded();
                return Ok(value);
            }
            Ok(Err(error)) => error,
            Err(_) => {
                self.breaker.failed();
                return Err(RemoteError::Deadline);
            }
        };
        if error.details().starts_with("READONLY") {
            // It was the primary once. Where the address leads to the new one by now, a new
            // connection does, too.
            self.synced.store(false, Ordering::Release);
            self.demoted.notify_one();
        }
        match error.kind() {
            ErrorKind::Timeout => {
                self.breaker.failed();
                Err(RemoteError::Deadline)
            }
            // The server is there, it just doesn't do what it was asked.
            ErrorKind::InvalidArgument | ErrorKind::InvalidCommand | ErrorKind::Unknown => {
                self.breaker.succeeded();
                Err(RemoteError::Protocol(error.details().to_owned()))
            }
            _ => {
                self.breaker.failed();
                Err(RemoteError::Client(error.into()))
            }
        }
    }
}

fn millis(span: Duration) -> Value {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 2).into()
}
