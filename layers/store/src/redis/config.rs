//! How to reach Redis, and how long to wait for it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fred::error::ErrorKind;
use fred::prelude::{Builder, EventInterface, ReconnectPolicy};
use fred::types::config::{ClusterDiscoveryPolicy, Config, ServerConfig};

use super::Redis;
use super::breaker::Breaker;
use super::buckets::Buckets;
use super::clocks::Clocks;
use super::connection::Connection;
use super::link::{Current, Link};
use super::scripts::Scripts;
use crate::error::{Error, RemoteError};

/// Failures in a row that open the breaker.
const BREAKER_THRESHOLD: u32 = 5;

/// However small the heartbeat: less than this would make connections over a slow network fail.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// What the frame of a small value takes, at the least.
const LEAST_VALUE: usize = 1024;

/// The longest string that Redis holds.
const MOST_VALUE: usize = 512 * 1024 * 1024;

/// More than the threads of any runtime are of no use.
const MOST_CONNECTIONS: usize = 64;

/// Settings for [`Redis`].
///
/// | setting | default |
/// | --- | --- |
/// | [`prefix`](Self::prefix) | `tk` |
/// | [`deadline`](Self::deadline) | 100 ms |
/// | [`connect_timeout`](Self::connect_timeout) | 5 s |
/// | [`breaker_rest`](Self::breaker_rest) | 1 s |
/// | [`heartbeat`](Self::heartbeat) | 1 s |
/// | [`tag_lifetime`](Self::tag_lifetime) | 30 days |
/// | [`max_value`](Self::max_value) | 16 MiB |
/// | [`connections`](Self::connections) | 1 |
#[derive(Clone, Debug)]
#[must_use]
pub struct RedisBuilder {
    url: String,
    prefix: String,
    deadline: Duration,
    connect_timeout: Duration,
    breaker_rest: Duration,
    heartbeat: Duration,
    tag_lifetime: Duration,
    max_value: usize,
    connections: usize,
}

