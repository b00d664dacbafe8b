//! Several nodes read and write at random while a real Redis loses connections, hangs, is flushed
//! and restarted. When that is over, no node knows anything but the truth.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/deaf.rs"]
mod deaf;
#[path = "support/nodes.rs"]
mod nodes;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_keep_store::{Redis, Store, Ttl, Typed};
use tower_keep_testing::RedisServer;

use deaf::Deaf;
use nodes::{A_WHILE, disconnect, followers, node_on, until};

const NODES: usize = 3;
const KEYS: usize = 6;
const FAULTS: u32 = 12;
const HEARTBEAT: Duration = Duration::from_millis(100);

/// The version of each key at the origin.
#[derive(Default)]
struct Origin {
    versions: [AtomicU32; KEYS],
    ended: AtomicBool,
}

fn ttl(key: usize) -> Ttl {
    Ttl::secs(600).stale_while_revalidate(Duration::from_secs(600)).tags([tag(key)])
}

fn numbers(store: &Store) -> Typed<usize, u32> {
    store.typed("number")
}

fn tag(key: usize) -> String {
    format!("group-{}", key % 3)
}

async fn pause() {
    sleep(Duration::from_micros(fastrand::u64(..3000))).await;
}

fn any(nodes: &[Store]) -> &Store {
    &nodes[fastrand::usize(..nodes.len())]
}

/// The only one who changes `key`: at the origin first, and then by way of any node.
async fn write(nodes: &[Store], origin: &Origin, key: usize) {
    while !origin.ended.load(SeqCst) {
        let version = origin.versions[key].fetch_add(1, SeqCst) + 1;
        pause().await;
        let store = any(nodes);
        let numbers = numbers(store);
        // One who gives up a removal leaves it to the store.
        let patience = Duration::from_millis(if fastrand::u8(..4) == 0 { 1 } else { 60_000 });
        match fastrand::u8(..40) {
            0 => drop(timeout(patience, store.clear()).await),
            1..10 => drop(numbers.set(&key, version, ttl(key)).await.unwrap()),
            10..20 => drop(timeout(patience, store.invalidate_tag(tag(key))).await),
            _ => drop(timeout(patience, numbers.remove(&key)).await),
        }
        sleep(Duration::from_millis(fastrand::u64(..40))).await;
    }
}

async fn read(nodes: &[Store], origin: &Arc<Origin>) {
    while !origin.ended.load(SeqCst) {
        let key = fastrand::usize(..KEYS);
        let asked = Arc::clone(origin);
        let fill = move || async move {
            pause().await;
            let version = asked.versions[key].load(SeqCst);
            pause().await;
            Ok::<_, io::Error>(version)
        };
        let numbers = numbers(any(nodes));
        numbers.get_or_try_set(&key, ttl(key), fill).await.unwrap();
        if fastrand::u8(..8) == 0 {
            numbers.expire(&key).await;
        }
        pause().await;
    }
}

async fn damage(server: &mut RedisServer) {
    match fastrand::u8(..8) {
        0 | 1 => disconnect(server, &followers(server).await).await,
        2 => drop(server.command(&[b"CLIENT", b"KILL", b"TYPE", b"NORMAL"]).await),
        3 => {
            server.pause();
            sleep(A_WHILE).await;
            server.resume();
        }
        4 => drop(server.command(&[b"FLUSHALL"]).await),
        5 => {
            let buckets: Vec<String> = (0..1024).map(|n| format!("tk:r:2:{n}")).collect();
            let mut gone = vec![&b"DEL"[..], b"{tk}:epoch", b"{tk}:t:group-0"];
            gone.extend(buckets.iter().map(String::as_bytes));
            drop(server.command(&gone).await);
        }
        6 => drop(server.command(&[b"SCRIPT", b"FLUSH"]).await),
        _ => {
            server.kill();
            sleep(A_WHILE).await;
            server.restart().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_are_left_in_peace_know_the_truth() {
    converge(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn so_do_nodes_that_have_lost_announcements_unawares() {
    converge(true).await;
}

async fn converge(unawares: bool) {
    let mut server = RedisServer::start().await;
    let (mut nodes, mut ears) = (Vec::new(), Vec::new());
    for _ in 0..NODES {
        let redis = Redis::builder(&server.url())
            .breaker_rest(Duration::from_millis(100))
            .heartbeat(HEARTBEAT);
        let deaf = Deaf::new(redis.connect().await.unwrap());
        nodes.push(node_on(deaf.clone()).await);
        ears.push(deaf);
    }
    let nodes: Arc<[Store]> = nodes.into();
    let origin = Arc::new(Origin::default());
    let mut tasks = JoinSet::new();
    for key in 0..KEYS {
        let (nodes, origin) = (Arc::clone(&nodes), Arc::clone(&origin));
        tasks.spawn(async move { write(&nodes, &origin, key).await });
    }
    for _ in 0..8 {
        let (nodes, origin) = (Arc::clone(&nodes), Arc::clone(&origin));
        tasks.spawn(async move { read(&nodes, &origin).await });
    }
    for _ in 0..FAULTS {
        sleep(Duration::from_millis(fastrand::u64(50..400))).await;
        if unawares && fastrand::bool() {
            let deaf = &ears[fastrand::usize(..NODES)];
            deaf.set(true);
            sleep(Duration::from_millis(fastrand::u64(..50))).await;
            deaf.set(false);
        } else {
            damage(&mut server).await;
        }
    }
    until("it was a history of hits, too", async || {
        let stats = nodes.iter().map(Store::stats);
        stats.into_iter().all(|it| it.l1_hits > 20 && it.l2_hits > 0 && it.fills > 20)
    })
    .await;
    origin.ended.store(true, SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    until("all are in step", async || nodes.iter().all(Store::is_synced)).await;
    // What nobody knows to be lost is noticed within six heartbeats.
    sleep(if unawares { A_WHILE + 10 * HEARTBEAT } else { A_WHILE }).await;
    for key in 0..KEYS {
        let truth = origin.versions[key].load(SeqCst);
        for (name, node) in nodes.iter().enumerate() {
            let known = numbers(node).get(&key).await;
            assert!(
                known.as_deref().is_none_or(|known| *known == truth),
                "node {name} knows {known:?} of key {key}, which is {truth}; {:?}",
                node.stats()
            );
        }
    }
}
