//! What it takes to invalidate a tag: one write of one size, however many entries carry it; and how soon
//! other processes stop serving them, beside Redis's own time from PUBLISH to receipt.
//!
//! `TOWER_KEEP_ENTRIES=1000000 TOWER_KEEP_PROCESSES=8 TOWER_KEEP_ROUNDS=300` makes it the measurement of
//! `layers/store/docs/measured.md`.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::print_stderr, reason = "it tells what it measured")]

#[path = "support/nodes.rs"]
mod nodes;

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tower_keep_store::{L1, Reach, Redis, Store, Ttl, Typed};
use tower_keep_testing::{Employer, RedisServer, Reply, Worker, monotonic};

use nodes::{node_on, until};

/// The key that the other processes watch.
const WATCHED: u64 = 0;

/// How often they look.
const LOOK_EVERY: Duration = Duration::from_micros(200);

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |value| value.parse().unwrap())
}

fn numbers(store: &Store) -> Typed<u64, u64> {
    store.typed("number")
}

fn tagged() -> Ttl {
    Ttl::secs(3600).tags(["t"])
}

/// A node that sends nothing of its own accord while it is measured.
async fn quiet(server: &RedisServer) -> Store {
    let redis = Redis::builder(&server.url())
        .heartbeat(Duration::from_secs(3600))
        .deadline(Duration::from_secs(20));
    let store = node_on(redis.connect().await.unwrap()).await;
    // A heartbeat begins at once.
    sleep(Duration::from_millis(300)).await;
    store
}

/// Lets Redis hold so many entries that carry the tag: one is stored by way of the store, and its frame
/// copied to the other keys.
async fn filled(server: &RedisServer, store: &Store, entries: u64) {
    numbers(store).set(&WATCHED, 7, tagged()).await.unwrap();
    let frame = match server.command(&[b"GET", b"tk:2:number:0"]).await {
        Reply::Bytes(frame) => frame,
        reply => panic!("{reply:?}"),
    };
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let keys: Vec<u64> = (1..entries).collect();
    for keys in keys.chunks(5_000) {
        let mut commands = Vec::new();
        for key in keys {
            let key = format!("tk:2:number:{key}");
            let head =
                format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), frame.len());
            commands.extend_from_slice(head.as_bytes());
            commands.extend_from_slice(&frame);
            commands.extend_from_slice(b"\r\n");
        }
        stream.write_all(&commands).await.unwrap();
        let mut answers = vec![0; keys.len() * "+OK\r\n".len()];
        stream.read_exact(&mut answers).await.unwrap();
        assert!(answers.ends_with(b"+OK\r\n"));
    }
    for key in [1, entries / 2, entries - 1] {
        // Not of the first tier, which nobody has told of them.
        let found = numbers(store).get(&key).await;
        assert_eq!(found.as_deref(), Some(&7), "the copies are alive");
    }
}

/// How often the server has run each command, and what it has received.
async fn work(server: &RedisServer) -> BTreeMap<String, i64> {
    let mut work = BTreeMap::new();
    for section in [&b"commandstats"[..], b"stats"] {
        let Reply::Bytes(info) = server.command(&[b"INFO", section]).await else { panic!() };
        for line in String::from_utf8(info).unwrap().lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let count = value.strip_prefix("calls=").map(|rest| rest.split(',').next().unwrap());
            if let Some(count) = count.or((name == "total_net_input_bytes").then_some(value)) {
                work.insert(name.to_owned(), count.parse().unwrap());
            }
        }
    }
    work
}

/// What the server does and receives for one invalidation; and how long that takes.
async fn cost(server: &RedisServer, store: &Store) -> (BTreeMap<String, i64>, Duration) {
    let before = work(server).await;
    let measuring = work(server).await;
    let start = monotonic();
    assert_eq!(store.invalidate_tag("t").await.unwrap(), Reach::Everywhere);
    let took = monotonic().saturating_sub(start);
    let after = work(server).await;
    let cost = after.into_iter().map(|(name, count)| {
        let own = measuring.get(&name).unwrap_or(&0) - before.get(&name).unwrap_or(&0);
        let count = count - measuring.get(&name).unwrap_or(&0) - own;
        (name, count)
    });
    (cost.filter(|(_, count)| *count != 0).collect(), took)
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

#[tokio::test]
async fn one_write_of_one_size_invalidates_a_tag_however_many_entries_carry_it() {
    let server = RedisServer::start().await;
    let store = quiet(&server).await;
    let entries = number("TOWER_KEEP_ENTRIES", 20_000);
    // The first one draws what there wasn't before.
    filled(&server, &store, 10).await;
    cost(&server, &store).await;
    let mut all = Vec::new();
    for many in [10, entries] {
        let (mut costs, mut times) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            filled(&server, &store, many).await;
            let (cost, time) = cost(&server, &store).await;
            costs.push(cost);
            times.push(time);
            let survivor = numbers(&store).get(&(many - 1)).await;
            assert_eq!(survivor, None);
        }
        costs.dedup();
        let [cost] = &costs[..] else { panic!("{costs:?}") };
        eprintln!("{many} entries: {:?}; {cost:?}", median(times));
        all.push(cost.clone());
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0].get("cmdstat_evalsha"), Some(&1), "{all:?}");
}

