//! Revocations and sessions on a Redis whose primary is replaced, by sentinels or in a Cluster.
#![cfg(feature = "store")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/tokens.rs"]
mod support;

use std::time::Duration;

use support::{AUDIENCE, ISSUER, key};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tower_keep_auth::{
    Algorithm, Grant, JwtManager, Reach, RefreshError, Refusal, RevocationList, Revocations,
    Sessions, SharedSessions, Target,
};
use tower_keep_store::{L1, Redis, Store};
use tower_keep_testing::{RedisCluster, RedisSentinel, RedisServer, Reply};

/// Each test has six servers, and waits for them to agree in time: one after the other.
static TURN: Mutex<()> = Mutex::const_new(());

struct Node {
    store: Store,
    manager: JwtManager,
    list: RevocationList,
    sessions: Sessions,
}

impl Node {
    async fn new(url: &str) -> Self {
        // Patient, for the machine may be busy with other tests.
        let redis = Redis::builder(url).deadline(Duration::from_secs(5));
        let redis = redis.heartbeat(Duration::from_millis(500));
        let store = Store::builder().l1(L1::bytes(1 << 20)).l2(redis.connect().await.unwrap());
        let store = store.build().unwrap();
        until("the node is in step", async || store.is_synced()).await;
        let list = RevocationList::builder().store(store.clone()).build().unwrap();
        let manager = JwtManager::builder(ISSUER).key(key(Algorithm::Hs256)).audience(AUDIENCE);
        let manager = manager.revocations(list.clone()).precise().build().unwrap();
        let sessions = manager.sessions(SharedSessions::new(&store).unwrap()).build().unwrap();
        Self { store, manager, list, sessions }
    }

    fn token(&self, subject: &str) -> String {
        self.manager.issue(Grant::new(subject)).unwrap().token
    }

    async fn verdict(&self, token: &str) -> Result<(), Refusal> {
        self.manager.verifier().verify(token).await.map(|_| ())
    }

    async fn refuses(&self, token: &str) -> bool {
        self.verdict(token).await == Err(Refusal::Revoked)
    }

    async fn revoke(&self, subject: &str) -> Reach {
        self.list.revoke(Target::subject(ISSUER, subject)).await.unwrap()
    }
}

async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < Duration::from_secs(40), "not within 40 s: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// What `server` says of replication.
async fn replication(server: &RedisServer) -> String {
    match server.command(&[b"INFO", b"replication"]).await {
        Reply::Bytes(info) => String::from_utf8(info).unwrap(),
        reply => panic!("{reply:?}"),
    }
}

/// Waits until the replicas of `server` have all that it has now.
async fn caught_up(server: &RedisServer) {
    let offsets = |info: &str, before: &str| -> Vec<u64> {
        let after = info.lines().filter_map(|line| Some(line.split_once(before)?.1));
        after.filter_map(|it| it.split(',').next()?.trim().parse().ok()).collect()
    };
    let own = offsets(&replication(server).await, "master_repl_offset:")[0];
    until("the replicas have caught up", async || {
        let theirs = offsets(&replication(server).await, ",offset=");
        !theirs.is_empty() && theirs.iter().all(|offset| *offset >= own)
    })
    .await;
}

/// A primary that can be lost.
trait Servers {
    async fn lose(&mut self, frozen: bool);
    async fn next_primary(&self);
}

struct Watched {
    servers: RedisSentinel,
    lost: usize,
}

impl Servers for Watched {
    async fn lose(&mut self, frozen: bool) {
        self.lost = self.servers.primary().await.unwrap();
        caught_up(self.servers.server(self.lost)).await;
        if frozen {
            self.servers.server(self.lost).pause();
        } else {
            self.servers.server_mut(self.lost).kill();
        }
    }

    async fn next_primary(&self) {
        self.servers.failed_over(self.lost).await;
    }
}

/// What happens to the primary of one key.
struct Sharded {
    cluster: RedisCluster,
    key: String,
    lost: usize,
}

