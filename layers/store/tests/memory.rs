//! What entries and tags take, of this process and of Redis; and that the first tier's bound bounds it.
//!
//! Each measurement runs in a process of its own, whose resident memory is nobody else's.
//! `TOWER_KEEP_KEYS=10000000 TOWER_KEEP_TAGS=100000` makes it the measurement of
//! `layers/store/docs/measured.md`.
#![cfg(all(feature = "redis", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::print_stderr, reason = "it tells what it measured")]

#[path = "support/nodes.rs"]
mod nodes;

use std::env;
use std::fs;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::time::sleep;
use tower_keep_store::{BoxError, Codec, Encoded, L1, Reach, Redis, Store, Ttl, Typed};
use tower_keep_testing::{Employer, RedisServer, Reply, Worker};

use nodes::{A_WHILE, until};

const MIB: u64 = 1 << 20;

/// The most resident memory of a process that does nothing else: in percent of its first tier's bound, and
/// on top of that, which is mostly what the connections set aside.
const MOST: u64 = 150;
const FIXED: u64 = 32 * MIB;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|value| value.parse().unwrap())
}

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

fn ttl() -> Ttl {
    Ttl::secs(3600)
}

/// Does nothing, unless one of the other tests has started it to be measured.
#[tokio::test]
async fn measured() {
    let Some(mut employer) = Employer::find().await else { return };
    let job: Vec<String> = employer.job().split(' ').map(str::to_owned).collect();
    let job: Vec<&str> = job.iter().map(String::as_str).collect();
    let answer = match job[..] {
        ["pass", keys, tags, mib, url] => {
            let [keys, tags, mib] = [keys, tags, mib].map(|number| number.parse().unwrap());
            pass(keys, tags, mib, url).await
        }
        ["pass", keys, tags, mib] => {
            let [keys, tags, mib] = [keys, tags, mib].map(|number| number.parse().unwrap());
            pass(keys, tags, mib, "").await
        }
        ["hold", entries, tags, own_tags, key_len] => {
            let [entries, tags, own_tags] = [entries, tags, own_tags].map(|n| n.parse().unwrap());
            hold(entries, tags, own_tags, key_len.parse().unwrap()).await
        }
        ["read", entries, url] => read(entries.parse().unwrap(), url).await,
        _ => panic!("{job:?}"),
    };
    employer.tell(&answer).await;
}

/// Lets so many keys, which carry so many tags in turn, pass through a first tier. Returns the highest
/// resident memory, and how much of it was there before.
async fn pass(keys: u64, tags: u64, mib: u64, url: &str) -> String {
    let before = status("VmRSS:");
    let builder = Store::builder().l1(L1::bytes(mib * MIB));
    let store = if url.is_empty() {
        builder.build().unwrap()
    } else {
        let redis = Redis::builder(url).deadline(Duration::from_secs(30));
        let store = builder.l2(redis.connect().await.unwrap()).build().unwrap();
        until("it is in step", async || store.is_synced()).await;
        store
    };
    let values: Typed<u64, [u64; 4]> = store.typed("value");
    let at_once = if url.is_empty() { 1 } else { 256 };
    let set = stream::iter(0..keys).map(|key| {
        let values = values.clone();
        async move { values.set(&key, [key; 4], ttl().tags([format!("tag-{}", key % tags)])).await }
    });
    let set = set.buffer_unordered(at_once);
    set.for_each(|set| async { assert_eq!(set.unwrap(), Reach::Everywhere) }).await;
    let (entries, weight) = store.l1_size();
    format!("{before} {} {} {entries} {weight}", status("VmHWM:"), status("VmRSS:"))
}

