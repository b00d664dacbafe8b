//! Pools that follow a registry.

use std::collections::HashMap;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::Discovery;
use super::error::RegistryError;
use super::instance::Instance;
use super::watch::{Instances, Watch, WatchStats};
use crate::backend::Backend;
use crate::pool::{Listed, Pool, Shared};

impl<T: Send + Sync + 'static> Pool<T> {
    /// Makes the instances of `service` the pool's backends, now and whenever they change, for as
    /// long as the pool is in use. Runs in a task, so it has to be called within a tokio runtime.
    ///
    /// `make` makes an instance a backend, once, and again when something about it has changed;
    /// [`Instance::backend`] takes weight and priority over. Whatever `make` calls it, its name is
    /// the instance's id.
    ///
    /// - A backend whose instance is known stays as it is, with its counters, its target and its
    ///   health, and takes new settings over. If the address is another, so is the backend.
    /// - An instance for which `make` fails or panics is left out, and nothing else is.
    /// - While the registry can't be asked, the backends stay as they are.
    ///
    /// The backends that were there before are replaced by the first list. A pool follows one
    /// registry: following another ends the first.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_keep_balance::Pool;
    /// use tower_keep_balance::registry::{Instance, Memory, Registry};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let registry = Memory::new();
    /// let instance = Instance::new("shop-1", "10.0.0.1:3000");
    /// let registration = registry.register("shop", instance, Duration::from_secs(15))?;
    /// registration.registered().await?;
    ///
    /// let pool = Pool::<std::net::SocketAddr>::builder().build()?;
    /// let following = pool.follow(&registry, "shop", |instance| {
    ///     instance.address().parse().map(|address| instance.backend(address))
    /// });
    /// following.ready().await;
    /// assert_eq!(pool.pick()?.name(), "shop-1");
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow<D, E>(
        &self,
        discovery: &D,
        service: &str,
        make: impl FnMut(&Instance) -> Result<Backend<T>, E> + Send + 'static,
    ) -> Following
    where
        D: Discovery,
        E: Display + 'static,
    {
        let watch = discovery.watch(service);
        let (applied, ready) = watch::channel(false);
        let refused = Arc::<AtomicU64>::default();
        let follower = Follower {
            pool: self.downgrade(),
            make,
            service: service.to_owned(),
            made: HashMap::new(),
            refused: HashMap::new(),
            count: Arc::clone(&refused),
        };
        let (before, follow) = (self.end_follower(), follower.follow(watch.clone(), applied));
        let task = tokio::spawn(async move {
            // It may be at its last list.
            while before.as_ref().is_some_and(|before| !before.is_finished()) {
                tokio::task::yield_now().await;
            }
            follow.await;
        });
        let task = task.abort_handle();
        self.is_followed_by(task.clone());
        Following { watch, ready, refused, task }
    }
}

/// A pool that follows a registry. Dropping this changes nothing about that.
#[derive(Clone, Debug)]
pub struct Following {
    watch: Watch,
    ready: watch::Receiver<bool>,
    refused: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Following {
    /// Waits until the pool has its first backends from the registry, or won't get any: because the
    /// registry or the pool is gone, or follows another.
    pub async fn ready(&self) {
        // Whether it is ready or over, there is nothing more to wait for.
        let _ = self.ready.clone().wait_for(|ready| *ready).await;
    }

    /// Why the registry can't be asked, while that is so.
    pub fn error(&self) -> Option<RegistryError> {
        self.watch.error()
    }

    /// What has happened so far.
    pub fn stats(&self) -> FollowStats {
        FollowStats { watch: self.watch.stats(), refused: self.refused.load(Relaxed) }
    }

    /// Ends it. The pool stays as it is.
    pub fn stop(&self) {
        self.task.abort();
    }
}

/// What has happened while a pool followed a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowStats {
    /// Of what the registry said.
    pub watch: WatchStats,
    /// How often an instance couldn't be made a backend.
    pub refused: u64,
}

struct Follower<T, M> {
    pool: Weak<Shared<T>>,
    make: M,
    service: String,
    /// What the backends were made of, by id.
    made: HashMap<Arc<str>, Instance>,
    /// What none could be made of, by id.
    refused: HashMap<Arc<str>, Instance>,
    count: Arc<AtomicU64>,
}

impl<T, M, E> Follower<T, M>
where
    M: FnMut(&Instance) -> Result<Backend<T>, E>,
    E: Display,
{
    async fn follow(mut self, mut watch: Watch, applied: watch::Sender<bool>) {
        while let Some(instances) = watch.next().await {
            let Some(pool) = self.pool.upgrade().map(Pool::of) else { return };
            self.apply(&pool, &instances);
            applied.send_replace(true);
        }
    }

    fn apply(&mut self, pool: &Pool<T>, instances: &Instances) {
        let present = pool.names();
        let before = std::mem::take(&mut self.made);
        let mut refused = HashMap::new();
        let mut listed = Vec::with_capacity(instances.len());
        for instance in instances.iter() {
            let id = &instance.id;
            let known = before.get(id).filter(|_| present.contains(id));
            if known == Some(instance) {
                listed.push(Listed::Keep(Arc::clone(id)));
            } else if let Some(backend) = self.make(instance) {
                let is_same = known.is_some_and(|known| known.address == instance.address);
                let backend = Backend { name: Arc::clone(id), ..backend };
                listed.push(if is_same { Listed::Set(backend) } else { Listed::Anew(backend) });
            } else {
                refused.insert(Arc::clone(id), instance.clone());
                continue;
            }
            self.made.insert(Arc::clone(id), instance.clone());
        }
        self.refused = refused;
        pool.list(listed);
    }

    fn make(&mut self, instance: &Instance) -> Option<Backend<T>> {
        let made = catch_unwind(AssertUnwindSafe(|| (self.make)(instance)));
        let error = match made {
            Ok(Ok(backend)) => return Some(backend),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".to_owned(),
        };
        self.count.fetch_add(1, Relaxed);
        if self.refused.get(&instance.id) != Some(instance) {
            let (service, id, address) = (&*self.service, &*instance.id, &*instance.address);
            tracing::warn!(service, id, address, %error, "an instance can't be made a backend");
        }
        None
    }
}