impl RedisBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            prefix: "tk".to_owned(),
            deadline: Duration::from_millis(100),
            connect_timeout: Duration::from_secs(5),
            breaker_rest: Duration::from_secs(1),
            heartbeat: Duration::from_secs(1),
            tag_lifetime: Duration::from_secs(30 * 24 * 3600),
            max_value: 16 * 1024 * 1024,
            connections: 1,
        }
    }

    /// What all keys and the channel begin with. Stores that share a server and a prefix share
    /// their entries and invalidations; others don't see each other.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long an operation may take before the store goes on without it. A lookup is one or two
    /// operations.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long [`connect`](Self::connect) waits for the first connection.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long operations are left out after five failures in a row, before one is tried, for which
    /// nobody waits; up to a quarter less, at random, so that nodes which lost the same server don't all
    /// try it at once. If that one fails, too, it begins again.
    /// [`Stats::l2_resting`](crate::Stats::l2_resting) says whether it is so now.
    pub fn breaker_rest(mut self, rest: Duration) -> Self {
        self.breaker_rest = rest;
        self
    }

    /// How often this node makes sure, with a small message to itself through the server, that
    /// announcements still arrive. After three without an answer it is out of step, and connects
    /// anew: a connection that died in silence is noticed within four times this, also where others answer.
    /// There is one such message by each [connection](Self::connections), on a Cluster by way of each
    /// primary.
    ///
    /// With each, some of what this node knows is asked for again, since a single announcement can get
    /// lost between two servers: 256 tags, and the removal epochs of 256 buckets of keys, out of 1,024,
    /// or 16,384 on a Cluster. So a lost removal of a single key is noticed within 6 heartbeats, or 66
    /// on a Cluster; with the next removal in its bucket, if that comes earlier.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
        self
    }

    /// How long the server remembers a tag that nothing uses. Each entry stored renews it, so it
    /// need only exceed the longest life of an entry; a forgotten tag costs misses.
    pub fn tag_lifetime(mut self, lifetime: Duration) -> Self {
        self.tag_lifetime = lifetime;
        self
    }

    /// The most bytes that are read or written for one entry: from 1 KiB to Redis's own 512 MiB.
    /// Larger ones stay in the first tier.
    pub fn max_value(mut self, bytes: usize) -> Self {
        self.max_value = bytes;
        self
    }

    /// How many connections carry the operations, to each primary, from 1 to 64; the one for
    /// announcements comes on top. Each operation takes the one with the fewest in flight, and shares it
    /// with others. If one is lost, the second tier is out of use until it is back.
    ///
    /// One is enough where values are small: what limits their number is the processor time of each. More
    /// help small values not to wait for large ones that are fetched at the same time. Each takes about
    /// 90 KiB here, and 40 KiB on the server.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Connects, and waits for the connection.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an address that can't be read and settings that can't work;
    /// [`Error::Remote`] if there is no connection within the connect timeout, or at once if the
    /// server refuses the user or the password.
    pub async fn connect(self) -> Result<Redis, Error> {
        let timeout = self.connect_timeout;
        let redis = self.connect_lazy()?;
        let link = redis.0.link.get();
        // All of them are told the same.
        let (mut errors, mut last) = (link.pool.informed().error_rx(), None);
        let connected = async {
            let mut all = pin!(link.pool.wait_for_connect());
            loop {
                tokio::select! {
                    connected = &mut all => return connected,
                    Ok((error, _)) = errors.recv() => {
                        if *error.kind() == ErrorKind::Auth {
                            return Err(error);
                        }
                        last = Some(error);
                    }
                }
            }
        };
        let error = match tokio::time::timeout(timeout, connected).await {
            Ok(Ok(())) => return Ok(redis),
            Ok(Err(error)) => Some(error),
            Err(_) => last,
        };
        Err(error.map_or(RemoteError::Deadline, |error| RemoteError::Client(error.into())).into())
    }

    /// Connects in the background, so that a service starts while Redis is down. Must be called
    /// inside a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], as for [`connect`](Self::connect).
    pub fn connect_lazy(self) -> Result<Redis, Error> {
        self.check()?;
        let unusable = |error: fred::error::Error| {
            Error::Config(format!("the Redis address cannot be used: {error}"))
        };
        let mut config = Config::from_url(&self.url).map_err(unusable)?;
        let mut buckets = Buckets::Hashed;
        if let ServerConfig::Clustered { policy, .. } = &mut config.server {
            // Not only by the servers in the address, which may be the very ones that died.
            *policy = ClusterDiscoveryPolicy::UseCache;
            buckets = Buckets::Slots;
        }
        let database = config.database.unwrap_or_default();
        let patience = self.heartbeat.saturating_mul(3);
        let mut builder = Builder::from_config(Config { fail_fast: false, ..config });
        builder
            .with_connection_config(|connection| {
                // While it waits for one server of a Cluster, fred does nothing with the others.
                let timeout = patience.max(LEAST_PATIENCE).min(self.connect_timeout);
                connection.connection_timeout = timeout;
                connection.internal_command_timeout = timeout;
                // The store has other ways to get a value than to ask again.
                connection.max_command_attempts = 1;
                // See `Operation`.
                connection.max_redirections = 0;
                connection.unresponsive.max_timeout = Some(patience);
                connection.unresponsive.interval = self.heartbeat;
            })
            .with_performance_config(|performance| {
                performance.default_command_timeout = self.deadline;
                performance.broadcast_channel_capacity = 16 * 1024;
            })
            .set_policy(ReconnectPolicy::new_exponential(0, 50, 2_000, 2));
        let link = Link::open(&builder, self.connections).map_err(unusable)?;
        Ok(Redis(Arc::new(Connection {
            link: Current::new(link),
            scripts: Scripts::new(),
            breaker: Breaker::new(BREAKER_THRESHOLD, self.breaker_rest),
            clocks: Clocks::new(),
            synced: false.into(),
            is_followed: false.into(),
            demoted: Arc::default(),
            prefix: self.prefix,
            buckets,
            database,
            deadline: self.deadline,
            heartbeat: self.heartbeat,
            tag_lifetime: self.tag_lifetime,
            max_value: self.max_value,
        })))
    }

    fn check(&self) -> Result<(), Error> {
        let is_redis = ["redis", "valkey"].iter().any(|scheme| self.url.starts_with(scheme));
        let broken = if !is_redis {
            "a Redis address begins with redis://, rediss://, redis-cluster:// or redis-sentinel://"
        } else if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            "a Redis prefix has at least one character, and no braces (they would change the Cluster slot)"
        } else if self.prefix.split(':').skip(1).any(|part| part.parse::<u64>().is_ok()) {
            "a number between colons in a Redis prefix would mix its keys with those of another prefix; write it with a letter, such as `app:v1`"
        } else if !(LEAST_VALUE..=MOST_VALUE).contains(&self.max_value) {
            "max_value is from 1 KiB to 512 MiB"
        } else if !(1..=MOST_CONNECTIONS).contains(&self.connections) {
            "RedisBuilder::connections is from 1 to 64"
        } else if self.deadline.is_zero() || self.connect_timeout.is_zero() {
            "with a deadline or connect_timeout of zero, no operation could ever succeed"
        } else if self.heartbeat < Duration::from_millis(10) {
            "a heartbeat of less than 10 ms is nothing but load"
        } else if self.tag_lifetime < Duration::from_secs(1) {
            "with a tag_lifetime of less than a second, no entry could be found again"
        } else {
            return Ok(());
        };
        Err(Error::Config(broken.into()))
    }
}
