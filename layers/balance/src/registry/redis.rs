//! The registry on Redis or Valkey: instances announce themselves across machines.

mod known;
mod link;
mod listeners;
mod record;
mod scripts;
mod watcher;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::prelude::{Builder, ReconnectPolicy};
use fred::types::Value;
use fred::types::config::{ClusterDiscoveryPolicy, Config, ServerConfig};

use self::link::Current;
use self::listeners::Listeners;
use self::record::{Answer, MAX_RECORD, MAX_SERVICE};
use self::scripts::Scripts;
use self::watcher::Watcher;
use super::error::{RegistryError, check_service};
use super::instance::Instance;
use super::lease::Lease;
use super::watch::Watch;
use super::{Discovery, MAX_INSTANCES, Registry};

/// The longest wait before it is tried again to connect, in milliseconds.
const LONGEST_WAIT: u32 = 1_000;

/// A registry on Redis 7 or Valkey: one server, Sentinel, or a Cluster.
///
/// Instances are kept by the server's clock, so the clocks of machines don't matter. Those who watch
/// hear of what comes and goes by pub/sub, and of what died silently when its time is over. What a
/// watch says survives trouble with the server: while it is down, nobody expires; when it is back, or
/// has lost its data, or its clock jumps, nobody is gone before there was time for a heartbeat: its time
/// to live, and what it may take to connect again ([`deadline`](RedisBuilder::deadline), of a second at
/// least, and a second more).
/// ([`healthy`](Discovery::healthy) has no memory: it is what the server says.)
///
/// For the prefix `tk`, a service `shop` lies at `{tk:registry:shop}:expiry`, `:records` and
/// `:origin` (the braces are literal: one slot of a Cluster), and is announced on
/// `tk:registry:shop:{database}`. A server that is shared by strangers can be trusted no more than
/// they: use a password, and a prefix of one's own. What isn't an instance there is skipped and
/// counted ([`WatchStats::skipped`](super::WatchStats::skipped)).
///
/// Addresses: `redis://[user:password@]host[:port][/database]`, `rediss://…` with the feature
/// `registry-redis-tls`, `redis-cluster://…?node=…`,
/// `redis-sentinel://…?sentinelServiceName=…&node=…`.
///
/// ```no_run
/// use std::time::Duration;
///
/// use tower_keep_balance::registry::{Instance, Redis, Registry};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = Redis::new("redis://10.0.0.9")?;
/// let instance = Instance::new("shop-1", "http://10.0.0.1:3000");
/// let registration = registry.register("shop", instance, Duration::from_secs(15))?;
/// // … serve, until it is told to end; then:
/// registration.deregister().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

pub(super) struct Inner {
    link: Current,
    listeners: Listeners,
    scripts: Scripts,
    prefix: String,
    database: u8,
    /// How long it may take until a process is connected again, once the server can be reached.
    reconnect: Duration,
}

impl Redis {
    /// The registry at `url`, with the defaults. The server may be down: it is connected to in the
    /// background, so this has to be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// As [`RedisBuilder::build`].
    pub fn new(url: &str) -> Result<Self, RegistryError> {
        Self::builder(url).build()
    }

    /// Settings for the registry at `url`.
    pub fn builder(url: &str) -> RedisBuilder {
        RedisBuilder { url: url.to_owned(), prefix: "tk".into(), deadline: Duration::from_secs(1) }
    }
}

impl Inner {
    fn keys(&self, service: &str) -> Vec<String> {
        let key = |part| format!("{{{}:registry:{service}}}:{part}", self.prefix);
        ["expiry", "records", "origin"].map(key).into()
    }

    /// Channels don't belong to a database of the server, as keys do; so the name says which.
    fn channel(&self, service: &str) -> String {
        format!("{}:registry:{service}:{}", self.prefix, self.database)
    }

    async fn ask(&self, service: &str) -> Result<Answer, RegistryError> {
        check_service(service)?;
        let bounds = [MAX_INSTANCES, MAX_RECORD, MAX_SERVICE].map(|bound| bound.to_string().into());
        let args = std::iter::once(self.channel(service).into()).chain(bounds).collect();
        let answer: Vec<Bytes> =
            self.link.run(&self.scripts.healthy, self.keys(service), args).await?;
        Answer::read(&answer)
    }
}

impl Discovery for Redis {
    async fn healthy(&self, service: &str) -> Result<Vec<Instance>, RegistryError> {
        let living = self.0.ask(service).await?.living;
        Ok(living.into_iter().map(|living| living.instance).collect())
    }

