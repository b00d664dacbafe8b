//! Single flight across nodes: one origin call for all.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/leases.rs"]
mod leases;
#[path = "support/nodes.rs"]
mod nodes;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tower_keep_store::{Bincode, Error, Fill, L1, Reach, Redis, Store, ToKey, Ttl};
use tower_keep_testing::{RedisServer, Reply};

use leases::{
    KEY, LONG, MODERATE, SHORT, SLOW, SOON, all_ask, ask, has, node, node_with, nodes, patient,
    took, waits,
};
use nodes::{A_WHILE, Gate, Gated, Point, fill, held_fill, numbers, until, written};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_nodes_with_fifty_callers_each_call_the_origin_once() {
    let server = RedisServer::start().await;
    let nodes = nodes(&server, LONG, 8).await;
    let callers = nodes.iter().flat_map(|node| vec![numbers(node); 50]);
    let got = all_ask(callers, &Ttl::secs(60), |call| async move {
        sleep(A_WHILE).await;
        Ok(call)
    })
    .await;
    assert_eq!(got.len(), 400);
    assert!(got.into_iter().all(|value| *value.unwrap() == 1), "a second call");
    let sum = |count: fn(&Store) -> u64| nodes.iter().map(count).sum::<u64>();
    assert_eq!(sum(|node| node.stats().fills), 1);
    assert_eq!(sum(|node| node.stats().leases), 1);
    assert_eq!(sum(|node| node.stats().l2_errors), 0);
}

#[tokio::test]
async fn a_slow_fill_keeps_its_lease() {
    let server = RedisServer::start().await;
    let nodes = nodes(&server, MODERATE, 3).await;
    let got = all_ask(nodes.iter().map(numbers), &Ttl::secs(60), |call| async move {
        sleep(3 * MODERATE).await;
        Ok(call)
    })
    .await;
    assert!(got.into_iter().all(|value| *value.unwrap() == 1));
}

#[tokio::test]
async fn one_who_waits_and_is_cancelled_leaves_nothing_behind() {
    let server = RedisServer::start().await;
    let [leader, other] = [node(&server, LONG).await, node(&server, LONG).await];
    let held = held_fill(&numbers(&leader), 1, 1).await;
    let waiting = ask(&other, 2);
    waits(&other).await;
    waiting.abort();
    assert_eq!(held.release().await, 1);
    until("the flight goes on without it", async || {
        numbers(&other).get(&1).await.as_deref() == Some(&1)
    })
    .await;
    assert_eq!(other.stats().fills, 0);
}

#[tokio::test]
async fn what_is_invalidated_by_tag_while_a_node_waits_is_not_brought_back_by_its_fill() {
    let server = RedisServer::start().await;
    let [leader, other] = [node(&server, LONG).await, node(&server, LONG).await];
    let ttl = Ttl::new(Duration::ZERO).stale_if_error(LONG).tags(["t"]);
    numbers(&leader).set(&1, 1, ttl.clone()).await.unwrap();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let leading = tokio::spawn({
        let (numbers, ttl) = (numbers(&leader), ttl.clone());
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        let fails = || async move {
            begun.notify_one();
            go.notified().await;
            Err::<u32, _>(io::Error::other("down"))
        };
        async move { numbers.get_or_try_set(&1, ttl, fails).await }
    });
    begun.notified().await;
    let waiting = tokio::spawn({
        let numbers = numbers(&other);
        let validates = |earlier: Option<Arc<u32>>| async move {
            Ok::<_, io::Error>(earlier.map_or(Fill::value(2), |_| Fill::not_modified()))
        };
        async move { *numbers.get_or_try_refresh(&1, ttl, validates).await.unwrap() }
    });
    waits(&other).await;
    let before = other.stats().invalidations;
    assert_eq!(leader.invalidate_tag("t").await.unwrap(), Reach::Everywhere);
    until("the other has heard", async || other.stats().invalidations > before).await;
    go.notify_one();
    assert_eq!(waiting.await.unwrap(), 2);
    assert!(leading.await.unwrap().is_err(), "nor does it stand in for a failure");
}

