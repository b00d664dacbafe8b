//! Nodes on one Redis, and a way to hold up what they say to it.
#![allow(unreachable_pub, dead_code, reason = "not every test needs all of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "forward.rs"]
mod forward;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tower_keep_store::remote::{
    Claim, Epochs, Leased, Listener, Put, Remote, RemoteFuture, Stored, Term,
};
use tower_keep_store::{Error, L1, Redis, Store, Strength, Tag, Ttl, Typed};
use tower_keep_testing::{RedisServer, Reply};

pub(crate) use forward::forward;

/// Long enough for an announcement, or for a value to be stored, where there is nothing else to wait
/// for.
pub const A_WHILE: Duration = Duration::from_millis(200);

/// One process among several: a store of its own on the same Redis.
pub async fn node(server: &RedisServer) -> Store {
    node_on(Redis::connect(&server.url()).await.unwrap()).await
}

/// The same on a connection of the test's choice.
pub async fn node_on(remote: impl Remote) -> Store {
    let store = Store::builder().l1(L1::bytes(16 << 20)).jitter(0).l2(remote).build().unwrap();
    until("the node is in step", async || store.is_synced()).await;
    store
}

pub fn numbers(store: &Store) -> Typed<u64, u32> {
    store.typed("number")
}

pub async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// What a caller of `numbers` gets who would fill in `value`, tagged "t" and "u".
pub async fn fill(numbers: &Typed<u64, u32>, key: u64, value: u32) -> u32 {
    let ttl = Ttl::secs(600).tags(["t", "u"]);
    *numbers
        .get_or_try_set(&key, ttl, move || async move { Ok::<_, io::Error>(value) })
        .await
        .unwrap()
}

/// A fill of `key` with `value` that has begun. It ends once it is [released](HeldFill::release).
pub async fn held_fill(numbers: &Typed<u64, u32>, key: u64, value: u32) -> HeldFill {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let task = tokio::spawn({
        let (numbers, begun, go) = (numbers.clone(), Arc::clone(&begun), Arc::clone(&go));
        let fill = move || async move {
            begun.notify_one();
            go.notified().await;
            Ok::<_, io::Error>(value)
        };
        let ttl = Ttl::secs(600).tags(["t", "u"]);
        async move { *numbers.get_or_try_set(&key, ttl, fill).await.unwrap() }
    });
    begun.notified().await;
    HeldFill { go, task }
}

pub struct HeldFill {
    go: Arc<Notify>,
    task: JoinHandle<u32>,
}

impl HeldFill {
    /// What its caller gets. What it stores is stored a while later.
    pub async fn release(self) -> u32 {
        self.go.notify_one();
        let got = self.task.await.unwrap();
        sleep(A_WHILE).await;
        got
    }
}

/// Waits until the second tier holds `key`: it is written after the callers have their answer.
pub async fn written(server: &RedisServer, key: &str) {
    until("the value is in Redis", async || {
        let found = server.command(&[b"STRLEN", key.as_bytes()]).await;
        matches!(found, Reply::Int(len) if len > 20)
    })
    .await;
}

/// Lets the first tiers of two nodes hold 1 at `key`, tagged as by [`fill`].
pub async fn both_hold(server: &RedisServer, [a, b]: [&Store; 2], key: u64) {
    fill(&numbers(a), key, 1).await;
    written(server, &format!("tk:2:number:{key}")).await;
    assert_eq!(fill(&numbers(b), key, 2).await, 1);
}

/// The connections that follow announcements, by their ids.
pub async fn followers(server: &RedisServer) -> Vec<String> {
    match server.command(&[b"CLIENT", b"LIST", b"TYPE", b"PUBSUB"]).await {
        Reply::Bytes(list) => String::from_utf8(list)
            .unwrap()
            .lines()
            .map(|line| line.split([' ', '=']).nth(1).unwrap().to_owned())
            .collect(),
        reply => panic!("{reply:?}"),
    }
}

/// Ends the connections with these ids.
pub async fn disconnect(server: &RedisServer, ids: &[String]) {
    for id in ids {
        server.command(&[b"CLIENT", b"KILL", b"ID", id.as_bytes()]).await;
    }
}

/// How often `store` has asked the second tier for a value, or wanted to.
pub fn l2_reads(store: &Store) -> u64 {
    let stats = store.stats();
    stats.l2_hits + stats.l2_misses + stats.l2_skipped
}

