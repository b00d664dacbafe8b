//! Two tiers on a real Redis, which the tests start, damage, kill and restart.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/nodes.rs"]
mod nodes;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tower_keep_store::{L1, Reach, Redis, RedisBuilder, Store, Ttl};
use tower_keep_testing::{RedisServer, Reply};

use nodes::{fill, held_fill, node, numbers, until, written};

#[tokio::test]
async fn what_one_node_stored_another_reads() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    assert_eq!(fill(&numbers(&a), 1, 10).await, 10);
    written(&server, "tk:2:number:1").await;
    assert_eq!(fill(&numbers(&b), 1, 99).await, 10, "from the second tier, not the origin");
    assert_eq!((b.stats().l2_hits, b.stats().fills), (1, 0));
    assert_eq!(numbers(&b).get(&1).await.as_deref(), Some(&10));
    assert_eq!(b.stats().l2_hits, 1, "the first tier has it now");
}

#[tokio::test]
async fn a_store_works_on_the_second_tier_alone() {
    let server = RedisServer::start().await;
    let redis = Redis::connect(&server.url()).await.unwrap();
    let store = Store::builder().l2(redis).build().unwrap();
    until("it is in step", async || store.is_synced()).await;
    let numbers = numbers(&store);
    assert_eq!(fill(&numbers, 1, 10).await, 10);
    written(&server, "tk:2:number:1").await;
    assert_eq!(fill(&numbers, 1, 20).await, 10);
    assert_eq!(store.invalidate_tag("t").await.unwrap(), Reach::Everywhere);
    assert_eq!(fill(&numbers, 1, 20).await, 20);
}

#[tokio::test]
async fn invalidations_reach_the_other_nodes_first_tier() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    let (on_a, on_b) = (numbers(&a), numbers(&b));
    for (way, key) in [("tag", 1), ("key", 2), ("space", 3), ("clear", 4)] {
        fill(&on_a, key, 5).await;
        written(&server, &format!("tk:2:number:{key}")).await;
        assert_eq!(fill(&on_b, key, 1000).await, 5, "{way}: b has a's value");
        let reach = match way {
            "tag" => a.invalidate_tag("t").await.unwrap(),
            "key" => on_a.remove(&key).await,
            "space" => on_a.clear().await,
            _ => a.clear().await,
        };
        assert_eq!(reach, Reach::Everywhere);
        assert!(on_a.get(&key).await.is_none(), "{way}: at once on the calling node");
        until(way, async || on_b.get(&key).await.is_none()).await;
    }
}

#[tokio::test]
async fn a_set_replaces_what_the_other_nodes_hold() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    let (on_a, on_b) = (numbers(&a), numbers(&b));
    fill(&on_b, 1, 1).await;
    written(&server, "tk:2:number:1").await;
    assert_eq!(on_a.set(&1, 2, Ttl::secs(60)).await.unwrap(), Reach::Everywhere);
    until("b reads the new value", async || on_b.get(&1).await.as_deref() == Some(&2)).await;
}

#[tokio::test]
async fn soft_invalidations_travel_too() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    let (on_a, on_b) = (numbers(&a), numbers(&b));
    fill(&on_a, 1, 1).await;
    written(&server, "tk:2:number:1").await;
    fill(&on_b, 1, 99).await;
    a.expire_tag("t").await.unwrap();
    until("b refreshes", async || fill(&on_b, 1, 2).await == 2).await;
    on_a.expire(&1).await;
    until("b refreshes again", async || fill(&on_b, 1, 3).await == 3).await;
}

#[tokio::test]
async fn a_fill_overtaken_by_another_nodes_invalidation_is_not_stored_anywhere() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    for way in ["tag", "key"] {
        let slow = held_fill(&numbers(&b), 1, 1).await;
        match way {
            "tag" => a.invalidate_tag("t").await.unwrap(),
            _ => numbers(&a).remove(&1).await,
        };
        slow.release().await;
        assert!(numbers(&b).get(&1).await.is_none(), "{way}: not on the node that filled");
        assert!(numbers(&a).get(&1).await.is_none(), "{way}: nor in the second tier");
    }
    assert_eq!(b.stats().overtaken, 2);
}

