//! Several nodes that wait for each other's responses, while clients change and read at random: none
//! answers with what was there, or was being fetched, before a change made through it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower_keep_cache::{Cache, CacheLayer};
use tower_keep_store::{L1, Reach, Redis, Store};
use tower_keep_testing::RedisServer;
use tower_layer::Layer;

use origin::{Origin, answer, request, send};

const NODES: usize = 3;
const PAGES: usize = 4;
const LASTS: Duration = Duration::from_secs(5);

type Versions = Arc<[AtomicU64; PAGES]>;

struct Node {
    store: Store,
    cache: Cache<Origin>,
    truth: Versions,
    /// What each answer must at least be.
    floors: Versions,
}

async fn pause(most_micros: u64) {
    sleep(Duration::from_micros(fastrand::u64(..most_micros))).await;
}

/// Answers with the version of a page; some of them vary by language, each has a tag.
fn origin(truth: &Versions) -> Origin {
    let truth = Arc::clone(truth);
    Origin::new(move |_, request| {
        let truth = Arc::clone(&truth);
        async move {
            pause(300).await;
            if request.method() != Method::GET {
                return answer(&[], "");
            }
            let page: usize = request.uri().path()[1..].parse().unwrap();
            let version = truth[page].load(SeqCst).to_string();
            pause(1_000).await;
            let control = match fastrand::u8(..16) {
                0 => "no-store",
                1..8 => "max-age=1, stale-while-revalidate=1",
                _ => "max-age=1",
            };
            let tag = format!("group-{}", page / 2);
            let mut fields = vec![("cache-control", control), ("cache-tag", &*tag)];
            if page % 2 == 1 {
                fields.push(("vary", "accept-language"));
            }
            answer(&fields, version)
        }
    })
}

impl Node {
    fn uri(page: usize) -> String {
        format!("http://example.com/{page}")
    }

    async fn change(&self, page: usize) {
        let version = self.truth[page].fetch_add(1, SeqCst) + 1;
        if fastrand::bool() {
            let got = send(&self.cache, request("PUT", &Self::uri(page), &[])).await;
            assert_eq!(got.status, 200);
        } else {
            let tag = format!("group-{}", page / 2);
            assert_eq!(self.store.invalidate_tag(tag).await.unwrap(), Reach::Everywhere);
        }
        self.floors[page].fetch_max(version, SeqCst);
    }

    async fn read(&self, page: usize) {
        let floor = self.floors[page].load(SeqCst);
        let language = if fastrand::bool() { "en" } else { "fr" };
        let get = request("GET", &Self::uri(page), &[("accept-language", language)]);
        let got = send(&self.cache, get).await;
        let seen: u64 = got.text().parse().unwrap();
        assert!(seen >= floor, "{seen} of {page}, when {floor} was due: {}", got.cache());
    }
}

async fn history(with_l1: bool) {
    let server = RedisServer::start().await;
    let truth = Versions::default();
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let redis = Redis::builder(&server.url()).deadline(Duration::from_secs(10));
        let builder = Store::builder().lease(Duration::from_millis(300));
        let builder = builder.l2(redis.connect().await.unwrap());
        let builder = if with_l1 { builder.l1(L1::bytes(16 << 20)) } else { builder };
        let store = builder.build().unwrap();
        while !store.is_synced() {
            sleep(Duration::from_millis(1)).await;
        }
        let layer = CacheLayer::builder(store.clone()).hit_for_miss(Duration::ZERO);
        let cache = layer.build().unwrap().layer(origin(&truth));
        let (truth, floors) = (Arc::clone(&truth), Versions::default());
        nodes.push(Arc::new(Node { store, cache, truth, floors }));
    }
    let end = Instant::now() + LASTS;
    let mut tasks = JoinSet::new();
    for (n, node) in (0..8).flat_map(|n| nodes.iter().map(move |node| (n, Arc::clone(node)))) {
        tasks.spawn(async move {
            while Instant::now() < end {
                let page = fastrand::usize(..PAGES);
                if n == 0 {
                    node.change(page).await;
                    pause(5_000).await;
                } else {
                    node.read(page).await;
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let sum = |count: fn(&Store) -> u64| nodes.iter().map(|node| count(&node.store)).sum::<u64>();
    let [leases, waits] =
        [sum(|store| store.stats().leases), sum(|store| store.stats().lease_waits)];
    assert!(leases > 50 && waits > 50, "{leases} leases, {waits} waits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_node_answers_with_what_was_changed_through_it() {
    history(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_on_the_second_tier_alone() {
    history(false).await;
}
