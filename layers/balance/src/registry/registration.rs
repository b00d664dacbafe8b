//! A registration: the task that keeps an instance in its registry.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Registry;
use super::error::{RegistryError, check_service};
use super::instance::Instance;
use super::lease::Lease;
use crate::backoff::{Waits, jittered};

/// How long to wait before the first attempt after a failure, at most.
const AGAIN: Duration = Duration::from_millis(100);

/// How a registration stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RegistrationState {
    /// The registry hasn't been told yet.
    Pending,
    /// It has.
    Registered,
    /// It can't be told; it is tried again.
    Failing(RegistryError),
    /// Another one has registered the same id, and this registration is over.
    Replaced,
}

/// An instance in its registry, for as long as this is held: see
/// [`Registry::register`](super::Registry::register).
///
/// A task sends heartbeats. When the registry has lost the instance, the next one brings it back.
/// Dropping this ends the registration in the background, which a process that exits at once doesn't
/// get done: then the instance is gone after its time to live.
#[derive(Debug)]
#[must_use = "dropping it ends the registration"]
pub struct Registration {
    orders: watch::Sender<Order>,
    state: watch::Receiver<RegistrationState>,
    task: JoinHandle<Result<(), RegistryError>>,
}

/// What the task is to do.
#[derive(Clone, Debug)]
struct Order {
    weight: u16,
    ends: bool,
}

impl Registration {
    pub(super) fn start<R: Registry>(
        registry: R,
        service: &str,
        instance: Instance,
        ttl: Duration,
    ) -> Result<Self, RegistryError> {
        check_service(service)?;
        let lease = Lease::new(instance, ttl)?;
        let (orders, received) =
            watch::channel(Order { weight: lease.instance.weight, ends: false });
        let (report, state) = watch::channel(RegistrationState::Pending);
        let keeper = Keeper { registry, service: service.to_owned(), lease, report };
        Ok(Self { orders, state, task: tokio::spawn(keeper.keep(received)) })
    }

    /// How it stands.
    pub fn state(&self) -> RegistrationState {
        self.state.borrow().clone()
    }

    /// Waits until the registry has the instance.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Replaced`] if another one has registered the same id meanwhile. While the
    /// registry can't be told, it waits.
    pub async fn registered(&self) -> Result<(), RegistryError> {
        let mut state = self.state.clone();
        let settled = |state: &RegistrationState| {
            matches!(state, RegistrationState::Registered | RegistrationState::Replaced)
        };
        match state.wait_for(settled).await.as_deref() {
            Ok(RegistrationState::Registered) => Ok(()),
            _ => Err(RegistryError::Replaced),
        }
    }

    /// Changes the instance's weight, at once: with 0 it gets nothing new.
    pub fn set_weight(&self, weight: u16) {
        self.orders.send_modify(|order| order.weight = weight);
    }

    /// Takes the instance out of the registry, and waits until that is done. It is tried again for
    /// the instance's time to live; one who doesn't wait for so long leaves it to the background.
    ///
    /// Those who watch may need a moment to hear of it: a server goes on serving for that long, and
    /// then finishes what it has.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] if the registry couldn't be told. The instance has outlived its time then.
    pub async fn deregister(self) -> Result<(), RegistryError> {
        let Self { orders, task, .. } = self;
        orders.send_modify(|order| order.ends = true);
        task.await.unwrap_or_else(|error| Err(RegistryError::unavailable(error)))
    }
}

/// What the task of a registration works with.
struct Keeper<R> {
    registry: R,
    service: String,
    lease: Lease,
    report: watch::Sender<RegistrationState>,
}

impl<R: Registry> Keeper<R> {
    async fn keep(mut self, mut orders: watch::Receiver<Order>) -> Result<(), RegistryError> {
        let ttl = self.lease.ttl;
        let mut waits = Waits::new(AGAIN.min(ttl / 10), ttl / 3);
        loop {
            let order = orders.borrow_and_update().clone();
            if order.ends {
                return self.end().await;
            }
            self.lease.instance.weight = order.weight;
            // Not longer than it counts: a registry that hangs is asked again.
            let heartbeat = self.registry.heartbeat(&self.service, &self.lease);
            let wait =
                match timeout(ttl, heartbeat).await.unwrap_or(Err(RegistryError::Timeout(ttl))) {
                    Ok(true) => {
                        waits.reset();
                        self.lease.takes_over = false;
                        self.report(RegistrationState::Registered);
                        jittered(ttl / 3)
                    }
                    Ok(false) => {
                        self.report(RegistrationState::Replaced);
                        return Ok(());
                    }
                    Err(error) => {
                        self.report(RegistrationState::Failing(error));
                        waits.next(fastrand::f64())
                    }
                };
            tokio::select! {
                () = sleep(wait) => {}
                changed = orders.changed() => if changed.is_err() {
                    return self.end().await;
                },
            }
        }
    }

    /// Nothing else is sent meanwhile, so that no heartbeat comes after it.
    async fn end(&self) -> Result<(), RegistryError> {
        let Lease { instance, ttl, holder, .. } = &self.lease;
        let latest = Instant::now() + *ttl;
        let mut waits = Waits::new(AGAIN.min(*ttl / 10), *ttl / 3);
        loop {
            let deregister = self.registry.deregister(&self.service, instance.id(), *holder);
            let answer = tokio::select! {
                answer = deregister => answer,
                () = sleep_until(latest) => Err(RegistryError::Timeout(*ttl)),
            };
            let wait = waits.next(fastrand::f64());
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() + wait >= latest => return Err(error),
                Err(_) => sleep(wait).await,
            }
        }
    }

    fn report(&self, now: RegistrationState) {
        let (service, id) = (&*self.service, self.lease.instance.id());
        match (&*self.report.borrow(), &now) {
            (_, RegistrationState::Replaced) => {
                tracing::warn!(service, id, "another one has registered this id");
            }
            (RegistrationState::Failing(_), RegistrationState::Failing(_))
            | (RegistrationState::Registered, RegistrationState::Registered) => {}
            (_, RegistrationState::Failing(error)) => {
                tracing::warn!(service, id, %error, "the registry can't be told of this instance");
            }
            _ => tracing::info!(service, id, "registered"),
        }
        self.report.send_replace(now);
    }
}
