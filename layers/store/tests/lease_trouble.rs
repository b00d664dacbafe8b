//! Leases of leaders that die, hang or fail, and on a Redis that does.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/leases.rs"]
mod leases;
#[path = "support/nodes.rs"]
mod nodes;

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_keep_store::{Reach, Store, Ttl};
use tower_keep_testing::{RedisCluster, RedisServer, Reply};

use leases::{KEY, LONG, SHORT, SLOW, SOON, all_ask, has, node, node_with, nodes, patient, took};
use nodes::{A_WHILE, Gate, Gated, HeldFill, Point, fill, held_fill, numbers, until, written};

#[tokio::test]
async fn a_leader_that_dies_is_replaced_when_its_lease_has_run_out() {
    let server = RedisServer::start().await;
    let other = node(&server, SHORT).await;
    let url = server.url();
    let (began, begun) = tokio::sync::oneshot::channel();
    // With a runtime of its own, which ends like a process: nothing of it runs any more.
    let leader = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store = node_with(SHORT, patient(&url).connect().await.unwrap()).await;
            let held = held_fill(&numbers(&store), 1, 1).await;
            std::mem::forget((held, store));
        });
        runtime.shutdown_background();
        began.send(()).unwrap();
    });
    begun.await.unwrap();
    leader.join().unwrap();
    let start = Instant::now();
    assert_eq!(fill(&numbers(&other), 1, 2).await, 2);
    took(start, SHORT + Duration::from_secs(5));
    assert_eq!(other.stats().leases, 1);
}

/// A leader whose renewals don't get through, and another that has taken over and stored 2; in place of
/// nothing, or of a value that is of use only when fills fail.
async fn replaced_leader(
    server: &RedisServer,
    other: &Store,
    is_there: bool,
) -> (Store, Gate, HeldFill) {
    let gate = Gate::new(Point::BeforeUpdate);
    gate.shut();
    let redis = patient(&server.url()).connect().await.unwrap();
    let late = node_with(SHORT, Gated { redis, gate: gate.clone() }).await;
    if is_there {
        let fallback = Ttl::new(Duration::ZERO).stale_if_error(Duration::from_secs(600));
        numbers(other).set(&1, 0, fallback).await.unwrap();
    }
    let held = held_fill(&numbers(&late), 1, 1).await;
    assert_eq!(fill(&numbers(other), 1, 2).await, 2);
    assert_eq!(other.stats().leases, 1);
    until("2 is stored", async || {
        let fresh = node(server, SHORT).await;
        numbers(&fresh).get(&1).await.as_deref() == Some(&2)
    })
    .await;
    (late, gate, held)
}

#[tokio::test]
async fn a_leader_that_wakes_up_too_late_overwrites_nothing() {
    for (is_there, newer_is_gone) in [(false, false), (false, true), (true, false), (true, true)] {
        let server = RedisServer::start().await;
        let [other, third] = [node(&server, SHORT).await, node(&server, SHORT).await];
        let (late, gate, held) = replaced_leader(&server, &other, is_there).await;
        if newer_is_gone {
            // As when it has expired.
            server.command(&[b"DEL", KEY.as_bytes()]).await;
        }
        gate.open();
        assert_eq!(held.release().await, 1, "its own caller has what its fill got");
        let lies_there = server.command(&[b"EXISTS", KEY.as_bytes()]).await;
        assert_eq!(lies_there, Reply::Int(i64::from(!newer_is_gone)));
        let found = (!newer_is_gone).then_some(2);
        for node in [&third, &late] {
            has(node, found).await;
        }
        until("it has noticed", async || late.stats().lost_leases == 1).await;
    }
}

