//! Removals of single keys that a node doesn't hear of: what it holds that may be one of them is
//! dropped, and nothing else.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/deaf.rs"]
mod deaf;
#[path = "support/nodes.rs"]
mod nodes;

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use tower_keep_store::remote::Remote;
use tower_keep_store::{Reach, Redis, Store, Ttl};
use tower_keep_testing::{RedisServer, Reply};

use deaf::Deaf;
use nodes::{disconnect, fill, followers, held_fill, l2_reads, node, node_on, numbers, until};

const KEYS: std::ops::Range<u64> = 0..60;

/// So rare that nothing is noticed by it.
const NEVER: Duration = Duration::from_secs(60);

fn bucket(deaf: &Deaf, key: u64) -> u16 {
    deaf.bucket(format!("number:{key}").as_bytes())
}

/// A node `a`, whose connection for announcements is said; and `b`, which can be made deaf. Both hold 1
/// at each key.
struct Pair {
    server: RedisServer,
    a: Store,
    b: Store,
    deaf: Deaf,
    of_a: Vec<String>,
}

impl Pair {
    async fn start(heartbeat: Duration) -> Self {
        let server = RedisServer::start().await;
        let a = node(&server).await;
        let of_a = followers(&server).await;
        let redis = Redis::builder(&server.url()).heartbeat(heartbeat).connect().await.unwrap();
        let deaf = Deaf::new(redis);
        let b = node_on(deaf.clone()).await;
        for key in KEYS {
            // Not set: that b may find before it hears of it, and then doesn't keep.
            let ttl = Ttl::secs(600).stale_while_revalidate(Duration::from_secs(600)).tags(["t"]);
            let fill = || async { Ok::<_, io::Error>(1) };
            numbers(&a).get_or_try_set(&key, ttl, fill).await.unwrap();
            until("b has it", async || numbers(&b).get(&key).await.is_some()).await;
        }
        Self { server, a, b, deaf, of_a }
    }

    /// Lets `b` connect anew.
    async fn reconnect(&self) {
        let losses = self.b.stats().losses;
        let mut of_b = followers(&self.server).await;
        of_b.retain(|id| !self.of_a.contains(id));
        disconnect(&self.server, &of_b).await;
        until("b has noticed", async || self.b.stats().losses > losses).await;
        until("b is in step again", async || self.b.is_synced() && self.b.stats().in_step).await;
    }

    /// Reads all of `keys` on `b`. Says how often that led to the second tier.
    async fn reads_elsewhere(&self, keys: impl Iterator<Item = u64>) -> u64 {
        let before = l2_reads(&self.b);
        for key in keys {
            fill(&numbers(&self.b), key, 2).await;
        }
        l2_reads(&self.b) - before
    }
}

#[tokio::test]
async fn what_a_node_holds_survives_a_lost_connection_but_for_what_was_removed() {
    let pair = Pair::start(NEVER).await;
    let on_b = numbers(&pair.b);
    let slow = held_fill(&on_b, 1000, 1).await;
    pair.deaf.set(true);
    assert_eq!(numbers(&pair.a).remove(&1).await, Reach::Everywhere);
    assert_eq!(numbers(&pair.a).expire(&2).await, Reach::Everywhere);
    assert_eq!(numbers(&pair.a).remove(&1000).await, Reach::Everywhere);
    assert_eq!(pair.a.invalidate_tag("another").await.unwrap(), Reach::Everywhere);
    until("they are announced", async || pair.deaf.missed() == 4).await;
    // Nothing but b itself keeps what it fetches from being stored now.
    pair.server.command(&[b"DEL", b"tk:2:number:1000"]).await;
    assert_eq!(on_b.get(&1).await.as_deref(), Some(&1), "b knows nothing of it");
    pair.deaf.set(false);
    pair.reconnect().await;

    assert_eq!(pair.b.stats().missed_buckets, 3);
    let gone = [1, 2, 1000].map(|key| bucket(&pair.deaf, key));
    let kept: Vec<u64> = KEYS.filter(|key| !gone.contains(&bucket(&pair.deaf, *key))).collect();
    assert!(kept.len() > 50, "{kept:?}");
    assert_eq!(pair.reads_elsewhere(kept.iter().copied()).await, 0);
    assert_eq!(on_b.get(&1).await, None);
    slow.release().await;
    assert_eq!(on_b.get(&1000).await, None, "what was being fetched is not stored");
    assert_eq!(on_b.get(&2).await.as_deref(), Some(&1), "it is only stale");
    until("it is refreshed", async || fill(&on_b, 2, 3).await == 3).await;

    pair.a.invalidate_tag("t").await.unwrap();
    until("tags count as ever", async || on_b.get(&kept[0]).await.is_none()).await;
}

