//! A service under steady load while its Redis hangs: everybody is answered, and soon nobody waits for
//! it any more.
//!
//! The load is open: each request is due at a time of its own, whatever became of those before it, and
//! its latency counts from then. `TOWER_KEEP_PAUSE_SECONDS=30` makes it the measurement of
//! `layers/store/docs/measured.md`.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::print_stderr, reason = "it tells what it measured")]

#[path = "support/nodes.rs"]
mod nodes;

use std::env;
use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tower_keep_store::{Redis, Ttl, Typed};
use tower_keep_testing::RedisServer;

use nodes::{node, node_on, numbers, until};

/// One request each millisecond.
const EVERY: Duration = Duration::from_millis(1);

/// How long all is well, before and after.
const WELL: Duration = Duration::from_secs(3);

/// The default soft deadline of an operation.
const DEADLINE: Duration = Duration::from_millis(100);

/// What a busy machine is given on top.
const SLACK: Duration = Duration::from_millis(400);

/// The keys that are asked for all the time.
const HOT: u64 = 100;

/// How long the origin takes.
const ORIGIN: Duration = Duration::from_millis(1);

fn ttl() -> Ttl {
    Ttl::secs(3600).tags(["t"])
}

/// Seven in ten are asked of the first tier, two lie in the second, one nowhere.
fn key(request: u64) -> u64 {
    match request % 10 {
        0..7 => request % HOT,
        7 | 8 => 1_000_000 + request,
        _ => 2_000_000 + request,
    }
}

async fn answer(numbers: Typed<u64, u32>, key: u64) {
    let origin = || async {
        sleep(ORIGIN).await;
        Ok::<_, io::Error>(1)
    };
    let answer = numbers.get_or_try_set(&key, ttl(), origin).await;
    assert_eq!(*answer.unwrap(), 1);
}

/// A request: when it was due, and how long after that it had its answer.
type Request = (Duration, Duration);

/// The latencies of a phase.
struct Phase {
    /// Of what the first tier has: nothing but the machine makes anybody wait.
    hot: Latencies,
    cold: Latencies,
}

#[derive(Debug)]
struct Latencies {
    p99: Duration,
    max: Duration,
}

impl Phase {
    fn new(name: &str, all: &[Request], from: Duration, until: Duration) -> Self {
        let latencies = |is_hot: bool| {
            let chosen = all.iter().filter(|(due, _)| {
                (from..until).contains(due) && (due.as_millis() % 10 < 7) == is_hot
            });
            let mut latencies: Vec<Duration> = chosen.map(|(_, latency)| *latency).collect();
            latencies.sort_unstable();
            let at = |share: usize| latencies[(latencies.len() - 1) * share / 1000];
            let slow = latencies.iter().filter(|latency| **latency > DEADLINE / 2).count();
            let what = if is_hot { "in L1" } else { "other" };
            let (many, p50, p99, max) = (latencies.len(), at(500), at(990), at(1000));
            eprintln!("| {name} | {what} | {many} | {p50:.1?} | {p99:.1?} | {max:.1?} | {slow} |");
            Latencies { p99, max }
        };
        Self { hot: latencies(true), cold: latencies(false) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_fails_while_redis_hangs_and_soon_nobody_waits() {
    let seconds =
        env::var("TOWER_KEEP_PAUSE_SECONDS").map_or(5, |seconds| seconds.parse().unwrap());
    let hangs = Duration::from_secs(seconds);
    let server = RedisServer::start().await;
    let requests = u64::try_from((WELL + hangs + WELL).as_millis() / EVERY.as_millis()).unwrap();

    let patient = Redis::builder(&server.url()).deadline(Duration::from_secs(20));
    let other = numbers(&node_on(patient.connect().await.unwrap()).await);
    let stored: Vec<u64> = (0..requests).map(key).filter(|key| *key < 2_000_000).collect();
    for keys in stored.chunks(200) {
        join_all(keys.iter().map(|key| other.set(key, 1, ttl()))).await;
    }
    let store = node(&server).await;
    let numbers = numbers(&store);
    for hot in 0..HOT {
        answer(numbers.clone(), hot).await;
    }

    let start = Instant::now() + Duration::from_millis(100);
    let load = tokio::spawn({
        let numbers = numbers.clone();
        async move {
            let mut tasks = JoinSet::new();
            for request in 0..requests {
                let due = EVERY * u32::try_from(request).unwrap();
                sleep_until(start + due).await;
                let numbers = numbers.clone();
                tasks.spawn(async move {
                    answer(numbers, key(request)).await;
                    (due, start.elapsed().saturating_sub(due))
                });
            }
            tasks.join_all().await
        }
    });
    sleep_until(start + WELL).await;
    let well = store.stats();
    server.pause();
    sleep_until(start + WELL + hangs).await;
    let hung = store.stats();
    server.resume();
    let resumed = Instant::now();
    until("it is in step again", async || store.is_synced()).await;
    let back = resumed.elapsed();
    let all = load.await.unwrap();

    assert_eq!(all.len(), usize::try_from(requests).unwrap(), "every request has its answer");
    let (second, over) = (WELL + Duration::from_secs(1), WELL + hangs);
    eprintln!("| | | requests | p50 | p99 | max | over 50 ms |");
    let before = Phase::new("before", &all, Duration::ZERO, WELL);
    let first = Phase::new("the first second", &all, WELL, second);
    let open = Phase::new("from then on", &all, second, over);
    let after = Phase::new("after", &all, over, over + WELL);
    eprintln!("in use again after {back:.1?}; {:?}", store.stats());
    assert!(well.l1_hits > 1000 && well.l2_hits > 300 && well.fills > 100, "{well:?}");
    assert!(hung.l2_skipped > well.l2_skipped + 100, "{hung:?}");
    for phase in [before, first, after] {
        let Phase { hot, cold } = phase;
        assert!(cold.max < hot.max + 2 * DEADLINE + SLACK, "{cold:?}; in L1: {hot:?}");
    }
    let Phase { hot, cold } = open;
    // The machine's own hiccups hit both, and not both equally. Nobody waits for Redis.
    assert!(cold.p99 < 2 * hot.p99 + DEADLINE / 2, "{cold:?}; in L1: {hot:?}");
    assert!(cold.max < 2 * hot.max + DEADLINE.mul_f64(0.9), "{cold:?}; in L1: {hot:?}");
}
