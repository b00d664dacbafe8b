//! The connections to the servers, which are given up and made anew as a whole: fred connects again
//! by itself when a connection ends, but not from what looks alive and isn't, and ends its task for
//! good on some errors.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use fred::clients::{Client, SubscriberClient};
use fred::error::Error;
use fred::interfaces::{ClientLike, LuaInterface};
use fred::prelude::Builder;
use fred::types::scripts::Script;
use fred::types::{ConnectHandle, FromValue, Value};
use std::sync::Arc;
use tokio::time::{Instant, timeout};

use super::super::error::RegistryError;

/// After how many failures in a row the connections are made anew.
const FAILURES: u32 = 5;

/// What a connection is given to come about.
const PATIENCE: Duration = Duration::from_secs(3);

/// One connection for operations, and one for announcements.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) subscriber: SubscriberClient,
    tasks: [ConnectHandle; 2],
    born: Instant,
    failures: AtomicU32,
}

impl Link {
    /// Begins to connect. Must be called inside a tokio runtime.
    fn open(builder: &Builder) -> Result<Self, Error> {
        let (client, subscriber) = (builder.build()?, builder.build_subscriber_client()?);
        let tasks = [client.connect(), subscriber.connect()];
        Ok(Self { client, subscriber, tasks, born: Instant::now(), failures: AtomicU32::new(0) })
    }

    async fn run<R: FromValue>(
        &self,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<R, Error> {
        // Its digest, or in full if the server hasn't seen it.
        match self.client.evalsha(script.sha1().clone(), keys.clone(), args.clone()).await {
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                self.client.eval(script.lua().cloned().unwrap_or_default(), keys, args).await
            }
            answer => answer,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The link in use.
pub(super) struct Current {
    link: ArcSwap<Link>,
    builder: Builder,
    deadline: Duration,
}

impl Current {
    pub(super) fn open(builder: Builder, deadline: Duration) -> Result<Self, Error> {
        let link = ArcSwap::from_pointee(Link::open(&builder)?);
        Ok(Self { link, builder, deadline })
    }

    /// How long an operation may take.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) fn get(&self) -> Arc<Link> {
        self.link.load_full()
    }

    /// Runs a script within the deadline.
    pub(super) async fn run<R: FromValue>(
        &self,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<R, RegistryError> {
        let link = self.get();
        self.within(&link, link.run(script, keys, args)).await
    }

    /// Does something with `link` within the deadline.
    pub(super) async fn within<R>(
        &self,
        link: &Arc<Link>,
        operation: impl Future<Output = Result<R, Error>>,
    ) -> Result<R, RegistryError> {
        let error = match timeout(self.deadline, operation).await {
            Ok(Ok(done)) => {
                link.failures.store(0, Relaxed);
                return Ok(done);
            }
            Ok(Err(error)) => RegistryError::unavailable(error),
            Err(_) => RegistryError::Timeout(self.deadline),
        };
        let is_over = link.tasks.iter().any(ConnectHandle::is_finished);
        let failures = link.failures.fetch_add(1, Relaxed);
        if link.born.elapsed() > PATIENCE && (is_over || failures >= FAILURES) {
            self.renew(link);
        }
        Err(error)
    }

    /// Puts another in place of `old`, unless that has been done.
    fn renew(&self, old: &Arc<Link>) {
        match Link::open(&self.builder) {
            Ok(link) => {
                tracing::debug!("the connections to the registry are made anew");
                self.link.compare_and_swap(old, Arc::new(link));
            }
            // The same settings have made a link before.
            Err(error) => tracing::warn!(%error, "no new connections can be made"),
        }
    }
}