#[tokio::test]
async fn a_leader_whose_lease_another_has_stores_nothing() {
    let server = RedisServer::start().await;
    let gate = Gate::new(Point::BeforeUpdate);
    gate.shut();
    let redis = patient(&server.url()).connect().await.unwrap();
    let late = node_with(SHORT, Gated { redis, gate: gate.clone() }).await;
    let other = node(&server, LONG).await;
    let first = held_fill(&numbers(&late), 1, 1).await;
    let second = held_fill(&numbers(&other), 1, 2).await;
    assert_eq!(first.release().await, 1);
    // Refused, so it isn't kept here either.
    has(&late, None).await;
    assert_eq!(second.release().await, 2);
    assert_eq!(fill(&numbers(&late), 1, 3).await, 2);
}

#[tokio::test]
async fn when_a_fill_fails_another_takes_over_and_each_has_its_own_error() {
    let server = RedisServer::start().await;
    let nodes = nodes(&server, LONG, 3).await;
    let start = Instant::now();
    let got = all_ask(nodes.iter().map(numbers), &Ttl::secs(60), |call| async move {
        sleep(A_WHILE).await;
        if call < 3 { Err(io::Error::other(format!("call {call}"))) } else { Ok(call) }
    })
    .await;
    took(start, SOON);
    let mut outcomes: Vec<String> = got
        .into_iter()
        .map(|value| match value {
            Ok(value) => value.to_string(),
            Err(error) => error.downcast_ref::<io::Error>().unwrap().to_string(),
        })
        .collect();
    outcomes.sort();
    assert_eq!(outcomes, ["3", "call 1", "call 2"]);
}

#[tokio::test]
async fn a_fill_that_panics_or_takes_too_long_holds_nobody_up() {
    let server = RedisServer::start().await;
    let [leader, other] = [node(&server, LONG).await, node(&server, LONG).await];
    for panics in [true, false] {
        let patience = if panics { LONG } else { A_WHILE };
        let hopeless = numbers(&leader).hard_timeout(patience);
        let failed = tokio::spawn(async move {
            let fill = move || async move {
                sleep(A_WHILE / 2).await;
                assert!(!panics, "on purpose");
                std::future::pending::<io::Result<u32>>().await
            };
            hopeless.get_or_try_set(&1, Ttl::secs(60), fill).await.unwrap_err()
        });
        until("it has the lease", async || leader.stats().leases == if panics { 1 } else { 2 })
            .await;
        let start = Instant::now();
        assert_eq!(fill(&numbers(&other), 1, 2).await, 2);
        took(start, SOON);
        failed.await.unwrap();
        assert_eq!(numbers(&other).remove(&1).await, Reach::Everywhere);
        sleep(A_WHILE).await;
    }
}

#[tokio::test]
async fn nodes_do_not_wait_one_by_one_for_an_origin_that_fails() {
    let server = RedisServer::start().await;
    let nodes = nodes(&server, LONG, 12).await;
    let start = Instant::now();
    let got = all_ask(nodes.iter().map(numbers), &Ttl::secs(60), |_| async move {
        sleep(SLOW).await;
        Err::<u32, _>(io::Error::other("down"))
    })
    .await;
    assert!(got.iter().all(Result::is_err));
    took(start, 9 * SLOW);
}

#[tokio::test]
async fn one_who_waits_for_a_fill_that_hangs_goes_on_after_its_own_hard_timeout() {
    let server = RedisServer::start().await;
    let [a, b] = [node(&server, LONG).await, node(&server, LONG).await];
    let held = held_fill(&numbers(&a), 1, 1).await;
    let start = Instant::now();
    let impatient = numbers(&b).hard_timeout(Duration::from_secs(1));
    assert_eq!(fill(&impatient, 1, 2).await, 2);
    took(start, SOON);
    assert!(start.elapsed() >= Duration::from_secs(1));
    written(&server, KEY).await;
    assert_eq!(held.release().await, 1);
    // What began later is newer.
    has(&a, Some(2)).await;
}