async fn keeps_its_bound(keys: u64, tags: u64, mib: u64, url: &str) {
    let mut worker =
        Worker::start("measured", format!("pass {keys} {tags} {mib} {url}").trim_end()).await;
    let answer = worker.hear_within(Duration::from_secs(3600)).await;
    let numbers: Vec<u64> = answer.split(' ').map(|number| number.parse().unwrap()).collect();
    let [before, highest, last, entries, weight] = numbers[..] else { panic!("{answer}") };
    let percent = |bytes: u64| bytes * 100 / (mib * MIB);
    eprintln!(
        "{keys} keys, {tags} tags{}: at most {} MiB resident, {} % of the {mib} MiB; {} MiB in the end, {} before; {entries} entries weigh {} MiB",
        if url.is_empty() { "" } else { ", Redis" },
        highest / MIB,
        percent(highest),
        last / MIB,
        before / MIB,
        weight / MIB,
    );
    assert!(entries > mib * 1_000, "{entries}");
    assert!(percent(highest.saturating_sub(FIXED)) < MOST, "{highest} bytes");
}

#[tokio::test]
async fn memory_is_bounded_however_many_keys_and_tags_pass_through() {
    let (keys, tags) = (number("TOWER_KEEP_KEYS"), number("TOWER_KEEP_TAGS"));
    keeps_its_bound(keys.unwrap_or(300_000), tags.unwrap_or(10_000), 64, "").await;
}

#[tokio::test]
async fn memory_is_bounded_with_a_second_tier_that_evicts() {
    let server = RedisServer::start().await;
    for [name, value] in [["maxmemory", "200mb"], ["maxmemory-policy", "allkeys-lru"]] {
        server.command(&[b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()]).await;
    }
    let (keys, mib) = number("TOWER_KEEP_KEYS").map_or((40_000, 16), |keys| (keys / 10, 64));
    let tags = number("TOWER_KEEP_TAGS").unwrap_or(2_000);
    keeps_its_bound(keys, tags, mib, &server.url()).await;
}

/// Holds so many entries with `tags` shared tags and `own_tags` of their own, under keys of so many
/// bytes. Returns what that has added to the resident memory, and what it is taken to weigh.
async fn hold(entries: u64, tags: u64, own_tags: u64, key_len: usize) -> String {
    let store = Store::builder().l1(L1::bytes(1 << 40)).build().unwrap();
    let values: Typed<str, u64> = store.typed("v");
    values.set("", 0, ttl()).await.unwrap();
    let before = status("VmRSS:");
    for entry in 0..entries {
        // The name of the space and a colon are a part of the key.
        let key = format!("{entry:0>width$}", width = key_len - 2);
        let shared = (0..tags).map(|tag| format!("shared-{tag}"));
        let own = (0..own_tags).map(|tag| format!("own-{entry:08}-{tag}"));
        values.set(&key, entry, ttl().tags(shared.chain(own))).await.unwrap();
    }
    let (held, weight) = store.l1_size();
    assert_eq!(held, entries + 1);
    format!("{} {weight}", status("VmRSS:") - before)
}

#[tokio::test]
async fn entries_take_about_what_they_are_taken_to_weigh() {
    let entries = number("TOWER_KEEP_ENTRIES").unwrap_or(50_000);
    let mut by_shape = Vec::new();
    eprintln!("| key | tags | of its own | bytes resident | weight |");
    eprintln!("| ---: | ---: | ---: | ---: | ---: |");
    for (key_len, tags, own_tags) in
        [(16, 0, 0), (16, 1, 0), (16, 4, 0), (64, 0, 0), (256, 0, 0), (16, 0, 1)]
    {
        let job = format!("hold {entries} {tags} {own_tags} {key_len}");
        let mut worker = Worker::start("measured", &job).await;
        let answer = worker.hear_within(Duration::from_secs(600)).await;
        let (resident, weight) = answer.split_once(' ').unwrap();
        let [resident, weight] =
            [resident, weight].map(|bytes| bytes.parse::<u64>().unwrap() / entries);
        eprintln!("| {key_len} | {tags} | {own_tags} | {resident} | {weight} |");
        if own_tags == 0 {
            assert!((60..MOST).contains(&(resident * 100 / weight)), "{resident} and {weight}");
        }
        by_shape.push(resident);
    }
    eprintln!("a tag takes {} bytes", by_shape[5] - by_shape[1]);
}