/// A plain subscriber: tells when a message arrived.
struct Ear(TcpStream);

impl Ear {
    async fn listen(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"SUBSCRIBE raw\r\n").await.unwrap();
        let mut ear = Self(stream);
        ear.heard().await;
        ear
    }

    async fn heard(&mut self) -> Duration {
        let mut bytes = [0; 256];
        assert!(self.0.read(&mut bytes).await.unwrap() > 0);
        monotonic()
    }
}

/// Does nothing, unless the test below has started it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watcher() {
    let Some(mut employer) = Employer::find().await else { return };
    let port: u16 = employer.job().parse().unwrap();
    let redis = Redis::connect(&format!("redis://127.0.0.1:{port}")).await.unwrap();
    let store = Store::builder().l1(L1::bytes(1 << 20)).l2(redis).build().unwrap();
    until("it is in step", async || store.is_synced()).await;
    let numbers = numbers(&store);
    let mut ear = Ear::listen(port).await;
    while let Some(told) = employer.hear().await {
        let gone = if told == "raw" {
            employer.tell("ready").await;
            ear.heard().await
        } else {
            until("it holds the value", async || numbers.get(&WATCHED).await.is_some()).await;
            let watched = numbers.clone();
            employer.tell("ready").await;
            // Not on a thread of the runtime, which waits for whole milliseconds.
            let watch = move || {
                // A hit in the first tier is there at once; a miss asks the second, and isn't.
                while watched.get(&WATCHED).now_or_never().flatten().is_some() {
                    std::thread::park_timeout(LOOK_EVERY);
                }
                monotonic()
            };
            tokio::task::spawn_blocking(watch).await.unwrap()
        };
        employer.tell(&gone.as_nanos().to_string()).await;
    }
}

/// When the last of them noticed.
async fn last(workers: &mut [Worker]) -> Duration {
    let mut last = Duration::ZERO;
    for worker in workers {
        last = last.max(Duration::from_nanos(worker.hear().await.parse().unwrap()));
    }
    last
}

fn report(what: &str, mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() - 1) * percent / 100];
    eprintln!("| {what} | {:.2?} | {:.2?} | {:.2?} |", at(50), at(99), at(100));
    at(50)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_processes_stop_serving_what_was_invalidated_about_as_soon_as_redis_can_tell_them() {
    let server = RedisServer::start().await;
    let store = quiet(&server).await;
    let (processes, rounds) = (number("TOWER_KEEP_PROCESSES", 3), number("TOWER_KEEP_ROUNDS", 20));
    let mut workers = Vec::new();
    for _ in 0..processes {
        workers.push(Worker::start("watcher", &server.port().to_string()).await);
    }
    filled(&server, &store, number("TOWER_KEEP_ENTRIES", 20_000)).await;
    let [mut called, mut returned, mut raw, mut raw_returned] = [const { Vec::new() }; 4];
    let mut publisher = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    for _ in 0..rounds {
        for told in ["watch", "raw"] {
            if told == "watch" {
                numbers(&store).set(&WATCHED, 7, tagged()).await.unwrap();
            }
            for worker in &mut workers {
                assert_eq!(worker.ask(told).await, "ready");
            }
            sleep(Duration::from_millis(5)).await;
            let start = monotonic();
            if told == "watch" {
                assert_eq!(store.invalidate_tag("t").await.unwrap(), Reach::Everywhere);
                let end = monotonic();
                let last = last(&mut workers).await;
                called.push(last.saturating_sub(start));
                returned.push(last.saturating_sub(end));
            } else {
                publisher.write_all(b"PUBLISH raw x\r\n").await.unwrap();
                let mut answer = [0; 16];
                assert!(publisher.read(&mut answer).await.unwrap() > 0);
                let end = monotonic();
                let last = last(&mut workers).await;
                raw.push(last.saturating_sub(start));
                raw_returned.push(last.saturating_sub(end));
            }
        }
    }
    eprintln!("| {processes} processes, until the last | p50 | p99 | max |");
    eprintln!("| --- | ---: | ---: | ---: |");
    let called = report("`invalidate_tag` called", called);
    report("`invalidate_tag` returned", returned);
    let raw = report("PUBLISH sent", raw);
    report("PUBLISH answered", raw_returned);
    assert!(called < 10 * raw + Duration::from_millis(20), "{called:?} and {raw:?}");
}
