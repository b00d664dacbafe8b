//! The connections to the servers, which are given up and made anew as a whole.
//!
//! fred connects again by itself when a connection ends. But asked to connect anew to a Cluster, it
//! keeps each connection that looks alive, those to frozen primaries included; and it ends its task
//! for good on some errors. So where a link is not trusted any more, another takes its place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use fred::clients::{Client, SubscriberClient};
use fred::interfaces::{ClientLike, ClusterInterface};
use fred::prelude::Builder;
use fred::types::ConnectHandle;
use fred::types::cluster::ClusterRouting;
use fred::types::config::{Server, ServerConfig};

use super::pool::Pool;

/// How much of what happens to the connections for operations may wait to be heard.
const EVENTS: usize = 64;

/// Multiplexed connections to each primary for operations, and one for announcements.
pub(super) struct Link {
    pub(super) pool: Pool,
    pub(super) subscriber: SubscriberClient,
    /// What fred runs for them. They hold the connections, and end with the link.
    tasks: Vec<ConnectHandle>,
    builder: Builder,
    connections: usize,
    /// Where slots are on their way to, by server.
    targets: Mutex<HashMap<Server, Target>>,
}

/// A server that is asked by itself, and not as a part of its Cluster.
struct Target {
    client: Client,
    task: ConnectHandle,
}

impl Link {
    /// Begins to connect, with so many connections for operations. Must be called inside a Tokio
    /// runtime.
    pub(super) fn open(builder: &Builder, connections: usize) -> Result<Self, fred::error::Error> {
        let subscriber = builder.build_subscriber_client()?;
        let mut few = builder.clone();
        // fred sets the memory for all of it aside.
        few.with_performance_config(|performance| performance.broadcast_channel_capacity = EVENTS);
        let others = (1..connections).map(|_| few.build()).collect::<Result<_, _>>()?;
        let pool = Pool::new(few.build()?, others);
        let mut tasks = vec![subscriber.connect()];
        tasks.extend(pool.clients().map(ClientLike::connect));
        let (builder, targets) = (builder.clone(), Mutex::default());
        Ok(Self { pool, subscriber, tasks, builder, connections, targets })
    }

    /// Begins to connect anew. Where all servers of a Cluster that the settings name are gone, those
    /// that this link got to know may not be.
    pub(super) fn renewed(&self) -> Result<Self, fred::error::Error> {
        let mut builder = self.builder.clone();
        let known = self.routing();
        builder.with_config(|config| {
            if let (ServerConfig::Clustered { hosts, .. }, Some(known)) =
                (&mut config.server, known)
            {
                for server in known.unique_primary_nodes() {
                    if !hosts.contains(&server) {
                        hosts.push(server);
                    }
                }
            }
        });
        Self::open(&builder, self.connections)
    }

    /// Whether fred has given one of the connections up for good.
    pub(super) fn is_over(&self) -> bool {
        self.tasks.iter().any(ConnectHandle::is_finished)
    }

    /// Which server of the Cluster has which slots, as far as is known; nothing if it is none.
    pub(super) fn routing(&self) -> Option<ClusterRouting> {
        self.pool.informed().cached_cluster_state()
    }

    /// The primaries of the Cluster; a single `None` if it is none.
    pub(super) fn primaries(&self) -> Vec<Option<Server>> {
        if !self.subscriber.is_clustered() {
            return vec![None];
        }
        let known = self.routing();
        known.iter().flat_map(ClusterRouting::unique_primary_nodes).map(Some).collect()
    }

    /// A client for `server` alone, which shows its answers as they are.
    pub(super) fn only(&self, server: &Server) -> Result<Client, fred::error::Error> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = targets.get(server).filter(|target| !target.task.is_finished()) {
            return Ok(target.client.clone());
        }
        let mut builder = self.builder.clone();
        builder.with_config(|config| {
            config.server = ServerConfig::Centralized { server: server.clone() };
        });
        builder.with_performance_config(|performance| {
            performance.broadcast_channel_capacity = EVENTS;
        });
        let client = builder.build()?;
        let task = client.connect();
        targets.insert(server.clone(), Target { client: client.clone(), task });
        Ok(client)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The link in use.
pub(super) struct Current(RwLock<Arc<Link>>);

impl Current {
    pub(super) fn new(link: Link) -> Self {
        Self(RwLock::new(Arc::new(link)))
    }

    pub(super) fn get(&self) -> Arc<Link> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another in place of `old`, unless that has been done.
    pub(super) fn renew(&self, old: &Arc<Link>) {
        tracing::debug!("the connections are made anew");
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, old) {
            return;
        }
        match old.renewed() {
            Ok(link) => *current = Arc::new(link),
            // The same settings have made a link before.
            Err(error) => tracing::warn!(%error, "no new connections can be made"),
        }
    }
}
