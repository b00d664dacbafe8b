//! How to reach Redis, and how long to wait for it.

use std::sync::Arc;
use std::time::Duration;

use fred::prelude::{Builder, ClientLike, ReconnectPolicy};
use fred::types::config::Config;

use super::breaker::Breaker;
use super::scripts::Scripts;
use super::{Connection, Redis};
use crate::error::{Error, RemoteError};

/// Failures in a row that open the breaker.
const BREAKER_THRESHOLD: u32 = 5;

/// Settings for [`Redis`].
///
/// | setting | default |
/// | --- | --- |
/// | [`prefix`](Self::prefix) | `tk` |
/// | [`deadline`](Self::deadline) | 100 ms |
/// | [`connect_timeout`](Self::connect_timeout) | 5 s |
/// | [`breaker_rest`](Self::breaker_rest) | 1 s |
/// | [`tag_lifetime`](Self::tag_lifetime) | 30 days |
/// | [`max_value`](Self::max_value) | 16 MiB |
#[derive(Clone, Debug)]
#[must_use]
pub struct RedisBuilder {
    url: String,
    prefix: String,
    deadline: Duration,
    connect_timeout: Duration,
    breaker_rest: Duration,
    tag_lifetime: Duration,
    max_value: usize,
}

impl RedisBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            prefix: "tk".to_owned(),
            deadline: Duration::from_millis(100),
            connect_timeout: Duration::from_secs(5),
            breaker_rest: Duration::from_secs(1),
            tag_lifetime: Duration::from_secs(30 * 24 * 3600),
            max_value: 16 * 1024 * 1024,
        }
    }

    /// What all keys and the channel begin with. Stores that share a server and a prefix share
    /// their entries and invalidations; others don't see each other.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long an operation may take before the store goes on without it.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long [`connect`](Self::connect) waits for the first connection.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long operations are left out after five failures in a row.
    pub fn breaker_rest(mut self, rest: Duration) -> Self {
        self.breaker_rest = rest;
        self
    }

    /// How long the server remembers a tag that nothing uses. Each entry stored renews it, so it
    /// need only exceed the longest life of an entry; a forgotten tag costs misses.
    pub fn tag_lifetime(mut self, lifetime: Duration) -> Self {
        self.tag_lifetime = lifetime;
        self
    }

    /// The most bytes that are read or written for one entry. Larger ones stay in the first tier.
    pub fn max_value(mut self, bytes: usize) -> Self {
        self.max_value = bytes;
        self
    }

    /// Connects, and waits for the connection.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an address that can't be read or a prefix that can't be used;
    /// [`Error::Remote`] if there is no connection within the connect timeout.
    pub async fn connect(self) -> Result<Redis, Error> {
        let timeout = self.connect_timeout;
        let redis = self.connect_lazy()?;
        match tokio::time::timeout(timeout, redis.0.client.wait_for_connect()).await {
            Ok(Ok(())) => Ok(redis),
            Ok(Err(error)) => Err(RemoteError::Client(error.into()).into()),
            Err(_) => Err(RemoteError::Deadline.into()),
        }
    }

    /// Connects in the background, so that a service starts while Redis is down. Must be called
    /// inside a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], as for [`connect`](Self::connect).
    pub fn connect_lazy(self) -> Result<Redis, Error> {
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            let text = "a Redis prefix has at least one character, and no braces (they would change the Cluster slot)";
            return Err(Error::Config(text.into()));
        }
        let unusable = |error: fred::error::Error| {
            Error::Config(format!("the Redis address cannot be used: {error}"))
        };
        let config = Config::from_url(&self.url).map_err(unusable)?;
        let mut builder = Builder::from_config(Config { fail_fast: false, ..config });
        builder
            .with_connection_config(|connection| {
                connection.connection_timeout = self.connect_timeout;
                connection.internal_command_timeout = self.connect_timeout;
                // The store has other ways to get a value than to ask again.
                connection.max_command_attempts = 1;
            })
            .with_performance_config(|performance| {
                performance.default_command_timeout = self.deadline;
                performance.broadcast_channel_capacity = 16 * 1024;
            })
            .set_policy(ReconnectPolicy::new_exponential(0, 50, 2_000, 2));
        let client = builder.build().map_err(unusable)?;
        let subscriber = builder.build_subscriber_client().map_err(unusable)?;
        client.connect();
        subscriber.connect();
        Ok(Redis(Arc::new(Connection {
            client,
            subscriber,
            scripts: Scripts::new(),
            breaker: Breaker::new(BREAKER_THRESHOLD, self.breaker_rest),
            synced: false.into(),
            prefix: self.prefix,
            deadline: self.deadline,
            tag_lifetime: self.tag_lifetime,
            max_value: self.max_value,
        })))
    }
}