#[tokio::test]
async fn one_who_asks_for_a_lease_and_is_cancelled_leaves_none_behind() {
    let server = RedisServer::start().await;
    let (gate, redis) = (Gate::new(Point::BeforeLease), patient(&server.url()).connect().await);
    let gated = Gated { redis: redis.unwrap(), gate: gate.clone() };
    let (a, b) = (node_with(LONG, gated).await, node(&server, LONG).await);
    gate.shut();
    let reserving = tokio::spawn(async move {
        let space = a.space::<u32>("number", Bincode);
        let mut key = space.key_buf();
        2u64.write_key(&mut key);
        space.reserve(space.key(&key)).await
    });
    gate.holds(1).await;
    reserving.abort();
    assert!(reserving.await.unwrap_err().is_cancelled());
    // By another connection, a release could be quicker.
    sleep(A_WHILE).await;
    gate.open();
    until("it has arrived", async || {
        server.command(&[b"EXISTS", b"tk:2:number:2"]).await == Reply::Int(1)
    })
    .await;
    let start = Instant::now();
    assert_eq!(fill(&numbers(&b), 2, 5).await, 5);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[tokio::test]
async fn leases_are_taken_however_long_a_fill_may_take() {
    let server = RedisServer::start().await;
    let redis = patient(&server.url()).connect().await.unwrap();
    let store = Store::builder().l1(L1::bytes(1 << 20)).l2(redis).lease(LONG);
    let store = store.max_fill(Duration::MAX).build().unwrap();
    until("the node is in step", async || store.is_synced()).await;
    assert_eq!(fill(&numbers(&store), 1, 1).await, 1);
    assert_eq!((store.stats().leases, store.stats().l2_errors), (1, 0));
}

#[tokio::test]
async fn a_fill_that_is_not_stored_lets_all_others_run_at_once() {
    let server = RedisServer::start().await;
    let nodes = nodes(&server, LONG, 8).await;
    for round in 0..2 {
        let start = Instant::now();
        let got = all_ask(nodes.iter().map(numbers), &Ttl::secs(60), |call| async move {
            sleep(SLOW).await;
            Ok(Fill::pass(call))
        })
        .await;
        let mut values: Vec<u32> = got.into_iter().map(|value| *value.unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, [1, 2, 3, 4, 5, 6, 7, 8]);
        took(start, 6 * SLOW);
        let waited: u64 = nodes.iter().map(|node| node.stats().lease_waits).sum();
        assert!(waited <= 7, "in round {round} they have waited {waited} times");
    }
    // What is stored ends it.
    let kept = fill(&numbers(&nodes[0]), 1, 9).await;
    written(&server, KEY).await;
    assert_eq!(fill(&numbers(&nodes[1]), 1, 10).await, kept);
}

#[tokio::test]
async fn what_is_too_large_for_the_second_tier_is_not_waited_for_one_by_one() {
    let server = RedisServer::start().await;
    let nodes = join_all((0..6).map(|_| async {
        let redis = patient(&server.url()).max_value(1024).connect().await.unwrap();
        node_with(LONG, redis).await
    }))
    .await;
    let start = Instant::now();
    let calls = join_all(nodes.iter().map(|node| {
        let texts = node.typed::<u64, String>("text");
        async move {
            let fill = || async {
                sleep(SLOW).await;
                Ok::<_, io::Error>("x".repeat(5000))
            };
            texts.get_or_try_set(&1, Ttl::secs(60), fill).await.unwrap().len()
        }
    }))
    .await;
    took(start, 5 * SLOW);
    assert_eq!(calls, [5000; 6]);
}

#[tokio::test]
async fn a_removal_ends_the_lease_and_what_its_fill_got_is_not_stored() {
    let server = RedisServer::start().await;
    let [a, b, c] = [0; 3].map(|_| node(&server, LONG));
    let (a, b, c) = (a.await, b.await, c.await);
    let held = held_fill(&numbers(&a), 1, 1).await;
    let waiting = ask(&b, 2);
    waits(&b).await;
    let start = Instant::now();
    assert_eq!(numbers(&c).remove(&1).await, Reach::Everywhere);
    assert_eq!(waiting.await.unwrap(), 2, "the one that waited takes over");
    took(start, SOON);
    written(&server, KEY).await;
    assert_eq!(held.release().await, 1);
    for node in [&a, &b, &c] {
        has(node, Some(2)).await;
    }
}

#[tokio::test]
async fn a_removal_is_remembered_though_a_lease_takes_its_place() {
    let server = RedisServer::start().await;
    let gate = Gate::new(Point::BeforePut);
    let redis = patient(&server.url()).connect().await.unwrap();
    // This one has no leases; its fill saw nothing, and is old when it comes.
    let old = nodes::node_on(Gated { redis, gate: gate.clone() }).await;
    let [a, b] = [node(&server, SHORT).await, node(&server, SHORT).await];
    gate.shut();
    fill(&numbers(&old), 1, 1).await;
    gate.holds(1).await;
    numbers(&b).remove(&1).await;
    let ttl = || async { server.command(&[b"PTTL", KEY.as_bytes()]).await };
    let Reply::Int(before) = ttl().await else { panic!() };
    let held = held_fill(&numbers(&a), 1, 2).await;
    let Reply::Int(after) = ttl().await else { panic!() };
    assert!(after > 60_000 && before - after < 10_000, "{before} ms, then {after}");
    gate.open();
    sleep(A_WHILE).await;
    assert_eq!(numbers(&b).get(&1).await, None);
    assert_eq!(held.release().await, 2);
    has(&b, Some(2)).await;
}

#[tokio::test]
async fn an_invalidated_tag_lets_those_who_wait_fetch_anew() {
    let server = RedisServer::start().await;
    let [a, b] = [node(&server, LONG).await, node(&server, LONG).await];
    let held = held_fill(&numbers(&a), 1, 1).await;
    let waiting = ask(&b, 2);
    waits(&b).await;
    assert_eq!(b.invalidate_tag("t").await.unwrap(), Reach::Everywhere);
    assert_eq!(held.release().await, 1);
    assert_eq!(waiting.await.unwrap(), 2);
    for node in [&a, &b] {
        until("it has the new one", async || {
            let found = numbers(node).get(&1).await;
            assert_ne!(found.as_deref(), Some(&1));
            found.as_deref() == Some(&2)
        })
        .await;
    }
}

#[tokio::test]
async fn a_value_that_is_set_meanwhile_is_what_those_who_wait_get() {
    let server = RedisServer::start().await;
    let [a, b] = [node(&server, LONG).await, node(&server, LONG).await];
    let held = held_fill(&numbers(&a), 1, 1).await;
    let waiting = ask(&b, 2);
    waits(&b).await;
    let start = Instant::now();
    numbers(&b).set(&1, 3, Ttl::secs(60)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), 3);
    took(start, SOON);
    held.release().await;
    for node in [&a, &b] {
        has(node, Some(3)).await;
    }
}