#[tokio::test]
async fn a_new_tag_counts_as_invalidated_only_if_its_key_may_have_been_lost() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    let slow = held_fill(&numbers(&b), 1, 1).await;
    a.invalidate_tag("another").await.unwrap();
    slow.release().await;
    assert!(numbers(&b).get(&1).await.is_some(), "it has nothing to do with that");

    server.command(&[b"DEL", b"{tk}:t:t", b"{tk}:t:u"]).await;
    let slow = held_fill(&numbers(&b), 2, 1).await;
    let set = async |name: &[u8], value: &[u8]| {
        server.command(&[b"CONFIG", b"SET", name, value]).await;
    };
    set(b"maxmemory-policy", b"volatile-random").await;
    server.command(&[b"SET", b"junk", b"", b"EX", b"100"]).await;
    set(b"maxmemory", b"1").await;
    server.command(&[b"SET", b"more", b"junk"]).await;
    set(b"maxmemory", b"0").await;
    slow.release().await;
    assert!(numbers(&b).get(&2).await.is_none(), "its key may be what was evicted");
}

#[tokio::test]
async fn damaged_foreign_and_older_frames_are_misses() {
    let server = RedisServer::start().await;
    let writer = node(&server).await;
    fill(&numbers(&writer), 1, 1).await;
    written(&server, "tk:2:number:1").await;
    let Reply::Bytes(good) = server.command(&[b"GET", b"tk:2:number:1"]).await else {
        panic!("no frame")
    };
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0xff;
        bytes
    };
    let mut longer = good.clone();
    longer.extend_from_slice(b"more");
    let damaged = [
        ("truncated", good[..good.len() / 2].to_vec()),
        ("only a header", good[..20].to_vec()),
        ("longer", longer),
        ("another version", flipped(2)),
        ("another codec", flipped(3)),
        ("a wrong length", flipped(12)),
        ("a flipped bit", flipped(good.len() - 1)),
        ("somebody else's text", b"{\"hello\": 1}".to_vec()),
    ];
    // Each at a key of its own: what was filled in instead of the last may be stored late.
    for (key, (what, bytes)) in (2..).zip(damaged) {
        server.command(&[b"SET", format!("tk:2:number:{key}").as_bytes(), &bytes]).await;
        let reader = node(&server).await;
        assert_eq!(fill(&numbers(&reader), key, 5).await, 5, "{what}");
        assert_eq!(reader.stats().bad_frames, 1, "{what}");
    }
    server.command(&[b"LPUSH", b"tk:2:number:0", b"a list"]).await;
    let reader = node(&server).await;
    assert_eq!(fill(&numbers(&reader), 0, 5).await, 5, "not even a string");
    assert_eq!(reader.stats().bad_frames, 1);
}

#[tokio::test]
async fn evicted_tags_and_a_flushed_server_cost_misses_and_bring_nothing_back() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    fill(&numbers(&a), 1, 1).await;
    written(&server, "tk:2:number:1").await;
    server.command(&[b"DEL", b"{tk}:t:t"]).await;
    assert_eq!(fill(&numbers(&b), 1, 2).await, 2, "without its tag, the old entry is not valid");
    a.invalidate_tag("t").await.unwrap();
    server.command(&[b"FLUSHALL"]).await;
    until("a fill is stored again", async || {
        fill(&numbers(&a), 2, 1).await;
        numbers(&a).get(&2).await.is_some()
    })
    .await;
    assert!(numbers(&a).get(&1).await.is_none());
}

#[tokio::test]
async fn every_request_is_answered_while_redis_is_down_and_it_is_used_again_after() {
    let mut server = RedisServer::start().await;
    let store = node(&server).await;
    let numbers = numbers(&store);
    let served = Arc::new(AtomicU32::new(0));
    let slowest = Arc::new(AtomicU32::new(0));
    let traffic = tokio::spawn({
        let (numbers, served, slowest) =
            (numbers.clone(), Arc::clone(&served), Arc::clone(&slowest));
        async move {
            for key in 0.. {
                let start = Instant::now();
                assert_eq!(fill(&numbers, key, 7).await, 7);
                slowest.fetch_max(u32::try_from(start.elapsed().as_millis()).unwrap(), SeqCst);
                served.fetch_add(1, SeqCst);
                sleep(Duration::from_micros(200)).await;
            }
        }
    });
    let more = async |n: u32| {
        let target = served.load(SeqCst) + n;
        until("traffic goes on", async || served.load(SeqCst) >= target).await;
    };
    more(50).await;
    server.kill();
    more(500).await;
    assert!(!store.is_synced());
    assert_eq!(store.invalidate_tag("u").await.unwrap(), Reach::ThisNode);
    server.restart().await;
    until("it is in step again", async || store.is_synced()).await;
    let before = store.stats();
    more(50).await;
    let after = store.stats();
    assert_eq!(before.l2_skipped, after.l2_skipped, "nothing leaves the second tier out");
    assert!(after.l2_misses > before.l2_misses);
    traffic.abort();
    // The soft deadline is 100 ms; a loaded machine gets some more.
    assert!(slowest.load(SeqCst) < 1000, "the slowest took {slowest:?} ms");
}