impl Servers for Sharded {
    async fn lose(&mut self, frozen: bool) {
        self.lost = self.cluster.primary_of(&self.key).await;
        caught_up(self.cluster.node(self.lost)).await;
        if frozen {
            self.cluster.node(self.lost).pause();
        } else {
            self.cluster.node_mut(self.lost).kill();
        }
    }

    async fn next_primary(&self) {
        self.cluster.failed_over(&self.key, self.lost).await;
    }
}

/// Two nodes, a session, and what is revoked before the primary is lost, and while there is none.
async fn goes_on(
    [a, b]: [Node; 2],
    session: tower_keep_auth::Tokens,
    mut servers: impl Servers,
    frozen: bool,
) {
    let (before, meanwhile, other) = (a.token("user:1"), a.token("user:2"), a.token("user:3"));
    sleep(Duration::from_millis(5)).await;
    for node in [&a, &b] {
        for token in [&before, &meanwhile, &other, &session.access.token] {
            assert_eq!(node.verdict(token).await, Ok(()));
        }
    }
    assert_eq!(a.revoke("user:1").await, Reach::Everywhere);
    until("b refuses it", async || b.refuses(&before).await).await;
    servers.lose(frozen).await;
    // Not a token that the client would throw away for it.
    let refresh = async |node: &Node, token: &str| node.sessions.refresh(token, None).await;
    let mut next = None;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) && next.is_none() {
        match refresh(&b, &session.refresh).await {
            Ok(tokens) => next = Some(tokens),
            Err(error) => assert!(!error.is_invalid_grant(), "{error}"),
        }
    }
    let asked = Instant::now();
    a.revoke("user:2").await;
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    assert!(a.refuses(&meanwhile).await, "at once on the node that was asked");
    for node in [&a, &b] {
        assert!(node.refuses(&before).await);
        assert_eq!(node.verdict(&other).await, Ok(()), "nobody waits for the next primary");
    }
    servers.next_primary().await;
    until("both are in step", async || a.store.is_synced() && b.store.is_synced()).await;
    until("b refuses it", async || b.refuses(&meanwhile).await).await;
    for node in [&a, &b] {
        assert!(node.refuses(&before).await);
        assert_eq!(node.verdict(&other).await, Ok(()), "nothing was lost");
    }
    // The session goes on, with the same next token wherever its answer got lost.
    let mut refreshed = None;
    until("it refreshes", async || match refresh(&b, &session.refresh).await {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.is_invalid_grant(), "{error}");
            false
        }
    })
    .await;
    for node in [&a, &b] {
        let got = refresh(node, &session.refresh).await.unwrap();
        assert_eq!(*refreshed.get_or_insert(got.refresh.clone()), got.refresh);
        assert!(next.as_ref().is_none_or(|next| next.refresh == got.refresh));
    }
    let last = refresh(&a, &refreshed.unwrap()).await.unwrap();
    // What was used is known to be so by the next primary.
    let error = refresh(&b, &session.refresh).await.unwrap_err();
    assert!(matches!(error, RefreshError::Reused), "{error}");
    for node in [&a, &b] {
        until("its tokens are refused", async || node.refuses(&last.access.token).await).await;
        let error = refresh(node, &last.refresh).await.unwrap_err();
        assert!(matches!(error, RefreshError::Ended), "{error}");
    }
}

async fn on_sentinel(frozen: bool) {
    let _turn = TURN.lock().await;
    let servers = RedisSentinel::start().await;
    let nodes = [Node::new(&servers.url()).await, Node::new(&servers.url()).await];
    sleep(Duration::from_millis(20)).await;
    let session = nodes[0].sessions.begin(Grant::new("user:9")).await.unwrap();
    goes_on(nodes, session, Watched { servers, lost: 0 }, frozen).await;
}

#[tokio::test]
async fn sentinels_that_replace_a_dead_primary_bring_no_token_back_and_end_no_session() {
    on_sentinel(false).await;
}

