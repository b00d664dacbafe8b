//! A value that another node has invalidated doesn't come back by being validated, also not by a node that
//! has yet to hear of it.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/deaf.rs"]
mod deaf;
#[path = "support/nodes.rs"]
mod nodes;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tower_keep_store::{Fill, Redis, Store, Ttl, Typed};
use tower_keep_testing::{RedisServer, Traffic, Way};

use deaf::Deaf;
use nodes::{A_WHILE, node, node_on, numbers, until, written};

const LONG: Duration = Duration::from_secs(600);

/// A node that can be deaf, and holds a stale 1 at 1, tagged "t".
async fn deaf_node(server: &RedisServer) -> (Deaf, Store) {
    let redis = Redis::builder(&server.url()).heartbeat(LONG).connect().await.unwrap();
    let deaf = Deaf::new(redis);
    let b = node_on(deaf.clone()).await;
    let stale = Ttl::new(Duration::ZERO).stale_if_error(LONG).tags(["t"]);
    numbers(&b).set(&1, 1, stale).await.unwrap();
    (deaf, b)
}

/// A node `b` that doesn't hear what `a` invalidates. It holds a stale 1 at 1, tagged "t", of which it
/// hasn't heard that it was invalidated; but it knows of an epoch that was drawn later.
async fn behind(server: &RedisServer) -> (Store, Store) {
    let a = node(server).await;
    let (deaf, b) = deaf_node(server).await;
    deaf.set(true);
    a.invalidate_tag("t").await.unwrap();
    fill(&numbers(&b), 2, "u").await;
    written(server, "tk:2:number:2").await;
    (a, b)
}

async fn fill(numbers: &Typed<u64, u32>, key: u64, tag: &str) -> u32 {
    let fill = || async { Ok::<_, io::Error>(2) };
    *numbers.get_or_try_set(&key, Ttl::new(LONG).tags([tag]), fill).await.unwrap()
}

/// What a caller gets whose fill, told to `go`, finds the earlier value unmodified, and tags it `tag`.
async fn validated(numbers: Typed<u64, u32>, go: Arc<Notify>, tag: &str) -> u32 {
    let validates = move |earlier: Option<Arc<u32>>| async move {
        go.notified().await;
        Ok::<_, io::Error>(earlier.map_or(Fill::value(2), |_| Fill::not_modified()))
    };
    *numbers.get_or_try_refresh(&1, Ttl::new(LONG).tags([tag]), validates).await.unwrap()
}

fn at_once() -> Arc<Notify> {
    let go = Arc::new(Notify::new());
    go.notify_one();
    go
}

#[tokio::test]
async fn what_another_node_invalidated_is_not_kept_for_being_validated() {
    let server = RedisServer::start().await;
    let (a, b) = behind(&server).await;
    assert_eq!(validated(numbers(&b), at_once(), "t").await, 1, "it hasn't heard");
    until("b has decided", async || b.stats().overtaken > 0 || numbers(&b).contains(&1).await)
        .await;
    assert_eq!((numbers(&b).get(&1).await, numbers(&a).get(&1).await), (None, None));
    assert_eq!(fill(&numbers(&b), 1, "t").await, 2);
}

#[tokio::test]
async fn nor_if_it_gets_other_tags_by_that() {
    let server = RedisServer::start().await;
    let (a, b) = behind(&server).await;
    assert_eq!(validated(numbers(&b), at_once(), "v").await, 1, "it hasn't heard");
    until("b has decided", async || b.stats().overtaken > 0 || numbers(&b).contains(&1).await)
        .await;
    assert_eq!((numbers(&b).get(&1).await, numbers(&a).get(&1).await), (None, None));
}

#[tokio::test]
async fn nor_if_it_gets_them_while_redis_is_out_of_reach() {
    let server = RedisServer::start().await;
    let way = Way::open(server.port()).await;
    let a = node(&server).await;
    let b = node_on(Redis::connect(&way.url()).await.unwrap()).await;
    let stale = Ttl::new(Duration::ZERO).stale_if_error(LONG).tags(["t"]);
    numbers(&b).set(&1, 1, stale).await.unwrap();
    // It knows of the other tag, too.
    fill(&numbers(&b), 2, "v").await;
    written(&server, "tk:2:number:2").await;
    way.set(Traffic::Ends);
    until("b has noticed", async || !b.stats().in_step).await;
    a.invalidate_tag("t").await.unwrap();
    assert_eq!(validated(numbers(&b), at_once(), "v").await, 1, "it can't know");
    until("b has stored it", async || numbers(&b).get(&1).await.is_some()).await;
    way.set(Traffic::Flows);
    until("b is in step", async || b.is_synced() && b.stats().in_step).await;
    assert_eq!(numbers(&b).get(&1).await, None);
}

#[tokio::test]
async fn what_another_node_removed_or_replaced_does_not_return_by_being_validated() {
    let server = RedisServer::start().await;
    for replaced in [false, true] {
        let a = node(&server).await;
        let (deaf, b) = deaf_node(&server).await;
        deaf.set(true);
        if replaced {
            // By something that doesn't last.
            numbers(&a).set(&1, 3, Ttl::new(LONG).tags(["w"])).await.unwrap();
            a.invalidate_tag("w").await.unwrap();
        } else {
            numbers(&a).remove(&1).await;
        }
        assert_eq!(validated(numbers(&b), at_once(), "t").await, 1, "it hasn't heard");
        until("b has stored it", async || numbers(&b).contains(&1).await).await;
        sleep(A_WHILE).await;
        assert_eq!(numbers(&a).get(&1).await, None, "replaced: {replaced}");
    }
}

#[tokio::test]
async fn who_has_heard_of_it_is_not_given_what_is_being_validated() {
    let server = RedisServer::start().await;
    let (a, b) = behind(&server).await;
    let go = Arc::new(Notify::new());
    let leads = tokio::spawn(validated(numbers(&b), Arc::clone(&go), "t"));
    until("it runs", async || b.stats().fills == 2).await;
    // Now b hears of it, from what lies in Redis.
    fill(&numbers(&a), 3, "t").await;
    written(&server, "tk:2:number:3").await;
    assert_eq!(fill(&numbers(&b), 3, "t").await, 2);
    let of_b = numbers(&b);
    let follows = tokio::spawn(async move { fill(&of_b, 1, "t").await });
    until("another waits", async || b.stats().coalesced == 1).await;
    go.notify_one();
    assert_eq!((leads.await.unwrap(), follows.await.unwrap()), (1, 2));
}