#[tokio::test]
async fn a_stale_value_is_served_at_once_and_refreshed_by_one_node() {
    let server = RedisServer::start().await;
    let nodes = nodes(&server, LONG, 6).await;
    let ttl = Ttl::secs(600).stale_while_revalidate(Duration::from_secs(600));
    let both = nodes.iter().map(numbers);
    all_ask(both.clone(), &ttl, |call| async move { Ok(call) }).await;
    written(&server, KEY).await;
    // On one the first tier doesn't have it.
    let cold = node(&server, LONG).await;
    numbers(&nodes[0]).expire(&1).await;
    sleep(A_WHILE).await;
    let start = Instant::now();
    let got = all_ask(both.clone().chain([numbers(&cold)]), &ttl, |call| async move {
        sleep(6 * SLOW).await;
        Ok(100 + call)
    })
    .await;
    took(start, 6 * SLOW);
    assert!(got.into_iter().all(|value| *value.unwrap() == 1), "nobody waits");
    for node in nodes.iter().chain([&cold]) {
        until("it has the new one", async || {
            let found = numbers(node).get(&1).await.as_deref().copied();
            assert!(matches!(found, Some(1 | 101)), "{found:?}");
            found == Some(101)
        })
        .await;
    }
    let fills: u64 = nodes.iter().chain([&cold]).map(|node| node.stats().fills).sum();
    assert_eq!(fills, 2);
}

#[tokio::test]
async fn a_stale_value_that_runs_out_meanwhile_gives_way_to_its_refresh() {
    let server = RedisServer::start().await;
    let [a, b] = [node(&server, LONG).await, node(&server, LONG).await];
    let ttl = Ttl::new(Duration::ZERO).stale_while_revalidate(Duration::from_secs(2));
    all_ask([numbers(&a)], &ttl, |_| async { Ok(1) }).await;
    written(&server, KEY).await;
    // Serves 1, and refreshes it behind that.
    let got = all_ask([numbers(&b)], &Ttl::secs(60), |_| async {
        sleep(Duration::from_secs(3)).await;
        Ok(2)
    })
    .await;
    assert_eq!(**got[0].as_ref().unwrap(), 1);
    until("the refresh is stored", async || numbers(&a).get(&1).await.as_deref() == Some(&2)).await;
}

#[tokio::test]
async fn a_lease_that_could_not_work_is_refused() {
    let refused = |builder: tower_keep_store::StoreBuilder| match builder.build() {
        Err(Error::Config(text)) => text,
        other => panic!("{other:?}"),
    };
    let l1 = L1::bytes(1 << 20);
    assert!(refused(Store::builder().l1(l1).lease(LONG)).contains("add `.l2"));
    let server = RedisServer::start().await;
    for span in [Duration::ZERO, SHORT / 2, LONG + SHORT] {
        let redis = Redis::connect(&server.url()).await.unwrap();
        assert!(refused(Store::builder().l2(redis).lease(span)).contains("300 ms"), "{span:?}");
    }
}
