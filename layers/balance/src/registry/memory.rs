//! A registry in memory: for tests, and for what is all in one process.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::error::{RegistryError, check_service};
use super::instance::Instance;
use super::lease::Lease;
use super::watch::{Publisher, Watch};
use super::{Discovery, MAX_INSTANCES, Registry};

/// Until when a watcher sleeps when nothing expires. It is woken.
const IDLE: Duration = Duration::from_secs(3600);

/// A registry in memory. All clones are the same one.
///
/// Times to live go by tokio's clock, so a test that pauses it needn't wait for them.
///
/// ```
/// use std::time::Duration;
///
/// use tower_keep_balance::registry::{Discovery, Instance, Memory, Registry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = Memory::new();
/// let instance = Instance::new("shop-1", "http://10.0.0.1:3000");
/// let registration = registry.register("shop", instance, Duration::from_secs(15))?;
/// registration.registered().await?;
/// assert_eq!(registry.healthy("shop").await?.len(), 1);
/// registration.deregister().await?;
/// assert!(registry.healthy("shop").await?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Memory(Arc<Inner>);

struct Inner {
    services: Mutex<HashMap<Box<str>, Service>>,
    changed: watch::Sender<()>,
}

type Service = BTreeMap<Arc<str>, Held>;

struct Held {
    instance: Instance,
    holder: u64,
    until: Instant,
}

impl Memory {
    /// An empty one.
    pub fn new() -> Self {
        Self(Arc::new(Inner { services: Mutex::default(), changed: watch::Sender::new(()) }))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Service>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that live, and when the first of them doesn't any more.
    fn living(&self, service: &str) -> (Vec<Instance>, Option<Instant>) {
        let mut services = self.lock();
        let Some(held) = services.get_mut(service) else { return (Vec::new(), None) };
        let now = Instant::now();
        held.retain(|_, held| held.until > now);
        if held.is_empty() {
            services.remove(service);
            return (Vec::new(), None);
        }
        let first = held.values().map(|held| held.until).min();
        (held.values().map(|held| held.instance.clone()).collect(), first)
    }

    fn heartbeat(&self, service: &str, lease: &Lease) -> Result<bool, RegistryError> {
        check_service(service)?;
        lease.validate()?;
        let (mut services, now) = (self.lock(), Instant::now());
        let held = services.entry(service.into()).or_default();
        held.retain(|_, held| held.until > now);
        let before = held.get(&lease.instance.id);
        if before.is_some_and(|it| it.holder != lease.holder) && !lease.takes_over {
            return Ok(false);
        }
        if before.is_none() && held.len() >= MAX_INSTANCES {
            return Err(RegistryError::Full(MAX_INSTANCES));
        }
        let Lease { instance, ttl, holder, .. } = lease.clone();
        held.insert(Arc::clone(&instance.id), Held { instance, holder, until: now + ttl });
        drop(services);
        // Also where only the time has moved: those who watch wait for the first that expires.
        self.changed.send_replace(());
        Ok(true)
    }

    fn deregister(&self, service: &str, id: &str, holder: u64) -> bool {
        let mut services = self.lock();
        let Some(held) = services.get_mut(service) else { return false };
        let now = Instant::now();
        let is_own = |held: &Held| held.holder == holder && held.until > now;
        let was_there = held.get(id).is_some_and(is_own) && held.remove(id).is_some();
        if held.is_empty() {
            services.remove(service);
        }
        drop(services);
        self.changed.send_replace(());
        was_there
    }
}

impl Discovery for Memory {
    async fn healthy(&self, service: &str) -> Result<Vec<Instance>, RegistryError> {
        Ok(self.0.living(service).0)
    }

    fn watch(&self, service: &str) -> Watch {
        let (publisher, watch) = Watch::channel(service);
        let (inner, changes) = (Arc::downgrade(&self.0), self.0.changed.subscribe());
        tokio::spawn(follow(inner, changes, service.to_owned(), publisher));
        watch
    }
}

async fn follow(
    inner: Weak<Inner>,
    mut changes: watch::Receiver<()>,
    service: String,
    publisher: Publisher,
) {
    loop {
        changes.borrow_and_update();
        let Some((living, first)) = inner.upgrade().map(|inner| inner.living(&service)) else {
            return;
        };
        publisher.publish(living);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep_until(first.unwrap_or_else(|| Instant::now() + IDLE)) => {}
            () = publisher.closed() => return,
        }
    }
}

impl Registry for Memory {
    async fn heartbeat(&self, service: &str, lease: &Lease) -> Result<bool, RegistryError> {
        self.0.heartbeat(service, lease)
    }

    async fn deregister(
        &self,
        service: &str,
        id: &str,
        holder: u64,
    ) -> Result<bool, RegistryError> {
        Ok(self.0.deregister(service, id, holder))
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = self.0.lock();
        let services = services.iter().map(|(service, held)| (service, held.len()));
        f.debug_map().entries(services).finish()
    }
}