#[tokio::test]
async fn an_invalidation_made_during_an_outage_holds_here_at_once_and_elsewhere_after_it() {
    let server = RedisServer::start().await;
    let a = node(&server).await;
    fill(&numbers(&a), 1, 1).await;
    numbers(&a).set(&2, 1, Ttl::secs(600)).await.unwrap();
    written(&server, "tk:2:number:1").await;
    written(&server, "tk:2:number:2").await;
    // Stopped, not killed: what it holds survives.
    server.pause();
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Reach::ThisNode);
    assert_eq!(numbers(&a).remove(&2).await, Reach::ThisNode);
    for key in [1, 2] {
        let read = timeout(Duration::from_secs(5), numbers(&a).get(&key)).await;
        assert_eq!(read.expect("within the deadline"), None);
    }
    server.resume();
    until("the debts are paid", async || a.is_synced()).await;
    let b = node(&server).await;
    for key in [1, 2] {
        assert_eq!(
            numbers(&b).get(&key).await,
            None,
            "a new node doesn't see what was invalidated"
        );
    }
}

#[tokio::test]
async fn a_service_starts_without_redis_and_uses_it_once_it_is_there() {
    let mut server = RedisServer::start().await;
    server.kill();
    let refused =
        Redis::builder(&server.url()).connect_timeout(Duration::from_millis(300)).connect().await;
    assert!(refused.is_err(), "connect waits, and says so");
    let redis = Redis::builder(&server.url()).connect_lazy().unwrap();
    let store = Store::builder().l1(L1::bytes(1 << 20)).l2(redis).build().unwrap();
    assert_eq!(fill(&numbers(&store), 1, 1).await, 1);
    server.restart().await;
    until("it is in step", async || store.is_synced()).await;
    fill(&numbers(&store), 2, 1).await;
    written(&server, "tk:2:number:2").await;
    // What was tagged on assumptions is a miss now, and is kept again from then on.
    fill(&numbers(&store), 1, 5).await;
    assert_eq!(fill(&numbers(&store), 1, 6).await, 5);
}

#[tokio::test]
async fn a_value_too_large_for_the_second_tier_replaces_what_lies_there() {
    let server = RedisServer::start().await;
    let redis = Redis::builder(&server.url()).max_value(4096).connect().await.unwrap();
    let a = Store::builder().l1(L1::bytes(16 << 20)).l2(redis).build().unwrap();
    until("a is in step", async || a.is_synced()).await;
    let b = node(&server).await;
    let (on_a, on_b) = (a.typed::<u8, Vec<u8>>("blob"), b.typed::<u8, Vec<u8>>("blob"));
    on_a.set(&1, vec![1; 10], Ttl::secs(60)).await.unwrap();
    assert_eq!(on_b.get(&1).await.unwrap().len(), 10);
    assert_eq!(on_a.set(&1, vec![1; 10_000], Ttl::secs(60)).await.unwrap(), Reach::Everywhere);
    assert_eq!(on_a.get(&1).await.unwrap().len(), 10_000);
    until("b has lost the old value", async || on_b.get(&1).await.is_none()).await;
    assert!(a.is_synced());
    let fill = || async { Ok::<_, io::Error>(vec![2; 10_000]) };
    on_a.get_or_try_set(&2, Ttl::secs(60), fill).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert!(on_a.get(&2).await.is_some(), "what is filled stays here as well");
    assert_eq!(a.stats().too_large, 2);
}

#[tokio::test]
async fn a_dropped_store_leaves_no_task_and_no_connection() {
    let server = RedisServer::start().await;
    let connections = async || match server.command(&[b"CLIENT", b"LIST"]).await {
        Reply::Bytes(list) => String::from_utf8(list).unwrap().lines().count(),
        reply => panic!("{reply:?}"),
    };
    let (tasks, before) =
        (tokio::runtime::Handle::current().metrics().num_alive_tasks(), connections().await);
    let store = node(&server).await;
    assert!(connections().await >= before + 2);
    drop(store);
    until("the connections are closed", async || connections().await == before).await;
    until("the tasks have ended", async || {
        tokio::runtime::Handle::current().metrics().num_alive_tasks() <= tasks
    })
    .await;
}

#[tokio::test]
async fn many_keys_are_asked_for_within_the_deadline_of_one() {
    let server = RedisServer::start().await;
    let patient = Redis::builder(&server.url()).deadline(Duration::from_secs(20));
    let writer = nodes::node_on(patient.connect().await.unwrap()).await;
    let keys: Vec<u64> = (0..3000).collect();
    let on_writer = numbers(&writer);
    for keys in keys.chunks(100) {
        let set = keys.iter().map(|key| on_writer.set(key, 1, Ttl::secs(600)));
        futures_util::future::join_all(set).await;
    }
    let reader = node(&server).await;
    let found = numbers(&reader).get_many(&keys).await;
    assert_eq!(found.iter().flatten().count(), keys.len(), "{:?}", reader.stats());
}

