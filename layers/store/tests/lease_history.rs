//! Several nodes that wait for each other's fills, while each of them removes and invalidates at
//! random: none sees what was there, or was being fetched, before what it did itself.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/leases.rs"]
mod leases;
#[path = "support/nodes.rs"]
mod nodes;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower_keep_store::{Fill, L1, Reach, Store, Ttl, Typed};
use tower_keep_testing::RedisServer;

use leases::{SHORT, patient};
use nodes::until;

const NODES: usize = 3;
const KEYS: usize = 4;
const LASTS: Duration = Duration::from_secs(4);

#[derive(Default)]
struct Versions([AtomicU64; KEYS]);

/// A node, and what each of its reads must at least see.
struct Node {
    store: Store,
    values: Typed<usize, u64>,
    truth: Arc<Versions>,
    floors: Versions,
}

impl Node {
    fn tags(key: usize) -> [String; 2] {
        [format!("group-{}", key % 2), "all".to_owned()]
    }

    async fn pause(most_micros: u64) {
        sleep(Duration::from_micros(fastrand::u64(..most_micros))).await;
    }

    async fn write(&self, key: usize) {
        let version = self.truth.0[key].fetch_add(1, SeqCst) + 1;
        let reach = match fastrand::u8(..8) {
            0 => self.values.clear().await,
            1..4 => self.values.remove(&key).await,
            4 => {
                self.values.expire(&key).await;
                return;
            }
            _ => self.store.invalidate_tag(&Self::tags(key)[0]).await.unwrap(),
        };
        assert_eq!(reach, Reach::Everywhere);
        self.floors.0[key].fetch_max(version, SeqCst);
    }

    async fn read(&self, key: usize) {
        let floor = self.floors.0[key].load(SeqCst);
        let truth = Arc::clone(&self.truth);
        let fill = move || async move {
            Self::pause(2_000).await;
            let version = truth.0[key].load(SeqCst);
            Self::pause(4_000).await;
            match fastrand::u8(..16) {
                0 => Err(io::Error::other("now and then")),
                1 => Ok(Fill::pass(version)),
                _ => Ok(Fill::value(version)),
            }
        };
        let ttl = Ttl::new(Duration::from_millis(fastrand::u64(1..100))).tags(Self::tags(key));
        let ttl = ttl.stale_while_revalidate(Duration::from_millis(50));
        if let Ok(seen) = self.values.get_or_try_set(&key, ttl, fill).await {
            assert!(*seen >= floor, "saw {seen} of {key}, when {floor} was due");
        }
    }
}

async fn history(with_l1: bool) {
    let server = RedisServer::start().await;
    let truth = Arc::new(Versions::default());
    let mut all = Vec::new();
    for _ in 0..NODES {
        let redis = patient(&server.url()).deadline(Duration::from_secs(10)).connect().await;
        let builder = Store::builder().lease(SHORT).l2(redis.unwrap());
        let builder = if with_l1 { builder.l1(L1::bytes(16 << 20)) } else { builder };
        let store = builder.build().unwrap();
        until("the node is in step", async || store.is_synced()).await;
        let (values, truth) = (store.typed("value"), Arc::clone(&truth));
        all.push(Arc::new(Node { store, values, truth, floors: Versions::default() }));
    }
    let end = Instant::now() + LASTS;
    let mut tasks = JoinSet::new();
    for (n, node) in (0..8).flat_map(|n| all.iter().map(move |node| (n, Arc::clone(node)))) {
        tasks.spawn(async move {
            while Instant::now() < end {
                let key = fastrand::usize(..KEYS);
                if n == 0 {
                    node.write(key).await;
                    Node::pause(20_000).await;
                } else {
                    node.read(key).await;
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let sum = |count: fn(&Store) -> u64| all.iter().map(|node| count(&node.store)).sum::<u64>();
    let [leases, waits] =
        [sum(|store| store.stats().leases), sum(|store| store.stats().lease_waits)];
    assert!(leases > 50 && waits > 50, "{leases} leases, {waits} waits");
    assert_eq!(sum(|store| store.stats().bad_frames), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_node_sees_what_it_has_invalidated_itself() {
    history(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_on_the_second_tier_alone() {
    history(false).await;
}
