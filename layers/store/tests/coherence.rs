//! Several nodes on a real Redis: what one of them removes or sets, in whatever order it arrives,
//! and whatever the others miss.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/nodes.rs"]
mod nodes;

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tower_keep_store::{L1, Reach, Redis, Store, Ttl};
use tower_keep_testing::{RedisServer, Reply};

use nodes::{
    A_WHILE, Gate, Gated, Point, disconnect, fill, followers, held_fill, node, node_on, numbers,
    until, written,
};

#[tokio::test]
async fn what_was_removed_while_a_node_heard_nothing_is_gone_once_it_hears_again() {
    let server = RedisServer::start().await;
    let a = node(&server).await;
    let others = followers(&server).await;
    let b = node(&server).await;
    let mut of_b = followers(&server).await;
    of_b.retain(|id| !others.contains(id));
    numbers(&a).set(&1, 10, Ttl::secs(600)).await.unwrap();
    assert_eq!(numbers(&b).get(&1).await.as_deref(), Some(&10));
    // The fill began before, and ends after, what b doesn't hear.
    let slow = held_fill(&numbers(&b), 2, 20).await;
    disconnect(&server, &of_b).await;
    assert_eq!(numbers(&a).remove(&1).await, Reach::Everywhere);
    assert_eq!(numbers(&a).remove(&2).await, Reach::Everywhere);
    until("b has noticed", async || !b.is_synced()).await;
    until("b is in step again", async || b.is_synced()).await;
    slow.release().await;
    assert_eq!(numbers(&b).get(&1).await, None);
    assert_eq!(numbers(&b).get(&2).await, None);
}

#[tokio::test]
async fn what_a_node_has_begun_to_remove_is_gone_there_before_redis_knows() {
    let server = RedisServer::start().await;
    let gate = Gate::new(Point::BeforePut);
    let a = Gated::node(&server, &gate).await;
    let on_a = numbers(&a);
    fill(&on_a, 1, 10).await;
    written(&server, "tk:2:number:1").await;
    gate.shut();
    let removing = tokio::spawn({
        let on_a = on_a.clone();
        async move { on_a.remove(&1).await }
    });
    gate.holds(1).await;
    assert_eq!(on_a.get(&1).await, None);
    assert_eq!(on_a.get_many([1].iter()).await, [None]);
    assert_eq!(fill(&on_a, 1, 20).await, 20);
    gate.open();
    assert_eq!(removing.await.unwrap(), Reach::Everywhere);
    fill(&on_a, 1, 30).await;
    let b = node(&server).await;
    until("it is shared again", async || numbers(&b).get(&1).await.is_some()).await;
}

#[tokio::test]
async fn a_set_that_was_overtaken_by_another_node_does_not_come_back() {
    for removed in [true, false] {
        let server = RedisServer::start().await;
        let gate = Gate::new(Point::AfterPut);
        let (a, b) = (Gated::node(&server, &gate).await, node(&server).await);
        let (on_a, on_b) = (numbers(&a), numbers(&b));
        gate.shut();
        let setting = tokio::spawn({
            let on_a = on_a.clone();
            async move { on_a.set(&1, 10, Ttl::secs(600)).await.unwrap() }
        });
        gate.holds(1).await;
        assert_eq!(on_b.get(&1).await.as_deref(), Some(&10), "b sees the value");
        let expected = if removed {
            assert_eq!(on_b.remove(&1).await, Reach::Everywhere);
            None
        } else {
            assert_eq!(on_b.set(&1, 20, Ttl::secs(600)).await.unwrap(), Reach::Everywhere);
            Some(20)
        };
        until("a has heard of it", async || on_a.get(&1).await.as_deref().copied() == expected)
            .await;
        gate.open();
        assert_eq!(setting.await.unwrap(), Reach::Everywhere);
        for on in [&on_a, &on_b] {
            assert_eq!(on.get(&1).await.as_deref().copied(), expected);
        }
    }
}

#[tokio::test]
async fn a_set_and_a_removal_at_once_leave_all_nodes_alike() {
    let server = RedisServer::start().await;
    let gate = Gate::new(Point::AfterPut);
    let a = Gated::node(&server, &gate).await;
    gate.shut();
    let setting = tokio::spawn({
        let on_a = numbers(&a);
        async move { on_a.set(&1, 10, Ttl::secs(600)).await.unwrap() }
    });
    gate.holds(1).await;
    let removing = tokio::spawn({
        let on_a = numbers(&a);
        async move { on_a.remove(&1).await }
    });
    gate.holds(2).await;
    gate.open();
    setting.await.unwrap();
    removing.await.unwrap();
    let b = node(&server).await;
    assert_eq!(numbers(&a).get(&1).await, numbers(&b).get(&1).await);
}

