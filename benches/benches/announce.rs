//! By what means nodes hear that a key was removed: Redis's own client-side caching (CLIENT TRACKING), or
//! announcements of one's own by pub/sub. What each costs, and how soon the last of the nodes knows.
//!
//! `cargo bench -p tower-keep-benches --bench announce` prints a table; it needs `redis-server`. Server and
//! clients share the machine, so read the ratios.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a bench may panic")]
#![allow(clippy::print_stdout, reason = "this is the output of the bench")]

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tower_keep_testing::{Conversation, RedisServer, Reply};

const NODES: usize = 8;
const ROUNDS: u32 = 3_000;

/// How many keys all nodes read, to weigh what the server remembers of that.
const KEYS: u32 = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// A script stores and publishes.
    PubSub,
    /// The server tells of every write under a prefix.
    Broadcast,
    /// The server remembers who has read what, and tells them once.
    Tracking,
}

/// One node: where it reads, and where it listens.
struct Node {
    reads: Conversation,
    listens: Conversation,
}

async fn node(server: &RedisServer, means: Means) -> Node {
    let mut listens = Conversation::begin(server.port()).await.unwrap();
    let Ok(Reply::Int(id)) = listens.call(&[b"CLIENT", b"ID"]).await else { panic!("no id") };
    let channel: &[u8] = if means == Means::PubSub { b"removed" } else { b"__redis__:invalidate" };
    listens.call(&[b"SUBSCRIBE", channel]).await.unwrap();
    let mut reads = Conversation::begin(server.port()).await.unwrap();
    let id = id.to_string();
    let tracking: [&[u8]; 5] = [b"CLIENT", b"TRACKING", b"ON", b"REDIRECT", id.as_bytes()];
    let broadcast: [&[u8]; 3] = [b"BCAST", b"PREFIX", b"tk:"];
    match means {
        Means::PubSub => {}
        Means::Tracking => drop(reads.call(&tracking).await.unwrap()),
        Means::Broadcast => drop(reads.call(&[&tracking[..], &broadcast].concat()).await.unwrap()),
    }
    Node { reads, listens }
}

async fn figure(server: &RedisServer, section: &[u8], name: &str) -> f64 {
    let Reply::Bytes(info) = server.command(&[b"INFO", section]).await else { panic!("no info") };
    let info = String::from_utf8(info).unwrap();
    let figure = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    figure.unwrap().parse().unwrap()
}

async fn remove(writer: &mut Conversation, means: Means, key: &[u8]) {
    const SCRIPT: &[u8] =
        b"redis.call('SET', KEYS[1], 'tombstone') redis.call('PUBLISH', 'removed', KEYS[1])";
    let command: &[&[u8]] = match means {
        Means::PubSub => &[b"EVAL", SCRIPT, b"1", key],
        Means::Broadcast | Means::Tracking => &[b"SET", key, b"tombstone"],
    };
    assert!(!matches!(writer.call(command).await.unwrap(), Reply::Error(_)));
}

/// In microseconds.
fn percentile(spans: &[Duration], of: usize) -> f64 {
    spans[spans.len() * of / 100].as_secs_f64() * 1e6
}

/// How soon the last node knows, and what else it takes: bytes sent.
async fn removals(
    server: &RedisServer,
    writer: &mut Conversation,
    nodes: &mut [Node],
    means: Means,
) -> (Vec<Duration>, f64) {
    let (mut spans, mut sent) = (Vec::new(), 0.0);
    for round in 0..ROUNDS {
        let key = format!("tk:{}", round % 100);
        if means == Means::Tracking {
            // Else it would not be told.
            for node in &mut *nodes {
                node.reads.call(&[b"GET", key.as_bytes()]).await.unwrap();
            }
        }
        let is_sampled = round % 100 == 0;
        let before =
            if is_sampled { figure(server, b"stats", "total_net_output_bytes").await } else { 0.0 };
        let start = Instant::now();
        let hear = join_all(nodes.iter_mut().map(|node| node.listens.listen()));
        let (heard, ()) = tokio::join!(hear, remove(writer, means, key.as_bytes()));
        spans.push(start.elapsed());
        assert!(heard.iter().all(Result::is_ok));
        if is_sampled {
            sent += figure(server, b"stats", "total_net_output_bytes").await - before;
        }
    }
    spans.sort_unstable();
    (spans, sent * 100.0 / f64::from(ROUNDS))
}

async fn measure(means: Means) {
    let server = RedisServer::start().await;
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(node(&server, means).await);
    }
    let mut writer = Conversation::begin(server.port()).await.unwrap();
    let (spans, sent) = removals(&server, &mut writer, &mut nodes, means).await;
    // The figure itself is sent, too.
    let idle = figure(&server, b"stats", "total_net_output_bytes").await;
    let idle = figure(&server, b"stats", "total_net_output_bytes").await - idle;

    // A value is stored that nobody has: nobody need hear of it.
    let before = figure(&server, b"stats", "total_net_output_bytes").await;
    for key in 0..1_000 {
        writer.call(&[b"SET", format!("tk:new:{key}").as_bytes(), b"value"]).await.unwrap();
    }
    let stored = figure(&server, b"stats", "total_net_output_bytes").await - before - idle;

    // All nodes hold what they have read.
    let before = figure(&server, b"memory", "used_memory").await;
    for key in 0..KEYS {
        let key = format!("tk:held:{key}");
        for node in &mut nodes {
            node.reads.call(&[b"GET", key.as_bytes()]).await.unwrap();
        }
    }
    let held = figure(&server, b"memory", "used_memory").await - before;
    println!(
        "| {means:?} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
        percentile(&spans, 50),
        percentile(&spans, 99),
        sent - idle,
        stored / 1_000.0,
        held / f64::from(KEYS),
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("{NODES} nodes");
    println!(
        "| | removal to the last node, \u{b5}s, p50 | p99 | bytes sent for it | bytes sent for a fill | server's memory for a key that all hold |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for means in [Means::PubSub, Means::Broadcast, Means::Tracking] {
        measure(means).await;
    }
}