#[tokio::test]
async fn a_lease_that_nobody_can_have_taken_holds_nobody_up() {
    let server = RedisServer::start().await;
    let node = node(&server, LONG).await;
    let start = Instant::now();
    let years_ahead = (u64::MAX >> 2).to_le_bytes();
    let passing = u64::MAX.to_le_bytes();
    for (n, until) in [years_ahead, passing, [0; 8]].iter().enumerate() {
        let mark = [b"tl".as_slice(), &[7; 8], until].concat();
        server.command(&[b"SET", KEY.as_bytes(), &mark]).await;
        let value = u32::try_from(n).unwrap();
        assert_eq!(fill(&numbers(&node), 1, value).await, value);
        written(&server, KEY).await;
        numbers(&node).remove(&1).await;
    }
    for foreign in [&b"tl"[..], b"tk\x02", b"", b"tlxxxxxxxxxxxxxxxxxxxxxxx"] {
        server.command(&[b"SET", KEY.as_bytes(), foreign]).await;
        assert_eq!(fill(&numbers(&node), 1, 5).await, 5, "{foreign:?}");
        written(&server, KEY).await;
        numbers(&node).remove(&1).await;
    }
    server.command(&[b"DEL", KEY.as_bytes()]).await;
    server.command(&[b"LPUSH", KEY.as_bytes(), b"a list"]).await;
    assert_eq!(fill(&numbers(&node), 1, 6).await, 6);
    written(&server, KEY).await;
    took(start, SOON);
}

#[tokio::test]
async fn a_redis_that_is_down_frozen_or_full_keeps_no_fill_from_running() {
    for trouble in ["down", "frozen", "full"] {
        let mut server = RedisServer::start().await;
        let nodes = nodes(&server, LONG, 4).await;
        // One is under way when it begins, and one node waits for it.
        let held = held_fill(&numbers(&nodes[0]), 1, 1).await;
        let waiting = leases::ask(&nodes[1], 2);
        leases::waits(&nodes[1]).await;
        match trouble {
            "down" => server.kill(),
            "frozen" => server.pause(),
            _ => {
                server.command(&[b"CONFIG", b"SET", b"maxmemory-policy", b"noeviction"]).await;
                server.command(&[b"CONFIG", b"SET", b"maxmemory", b"1"]).await;
            }
        }
        let start = Instant::now();
        if trouble != "full" {
            assert_eq!(waiting.await.unwrap(), 2, "{trouble}");
        }
        for (node, value) in nodes[2..].iter().zip(3..) {
            let numbers = numbers(node);
            assert_eq!(fill(&numbers, 2, value).await, value, "{trouble}");
        }
        took(start, SOON);
        assert_eq!(held.release().await, 1, "{trouble}");
        if server.is_paused() {
            server.resume();
        }
    }
}

#[tokio::test]
async fn on_a_cluster_a_slot_that_is_on_its_way_keeps_no_fill_from_running() {
    let cluster = RedisCluster::start().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let redis = patient(&cluster.url_of(0));
        nodes.push(node_with(LONG, redis.connect().await.unwrap()).await);
    }
    let slow = |call| async move {
        sleep(A_WHILE).await;
        Ok(call)
    };
    let once = async || {
        let got = all_ask(nodes.iter().map(numbers), &Ttl::secs(60), slow).await;
        got.into_iter().all(|value| *value.unwrap() == 1)
    };
    assert!(once().await);
    let (slot, from) = (cluster.slot(KEY).await, cluster.primary_of(KEY).await);
    let to = (from + 1) % 3;
    cluster.begin_migration(slot, from, to).await;
    while cluster.migrate_keys(slot, from, to, 1).await > 0 {}
    numbers(&nodes[0]).remove(&1).await;
    let start = Instant::now();
    let got = all_ask(nodes.iter().map(numbers), &Ttl::secs(60), slow).await;
    took(start, SOON);
    assert_eq!(got.iter().filter(|value| value.is_ok()).count(), 3);
    cluster.end_migration(slot, from, to).await;
    until("one calls for all again", async || {
        numbers(&nodes[0]).remove(&1).await == Reach::Everywhere && {
            sleep(A_WHILE).await;
            once().await
        }
    })
    .await;
}
