//! Several nodes in front of one origin, over one Redis: of all that miss a response, one asks for it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tower_keep_cache::{Cache, CacheLayer, CacheLayerBuilder};
use tower_keep_store::{L1, Redis, Store};
use tower_keep_testing::RedisServer;
use tower_layer::Layer;

use origin::{Got, Origin, answer, get, request, send, trickle};

/// So long that nobody waits it out: what happens sooner does so for another reason.
const LEASE: Duration = Duration::from_secs(60);

/// Sooner than that, and than `max_wait`.
const SOON: Duration = Duration::from_secs(9);

/// How long an origin takes where calls in a row are to be told from calls at once.
const SLOW: Duration = Duration::from_millis(500);

const CACHED: &[(&str, &str)] = &[("cache-control", "max-age=600")];

struct Node {
    cache: Cache<Origin>,
    store: Store,
}

impl Node {
    async fn new(
        server: &RedisServer,
        origin: &Origin,
        settings: fn(CacheLayerBuilder) -> CacheLayerBuilder,
    ) -> Self {
        // A busy machine is slow at times, and calls without a lease are not what this is about.
        let redis = Redis::builder(&server.url()).deadline(Duration::from_secs(2));
        let store = Store::builder().l1(L1::bytes(16 << 20)).lease(LEASE);
        let store = store.l2(redis.connect().await.unwrap()).build().unwrap();
        until("the node is in step", async || store.is_synced()).await;
        let layer = settings(CacheLayer::builder(store.clone())).build().unwrap();
        Self { cache: layer.layer(origin.clone()), store }
    }

    async fn several(server: &RedisServer, origin: &Origin, many: usize) -> Vec<Self> {
        join_all((0..many).map(|_| Self::new(server, origin, |it| it))).await
    }

    /// Asks in a task of its own.
    fn ask(&self, fields: &'static [(&'static str, &'static str)]) -> JoinHandle<Got> {
        let cache = self.cache.clone();
        tokio::spawn(async move { send(&cache, get(fields)).await })
    }

    async fn get(&self, fields: &'static [(&'static str, &'static str)]) -> Got {
        self.ask(fields).await.unwrap()
    }

    /// Waits until it waits for another node.
    async fn waits(&self) {
        until("it waits", async || self.store.stats().lease_waits > 0).await;
    }
}

async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// All nodes ask at once, each so often.
async fn all_ask(nodes: &[Node], times: usize) -> Vec<Got> {
    let asked = nodes.iter().flat_map(|node| (0..times).map(|_| node.ask(&[])));
    join_all(asked).await.into_iter().map(Result::unwrap).collect()
}

/// An origin that is held back until there is a permit, and says this.
fn held(gate: &Arc<Semaphore>, fields: &'static [(&'static str, &'static str)]) -> Origin {
    let gate = Arc::clone(gate);
    Origin::new(move |n, _| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            answer(fields, n.to_string())
        }
    })
}

fn slow(fields: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::new(move |n, _| async move {
        sleep(SLOW).await;
        answer(fields, n.to_string())
    })
}

/// How many leases they have had.
fn leases(nodes: &[Node]) -> u64 {
    nodes.iter().map(|node| node.stats().0).sum()
}

