//! Many keys at once, on a real Redis.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/nodes.rs"]
mod nodes;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tower_keep_store::remote::{Epochs, Listener, Put, Remote, RemoteFuture, Stored};
use tower_keep_store::{Error, Reach, Redis, Store, Strength, Tag, Ttl};
use tower_keep_testing::{RedisServer, Reply};

use nodes::{forward, node_on, numbers, until};

/// How long each answer of a [`Far`] Redis takes more.
const FAR: Duration = Duration::from_millis(50);

/// A Redis far away, which remembers what tags it was asked for together.
struct Far {
    redis: Redis,
    asked: Arc<Mutex<Vec<Vec<Tag>>>>,
}

impl fmt::Debug for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.redis.fmt(f)
    }
}

impl Remote for Far {
    forward! { is_available put invalidate buckets bucket removals listen }

    fn get(&self, key: Bytes) -> RemoteFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            sleep(FAR).await;
            self.redis.get(key).await
        })
    }

    fn resolve(&self, tags: Vec<Tag>, known: u64) -> RemoteFuture<'_, Vec<Epochs>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(tags.clone());
            sleep(FAR).await;
            self.redis.resolve(tags, known).await
        })
    }
}

/// A connection that bears a busy machine.
async fn patient(server: &RedisServer) -> Redis {
    let redis = Redis::builder(&server.url()).deadline(Duration::from_secs(10));
    redis.connect().await.unwrap()
}

/// A node far from Redis, and what tags it asks for.
async fn far(server: &RedisServer) -> (Store, Arc<Mutex<Vec<Vec<Tag>>>>) {
    let asked = Arc::default();
    let redis = patient(server).await;
    (node_on(Far { redis, asked: Arc::clone(&asked) }).await, asked)
}

/// Stores `key` at each of `keys`, with a tag of its own beside a common one.
async fn stored(server: &RedisServer, keys: &[u64]) -> Store {
    let store = node_on(patient(server).await).await;
    for key in keys {
        let ttl = Ttl::secs(600).tags(["t".to_owned(), format!("t{key}")]);
        let set = numbers(&store).set(key, u32::try_from(*key).unwrap(), ttl).await;
        assert_eq!(set.unwrap(), Reach::Everywhere);
    }
    store
}

/// How often the server has been asked this, since its statistics were reset.
async fn calls(server: &RedisServer, command: &str) -> u64 {
    let Reply::Bytes(info) = server.command(&[b"INFO", b"commandstats"]).await else { panic!() };
    let info = String::from_utf8(info).unwrap();
    let line =
        info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_hundred_values_take_as_long_as_one() {
    let server = RedisServer::start().await;
    let keys: Vec<u64> = (0..100).collect();
    stored(&server, &keys).await;
    let (reader, asked) = far(&server).await;
    let wanted: Vec<u64> = (0..120).collect();
    server.command(&[b"CONFIG", b"RESETSTAT"]).await;
    let start = Instant::now();
    let found = numbers(&reader).get_many(&wanted).await;
    let took = start.elapsed();
    let found: Vec<_> = found.iter().map(|value| value.as_deref().copied()).collect();
    let expected: Vec<_> = (0..120).map(|key| (key < 100).then_some(key)).collect();
    assert_eq!(found, expected);
    // One round trip for the values, one for the tags. Each by itself, they would take 11 s.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(calls(&server, "getrange").await, 120);
    let stats = reader.stats();
    assert_eq!((stats.l2_hits, stats.l2_misses), (100, 20));

    let asked = asked.lock().unwrap().clone();
    let own: Vec<_> = keys.iter().map(|key| Tag::new(format!("t{key}")).unwrap()).collect();
    let of_entries: Vec<_> = asked.iter().filter(|tags| tags.contains(&own[7])).collect();
    assert_eq!(of_entries.len(), 1, "all tags are asked for at once: {asked:?}");
    assert!(own.iter().all(|tag| of_entries[0].contains(tag)));
    let common = Tag::new("t").unwrap();
    assert_eq!(of_entries[0].iter().filter(|tag| **tag == common).count(), 1, "and once");

    assert_eq!(numbers(&reader).get_many(&keys).await.iter().flatten().count(), 100);
    assert_eq!(calls(&server, "getrange").await, 120, "the first tier has them now");
}

#[tokio::test]
async fn what_was_invalidated_is_left_out() {
    let server = RedisServer::start().await;
    let keys: Vec<u64> = (0..300).collect();
    let writer = stored(&server, &keys).await;
    let (reader, _) = far(&server).await;
    writer.invalidate_tag("t7").await.unwrap();
    numbers(&writer).remove(&8).await;
    let found = numbers(&reader).get_many(&keys).await;
    let missing: Vec<_> = keys.iter().zip(found).filter(|(_, value)| value.is_none()).collect();
    assert_eq!(missing, [(&7, None), (&8, None)]);
}

#[tokio::test]
async fn a_removal_meanwhile_wins() {
    let server = RedisServer::start().await;
    let keys: Vec<u64> = (0..10).collect();
    stored(&server, &keys).await;
    let (reader, _) = far(&server).await;
    let on = numbers(&reader);
    let reading = tokio::spawn({
        let (on, keys) = (on.clone(), keys.clone());
        async move { on.get_many(&keys).await }
    });
    sleep(FAR / 2).await;
    on.remove(&3).await;
    reading.await.unwrap();
    assert!(on.get(&3).await.is_none());
    until("the others are there", async || on.get_many(&keys).await.iter().flatten().count() == 9)
        .await;
}

#[tokio::test]
async fn what_one_node_filled_together_another_finds_in_redis() {
    let server = RedisServer::start().await;
    let halves: Vec<u64> = (0..50).collect();
    stored(&server, &halves).await;
    let (a, b) = (far(&server).await.0, far(&server).await.0);
    let keys: Vec<u64> = (0..100).collect();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let fill = {
        let asked = Arc::clone(&asked);
        move |keys: Vec<u64>| {
            asked.lock().unwrap().extend(keys.clone());
            async move { Ok::<_, std::io::Error>(keys.into_iter().map(|key| (key, 1000))) }
        }
    };
    let found = numbers(&a).get_or_try_set_many(keys.clone(), Ttl::secs(600), fill).await;
    let found: Vec<_> = found.into_iter().map(|value| u64::from(*value.unwrap())).collect();
    let expected: Vec<_> = keys.iter().map(|key| if *key < 50 { *key } else { 1000 }).collect();
    assert_eq!(found, expected);
    let mut asked = asked.lock().unwrap().clone();
    asked.sort_unstable();
    assert_eq!(asked, keys[50..], "only what Redis lacks");
    until("b finds all", async || numbers(&b).get_many(&keys).await.iter().all(Option::is_some))
        .await;
    assert_eq!((a.stats().fills, b.stats().fills), (50, 0));
}