#[tokio::test]
async fn a_value_that_outlived_its_use_here_is_asked_for_there() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    let ttl = Ttl::new(Duration::from_millis(200)).stale_if_error(Duration::from_secs(600));
    numbers(&a).set(&1, 1, ttl).await.unwrap();
    assert_eq!(numbers(&b).get(&1).await.as_deref(), Some(&1));
    until("it is fresh no more", async || numbers(&a).get(&1).await.is_none()).await;
    fill(&numbers(&a), 1, 2).await;
    until("b finds the new one", async || numbers(&b).get(&1).await.as_deref() == Some(&2)).await;
}

#[tokio::test]
async fn the_soft_timeout_knows_of_stale_values_in_the_second_tier() {
    let server = RedisServer::start().await;
    let redis = Redis::connect(&server.url()).await.unwrap();
    let store = Store::builder().jitter(0).l2(redis).build().unwrap();
    until("it is in step", async || store.is_synced()).await;
    let numbers = numbers(&store).soft_timeout(Duration::from_millis(50));
    let ttl = Ttl::new(Duration::from_millis(100)).stale_if_error(Duration::from_secs(600));
    numbers.set(&1, 1, ttl.clone()).await.unwrap();
    until("it is fresh no more", async || numbers.get(&1).await.is_none()).await;
    let slow = || async {
        sleep(Duration::from_secs(60)).await;
        Ok::<_, io::Error>(2)
    };
    let got = timeout(Duration::from_secs(5), numbers.get_or_try_set(&1, ttl, slow)).await;
    assert_eq!(*got.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_key_too_long_to_be_stored_under_leaves_no_trace() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    let long = "k".repeat(1 << 20);
    let texts = a.typed::<str, u32>("text");
    assert!(texts.set(&long, 1, Ttl::secs(60)).await.is_err());
    assert_eq!(texts.remove(&long).await, Reach::Everywhere);
    assert_eq!(texts.expire(&long).await, Reach::Everywhere);
    let found = server.command(&[b"KEYS", b"tk:2:*"]).await;
    assert!(matches!(&found, Reply::Array(keys) if keys.is_empty()), "a tombstone, at least");
    assert_eq!(b.stats().bad_frames, 0);
}

#[tokio::test]
async fn a_wrong_password_is_said_at_once() {
    let server = RedisServer::start().await;
    server.command(&[b"CONFIG", b"SET", b"requirepass", b"right"]).await;
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}", server.port());
    let start = Instant::now();
    let message = Redis::connect(&url("wrong")).await.unwrap_err().to_string();
    assert!(message.contains("WRONGPASS"), "{message}");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(Redis::connect(&url("right")).await.is_ok());
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let message = |builder: RedisBuilder| builder.connect_lazy().unwrap_err().to_string();
    let builder = || Redis::builder("redis://127.0.0.1:1");
    assert!(message(Redis::builder("not a url")).contains("address"));
    assert!(message(Redis::builder("http://127.0.0.1:1")).contains("begins with redis://"));
    assert!(message(builder().prefix("{x}")).contains("braces"));
    assert!(message(builder().prefix("")).contains("at least one"));
    assert!(message(builder().prefix("tk:2")).contains("with a letter"));
    assert!(message(builder().max_value(100)).contains("1 KiB"));
    assert!(message(builder().max_value(usize::MAX)).contains("512 MiB"));
    assert!(message(builder().deadline(Duration::ZERO)).contains("zero"));
    assert!(message(builder().connect_timeout(Duration::ZERO)).contains("zero"));
    assert!(message(builder().heartbeat(Duration::ZERO)).contains("heartbeat"));
    assert!(message(builder().tag_lifetime(Duration::ZERO)).contains("tag_lifetime"));
    assert!(builder().prefix("app:v1").connect_lazy().is_ok());
}

#[tokio::test]
async fn the_longest_settings_work() {
    let server = RedisServer::start().await;
    let redis = Redis::builder(&server.url())
        .deadline(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .breaker_rest(Duration::MAX)
        .heartbeat(Duration::MAX)
        .tag_lifetime(Duration::MAX);
    let store = nodes::node_on(redis.connect().await.unwrap()).await;
    fill(&numbers(&store), 1, 1).await;
    written(&server, "tk:2:number:1").await;
}