#[tokio::test]
async fn sentinels_that_replace_a_primary_that_hangs_bring_no_token_back_and_end_no_session() {
    on_sentinel(true).await;
}

#[derive(Clone, Copy)]
enum Lost {
    TheSessions,
    TheRevocations,
}

async fn on_cluster(lost: Lost, frozen: bool) {
    let _turn = TURN.lock().await;
    let cluster = RedisCluster::start().await;
    let nodes = [Node::new(&cluster.url_of(0)).await, Node::new(&cluster.url_of(1)).await];
    sleep(Duration::from_millis(20)).await;
    let session = nodes[0].sessions.begin(Grant::new("user:9")).await.unwrap();
    let key = match lost {
        Lost::TheSessions => format!("tk:2:session:{}", session.session),
        Lost::TheRevocations => {
            assert_eq!(nodes[0].revoke("user:1").await, Reach::Everywhere);
            revoked(&cluster).await
        }
    };
    sleep(Duration::from_millis(5)).await;
    goes_on(nodes, session, Sharded { cluster, key, lost: 0 }, frozen).await;
}

/// The name of the one record of revocations that there is.
async fn revoked(cluster: &RedisCluster) -> String {
    for node in 0..3 {
        match cluster.node(node).command(&[b"KEYS", b"tk:2:revoked:*"]).await {
            Reply::Array(keys) => match &keys[..] {
                [Reply::Bytes(key)] => return String::from_utf8(key.clone()).unwrap(),
                _ => assert!(keys.is_empty(), "{keys:?}"),
            },
            reply => panic!("{reply:?}"),
        }
    }
    panic!("no record");
}

#[tokio::test]
async fn a_cluster_that_loses_the_primary_of_a_session_goes_on_with_it() {
    on_cluster(Lost::TheSessions, false).await;
}

#[tokio::test]
async fn a_cluster_that_loses_the_primary_of_a_revocation_brings_no_token_back() {
    on_cluster(Lost::TheRevocations, false).await;
}

#[tokio::test]
async fn a_cluster_whose_primary_of_a_revocation_hangs_brings_no_token_back() {
    on_cluster(Lost::TheRevocations, true).await;
}

/// It had not heard of it when the one before was lost.
#[tokio::test]
async fn the_next_primary_is_told_again_what_it_does_not_know() {
    let _turn = TURN.lock().await;
    let mut servers = RedisSentinel::start().await;
    let [a, b] = [Node::new(&servers.url()).await, Node::new(&servers.url()).await];
    sleep(Duration::from_millis(20)).await;
    let (token, other) = (a.token("user:1"), a.token("user:2"));
    sleep(Duration::from_millis(5)).await;
    assert_eq!((b.verdict(&token).await, b.verdict(&other).await), (Ok(()), Ok(())));
    let old = servers.primary().await.unwrap();
    let replicas: Vec<_> = (0..3).filter(|server| *server != old).collect();
    caught_up(servers.server(old)).await;
    for replica in &replicas {
        // They follow nobody any more, though they think so.
        let nowhere = [&b"REPLICAOF"[..], b"127.0.0.1", b"1"];
        servers.server(*replica).command(&nowhere).await;
    }
    assert_eq!(a.revoke("user:1").await, Reach::Everywhere);
    until("b refuses it", async || b.refuses(&token).await).await;
    for replica in &replicas {
        let records = servers.server(*replica).command(&[b"KEYS", b"tk:2:revoked:*"]).await;
        assert_eq!(records, Reply::Array(Vec::new()));
    }
    servers.server_mut(old).kill();
    servers.failed_over(old).await;
    until("both are in step", async || a.store.is_synced() && b.store.is_synced()).await;
    assert!(a.refuses(&token).await && b.refuses(&token).await);
    assert_eq!((a.verdict(&other).await, b.verdict(&other).await), (Ok(()), Ok(())));
    // A node that has never heard of it.
    until("it is told", async || Node::new(&servers.url()).await.refuses(&token).await).await;
}