#[tokio::test]
async fn a_set_right_after_another_nodes_invalidation_is_stored() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    for round in 0..50 {
        a.invalidate_tag("t").await.unwrap();
        // b may not have heard of it yet.
        let ttl = Ttl::secs(600).tags(["t"]);
        assert_eq!(numbers(&b).set(&1, round, ttl).await.unwrap(), Reach::Everywhere);
        assert_eq!(numbers(&b).get(&1).await.as_deref(), Some(&round));
    }
}

#[tokio::test]
async fn the_first_value_of_a_node_is_stored_though_its_tag_was_invalidated_before_the_node_came() {
    let server = RedisServer::start().await;
    let a = node(&server).await;
    fill(&numbers(&a), 1, 1).await;
    a.invalidate_tag("t").await.unwrap();
    let b = node(&server).await;
    fill(&numbers(&b), 1, 2).await;
    until("it is stored", async || numbers(&b).get(&1).await.is_some()).await;
    assert_eq!(b.stats().overtaken, 0);
}

#[tokio::test]
async fn a_soft_invalidation_that_overtakes_the_answer_about_its_tag_counts() {
    let server = RedisServer::start().await;
    let gate = Gate::new(Point::AfterResolve);
    let (a, b) = (node(&server).await, Gated::node(&server, &gate).await);
    gate.shut();
    fill(&numbers(&b), 1, 1).await;
    gate.holds(1).await;
    a.expire_tag("t").await.unwrap();
    sleep(A_WHILE).await;
    gate.open();
    until("b fills again", async || fill(&numbers(&b), 1, 2).await == 2).await;
}

#[tokio::test]
async fn expiring_reaches_entries_that_only_first_tiers_hold() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    for (value, there) in [(1, None), (3, Some(&b"not a frame"[..]))] {
        fill(&numbers(&b), 1, value).await;
        written(&server, "tk:2:number:1").await;
        match there {
            None => server.command(&[b"DEL", b"tk:2:number:1"]).await,
            Some(bytes) => server.command(&[b"SET", b"tk:2:number:1", bytes]).await,
        };
        assert_eq!(numbers(&a).expire(&1).await, Reach::Everywhere);
        until("b fills again", async || fill(&numbers(&b), 1, value + 1).await == value + 1).await;
        numbers(&a).remove(&1).await;
        until("it is gone", async || numbers(&b).get(&1).await.is_none()).await;
    }
}

#[tokio::test]
async fn a_fill_that_was_under_way_when_its_key_was_expired_is_not_fresh_elsewhere() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    let slow = held_fill(&numbers(&b), 1, 1).await;
    assert_eq!(numbers(&a).expire(&1).await, Reach::Everywhere);
    slow.release().await;
    assert_eq!(fill(&numbers(&a), 1, 2).await, 2);
}

#[tokio::test]
async fn databases_of_one_server_have_nothing_to_do_with_each_other() {
    let server = RedisServer::start().await;
    let on = async |database: u8| {
        node_on(Redis::connect(&format!("{}/{database}", server.url())).await.unwrap()).await
    };
    let (a, b) = (on(0).await, on(1).await);
    a.clear().await;
    sleep(A_WHILE).await;
    numbers(&b).set(&1, 10, Ttl::secs(600)).await.unwrap();
    assert_eq!(numbers(&b).get(&1).await.as_deref(), Some(&10));
}