#[tokio::test]
async fn epochs_that_were_evicted_or_flushed_with_a_removal_hide_nothing() {
    for flushed in [true, false] {
        let pair = Pair::start(NEVER).await;
        let epoch = format!("tk:r:2:{}", bucket(&pair.deaf, 1));
        for times in 1..=2 {
            pair.deaf.set(true);
            assert_eq!(numbers(&pair.a).remove(&1).await, Reach::Everywhere);
            until("it is announced", async || pair.deaf.missed() == times).await;
            pair.deaf.set(false);
            if flushed {
                pair.server.command(&[b"FLUSHALL"]).await;
            } else {
                let gone = [b"DEL", epoch.as_bytes(), b"tk:2:number:1"];
                assert_eq!(pair.server.command(&gone).await, Reply::Int(2));
            }
            pair.reconnect().await;
            assert_eq!(numbers(&pair.b).get(&1).await, None);
            // Again, now that b has given the bucket its epoch.
            fill(&numbers(&pair.b), 1, 1).await;
            until("b holds it", async || pair.reads_elsewhere([1].into_iter()).await == 0).await;
        }
        let others = KEYS.filter(|key| bucket(&pair.deaf, *key) != bucket(&pair.deaf, 1));
        let elsewhere = pair.reads_elsewhere(others).await;
        assert!(if flushed { elsewhere > 50 } else { elsewhere == 0 }, "{elsewhere}");
    }
}

#[tokio::test]
async fn a_removal_that_was_not_heard_shows_with_the_next_of_its_bucket() {
    for own in [true, false] {
        let pair = Pair::start(NEVER).await;
        let neighbour =
            (1000..1_000_000).find(|key| bucket(&pair.deaf, *key) == bucket(&pair.deaf, 1));
        pair.deaf.set(true);
        assert_eq!(numbers(&pair.a).remove(&1).await, Reach::Everywhere);
        until("it is announced", async || pair.deaf.missed() == 1).await;
        pair.deaf.set(false);
        assert_eq!(numbers(&pair.b).get(&1).await.as_deref(), Some(&1));
        let next = numbers(if own { &pair.b } else { &pair.a });
        assert_eq!(next.remove(&neighbour.unwrap()).await, Reach::Everywhere);
        until("b has dropped it", async || numbers(&pair.b).get(&1).await.is_none()).await;
        let stats = pair.b.stats();
        assert_eq!((stats.missed_buckets, stats.losses), (1, 0));
        let others = KEYS.filter(|key| bucket(&pair.deaf, *key) != bucket(&pair.deaf, 1));
        assert_eq!(pair.reads_elsewhere(others).await, 0);
    }
}

#[tokio::test]
async fn a_removal_that_was_not_heard_shows_when_its_bucket_is_checked() {
    let pair = Pair::start(Duration::from_millis(20)).await;
    pair.deaf.set(true);
    assert_eq!(numbers(&pair.a).remove(&1).await, Reach::Everywhere);
    until("it is announced", async || pair.deaf.missed() == 1).await;
    pair.deaf.set(false);
    until("b has dropped it", async || numbers(&pair.b).get(&1).await.is_none()).await;
    let stats = pair.b.stats();
    assert_eq!((stats.missed_buckets, stats.losses), (1, 0));
}