fn took(start: Instant, most: Duration) {
    assert!(start.elapsed() < most, "it took {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_nodes_with_fifty_clients_each_ask_the_origin_once() {
    let server = RedisServer::start().await;
    let origin = Origin::new(|n, _| async move {
        sleep(SLOW / 4).await;
        let chunks = (0..8).map(move |_| Bytes::from(vec![u8::try_from(n).unwrap(); 8192]));
        trickle(CACHED, Duration::from_millis(5), chunks)
    });
    let nodes = Node::several(&server, &origin, 8).await;
    for got in all_ask(&nodes, 50).await {
        assert_eq!(got.body.len(), 65_536);
        assert!(got.body.iter().all(|byte| *byte == 1), "{}", got.cache());
    }
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn what_is_for_one_client_alone_is_not_waited_for_one_by_one() {
    for control in ["no-store", "private, max-age=600", "max-age=0"] {
        let server = RedisServer::start().await;
        let origin = Origin::new(move |n, _| async move {
            sleep(SLOW).await;
            answer(&[("cache-control", control), ("etag", "\"e\"")], n.to_string())
        });
        let nodes = Node::several(&server, &origin, 8).await;
        let start = Instant::now();
        all_ask(&nodes, 1).await;
        took(start, 6 * SLOW);
        assert_eq!(origin.calls(), 8, "{control}");
        // Nobody else has told the others to wait.
        assert_eq!(leases(&nodes), 1, "{control}");
    }
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_lets_the_others_go_before_its_end() {
    let server = RedisServer::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let origin = Origin::new({
        let gate = Arc::clone(&gate);
        move |_, _| {
            let gate = Arc::clone(&gate);
            async move {
                let chunks = futures_util::stream::iter(0..10).then_with(gate);
                origin::of_stream(CACHED, chunks)
            }
        }
    });
    let small = |it: CacheLayerBuilder| it.max_body(4096);
    let [a, b] = [Node::new(&server, &origin, small), Node::new(&server, &origin, small)];
    let (a, b) = (a.await, b.await);
    let first = a.ask(&[]);
    until("the origin is asked", async || origin.calls() == 1).await;
    let second = b.ask(&[]);
    b.waits().await;
    // All but the last chunk, of which any is too much.
    let start = Instant::now();
    gate.add_permits(9);
    until("it asks for itself", async || origin.calls() == 2).await;
    took(start, SOON);
    gate.add_permits(11);
    for got in [first, second] {
        assert_eq!(got.await.unwrap().body.len(), 10 * 1024);
    }
}

/// Lets each item wait for a permit, and makes it a kibibyte.
trait ThenWith: futures_util::Stream<Item = u8> + Sized + Send + Sync + 'static {
    fn then_with(
        self,
        gate: Arc<Semaphore>,
    ) -> impl futures_util::Stream<Item = Bytes> + Send + Sync + 'static {
        futures_util::StreamExt::then(self, move |n| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                Bytes::from(vec![n; 1024])
            }
        })
    }
}

impl<S: futures_util::Stream<Item = u8> + Send + Sync + 'static> ThenWith for S {}

#[tokio::test]
async fn each_variant_is_asked_for_once() {
    let server = RedisServer::start().await;
    let origin = Origin::new(|_, request| async move {
        let language = request.headers()["accept-language"].to_str().unwrap().to_owned();
        sleep(SLOW).await;
        let vary = [("cache-control", "max-age=600"), ("vary", "accept-language")];
        answer(&vary, language)
    });
    let nodes = Node::several(&server, &origin, 4).await;
    // The first makes the rule by which the others find each other.
    assert_eq!(nodes[0].get(&[("accept-language", "en")]).await.text(), "en");
    until("the rule is stored", async || nodes[3].get(&[("accept-language", "en")]).await.is_hit())
        .await;
    let before = origin.calls();
    let asked = nodes.iter().flat_map(|node| {
        let ask = |fields| (fields, node.ask(fields));
        [ask(&[("accept-language", "fr")][..]), ask(&[("accept-language", "de")][..])]
    });
    for (fields, got) in asked.collect::<Vec<_>>() {
        assert_eq!(got.await.unwrap().text(), fields[0].1);
    }
    assert_eq!(origin.calls() - before, 2);
}

#[tokio::test]
async fn a_variant_that_nobody_knew_of_is_asked_for_once_by_those_who_want_it() {
    let server = RedisServer::start().await;
    let origin = Origin::new(|n, _| async move {
        sleep(SLOW).await;
        answer(&[("cache-control", "max-age=600"), ("vary", "accept-language")], n.to_string())
    });
    let nodes = Node::several(&server, &origin, 6).await;
    for got in all_ask(&nodes, 5).await {
        assert_eq!(got.text(), "1");
    }
    assert_eq!(origin.calls(), 1);
    // That of the variant, too, before the others can find the rule.
    assert_eq!(leases(&nodes), 2);
}

