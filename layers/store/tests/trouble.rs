//! What comes of each kind of trouble with Redis, as `docs/trouble.md` has it; those that aren't here are
//! in `outage.rs`, `redis.rs`, `cluster.rs`, `sentinel.rs` and `paused.rs`.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/nodes.rs"]
mod nodes;

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tower_keep_store::{L1, Reach, Redis, Store, Ttl};
use tower_keep_testing::{RedisServer, Reply, Traffic, Way};

use nodes::{both_hold, fill, held_fill, node, node_on, numbers, until, written};

/// Longer than anything that isn't held up on purpose takes on a busy machine.
const LONG: Duration = Duration::from_secs(5);

async fn behind(way: &Way, deadline: Duration) -> Store {
    let redis = Redis::builder(&way.url()).deadline(deadline);
    node_on(redis.breaker_rest(Duration::from_millis(100)).connect().await.unwrap()).await
}

async fn used_again(store: &Store, key: u64) {
    until("the second tier is used again", async || {
        fill(&numbers(store), key, 9).await;
        let found = numbers(store).remove(&key).await;
        store.is_synced() && found == Reach::Everywhere
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_slow_within_the_deadline_is_used() {
    let server = RedisServer::start().await;
    let way = Way::open(server.port()).await;
    let (a, b) = (behind(&way, LONG).await, node(&server).await);
    fill(&numbers(&b), 1, 1).await;
    written(&server, "tk:2:number:1").await;
    let lag = Duration::from_millis(150);
    way.set(Traffic::Lags(lag));
    let start = Instant::now();
    assert_eq!(fill(&numbers(&a), 1, 2).await, 1, "from the second tier");
    assert!(start.elapsed() >= lag, "it takes what the server takes");
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Reach::Everywhere);
    until("b is told", async || numbers(&b).get(&1).await.is_none()).await;
    assert!(a.is_synced());
    assert_eq!((a.stats().l2_errors, a.stats().losses), (0, 0));
}

#[tokio::test]
async fn a_server_that_is_slower_than_the_deadline_is_left_out_until_it_is_not() {
    let server = RedisServer::start().await;
    let way = Way::open(server.port()).await;
    let a = behind(&way, Duration::from_millis(100)).await;
    fill(&numbers(&a), 1, 1).await;
    way.set(Traffic::Lags(Duration::from_millis(600)));
    for key in 10..20 {
        assert_eq!(fill(&numbers(&a), key, 5).await, 5, "from the origin");
    }
    let stats = a.stats();
    assert!(stats.l2_errors > 0 && stats.l2_skipped > 0, "the breaker opened: {stats:?}");
    assert_eq!(fill(&numbers(&a), 1, 2).await, 1, "the first tier goes on");
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Reach::ThisNode);
    assert_eq!(numbers(&a).get(&1).await, None);
    way.set(Traffic::Flows);
    used_again(&a, 1).await;
}

#[tokio::test]
async fn a_server_that_talks_nonsense_is_left_out_until_it_does_not() {
    let server = RedisServer::start().await;
    let way = Way::open(server.port()).await;
    let a = behind(&way, Duration::from_millis(300)).await;
    fill(&numbers(&a), 1, 1).await;
    way.set(Traffic::Spoils);
    for key in 10..20 {
        assert_eq!(fill(&numbers(&a), key, 5).await, 5, "from the origin");
    }
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Reach::ThisNode);
    assert_eq!(numbers(&a).get(&1).await, None);
    assert!(a.stats().l2_errors > 0, "{:?}", a.stats());
    way.set(Traffic::Flows);
    used_again(&a, 1).await;
}

#[tokio::test]
async fn a_node_that_is_cut_off_goes_on_alone_and_catches_up() {
    let server = RedisServer::start().await;
    let way = Way::open(server.port()).await;
    let redis = Redis::builder(&way.url()).heartbeat(Duration::from_millis(100)).deadline(LONG);
    let (a, b) = (node_on(redis.connect().await.unwrap()).await, node(&server).await);
    for (key, traffic) in [(10, Traffic::Ends), (20, Traffic::Waits)] {
        both_hold(&server, [&a, &b], key).await;
        way.set(traffic);
        until("a has noticed", async || !a.stats().in_step).await;
        assert_eq!(fill(&numbers(&a), key + 1, 5).await, 5);
        assert_eq!(b.invalidate_tag("t").await.unwrap(), Reach::Everywhere);
        assert_eq!(a.invalidate_tag("u").await.unwrap(), Reach::ThisNode);
        fill(&numbers(&b), key + 2, 5).await;
        way.set(Traffic::Flows);
        until("a is in step", async || a.stats().in_step && a.is_synced()).await;
        assert_eq!(numbers(&a).get(&key).await, None, "it has learned what it missed");
        until("b is told what a owed", async || numbers(&b).get(&(key + 2)).await.is_none()).await;
    }
}

