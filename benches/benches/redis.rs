//! How many values a second one node gets out of a Redis, by how many are asked for at once and by how
//! many connections; beside `redis-benchmark`, which does nothing with what it gets, with the same
//! numbers, in one run. And how long small values wait where large ones are fetched, too.
//!
//! `cargo bench -p tower-keep-benches --bench redis` prints tables; it needs `redis-server` and
//! `redis-benchmark`. Server and clients share the machine, so read the ratios.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a bench may panic")]
#![allow(clippy::print_stdout, reason = "this is the output of the bench")]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_keep::store::{Redis, Store, Ttl, Typed};
use tower_keep_testing::RedisServer;

const VALUES: u64 = 1_000;
const SMALL: usize = 1024;
const LARGE: usize = 1024 * 1024;

/// Each line is measured so often, in turn.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);

type Values = Typed<u64, String>;

async fn values(server: &RedisServer, connections: usize) -> Values {
    let redis = Redis::builder(&server.url())
        .deadline(Duration::from_secs(10))
        .connections(connections)
        .connect()
        .await
        .unwrap();
    // No first tier: each lookup goes to Redis.
    let store = Store::builder().l2(redis).build().unwrap();
    while !store.is_synced() {
        sleep(Duration::from_millis(5)).await;
    }
    store.typed("value")
}

/// How many are got in a second, so many at once.
async fn throughput(values: &Values, at_once: u64) -> f64 {
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let askers: Vec<_> = (0..at_once)
        .map(|asker| {
            let (values, done, stop) = (values.clone(), Arc::clone(&done), Arc::clone(&stop));
            tokio::spawn(async move {
                for step in 0.. {
                    if stop.load(Relaxed) {
                        break;
                    }
                    let key = (asker * 7919 + step) % VALUES;
                    assert!(values.get(&key).await.is_some());
                    done.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    let start = Instant::now();
    sleep(ROUND).await;
    stop.store(true, Relaxed);
    for asker in askers {
        asker.await.unwrap();
    }
    as_f64(done.load(Relaxed)) / start.elapsed().as_secs_f64()
}

/// The same of `redis-benchmark`, which asks with GET for a key of that size.
async fn redis_benchmark(server: &RedisServer, connections: u64, at_once: u64) -> f64 {
    let port = server.port();
    let numbers = [connections, at_once / connections, 20_000 + 200 * at_once];
    let [clients, pipeline, many] = numbers.map(|number| number.to_string());
    let output = tokio::task::spawn_blocking(move || {
        let size = SMALL.to_string();
        let args = ["-t", "get", "-d", &size, "-c", &clients, "-P", &pipeline, "-n", &many];
        Command::new("redis-benchmark").args(["-p", &port.to_string(), "--csv"]).args(args).output()
    });
    let csv = String::from_utf8(output.await.unwrap().unwrap().stdout).unwrap();
    let line = csv.lines().find(|line| line.starts_with("\"GET\"")).unwrap();
    line.split(',').nth(1).unwrap().trim_matches('"').parse().unwrap()
}

/// How long the fastest half and the fastest 99 in 100 of the small values took, in ms, while large
/// ones are fetched without end.
async fn beside_large(values: &Values) -> (f64, f64) {
    let stop = Arc::new(AtomicBool::new(false));
    let large: Vec<_> = (0..2)
        .map(|_| {
            let (values, stop) = (values.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    assert!(values.get(&VALUES).await.is_some());
                }
            })
        })
        .collect();
    let mut took = Vec::new();
    let start = Instant::now();
    while start.elapsed() < ROUND {
        let asked = Instant::now();
        assert!(values.get(&1).await.is_some());
        took.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    stop.store(true, Relaxed);
    for large in large {
        large.await.unwrap();
    }
    took.sort_by(f64::total_cmp);
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "counts this small are exact")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[tokio::main]
async fn main() {
    let server = RedisServer::start().await;
    let nodes = [values(&server, 1).await, values(&server, 2).await, values(&server, 4).await];
    let filled = &nodes[0];
    for key in 0..VALUES {
        filled.set(&key, "x".repeat(SMALL), Ttl::secs(3600)).await.unwrap();
    }
    filled.set(&VALUES, "x".repeat(LARGE), Ttl::secs(3600)).await.unwrap();
    let key = [&b"SET"[..], b"key:__rand_int__", &[b'x'; SMALL]];
    server.command(&key).await;

    println!("| values of 1 KiB a second, in thousands | 1 at once | 64 | 1,024 |");
    println!("| --- | ---: | ---: | ---: |");
    let counts = [1, 64, 1024];
    let mut ours = vec![[const { Vec::new() }; 3]; 3];
    let mut theirs = vec![[const { Vec::new() }; 3]; 3];
    for _ in 0..ROUNDS {
        for (at, at_once) in counts.into_iter().enumerate() {
            for (node, connections) in [1, 2, 4].into_iter().enumerate() {
                ours[node][at].push(throughput(&nodes[node], at_once).await);
                if connections <= at_once {
                    theirs[node][at].push(redis_benchmark(&server, connections, at_once).await);
                }
            }
        }
    }
    for (node, connections) in [1, 2, 4].into_iter().enumerate() {
        let of = |figures: &[Vec<f64>; 3], at: usize| {
            let found = figures[at].clone();
            if found.is_empty() { String::new() } else { format!("{:.1}", median(found) / 1e3) }
        };
        let line = |figures| [0, 1, 2].map(|at| of(figures, at)).join(" | ");
        println!("| `get`, connections: {connections} | {} |", line(&ours[node]));
        println!("| `redis-benchmark`, the same | {} |", line(&theirs[node]));
    }

    println!("\n| a value of 1 KiB, while two tasks fetch 1 MiB | ms, median | ms, 99 % |");
    println!("| --- | ---: | ---: |");
    let mut waits = [const { (Vec::new(), Vec::new()) }; 3];
    for _ in 0..ROUNDS {
        for (node, waits) in nodes.iter().zip(&mut waits) {
            let (half, most) = beside_large(node).await;
            waits.0.push(half);
            waits.1.push(most);
        }
    }
    for (connections, (half, most)) in [1, 2, 4].into_iter().zip(waits) {
        println!("| connections: {connections} | {:.2} | {:.2} |", median(half), median(most));
    }
}
