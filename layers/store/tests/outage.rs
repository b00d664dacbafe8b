//! Invalidations that a real Redis doesn't take at once: none is forgotten, and none keeps the
//! second tier out of use for longer than it must.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/nodes.rs"]
mod nodes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_keep_store::{L1, Reach, Redis, Store, Ttl};
use tower_keep_testing::RedisServer;

use nodes::{Gate, Gated, Point, both_hold, fill, followers, node, numbers, until, written};

/// Less than anything that is held up takes.
const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn what_its_caller_gives_up_is_done_all_the_same() {
    let server = RedisServer::start().await;
    let (put, invalidate) = (Gate::new(Point::BeforePut), Gate::new(Point::BeforeInvalidate));
    let (a, b) = (Gated::node(&server, &put).await, Gated::node(&server, &invalidate).await);
    let (on_a, on_b) = (numbers(&a), numbers(&b));

    on_a.set(&1, 10, Ttl::secs(600)).await.unwrap();
    put.shut();
    assert!(timeout(SOON, on_a.remove(&1)).await.is_err());
    put.open();
    until("it is removed", async || on_b.get(&1).await.is_none()).await;
    assert_eq!(on_a.get(&1).await, None);

    on_a.set(&2, 20, Ttl::secs(600)).await.unwrap();
    assert_eq!(on_b.get(&2).await.as_deref(), Some(&20));
    put.shut();
    assert!(timeout(SOON, on_a.set(&2, 21, Ttl::secs(600))).await.is_err());
    put.open();
    until("it is replaced", async || on_b.get(&2).await.as_deref() == Some(&21)).await;
    assert_eq!(on_a.get(&2).await.as_deref(), Some(&21));

    fill(&on_a, 3, 30).await;
    written(&server, "tk:2:number:3").await;
    invalidate.shut();
    assert!(timeout(SOON, b.invalidate_tag("t")).await.is_err());
    invalidate.open();
    until("it is invalidated", async || on_a.get(&3).await.is_none()).await;
    fill(&on_b, 3, 31).await;
    until("and can be cached again", async || fill(&on_b, 3, 32).await == 31).await;
}

#[tokio::test]
async fn what_its_caller_gives_up_during_an_outage_is_owed() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    for key in 1..=3 {
        both_hold(&server, [&a, &b], key).await;
    }
    server.pause();
    let on_a = numbers(&a);
    assert!(timeout(SOON, on_a.remove(&1)).await.is_err());
    assert!(timeout(SOON, on_a.expire(&2)).await.is_err());
    assert!(timeout(SOON, on_a.set(&3, 9, Ttl::secs(600))).await.is_err());
    server.resume();
    until("what is owed is paid", async || a.is_synced()).await;
    until("b fills again", async || fill(&numbers(&b), 1, 5).await == 5).await;
    until("b refreshes", async || fill(&numbers(&b), 2, 5).await == 5).await;
    until("b has lost the old value", async || numbers(&b).get(&3).await.as_deref() != Some(&1))
        .await;
}

#[tokio::test]
async fn a_node_tells_what_it_owes_and_whether_it_leaves_the_server_alone() {
    let server = RedisServer::start().await;
    let a = node(&server).await;
    let on_a = numbers(&a);
    assert_eq!((a.stats().owed, a.stats().l2_resting, a.stats().l2_rests), (0, false, 0));
    server.pause();
    until("failures in a row", async || {
        on_a.get(&1).await;
        a.stats().l2_resting
    })
    .await;
    assert_eq!(on_a.remove(&1).await, Reach::ThisNode);
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Reach::ThisNode);
    assert_eq!((a.stats().owed, a.stats().l2_rests), (2, 1));
    server.resume();
    until("it is paid", async || a.stats().owed == 0 && !a.stats().l2_resting).await;
}

#[tokio::test]
async fn what_is_invalidated_again_while_it_is_replayed_is_replayed_again() {
    let server = RedisServer::start().await;
    let gate = Gate::new(Point::AfterInvalidate);
    let (a, b) = (Gated::node(&server, &gate).await, node(&server).await);
    server.pause();
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Reach::ThisNode);
    gate.shut();
    server.resume();
    // The replay has reached Redis, its answer is on its way; and b stores a value after that.
    gate.holds(1).await;
    until("b is in step", async || b.is_synced()).await;
    until("b has stored it", async || {
        fill(&numbers(&b), 1, 10).await;
        numbers(&b).get(&1).await.is_some()
    })
    .await;
    let again = tokio::spawn({
        let a = a.clone();
        async move { a.invalidate_tag("t").await.unwrap() }
    });
    gate.holds(2).await;
    gate.open();
    again.await.unwrap();
    until("a is in step", async || a.is_synced()).await;
    until("it is gone", async || numbers(&b).get(&1).await.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_debt_outlives_the_runtime_that_it_was_incurred_on() {
    let server = RedisServer::start().await;
    let a = node(&server).await;
    server.pause();
    let store = a.clone();
    let elsewhere = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { store.invalidate_tag("t").await.unwrap() })
    });
    let reach = tokio::task::spawn_blocking(|| elsewhere.join().unwrap()).await.unwrap();
    assert_eq!(reach, Reach::ThisNode);
    server.resume();
    until("it is paid", async || a.is_synced()).await;
}