/// Waits until the replicas of `server` have all that it has now.
pub async fn caught_up(server: &RedisServer) {
    let offsets = async |before: &str| -> Vec<u64> {
        match server.command(&[b"INFO", b"replication"]).await {
            Reply::Bytes(info) => String::from_utf8(info)
                .unwrap()
                .lines()
                .filter_map(|line| line.split_once(before)?.1.split(',').next()?.parse().ok())
                .collect(),
            reply => panic!("{reply:?}"),
        }
    };
    let own = offsets("master_repl_offset:").await[0];
    until("the replicas have caught up", async || {
        let theirs = offsets(",offset=").await;
        !theirs.is_empty() && theirs.iter().all(|offset| *offset >= own)
    })
    .await;
}

/// Where an operation can be held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    BeforePut,
    /// It is under way: it arrives also where nobody waits for it any more.
    BeforeLease,
    /// The server has it; the answer is on its way.
    AfterPut,
    BeforeUpdate,
    AfterResolve,
    BeforeInvalidate,
    AfterInvalidate,
}

/// Holds up the operations that come to `at` while it is shut.
#[derive(Clone, Debug)]
pub struct Gate {
    at: Point,
    state: watch::Sender<(bool, u32)>,
}

impl Gate {
    pub fn new(at: Point) -> Self {
        Self { at, state: watch::Sender::new((false, 0)) }
    }

    pub fn shut(&self) {
        self.state.send_modify(|(shut, _)| *shut = true);
    }

    pub fn open(&self) {
        self.state.send_modify(|(shut, _)| *shut = false);
    }

    /// Waits until so many operations are held up.
    pub async fn holds(&self, many: u32) {
        self.state.subscribe().wait_for(|(_, held)| *held >= many).await.unwrap();
    }

    async fn pass(&self, point: Point) {
        if point == self.at && self.state.borrow().0 {
            self.state.send_modify(|(_, held)| *held += 1);
            self.state.subscribe().wait_for(|(shut, _)| !shut).await.unwrap();
            self.state.send_modify(|(_, held)| *held -= 1);
        }
    }
}

/// Redis behind a gate.
pub struct Gated {
    pub redis: Redis,
    pub gate: Gate,
}

impl Gated {
    pub async fn node(server: &RedisServer, gate: &Gate) -> Store {
        let redis = Redis::connect(&server.url()).await.unwrap();
        node_on(Self { redis, gate: gate.clone() }).await
    }
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.gate.fmt(f)
    }
}

impl Remote for Gated {
    forward! { is_available get buckets bucket removals listen }

    fn put(&self, put: Put) -> RemoteFuture<'_, Stored> {
        Box::pin(async move {
            self.gate.pass(Point::BeforePut).await;
            let stored = self.redis.put(put).await;
            self.gate.pass(Point::AfterPut).await;
            stored
        })
    }

    fn lease(&self, claim: Claim) -> RemoteFuture<'_, Leased> {
        let (redis, gate) = (self.redis.clone(), self.gate.clone());
        let sent = tokio::spawn(async move {
            gate.pass(Point::BeforeLease).await;
            redis.lease(claim).await
        });
        Box::pin(async move { sent.await.unwrap() })
    }

    fn update_lease(&self, key: Bytes, token: u64, term: Term) -> RemoteFuture<'_, bool> {
        Box::pin(async move {
            self.gate.pass(Point::BeforeUpdate).await;
            self.redis.update_lease(key, token, term).await
        })
    }

    fn resolve(&self, tags: Vec<Tag>, known: u64) -> RemoteFuture<'_, Vec<Epochs>> {
        Box::pin(async move {
            let epochs = self.redis.resolve(tags, known).await;
            self.gate.pass(Point::AfterResolve).await;
            epochs
        })
    }

    fn invalidate(
        &self,
        tag: Tag,
        strength: Strength,
        known: u64,
        sender: u64,
    ) -> RemoteFuture<'_, u64> {
        Box::pin(async move {
            self.gate.pass(Point::BeforeInvalidate).await;
            let epoch = self.redis.invalidate(tag, strength, known, sender).await;
            self.gate.pass(Point::AfterInvalidate).await;
            epoch
        })
    }
}