    fn watch(&self, service: &str) -> Watch {
        let (publisher, watch) = Watch::channel(service);
        let watcher = Watcher::new(Arc::clone(&self.0), service.to_owned(), publisher);
        tokio::spawn(watcher.run());
        watch
    }
}

impl Registry for Redis {
    async fn heartbeat(&self, service: &str, lease: &Lease) -> Result<bool, RegistryError> {
        check_service(service)?;
        lease.validate()?;
        let args: Vec<Value> = vec![
            lease.instance.id().into(),
            record::holder(lease.holder).into(),
            record::encode(lease)?.into(),
            lease.ttl.as_millis().to_string().into(),
            if lease.takes_over { "takes" } else { "renews" }.into(),
            self.0.channel(service).into(),
            MAX_INSTANCES.to_string().into(),
        ];
        let keys = self.0.keys(service);
        match self.0.link.run(&self.0.scripts.heartbeat, keys, args).await? {
            0 => Ok(false),
            2 => Err(RegistryError::Full(MAX_INSTANCES)),
            _ => Ok(true),
        }
    }

    async fn deregister(
        &self,
        service: &str,
        id: &str,
        holder: u64,
    ) -> Result<bool, RegistryError> {
        check_service(service)?;
        let args: Vec<Value> =
            vec![id.into(), record::holder(holder).into(), self.0.channel(service).into()];
        let keys = self.0.keys(service);
        let was_there: i64 = self.0.link.run(&self.0.scripts.deregister, keys, args).await?;
        Ok(was_there == 1)
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the address: it may hold a password.
        f.debug_struct("Redis").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}

/// Settings of [`Redis`].
///
/// | setting | default |
/// | --- | --- |
/// | [`prefix`](Self::prefix) | `tk` |
/// | [`deadline`](Self::deadline) | 1 s |
#[derive(Clone)]
#[must_use]
pub struct RedisBuilder {
    url: String,
    prefix: String,
    deadline: Duration,
}

impl RedisBuilder {
    /// What all keys and channels begin with. Those who share a server and a prefix share their
    /// services.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long an operation may take before it has failed, and is tried again. Default: 1 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Begins to connect, in the background, so it has to be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`RegistryError`], with what to change, if the settings can't work.
    pub fn build(self) -> Result<Redis, RegistryError> {
        let Self { url, prefix, deadline } = self;
        if prefix.is_empty() || prefix.contains(['{', '}']) {
            let text = "a Redis prefix has at least one character, and no braces (they would \
                        change the Cluster slot)";
            return Err(RegistryError::Setting(text));
        }
        if deadline.is_zero() {
            let text =
                "with a deadline of zero, no operation could ever succeed; the default is 1 s";
            return Err(RegistryError::Setting(text));
        }
        if !["redis", "valkey"].iter().any(|scheme| url.starts_with(scheme)) {
            let text = "a Redis address begins with redis://, rediss://, redis-cluster:// or \
                        redis-sentinel://";
            return Err(RegistryError::Setting(text));
        }
        let unusable = |error: fred::error::Error| {
            RegistryError::Content(format!("the Redis address cannot be used: {error}").into())
        };
        let mut config = Config::from_url(&url).map_err(unusable)?;
        if let ServerConfig::Clustered { policy, .. } = &mut config.server {
            // Not only by the servers in the address, which may be the very ones that died.
            *policy = ClusterDiscoveryPolicy::UseCache;
        }
        let database = config.database.unwrap_or_default();
        let timeout = deadline.max(Duration::from_secs(1));
        let mut builder = Builder::from_config(Config { fail_fast: false, ..config });
        builder
            .with_connection_config(|connection| {
                connection.connection_timeout = timeout;
                connection.internal_command_timeout = timeout;
                // Whoever asks tries again by himself.
                connection.max_command_attempts = 1;
                connection.unresponsive.max_timeout = Some(timeout.saturating_mul(2));
                connection.unresponsive.interval = timeout;
            })
            .with_performance_config(|performance| {
                performance.default_command_timeout = deadline;
                performance.broadcast_channel_capacity = 1024;
            })
            .set_policy(ReconnectPolicy::new_exponential(0, 50, LONGEST_WAIT, 2));
        let link = Current::open(builder, deadline).map_err(unusable)?;
        let (listeners, scripts) = (Listeners::default(), Scripts::new());
        // An attempt that hangs, and the wait for the next one.
        let reconnect = timeout + Duration::from_millis(LONGEST_WAIT.into());
        Ok(Redis(Arc::new(Inner { link, listeners, scripts, prefix, database, reconnect })))
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, deadline, .. } = self;
        let mut fields = f.debug_struct("RedisBuilder");
        fields.field("prefix", prefix).field("deadline", deadline).finish_non_exhaustive()
    }
}