/// Plain bytes, kept as they come.
struct Raw;

impl Codec<Bytes> for Raw {
    fn id(&self) -> u8 {
        99
    }

    fn encode(&self, value: &Bytes) -> Result<Encoded, BoxError> {
        Ok(Encoded { head: Bytes::new(), body: value.clone() })
    }

    fn decode(&self, encoded: Encoded) -> Result<Bytes, BoxError> {
        Ok(encoded.body)
    }
}

/// The largest value that the first tier of [`bodies`] keeps.
const LARGEST: usize = 16 << 10;

async fn bodies(url: &str) -> (Store, Typed<u64, Bytes>) {
    let redis = Redis::builder(url).deadline(Duration::from_secs(30)).connect().await.unwrap();
    let l1 = L1::bytes(64 * MIB).max_entry(LARGEST as u64);
    let store = Store::builder().l1(l1).l2(redis).build().unwrap();
    until("it is in step", async || store.is_synced()).await;
    let bodies = store.typed_with("body", Raw);
    (store, bodies)
}

/// Reads so many entries. Returns by how much resident memory has grown, and what the first tier has.
async fn read(entries: u64, url: &str) -> String {
    let (store, bodies) = bodies(url).await;
    let before = status("VmRSS:");
    for begin in (0..entries).step_by(100) {
        let keys: Vec<u64> = (begin..begin + 100).collect();
        assert!(bodies.get_many(&keys).await.iter().all(Option::is_some));
    }
    let (held, weight) = store.l1_size();
    format!("{} {held} {weight}", status("VmRSS:").saturating_sub(before))
}

#[tokio::test]
async fn bodies_from_redis_hold_no_memory_of_larger_ones_that_came_with_them() {
    let (server, entries) = (RedisServer::start().await, 3_000);
    let (_store, bodies) = bodies(&server.url()).await;
    for entry in 0..entries {
        // The large ones are never kept.
        let len = if entry % 10 == 0 { 10 * LARGEST } else { 200 };
        let set = bodies.set(&entry, Bytes::from(vec![1; len]), ttl()).await;
        assert_eq!(set.unwrap(), Reach::Everywhere);
    }
    let mut worker = Worker::start("measured", &format!("read {entries} {}", server.url())).await;
    let answer = worker.hear_within(Duration::from_secs(600)).await;
    let numbers: Vec<u64> = answer.split(' ').map(|number| number.parse().unwrap()).collect();
    let [grown, held, weight] = numbers[..] else { panic!("{answer}") };
    eprintln!("{held} bodies weigh {} MiB; {} MiB resident", weight / MIB, grown / MIB);
    assert_eq!(held, entries * 9 / 10);
    assert!(grown < weight + FIXED, "{grown} bytes for {weight}");
}

#[tokio::test]
async fn what_redis_holds_is_small() {
    let server = RedisServer::start().await;
    let store = nodes::node(&server).await;
    let values: Typed<u64, u64> = store.typed("v");
    let usage = async |key: &str| match server.command(&[b"MEMORY", b"USAGE", key.as_bytes()]).await
    {
        Reply::Int(bytes) => bytes,
        reply => panic!("{key}: {reply:?}"),
    };
    let tags = |many: u64| (0..many).map(|tag| format!("tag-{tag}"));
    for (key, many) in [(1, 0), (2, 1), (3, 4)] {
        values.set(&key, key, ttl().tags(tags(many))).await.unwrap();
        let bytes = usage(&format!("tk:2:v:{key}")).await;
        eprintln!("an entry with {many} tags: {bytes} bytes");
        assert!(bytes < 512, "{bytes}");
    }
    assert_eq!(values.remove(&1).await, Reach::Everywhere);
    sleep(A_WHILE).await;
    for (what, key) in [("a tombstone", "tk:2:v:1"), ("a tag", "{tk}:t:tag-0")] {
        let bytes = usage(key).await;
        eprintln!("{what}: {bytes} bytes");
        assert!(bytes < 256, "{bytes}");
    }
}
