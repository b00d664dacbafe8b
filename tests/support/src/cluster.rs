//! A Redis Cluster that belongs to one test.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::ops::RangeInclusive;

use crate::redis::{ATTEMPTS, RedisServer, in_memory, random_port};
use crate::resp::Reply;
use crate::wait::until;

/// How many primaries there are, each with one replica.
const PRIMARIES: usize = 3;

/// How long a node may be silent before the others take it for dead, in milliseconds. They agree on
/// it and elect its replica within about twice that.
const NODE_TIMEOUT: &str = "1000";

const SLOTS: usize = 16_384;

/// A Redis Cluster of three primaries with a replica each, all of them [servers](RedisServer) that
/// can be killed, frozen and restarted.
///
/// Nodes 0 to 2 begin as primaries of a third of the slots each, in order; node 3 as the replica of
/// node 0, and so on.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a Cluster and waits until it is whole. Panics when it doesn't become that.
    pub async fn start() -> Self {
        for _ in 0..ATTEMPTS {
            let mut cluster = Self { nodes: (0..2 * PRIMARIES).map(|_| node()).collect() };
            cluster.introduce();
            if cluster.launch().await {
                cluster.whole().await;
                return cluster;
            }
        }
        panic!("a node of the Cluster exited at once, {ATTEMPTS} times");
    }

    /// The address of the Cluster in the form that clients take. It names one node, by whose word a
    /// client has to find the others.
    pub fn url_of(&self, node: usize) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.nodes[node].port())
    }

    /// A node, by its number.
    pub fn node(&self, node: usize) -> &RedisServer {
        &self.nodes[node]
    }

    /// The same, to be killed or restarted.
    pub fn node_mut(&mut self, node: usize) -> &mut RedisServer {
        &mut self.nodes[node]
    }

    /// Which node is the primary of the slot of `key`, as most of those who run say.
    pub async fn primary_of(&self, key: &str) -> usize {
        let slot = self.slot(key).await;
        let mut votes = vec![0; self.nodes.len()];
        for node in self.running() {
            if let Some(primary) = self.owner(node, slot).await {
                votes[primary] += 1;
            }
        }
        (0..votes.len()).max_by_key(|&node| votes[node]).expect("there are nodes")
    }

    /// The slot of `key`.
    pub async fn slot(&self, key: &str) -> u16 {
        let running = self.running().next().expect("a node runs");
        match running.command(&[b"CLUSTER", b"KEYSLOT", key.as_bytes()]).await {
            Reply::Int(slot) => u16::try_from(slot).expect("a slot"),
            reply => panic!("{reply:?}"),
        }
    }

    /// Waits until all who run agree that another node than `old` is the primary for `key`.
    pub async fn failed_over(&self, key: &str, old: usize) {
        let slot = self.slot(key).await;
        until("a replica takes over", async || {
            for node in self.running().filter(|node| node.port() != self.nodes[old].port()) {
                if self.owner(node, slot).await.is_none_or(|owner| owner == old)
                    || !is_ok(node).await
                {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Waits until every node runs, sees every slot served, and has its primary if it is a replica.
    pub async fn whole(&self) {
        until("the Cluster is whole", async || {
            for node in &self.nodes {
                let whole = is_ok(node).await && is_linked(node).await;
                if !whole || text(node, &[b"CLUSTER", b"NODES"]).await.contains("fail") {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Lets every node drop what others publish, as if the links between them were cut; or not any
    /// more. What is published at a node still reaches those who listen there.
    pub async fn drop_publications(&self, drop: bool) {
        // A message of this type passes on what was published.
        let kind: &[u8] = if drop { b"4" } else { b"-1" };
        for node in self.running() {
            let reply = node.command(&[b"DEBUG", b"DROP-CLUSTER-PACKET-FILTER", kind]).await;
            assert_eq!(reply, Reply::Bytes(b"OK".into()));
        }
    }

    /// Begins to move `slot` from one primary to another. Keys that aren't at `from` are asked for
    /// at `to` from now on.
    pub async fn begin_migration(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        for (node, state, other) in [(to, "IMPORTING", from), (from, "MIGRATING", to)] {
            let args = ["CLUSTER", "SETSLOT", &slot, state, &id(other)];
            self.expect_ok(node, &args).await;
        }
    }

    /// Moves the keys of `slot` that are at `from`, at most so many; returns how many there were.
    pub async fn migrate_keys(&self, slot: u16, from: usize, to: usize, most: usize) -> usize {
        let (slot, most) = (slot.to_string(), most.to_string());
        let args = [b"CLUSTER", &b"GETKEYSINSLOT"[..], slot.as_bytes(), most.as_bytes()];
        let Reply::Array(keys) = self.nodes[from].command(&args).await else { panic!("no keys") };
        let port = self.nodes[to].port().to_string();
        for key in &keys {
            let Reply::Bytes(key) = key else { panic!("{key:?}") };
            let args = [b"MIGRATE", &b"127.0.0.1"[..], port.as_bytes(), key, b"0", b"5000"];
            let reply = self.nodes[from].command(&args).await;
            assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        }
        keys.len()
    }

    /// Ends the migration of `slot`: it is that of `to` now. Only these two know at once.
    pub async fn end_migration(&self, slot: u16, from: usize, to: usize) {
        for node in [to, from] {
            let slot = slot.to_string();
            self.expect_ok(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]).await;
        }
    }

    async fn expect_ok(&self, node: usize, args: &[&str]) {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        assert_eq!(self.nodes[node].command(&args).await, Reply::Bytes(b"OK".into()));
    }

    fn running(&self) -> impl Iterator<Item = &RedisServer> {
        self.nodes.iter().filter(|node| node.is_running() && !node.is_paused())
    }

    /// Which node serves `slot`, as `node` knows it.
    async fn owner(&self, node: &RedisServer, slot: u16) -> Option<usize> {
        let view = text(node, &[b"CLUSTER", b"NODES"]).await;
        let owner = view.lines().find(|line| {
            line.split(' ').skip(8).filter_map(range).any(|slots| slots.contains(&slot))
        })?;
        (0..self.nodes.len()).find(|&node| owner.starts_with(&id(node)))
    }

    async fn launch(&mut self) -> bool {
        for node in &mut self.nodes {
            if !node.try_launch().await {
                return false;
            }
        }
        true
    }

    /// Lets the nodes know of each other before they start, as if they had met in an earlier life:
    /// meeting takes them seconds.
    fn introduce(&self) {
        for (own, node) in self.nodes.iter().enumerate() {
            let mut known = String::new();
            for (other, server) in self.nodes.iter().enumerate() {
                let port = server.port();
                let myself = if own == other { "myself," } else { "" };
                let (role, slots) = match other.checked_sub(PRIMARIES) {
                    Some(primary) => (format!("slave {}", id(primary)), String::new()),
                    None => ("master -".to_owned(), format!(" {}", share(other))),
                };
                let (id, epoch) = (id(other), other % PRIMARIES + 1);
                let line = format!("{id} 127.0.0.1:{port}@{} {myself}{role}", bus(port));
                writeln!(known, "{line} 0 0 {epoch} connected{slots}").expect("a string grows");
            }
            writeln!(known, "vars currentEpoch {PRIMARIES} lastVoteEpoch 0").expect("the same");
            fs::write(node.dir().join("nodes.conf"), known).expect("the node's file");
        }
    }
}

fn node() -> RedisServer {
    let port = random_port();
    let mut args = in_memory();
    let more = ["--cluster-enabled", "yes", "--cluster-node-timeout", NODE_TIMEOUT];
    args.extend(more.map(OsString::from));
    args.extend(["--repl-diskless-sync-delay", "0"].map(OsString::from));
    args.extend(["--enable-debug-command", "yes", "--cluster-port"].map(OsString::from));
    args.push(bus(port).to_string().into());
    RedisServer::prepare(port, args)
}

/// The port of a node's bus. The usual distance of 10,000 would lead to where systems choose ports
/// for outgoing connections.
fn bus(port: u16) -> u16 {
    port - 12_000
}

/// The name of a node on the bus.
fn id(node: usize) -> String {
    format!("{:040x}", node + 1)
}

/// The slots that a primary begins with.
fn share(primary: usize) -> String {
    format!("{}-{}", SLOTS * primary / PRIMARIES, SLOTS * (primary + 1) / PRIMARIES - 1)
}

/// A range of slots in the answer to `CLUSTER NODES`. Those on the move stand in brackets.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

async fn text(node: &RedisServer, args: &[&[u8]]) -> String {
    match node.command(args).await {
        Reply::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        reply => panic!("{reply:?}"),
    }
}

async fn is_ok(node: &RedisServer) -> bool {
    text(node, &[b"CLUSTER", b"INFO"]).await.contains("cluster_state:ok")
}

async fn is_linked(node: &RedisServer) -> bool {
    let info = text(node, &[b"INFO", b"replication"]).await;
    info.contains("role:master") || info.contains("master_link_status:up")
}