#[tokio::test]
async fn what_is_stale_is_refreshed_by_one_node_and_served_by_all() {
    let server = RedisServer::start().await;
    let control = &[("cache-control", "max-age=1, stale-while-revalidate=600")];
    let gate = Arc::new(Semaphore::new(1));
    let origin = held(&gate, control);
    let nodes = Node::several(&server, &origin, 5).await;
    all_ask(&nodes, 1).await;
    sleep(Duration::from_millis(1500)).await;
    for got in all_ask(&nodes, 10).await {
        assert_eq!(got.text(), "1", "nobody waits");
    }
    until("one asks", async || origin.calls() == 2).await;
    for node in &nodes {
        until("the others wait, behind their clients' backs", async || {
            let stats = node.stats();
            stats.0 + stats.1 >= 2
        })
        .await;
    }
    assert_eq!(origin.calls(), 2);
    gate.add_permits(99);
}

impl Node {
    /// How often it had the lease, and how often it waited for it.
    fn stats(&self) -> (u64, u64) {
        let stats = self.store.stats();
        (stats.leases, stats.lease_waits)
    }
}

#[tokio::test]
async fn what_must_be_validated_is_validated_once_for_all() {
    let server = RedisServer::start().await;
    let origin = Origin::new(|_, request| async move {
        let known = request.headers().contains_key("if-none-match");
        if known {
            sleep(SLOW).await;
        }
        let age = if known { "max-age=600" } else { "max-age=2" };
        let mut response = answer(&[("cache-control", age), ("etag", "\"e\"")], "page");
        if known {
            *response.body_mut() = answer(&[], "").into_body();
            *response.status_mut() = http::StatusCode::NOT_MODIFIED;
        }
        response
    });
    let nodes = Node::several(&server, &origin, 5).await;
    all_ask(&nodes, 1).await;
    assert_eq!(origin.calls(), 1);
    sleep(Duration::from_millis(2500)).await;
    for got in all_ask(&nodes, 10).await {
        assert_eq!((got.status, got.text()), (200, "page"));
    }
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn a_change_meanwhile_lets_those_who_wait_ask_again() {
    let server = RedisServer::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let origin = Origin::new({
        let gate = Arc::clone(&gate);
        move |n, request| {
            let gate = Arc::clone(&gate);
            async move {
                if n == 1 {
                    gate.acquire().await.unwrap().forget();
                }
                answer(CACHED, format!("{} {n}", request.method()))
            }
        }
    });
    let nodes = Node::several(&server, &origin, 3).await;
    let first = nodes[0].ask(&[]);
    until("the origin is asked", async || origin.calls() == 1).await;
    let waiting = nodes[1].ask(&[]);
    nodes[1].waits().await;
    let start = Instant::now();
    send(&nodes[2].cache, request("DELETE", "http://example.com/a", &[])).await;
    assert_eq!(waiting.await.unwrap().text(), "GET 3");
    took(start, SOON);
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().text(), "GET 1");
    for node in &nodes {
        assert_ne!(node.get(&[]).await.text(), "GET 1");
    }
}

#[tokio::test]
async fn what_is_removed_meanwhile_is_not_brought_back_by_being_validated() {
    let server = RedisServer::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let origin = Origin::new({
        let gate = Arc::clone(&gate);
        move |n, request| {
            let gate = Arc::clone(&gate);
            async move {
                let mut response =
                    answer(&[("cache-control", "max-age=1"), ("etag", "\"e\"")], "old");
                if n == 2 {
                    gate.acquire().await.unwrap().forget();
                }
                if request.headers().contains_key("if-none-match") {
                    *response.body_mut() = answer(&[], "").into_body();
                    *response.status_mut() = http::StatusCode::NOT_MODIFIED;
                } else if n > 1 {
                    *response.body_mut() = answer(&[], "new").into_body();
                }
                response
            }
        }
    });
    let nodes = Node::several(&server, &origin, 3).await;
    nodes[0].get(&[]).await;
    until("all have it", async || nodes[1].get(&[]).await.is_hit()).await;
    origin.restart_at(2);
    sleep(Duration::from_millis(1500)).await;
    let first = nodes[0].ask(&[]);
    until("the origin is asked", async || origin.calls() == 2).await;
    // It may have waited when it asked for the first time.
    let before = nodes[1].store.stats().lease_waits;
    let waiting = nodes[1].ask(&[]);
    until("it waits", async || nodes[1].store.stats().lease_waits > before).await;
    send(&nodes[2].cache, request("DELETE", "http://example.com/a", &[])).await;
    assert_eq!(waiting.await.unwrap().text(), "new");
    gate.add_permits(1);
    first.await.unwrap();
}