#[tokio::test]
async fn a_full_server_is_read_and_stores_nothing_new() {
    let server = RedisServer::start().await;
    let a = node(&server).await;
    fill(&numbers(&a), 1, 1).await;
    written(&server, "tk:2:number:1").await;
    server.command(&[b"CONFIG", b"SET", b"maxmemory", b"1"]).await;
    let b = node(&server).await;
    assert_eq!(fill(&numbers(&b), 1, 2).await, 1, "what is there is served");
    assert_eq!(held_fill(&numbers(&b), 2, 5).await.release().await, 5);
    assert_eq!(server.command(&[b"EXISTS", b"tk:2:number:2"]).await, Reply::Int(0));
    assert_eq!(fill(&numbers(&b), 2, 6).await, 5, "the first tier has it");
    assert_eq!(b.invalidate_tag("t").await.unwrap(), Reach::Everywhere);
    assert_eq!(numbers(&b).get(&2).await, None);
    until("a is told", async || numbers(&a).get(&1).await.is_none()).await;
    server.command(&[b"CONFIG", b"SET", b"maxmemory", b"0"]).await;
    until("it is stored there again", async || {
        fill(&numbers(&a), 3, 1).await;
        numbers(&a).remove(&3).await;
        fill(&numbers(&a), 4, 1).await;
        server.command(&[b"EXISTS", b"tk:2:number:4"]).await == Reply::Int(1)
    })
    .await;
}

#[tokio::test]
async fn a_server_that_evicts_entries_and_tags_brings_nothing_back() {
    let server = RedisServer::start().await;
    for [name, value] in [["maxmemory", "3mb"], ["maxmemory-policy", "allkeys-lru"]] {
        server.command(&[b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()]).await;
    }
    let (a, b) = (node(&server).await, node(&server).await);
    let ttl = |key: u64| Ttl::secs(600).tags(["t".to_owned(), format!("own-{key}")]);
    let evicted = async || {
        let Reply::Bytes(info) = server.command(&[b"INFO", b"stats"]).await else { panic!() };
        let info = String::from_utf8(info).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("evicted_keys:"));
        line.unwrap().parse::<u64>().unwrap()
    };
    let many = 7_000;
    let keys: Vec<u64> = (0..many).collect();
    for round in 0..2 {
        for keys in keys.chunks(50) {
            let on_a = numbers(&a);
            let set = keys.iter().map(|key| on_a.set(key, 1, ttl(*key)));
            join_all(set).await;
        }
        assert!(evicted().await > 100, "{}", evicted().await);
        until("a is in step", async || a.is_synced() && b.is_synced()).await;
        until("b serves what is left, if the tag is", async || {
            numbers(&a).set(&0, 1, ttl(0)).await.unwrap();
            let found = numbers(&b).get_many(keys.iter()).await;
            found.iter().flatten().count() > 0
        })
        .await;
        until("it is invalidated", async || {
            a.invalidate_tag("t").await.unwrap() == Reach::Everywhere
        })
        .await;
        until("b has lost all of it", async || {
            numbers(&b).get_many(keys.iter()).await.iter().flatten().count() == 0
        })
        .await;
        assert_eq!(numbers(&a).get_many(keys.iter()).await.iter().flatten().count(), 0, "{round}");
    }
}

#[tokio::test]
async fn more_debts_than_are_kept_become_one_invalidation_of_everything() {
    let server = RedisServer::start().await;
    let redis = Redis::connect(&server.url()).await.unwrap();
    let a = Store::builder().l1(L1::bytes(1 << 20)).max_backlog(1).l2(redis).build().unwrap();
    until("a is in step", async || a.is_synced()).await;
    let b = node(&server).await;
    both_hold(&server, [&a, &b], 1).await;
    server.pause();
    for tag in ["x", "y", "z"] {
        assert_eq!(a.invalidate_tag(tag).await.unwrap(), Reach::ThisNode);
    }
    server.resume();
    until("what is owed is paid", async || a.is_synced()).await;
    until("b has lost what has none of these tags", async || numbers(&b).get(&1).await.is_none())
        .await;
}

#[tokio::test]
async fn no_command_looks_through_the_keys() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    let on_a = numbers(&a);
    both_hold(&server, [&a, &b], 1).await;
    on_a.set(&2, 1, Ttl::secs(60).tags(["t"])).await.unwrap();
    on_a.get_many([1, 2, 3].iter()).await;
    on_a.expire(&1).await;
    on_a.remove(&1).await;
    on_a.clear().await;
    a.expire_tag("t").await.unwrap();
    a.invalidate_tag("t").await.unwrap();
    a.expire_all().await;
    a.clear().await;
    server.command(&[b"CLIENT", b"KILL", b"TYPE", b"NORMAL"]).await;
    server.command(&[b"CLIENT", b"KILL", b"TYPE", b"PUBSUB"]).await;
    until("both have noticed", async || a.stats().losses > 0 && b.stats().losses > 0).await;
    a.invalidate_tag("u").await.unwrap();
    until("both are in step", async || a.is_synced() && b.is_synced()).await;

    let Reply::Bytes(info) = server.command(&[b"INFO", b"commandstats"]).await else { panic!() };
    let info = String::from_utf8(info).unwrap();
    assert!(info.contains("cmdstat_evalsha:"), "{info}");
    for command in ["scan", "keys", "sscan", "hscan", "zscan", "smembers", "sort", "randomkey"] {
        assert!(!info.contains(&format!("cmdstat_{command}:")), "{info}");
    }
}
