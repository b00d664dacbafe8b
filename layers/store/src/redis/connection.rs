//! What the operations share: the link, the names of keys and channels, the deadline, the breaker.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fred::error::{Error, ErrorKind};
use fred::types::scripts::Script;
use fred::types::{FromValue, Key, Value};
use fred::util::redis_keyslot;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::LAYOUT;
use super::breaker::Breaker;
use super::buckets::Buckets;
use super::clocks::Clocks;
use super::link::Current;
use super::operation::Operation;
use super::scripts::Scripts;
use crate::error::RemoteError;
use crate::tag::Tag;

pub(super) struct Connection {
    pub(super) link: Current,
    pub(super) scripts: Scripts,
    pub(super) breaker: Breaker,
    pub(super) clocks: Clocks,
    /// Whether the announcements arrive and this node has caught up with them.
    pub(super) synced: AtomicBool,
    /// Whether a store listens.
    pub(super) is_followed: AtomicBool,
    /// Told when the server turns out to be none that can be written to.
    pub(super) demoted: Arc<Notify>,
    pub(super) prefix: String,
    pub(super) buckets: Buckets,
    pub(super) database: u8,
    pub(super) deadline: Duration,
    pub(super) heartbeat: Duration,
    pub(super) tag_lifetime: Duration,
    pub(super) max_value: usize,
}

impl Connection {
    pub(super) fn is_available(&self) -> bool {
        self.synced.load(Ordering::Acquire)
            && self.link.get().pool.is_connected()
            && self.breaker.is_worth_trying()
    }

    pub(super) fn entry_key(&self, key: &[u8]) -> Key {
        let prefix = self.entry_prefix();
        Key::from(Bytes::from([prefix.as_bytes(), key].concat()))
    }

    pub(super) fn entry_prefix(&self) -> String {
        format!("{}:{LAYOUT}:", self.prefix)
    }

    pub(super) fn tag_key(&self, tag: &Tag) -> Key {
        format!("{{{}}}:t:{tag}", self.prefix).into()
    }

    pub(super) fn clock_key(&self) -> Key {
        format!("{{{}}}:epoch", self.prefix).into()
    }

    /// Channels don't belong to a database of the server, as keys do; so the name says which.
    pub(super) fn channel(&self) -> String {
        format!("{}:events:{}", self.prefix, self.database)
    }

    /// By when a write to `key` that is sent now must arrive, by the clock of its server: its caller
    /// waits no longer.
    pub(super) fn latest(&self, key: &Key) -> Option<u64> {
        self.clocks.there(redis_keyslot(key.as_bytes()), self.deadline)
    }

    /// Runs a script.
    pub(super) async fn run<R: FromValue>(
        self: &Arc<Self>,
        script: &Script,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<R, RemoteError> {
        self.perform(Operation::Run { script, keys, args })
            .await?
            .convert()
            .map_err(|error: Error| RemoteError::Protocol(error.details().to_owned()))
    }

    pub(super) async fn perform(
        self: &Arc<Self>,
        operation: Operation<'_>,
    ) -> Result<Value, RemoteError> {
        self.is_in_use()?;
        let link = self.link.get();
        // One that can't be done while a slot is on its way is an answer, not a silence.
        let patience = self.deadline / 2;
        self.within_deadline(operation.on(&link, patience)).await
    }

    /// Unless the breaker is open. Then tries whether the server answers, if it is time to: whoever comes
    /// by sees to that, and nobody waits for it, since a server that hangs would cost the whole deadline.
    pub(super) fn is_in_use(self: &Arc<Self>) -> Result<(), RemoteError> {
        if !self.breaker.rests() {
            return Ok(());
        }
        if self.breaker.is_worth_trying() {
            let connection = Arc::clone(self);
            tokio::spawn(async move {
                let probe = Operation::Read { key: connection.clock_key(), most: 1 };
                let (link, patience) = (connection.link.get(), connection.deadline / 2);
                // Its outcome is the breaker's.
                let _ = connection.within_deadline(probe.on(&link, patience)).await;
            });
        }
        Err(RemoteError::Unavailable)
    }

    pub(super) async fn within_deadline<T>(
        &self,
        operation: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, RemoteError> {
        if !self.breaker.admits() {
            return Err(RemoteError::Unavailable);
        }
        let error = match timeout(self.deadline, operation).await {
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
            ErrorKind::InvalidArgument
            | ErrorKind::InvalidCommand
            | ErrorKind::Routing
            | ErrorKind::Unknown => {
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

impl Drop for Connection {
    fn drop(&mut self) {
        // Who follows holds the link, and looks up when told.
        self.demoted.notify_one();
    }
}
