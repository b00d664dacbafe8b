//! Large values, compressed in a real Redis.
#![cfg(all(feature = "redis", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/nodes.rs"]
mod nodes;

use std::time::Duration;

use tower_keep_store::{Compression, L1, Reach, Redis, Store, Ttl};
use tower_keep_testing::{RedisServer, Reply};

use nodes::{node, until};

/// A node that compresses what is 1 KiB or more, and has no first tier if it is told so.
async fn compressing(server: &RedisServer, l1: bool) -> Store {
    let redis = Redis::connect(&server.url()).await.unwrap();
    let mut builder =
        Store::builder().jitter(0).l2(redis).compress(Compression::zstd().min_size(1024));
    if l1 {
        builder = builder.l1(L1::bytes(64 << 20));
    }
    let store = builder.build().unwrap();
    until("the node is in step", async || store.is_synced()).await;
    store
}

/// What a service might keep: so many records.
fn records(many: usize) -> String {
    let records: Vec<String> = (0..many)
        .map(|i| format!("{{\"id\":{i},\"name\":\"a record\",\"stock\":{}}}", i * 7))
        .collect();
    records.concat()
}

async fn stored_len(server: &RedisServer, key: &str) -> usize {
    match server.command(&[b"STRLEN", format!("tk:2:text:{key}").as_bytes()]).await {
        Reply::Int(len) => usize::try_from(len).unwrap(),
        reply => panic!("{reply:?}"),
    }
}

#[tokio::test]
async fn large_values_are_compressed_and_read_by_nodes_that_do_not_compress() {
    let server = RedisServer::start().await;
    let (writer, reader) = (compressing(&server, true).await, node(&server).await);
    let (written, read) =
        (writer.typed::<str, String>("text"), reader.typed::<str, String>("text"));
    // Also one so large that other threads compress and decompress it.
    for (key, many) in [("large", 100), ("huge", 20_000)] {
        let value = records(many);
        written.set(key, value.clone(), Ttl::secs(60)).await.unwrap();
        let stored = stored_len(&server, key).await;
        assert!(stored < value.len() / 3, "{stored} of {}", value.len());
        assert_eq!(*read.get(key).await.unwrap(), value);
    }
    let stats = writer.stats();
    assert_eq!(stats.compressed, 2);
    let from = u64::try_from(records(100).len() + records(20_000).len()).unwrap();
    assert!((from..from + 100).contains(&stats.compressed_from_bytes), "{stats:?}");
    assert!((1..from / 3).contains(&stats.compressed_to_bytes), "{stats:?}");
    let stats = reader.stats();
    assert_eq!((stats.l2_hits, stats.bad_frames, stats.compressed), (2, 0, 0));
}

#[tokio::test]
async fn a_node_that_compresses_reads_what_others_stored_as_it_is() {
    let server = RedisServer::start().await;
    let (writer, reader) = (node(&server).await, compressing(&server, false).await);
    let value = records(100);
    writer.typed::<str, String>("text").set("k", value.clone(), Ttl::secs(60)).await.unwrap();
    assert!(stored_len(&server, "k").await > value.len());
    assert_eq!(*reader.typed::<str, String>("text").get("k").await.unwrap(), value);
}

#[tokio::test]
async fn small_values_are_stored_as_they_are() {
    let server = RedisServer::start().await;
    let store = compressing(&server, true).await;
    let value = "x".repeat(900);
    store.typed::<str, String>("text").set("k", value.clone(), Ttl::secs(60)).await.unwrap();
    assert!(stored_len(&server, "k").await > value.len());
    assert_eq!(store.stats().compressed, 0);
}

#[tokio::test]
async fn a_compressed_value_goes_stale_without_being_compressed_anew() {
    let server = RedisServer::start().await;
    let (writer, other) = (compressing(&server, false).await, node(&server).await);
    let (texts, value) = (writer.typed::<str, String>("text"), records(20_000));
    let ttl = Ttl::secs(600).stale_while_revalidate(Duration::from_secs(600));
    texts.set("k", value.clone(), ttl).await.unwrap();
    let stored = stored_len(&server, "k").await;
    // By a node that wouldn't compress it.
    assert_eq!(other.typed::<str, String>("text").expire("k").await, Reach::Everywhere);
    assert_eq!(stored_len(&server, "k").await, stored);
    assert_eq!(*texts.get("k").await.unwrap(), value);
    let origin = || async { Ok::<_, std::io::Error>("new".to_owned()) };
    texts.get_or_try_set("k", Ttl::secs(600), origin).await.unwrap();
    until("it was stale, and is refreshed", async || {
        texts.get("k").await.is_some_and(|value| *value == "new")
    })
    .await;
}

#[tokio::test]
async fn a_damaged_compressed_value_is_a_miss_and_is_counted() {
    let server = RedisServer::start().await;
    let writer = compressing(&server, false).await;
    let texts = writer.typed::<str, String>("text");
    texts.set("k", records(100), Ttl::secs(60)).await.unwrap();
    let key = b"tk:2:text:k";
    let Reply::Bytes(mut frame) = server.command(&[b"GET", key]).await else { panic!() };
    let last = frame.len() - 1;
    frame[last] ^= 1;
    server.command(&[b"SET", key, &frame]).await;
    assert!(texts.get("k").await.is_none());
    assert_eq!(writer.stats().bad_frames, 1);
}

#[tokio::test]
async fn one_who_reads_does_not_wait_for_what_is_being_compressed() {
    let server = RedisServer::start().await;
    let writer = compressing(&server, false).await.typed::<str, String>("text");
    // Large enough for other threads, both to compress and to decompress.
    writer.set("read", records(20_000), Ttl::secs(600)).await.unwrap();
    let redis = Redis::builder(&server.url()).deadline(Duration::from_secs(10));
    let slow = Compression::zstd().level(19);
    let store = Store::builder().l2(redis.connect().await.unwrap()).compress(slow).build().unwrap();
    until("the node is in step", async || store.is_synced()).await;
    let texts = store.typed::<str, String>("text");
    let many = 6 * std::thread::available_parallelism().unwrap().get();
    let writing = (0..many).map(|number| {
        let texts = texts.clone();
        let set =
            async move { texts.set(&number.to_string(), records(2_500), Ttl::secs(600)).await };
        tokio::spawn(set)
    });
    let writing: Vec<_> = writing.collect();
    until("they are at it", async || store.stats().compressed > 0).await;
    assert!(texts.get("read").await.is_some());
    let compressed = store.stats().compressed;
    assert!(compressed < many as u64 / 2, "{compressed} of {many} were before it");
    for set in writing {
        assert_eq!(set.await.unwrap().unwrap(), Reach::Everywhere);
    }
}

#[tokio::test]
async fn compression_without_a_second_tier_is_refused() {
    let builder = Store::builder().l1(L1::bytes(1 << 20)).compress(Compression::zstd());
    assert!(builder.build().unwrap_err().to_string().contains("`.l2(…)`"));
}