#[tokio::test]
async fn nothing_seems_missed_that_was_not() {
    let pair = Pair::start(NEVER).await;
    let nodes = [&pair.a, &pair.b];
    for round in 0..20u64 {
        let removals = (0..64u64).map(|n| async move {
            let numbers = numbers(nodes[usize::from(n % 5 < 2)]);
            match n % 3 {
                0 => numbers.set(&(n / 4 + round), 1, Ttl::secs(600)).await.unwrap(),
                1 => numbers.remove(&(n / 4 + round)).await,
                _ => numbers.expire(&(n / 4 + round)).await,
            }
        });
        join_all(removals).await;
    }
    until("b has heard all", async || {
        let set = numbers(&pair.a).set(&0, 7, Ttl::secs(600)).await;
        set.unwrap() == Reach::Everywhere && numbers(&pair.b).get(&0).await.as_deref() == Some(&7)
    })
    .await;
    for node in nodes {
        assert_eq!((node.stats().missed_buckets, node.stats().losses), (0, 0));
    }
}

#[tokio::test]
async fn what_somebody_else_put_where_an_epoch_was_is_replaced() {
    let pair = Pair::start(NEVER).await;
    let on_a = numbers(&pair.a);
    for junk in [&[b"LPUSH".as_slice()][..], &[b"SET"]] {
        let epoch = format!("tk:r:2:{}", bucket(&pair.deaf, 1));
        pair.server.command(&[b"DEL", epoch.as_bytes()]).await;
        pair.server.command(&[junk, &[epoch.as_bytes(), b"9007199254740991"]].concat()).await;
        let before = pair.b.stats().missed_buckets;
        assert_eq!(on_a.remove(&1).await, Reach::Everywhere);
        until("b notices", async || pair.b.stats().missed_buckets == before + 1).await;
        for _ in 0..2 {
            assert_eq!(on_a.set(&1, 5, Ttl::secs(600)).await.unwrap(), Reach::Everywhere);
        }
        until("b hears on", async || numbers(&pair.b).get(&1).await.as_deref() == Some(&5)).await;
        assert_eq!(pair.b.stats().missed_buckets, before + 1);
    }
}

#[tokio::test]
async fn an_epoch_that_was_lost_is_never_there_again() {
    let server = RedisServer::start().await;
    let redis = Redis::connect(&server.url()).await.unwrap();
    let mut seen = redis.removals(vec![7]).await.unwrap();
    assert_eq!(redis.removals(vec![7]).await.unwrap(), seen, "it stays while nothing is lost");
    for _ in 0..3 {
        server.command(&[b"FLUSHALL"]).await;
        let found = redis.removals(vec![7]).await.unwrap()[0];
        assert!(!seen.contains(&found), "{found} again: {seen:?}");
        seen.push(found);
    }
}

#[tokio::test]
async fn an_epoch_drawn_while_the_clock_is_behind_is_not_drawn_again_by_a_server_that_lost_it() {
    let server = RedisServer::start().await;
    let a = node(&server).await;
    let redis = Redis::connect(&server.url()).await.unwrap();
    let number = redis.bucket(b"number:1");
    let key = format!("tk:r:2:{number}");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let ahead = (now + Duration::from_secs(3600)).as_micros().to_string();
    let mut drawn = HashSet::new();
    for _ in 0..4 {
        // As a replica that takes over without having the last.
        server.command(&[b"SET", key.as_bytes(), ahead.as_bytes()]).await;
        numbers(&a).remove(&1).await;
        drawn.insert(redis.removals(vec![number]).await.unwrap()[0]);
    }
    let ahead: u64 = ahead.parse().unwrap();
    assert!(drawn.iter().all(|epoch| (1..=65_536).contains(&(epoch - ahead))), "{drawn:?}");
    assert!(drawn.len() > 1, "{drawn:?}");
}