/// A way to Redis on which connections can go silent: nothing is closed, but nothing passes any more
/// on one that was there when `silent` became true; of announcements, or of operations.
async fn silent_way(to: u16, of_announcements: bool, silent: watch::Receiver<bool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let mut silent = silent.clone();
            silent.mark_unchanged();
            let began_silent = *silent.borrow();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let (mut from_server, mut to_server) = server.into_split();
                let (subscribed, is_subscribed) = watch::channel(false);
                let up = async {
                    let mut bytes = vec![0; 65_536];
                    while let Ok(len @ 1..) = from_client.read(&mut bytes).await {
                        if bytes[..len].windows(9).any(|word| word == b"SUBSCRIBE") {
                            subscribed.send_replace(true);
                        }
                        if to_server.write_all(&bytes[..len]).await.is_err() {
                            break;
                        }
                    }
                };
                let down = tokio::io::copy(&mut from_server, &mut to_client);
                let dies = async {
                    let died = silent.wait_for(|silent| *silent && !began_silent).await.is_ok();
                    if !died || *is_subscribed.borrow() != of_announcements {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    biased;
                    // Still open, and read by nobody.
                    () = dies => std::future::pending().await,
                    () = up => {}
                    _ = down => {}
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_connection_that_dies_in_silence_is_noticed_and_made_anew() {
    for of_announcements in [true, false] {
        let server = RedisServer::start().await;
        let (silence, silent) = watch::channel(false);
        let port = silent_way(server.port(), of_announcements, silent).await;
        let redis = Redis::builder(&format!("redis://127.0.0.1:{port}"));
        let redis = redis.heartbeat(Duration::from_millis(100)).connect().await.unwrap();
        let (a, b) = (node(&server).await, node_on(redis).await);
        numbers(&a).set(&1, 10, Ttl::secs(600)).await.unwrap();
        assert_eq!(numbers(&b).get(&1).await.as_deref(), Some(&10));
        sleep(Duration::from_millis(600)).await;
        assert!(b.is_synced(), "while beats arrive, all is well");
        silence.send_replace(true);
        assert_eq!(numbers(&a).remove(&1).await, Reach::Everywhere);
        until("b has noticed", async || !b.is_synced()).await;
        until("b is in step again", async || b.is_synced()).await;
        assert_eq!(numbers(&b).get(&1).await, None);
        assert_eq!(numbers(&b).remove(&2).await, Reach::Everywhere);
    }
}

#[tokio::test]
async fn a_reader_that_heard_of_a_tag_it_does_not_know_finds_its_entries() {
    let server = RedisServer::start().await;
    let a = node(&server).await;
    let ttl = || Ttl::secs(600).stale_if_error(Duration::from_secs(600)).tags(["t"]);
    numbers(&a).set(&1, 1, ttl()).await.unwrap();
    let b = node(&server).await;
    assert_eq!(a.expire_tag("t").await.unwrap(), Reach::Everywhere);
    sleep(A_WHILE).await;
    let down = || async { Err::<u32, _>(io::Error::other("the origin is down")) };
    let stale = numbers(&b).get_or_try_set(&1, ttl(), down).await;
    assert_eq!(*stale.unwrap(), 1);
    numbers(&a).set(&2, 2, ttl()).await.unwrap();
    assert_eq!(numbers(&b).get(&2).await.as_deref(), Some(&2));
}

#[tokio::test]
async fn a_failover_that_loses_an_invalidation_is_made_up_for() {
    for soft in [true, false] {
        let server = RedisServer::start().await;
        let (a, b) = (node(&server).await, node(&server).await);
        fill(&numbers(&a), 1, 1).await;
        written(&server, "tk:2:number:1").await;
        let Reply::Bytes(old) = server.command(&[b"GET", b"{tk}:t:t"]).await else { panic!() };
        let reach = if soft { a.expire_tag("t").await } else { a.invalidate_tag("t").await };
        assert_eq!(reach.unwrap(), Reach::Everywhere);
        // The replica that took over had not got it.
        server.command(&[b"SET", b"{tk}:t:t", &old]).await;
        disconnect(&server, &followers(&server).await).await;
        until("a has noticed", async || !a.is_synced()).await;
        until("both are in step again", async || a.is_synced() && b.is_synced()).await;
        // Stored from before the invalidation, and yet found under the epochs from before it.
        assert_eq!(fill(&numbers(&b), 1, 2).await, 2);
        let fills = a.stats().fills;
        for _ in 0..20 {
            fill(&numbers(&a), 1, 3).await;
            sleep(Duration::from_millis(5)).await;
        }
        assert!(a.stats().fills <= fills + 1, "what was made up for is cached again");
    }
}

#[tokio::test]
async fn an_announced_epoch_from_the_end_of_time_is_not_believed() {
    let server = RedisServer::start().await;
    let a = node(&server).await;
    let mut announcement = vec![2u8, 1];
    announcement.extend(7u64.to_le_bytes());
    announcement.extend(u64::MAX.to_le_bytes());
    announcement.extend(b"t");
    server.command(&[b"PUBLISH", b"tk:events:0", &announcement]).await;
    until("a has heard it", async || a.stats().bad_frames == 1).await;
    assert_eq!(a.invalidate_tag("u").await.unwrap(), Reach::Everywhere);
    fill(&numbers(&a), 1, 1).await;
    written(&server, "tk:2:number:1").await;
    let b = node(&server).await;
    assert_eq!(fill(&numbers(&b), 1, 2).await, 1);
}

#[tokio::test]
async fn epochs_from_the_end_of_time_on_the_server_are_replaced() {
    let server = RedisServer::start().await;
    for key in ["{tk}:epoch", "{tk}:t:t", "{tk}:t:*"] {
        let poison = if key.ends_with("epoch") {
            "9007199254740991 9007199254740991"
        } else {
            "9007199254740991 9007199254740991 9007199254740991"
        };
        server.command(&[b"SET", key.as_bytes(), poison.as_bytes()]).await;
    }
    let a = node(&server).await;
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Reach::Everywhere);
    fill(&numbers(&a), 1, 1).await;
    written(&server, "tk:2:number:1").await;
    assert_eq!(fill(&numbers(&node(&server).await), 1, 2).await, 1);
}

#[tokio::test]
async fn one_connection_serves_one_store() {
    let server = RedisServer::start().await;
    let redis = Redis::connect(&server.url()).await.unwrap();
    let builder = || Store::builder().l1(L1::bytes(1 << 20)).l2(redis.clone());
    let _first = builder().build().unwrap();
    let message = builder().build().unwrap_err().to_string();
    assert!(message.contains("connect once more"), "{message}");
}