#[tokio::test]
async fn no_node_waits_for_longer_than_max_wait() {
    let server = RedisServer::start().await;
    let origin = Origin::new(|n, _| async move {
        if n == 1 {
            pending::<()>().await;
        }
        answer(CACHED, n.to_string())
    });
    let a = Node::new(&server, &origin, |it| it).await;
    let b = Node::new(&server, &origin, |it| it.max_wait(Duration::from_secs(1))).await;
    let hanging = a.ask(&[]);
    until("the origin is asked", async || origin.calls() == 1).await;
    let start = Instant::now();
    assert_eq!(b.get(&[]).await.text(), "2");
    assert!(start.elapsed() >= Duration::from_secs(1));
    took(start, SOON);
    hanging.abort();
}

#[tokio::test]
async fn a_leader_whose_client_leaves_or_whose_origin_fails_is_replaced_at_once() {
    for leaves in [true, false] {
        let server = RedisServer::start().await;
        let gate = Arc::new(Semaphore::new(0));
        let origin = Origin::new({
            let gate = Arc::clone(&gate);
            move |n, _| {
                let gate = Arc::clone(&gate);
                async move {
                    if n > 1 {
                        return answer(CACHED, n.to_string());
                    }
                    gate.acquire().await.unwrap().forget();
                    let mut failure = answer(&[], "");
                    *failure.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                    failure
                }
            }
        });
        let leaving = |it: CacheLayerBuilder| it.finish_abandoned(false);
        let [a, b] = [Node::new(&server, &origin, leaving), Node::new(&server, &origin, leaving)];
        let (a, b) = (a.await, b.await);
        let first = a.ask(&[]);
        until("the origin is asked", async || origin.calls() == 1).await;
        let waiting = b.ask(&[]);
        b.waits().await;
        let start = Instant::now();
        if leaves {
            first.abort();
        } else {
            gate.add_permits(1);
            assert_eq!(first.await.unwrap().status, 503);
        }
        assert_eq!(waiting.await.unwrap().text(), "2");
        took(start, SOON);
    }
}

#[tokio::test]
async fn a_client_that_reloads_waits_for_nobody() {
    let server = RedisServer::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let origin = held(&gate, CACHED);
    let nodes = Node::several(&server, &origin, 2).await;
    let first = nodes[0].ask(&[]);
    until("the origin is asked", async || origin.calls() == 1).await;
    let start = Instant::now();
    let reload = nodes[1].ask(&[("cache-control", "no-cache")]);
    until("it is asked again", async || origin.calls() == 2).await;
    took(start, SOON);
    gate.add_permits(2);
    for got in [first, reload] {
        assert_eq!(got.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn what_is_for_somebody_lets_nobody_else_loose() {
    let server = RedisServer::start().await;
    let origin = Origin::new(|n, request| async move {
        sleep(SLOW).await;
        let is_for_one = request.headers().contains_key("cookie");
        let control = if is_for_one { "private" } else { "max-age=600" };
        answer(&[("cache-control", control)], n.to_string())
    });
    let nodes = Node::several(&server, &origin, 6).await;
    let first = nodes[0].ask(&[("cookie", "user=1")]);
    until("the origin is asked", async || origin.calls() == 1).await;
    let others = all_ask(&nodes[1..], 4).await;
    assert_eq!(first.await.unwrap().text(), "1");
    assert!(others.iter().all(|got| got.text() == "2"), "one asks for all of them");
}

#[tokio::test]
async fn without_redis_every_node_asks_for_itself() {
    let mut server = RedisServer::start().await;
    let origin = slow(CACHED);
    let nodes = Node::several(&server, &origin, 3).await;
    server.kill();
    let start = Instant::now();
    for got in all_ask(&nodes, 20).await {
        assert_eq!(got.status, 200);
    }
    took(start, SOON);
    assert_eq!(origin.calls(), 3);
}
