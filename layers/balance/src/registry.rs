//! Discovery: which instances a service has, and where.
//!
//! A process that serves announces itself in a [`Registry`] as an [`Instance`] and is known there
//! for as long as it sends heartbeats; those who want something of it [watch](Discovery::watch), and
//! [`Pool::follow`](crate::Pool::follow) makes what they see the backends of a pool.
//!
//! | | reads | writes | feature |
//! | --- | --- | --- | --- |
//! | [`Memory`] | yes | yes | |
//! | `Dns`: A and AAAA, or SRV | yes | | `registry-dns` |
//! | `File`: JSON, watched | yes | | `registry-file` |
//! | `Redis`: across machines | yes | yes | `registry-redis` |
//!
//! Whichever it is, an outage of the registry takes no backend away: what was known last stays
//! until the registry says something else.
//!
//! ```
//! use std::time::Duration;
//!
//! use tower_keep_balance::Pool;
//! use tower_keep_balance::registry::{Instance, Memory, Registry};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In a server:
//! # let registry = Memory::new();
//! let instance = Instance::new("shop-1", "http://10.0.0.1:3000").weight(2);
//! let registration = registry.register("shop", instance, Duration::from_secs(15))?;
//!
//! // In who calls it:
//! let pool = Pool::<String>::builder().build()?;
//! let following = pool.follow(&registry, "shop", |instance| {
//!     Ok::<_, std::convert::Infallible>(instance.backend(instance.address().to_owned()))
//! });
//! # registration.registered().await?;
//! # following.ready().await;
//!
//! // When the server is told to end: nothing new comes, then it finishes what it has.
//! registration.deregister().await?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "registry-dns")]
mod dns;
mod error;
#[cfg(feature = "registry-file")]
mod file;
mod follow;
mod instance;
mod lease;
mod memory;
#[cfg(feature = "registry-redis")]
mod redis;
mod registration;
mod watch;
#[cfg(any(feature = "registry-file", feature = "registry-redis"))]
mod wire;

use std::future::Future;
use std::time::Duration;

#[cfg(feature = "registry-dns")]
pub use self::dns::{Dns, DnsBuilder};
pub use self::error::RegistryError;
#[cfg(feature = "registry-file")]
pub use self::file::File;
pub use self::follow::{FollowStats, Following};
pub use self::instance::{Instance, InvalidInstance};
pub use self::lease::Lease;
pub use self::memory::Memory;
#[cfg(feature = "registry-redis")]
pub use self::redis::{Redis, RedisBuilder};
pub use self::registration::{Registration, RegistrationState};
pub use self::watch::{Instances, Publisher, Watch, WatchStats};

/// How many instances of one service there are at most.
pub const MAX_INSTANCES: usize = 4096;

/// What knows the instances of services.
pub trait Discovery {
    /// The instances of `service` that live now, as the registry says when it is asked.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] if it can't be asked.
    fn healthy(
        &self,
        service: &str,
    ) -> impl Future<Output = Result<Vec<Instance>, RegistryError>> + Send;

    /// The instances of `service` as they come and go, as whole lists, the first one as soon as it
    /// is known. Errors are dealt with: what was known last stays, and the registry is asked again,
    /// with backoff.
    ///
    /// Runs in a task until the watch and its clones are dropped, so it has to be called within a
    /// tokio runtime.
    fn watch(&self, service: &str) -> Watch;
}

/// A registry that instances can announce themselves in. Cheap to clone.
pub trait Registry: Discovery + Clone + Send + Sync + 'static {
    /// Says that `lease`'s instance lives: it is added if it isn't there, and changed if it is
    /// another. Says whether it is the holder's; if not, another one has registered the same id.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] if the registry can't be told, or is full.
    fn heartbeat(
        &self,
        service: &str,
        lease: &Lease,
    ) -> impl Future<Output = Result<bool, RegistryError>> + Send;

    /// Takes the instance `id` out, if it is `holder`'s. Says whether it was.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] if the registry can't be told.
    fn deregister(
        &self,
        service: &str,
        id: &str,
        holder: u64,
    ) -> impl Future<Output = Result<bool, RegistryError>> + Send;

    /// Announces `instance` as one of `service`, until the [`Registration`] is dropped or ended.
    /// Heartbeats are sent at a third of `ttl` (30 ms to a day; 15 s is a good one): an instance that
    /// dies silently is gone after that. The registry may be down; it is told when it is back.
    ///
    /// Runs in a task, so it has to be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`RegistryError`], with what to change, if the name, the instance or the time is out of
    /// bounds.
    fn register(
        &self,
        service: &str,
        instance: Instance,
        ttl: Duration,
    ) -> Result<Registration, RegistryError> {
        Registration::start(self.clone(), service, instance, ttl)
    }
}