#[tokio::test]
async fn a_node_that_hears_nothing_serves_what_it_holds_for_so_long_as_it_may() {
    let server = RedisServer::start().await;
    let redis = Redis::builder(&server.url()).heartbeat(Duration::from_millis(50));
    let store = Store::builder().l1(L1::bytes(1 << 20)).l2(redis.connect().await.unwrap());
    let a = store.max_unsynced(Duration::from_millis(300)).build().unwrap();
    until("a is in step", async || a.is_synced()).await;
    fill(&numbers(&a), 1, 1).await;
    // A busy machine may notice late; it counts from when it should have been noticed.
    let lost_after = a.now();
    server.pause();
    until("a has noticed", async || !a.stats().in_step).await;
    assert_eq!(fill(&numbers(&a), 1, 2).await, 1, "for now");
    until("it isn't served any more", async || fill(&numbers(&a), 1, 2).await == 2).await;
    let served = a.now().saturating_since(lost_after);
    assert!(served >= Duration::from_millis(300), "only for {served:?}");
    server.resume();
    until("a is in step again", async || a.stats().in_step && a.is_synced()).await;
    assert!(a.stats().losses >= 1);
}

#[tokio::test]
async fn what_somebody_else_put_at_the_stores_keys_is_replaced() {
    let server = RedisServer::start().await;
    for key in ["{tk}:t:t", "{tk}:epoch", "tk:2:number:1", "tk:2:number:2"] {
        server.command(&[b"LPUSH", key.as_bytes(), b"a list"]).await;
    }
    let a = node(&server).await;
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Reach::Everywhere);
    fill(&numbers(&a), 1, 1).await;
    written(&server, "tk:2:number:1").await;
    assert_eq!(numbers(&a).expire(&2).await, Reach::Everywhere);
    assert!(a.is_synced());
}

#[tokio::test]
async fn what_the_server_refuses_for_good_keeps_nothing_else_waiting() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    fill(&numbers(&b), 1, 1).await;
    written(&server, "tk:2:number:1").await;
    // As an access rule that was meant for something else might.
    let rule: [&[u8]; 6] = [b"ACL", b"SETUSER", b"default", b"resetkeys", b"~tk:*", b"~{tk}:epoch"];
    server.command(&rule).await;
    server.command(&[b"ACL", b"SETUSER", b"default", b"~{tk}:t:t"]).await;
    assert_eq!(a.invalidate_tag("forbidden").await.unwrap(), Reach::ThisNode);
    assert!(!a.is_synced(), "what can't be invalidated there can't be trusted");
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Reach::Everywhere);
    until("b has lost it", async || numbers(&b).get(&1).await.is_none()).await;
    server.command(&[b"ACL", b"SETUSER", b"default", b"allkeys"]).await;
    until("the last debt is paid", async || a.is_synced()).await;
}

#[tokio::test]
async fn the_backlog_drains_while_more_is_invalidated() {
    let server = RedisServer::start().await;
    let a = node(&server).await;
    let on_a = numbers(&a);
    let ended = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (on_a, ended) = (on_a.clone(), Arc::clone(&ended));
        async move {
            let mut removals = JoinSet::new();
            for key in 0.. {
                if ended.load(SeqCst) {
                    break;
                }
                let on_a = on_a.clone();
                removals.spawn(async move { on_a.remove(&key).await });
                if key % 4 == 0 {
                    sleep(Duration::from_millis(2)).await;
                }
                while removals.try_join_next().is_some() {}
            }
        }
    });
    sleep(Duration::from_millis(300)).await;
    server.pause();
    sleep(Duration::from_secs(1)).await;
    server.resume();
    until("the second tier is in use again", async || a.is_synced()).await;
    ended.store(true, SeqCst);
    load.await.unwrap();
    assert!(a.stats().deferred_invalidations > 100, "{:?}", a.stats());
}

#[tokio::test]
async fn a_server_without_memory_removes_all_the_same() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    for key in 1..=2 {
        both_hold(&server, [&a, &b], key).await;
    }
    server.command(&[b"CONFIG", b"SET", b"maxmemory", b"1"]).await;
    assert_eq!(numbers(&a).remove(&1).await, Reach::Everywhere);
    until("b has lost it", async || numbers(&b).get(&1).await.is_none()).await;
    assert_eq!(numbers(&a).remove(&9).await, Reach::Everywhere, "nothing is there to be replaced");
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Reach::Everywhere);
    until("b has lost this, too", async || numbers(&b).get(&2).await.is_none()).await;
    assert_eq!(fill(&numbers(&a), 3, 7).await, 7, "and everybody is answered");
}

#[tokio::test]
async fn a_primary_that_becomes_a_replica_is_left() {
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let a = node(&old).await;
    let before = followers(&old).await;
    let port = new.port().to_string();
    old.command(&[b"REPLICAOF", b"127.0.0.1", port.as_bytes()]).await;
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Reach::ThisNode);
    until("it connects anew", async || followers(&old).await.iter().all(|id| !before.contains(id)))
        .await;
    assert!(!a.is_synced());
    old.command(&[b"REPLICAOF", b"NO", b"ONE"]).await;
    until("what is owed is paid", async || a.is_synced()).await;
}

#[tokio::test]
async fn a_store_that_is_dropped_while_redis_is_away_leaves_no_task() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut server = RedisServer::start().await;
    let before = alive();
    for _ in 0..3 {
        let store = node(&server).await;
        server.kill();
        until("it has noticed", async || !store.is_synced()).await;
        assert_eq!(numbers(&store).remove(&1).await, Reach::ThisNode);
        drop(store);
        let redis = Redis::builder(&server.url()).connect_lazy().unwrap();
        drop(Store::builder().l2(redis).build().unwrap());
        server.restart().await;
    }
    until("the tasks have ended", async || alive() <= before).await;
}
