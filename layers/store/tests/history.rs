//! Readers, writers and invalidations at random, on several threads: no read that begins after an
//! invalidation has returned sees what was there, or was being fetched, before it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};
use tower_keep_store::{L1, Store, Ttl, Typed};

const KEYS: usize = 8;
const READERS: usize = 6;
const WRITERS: usize = 3;
const LASTS: Duration = Duration::from_secs(2);

/// The truth about each key: the version at the origin, and the version that every read must at
/// least see.
#[derive(Default)]
struct Origin {
    versions: [AtomicU64; KEYS],
    floors: [AtomicU64; KEYS],
}

fn tag(key: usize) -> String {
    format!("group-{}", key % 3)
}

async fn pause() {
    match fastrand::u8(..8) {
        0 => sleep(Duration::from_micros(fastrand::u64(..300))).await,
        1..4 => yield_now().await,
        _ => {}
    }
}

async fn write(store: &Store, values: &Typed<usize, u64>, origin: &Origin, key: usize) {
    let version = origin.versions[key].fetch_add(1, SeqCst) + 1;
    pause().await;
    match fastrand::u8(..8) {
        0 => drop(store.clear().await),
        1 => drop(values.clear().await),
        2..5 => drop(values.remove(&key).await),
        _ => drop(store.invalidate_tag(tag(key)).await.unwrap()),
    }
    origin.floors[key].fetch_max(version, SeqCst);
}

async fn read(values: &Typed<usize, u64>, origin: &Arc<Origin>, key: usize) {
    let floor = origin.floors[key].load(SeqCst);
    let asked = Arc::clone(origin);
    let fill = move || async move {
        pause().await;
        let version = asked.versions[key].load(SeqCst);
        pause().await;
        Ok::<_, io::Error>(version)
    };
    let ttl = Ttl::secs(60).tags([tag(key), "all".to_owned()]);
    let (how, seen) = if fastrand::bool() {
        ("get_or_try_set", Some(*values.get_or_try_set(&key, ttl, fill).await.unwrap()))
    } else {
        ("get", values.get(&key).await.as_deref().copied())
    };
    if let Some(seen) = seen {
        assert!(seen >= floor, "{how} of {key} saw {seen}, when {floor} was due");
    }
}

async fn history(store: Store) -> u64 {
    let (values, origin) = (store.typed::<usize, u64>("value"), Arc::new(Origin::default()));
    let end = Instant::now() + LASTS;
    let reads = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..READERS + WRITERS {
        let (store, values, origin) = (store.clone(), values.clone(), Arc::clone(&origin));
        let reads = Arc::clone(&reads);
        tasks.spawn(async move {
            while Instant::now() < end {
                let key = fastrand::usize(..KEYS);
                if task < READERS {
                    read(&values, &origin, key).await;
                    reads.fetch_add(1, SeqCst);
                } else {
                    write(&store, &values, &origin, key).await;
                    sleep(Duration::from_millis(fastrand::u64(..6))).await;
                }
                pause().await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no read was too old");
    }
    let hits = store.stats().l1_hits + store.stats().l2_hits;
    assert!(hits > 100, "it was a history of hits, too: {:?}", store.stats());
    reads.load(SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_one_tier() {
    let reads = history(Store::builder().l1(L1::bytes(16 << 20)).build().unwrap()).await;
    assert!(reads > 1_000, "{reads}");
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_two_tiers_and_on_the_second_alone() {
    use tower_keep_store::Redis;
    use tower_keep_testing::RedisServer;

    let server = RedisServer::start().await;
    for l1 in [true, false] {
        // A generous deadline: how the store does without Redis is tested elsewhere.
        let redis = Redis::builder(&server.url()).prefix(format!("l1-{l1}"));
        let redis = redis.deadline(Duration::from_secs(10)).connect().await.unwrap();
        let builder = Store::builder().l2(redis);
        let builder = if l1 { builder.l1(L1::bytes(16 << 20)) } else { builder };
        let store = builder.build().unwrap();
        while !store.is_synced() {
            sleep(Duration::from_millis(1)).await;
        }
        history(store).await;
    }
}
