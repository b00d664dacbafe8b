//! What watches of the registry leave behind on a Redis: nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tower_keep_balance::registry::{Discovery, Instance, Redis, Registry, Watch};
use tower_keep_testing::{RedisServer, Reply};

const PATIENCE: Duration = Duration::from_secs(30);

fn connect(server: &RedisServer) -> Redis {
    Redis::builder(&server.url()).deadline(Duration::from_millis(500)).build().unwrap()
}

/// How many subscriptions there are to the announcements of `service`.
async fn subscriptions(server: &RedisServer, service: &str) -> i64 {
    let channel = format!("tk:registry:{service}:0");
    match server.command(&[b"PUBSUB", b"NUMSUB", channel.as_bytes()]).await {
        Reply::Array(pair) => match pair.last() {
            Some(Reply::Int(count)) => *count,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// How many connections there are beside the one that asks.
async fn connections(server: &RedisServer) -> usize {
    match server.command(&[b"CLIENT", b"LIST"]).await {
        Reply::Bytes(list) => String::from_utf8_lossy(&list).lines().count() - 1,
        other => panic!("{other:?}"),
    }
}

async fn come_to<T: PartialEq + std::fmt::Debug>(
    what: &str,
    wanted: T,
    count: impl AsyncFn() -> T,
) {
    let began = Instant::now();
    loop {
        let found = count().await;
        if found == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: {found:?}, not {wanted:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn first(watch: &mut Watch) {
    timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_watch_of_a_service_ends_its_subscription() {
    let server = RedisServer::start().await;
    let registry = connect(&server);
    for round in 0..3 {
        let mut watches = [registry.watch("shop"), registry.watch("shop")];
        let mut other = registry.watch("other");
        for watch in watches.iter_mut().chain([&mut other]) {
            first(watch).await;
        }
        come_to("they listen", 1, async || subscriptions(&server, "shop").await).await;
        let [one, mut two] = watches;
        drop(one);
        // The second one still hears, and at once: without the announcement it would take seconds.
        let instance = Instance::new(format!("{round}"), "10.0.0.1:1");
        let registration = registry.register("shop", instance, Duration::from_secs(60)).unwrap();
        registration.registered().await.unwrap();
        let hears = async {
            while two.latest().is_none_or(|it| it.is_empty()) {
                two.next().await.unwrap();
            }
        };
        timeout(PATIENCE, hears).await.unwrap();
        assert_eq!(subscriptions(&server, "shop").await, 1);
        registration.deregister().await.unwrap();
        drop(two);
        come_to("nobody listens", 0, async || subscriptions(&server, "shop").await).await;
        assert_eq!(subscriptions(&server, "other").await, 1, "somebody does there");
        drop(other);
        come_to("nor there", 0, async || subscriptions(&server, "other").await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_come_and_go_lose_no_announcement() {
    let server = RedisServer::start().await;
    let registry = connect(&server);
    let mut stays = registry.watch("shop");
    first(&mut stays).await;
    for round in 0..50 {
        // The one before goes while this one comes.
        let mut watch = registry.watch("shop");
        if round % 2 == 0 {
            first(&mut watch).await;
        }
        drop(std::mem::replace(&mut stays, watch));
        if round % 2 == 1 {
            first(&mut stays).await;
        }
    }
    come_to("it listens", 1, async || subscriptions(&server, "shop").await).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(subscriptions(&server, "shop").await, 1);
    drop(stays);
    come_to("nobody listens", 0, async || subscriptions(&server, "shop").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_when_the_last_one_left_hears_of_it() {
    let server = RedisServer::start().await;
    let registry = connect(&server);
    let mut watch = registry.watch("shop");
    first(&mut watch).await;
    come_to("it listens", 1, async || subscriptions(&server, "shop").await).await;
    server.pause();
    drop(watch);
    sleep(Duration::from_millis(700)).await;
    server.resume();
    come_to("nobody listens", 0, async || subscriptions(&server, "shop").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_nobody_uses_leaves_no_connection() {
    let server = RedisServer::start().await;
    for _ in 0..3 {
        let registry = connect(&server);
        let mut watch = registry.watch("shop");
        first(&mut watch).await;
        assert!(connections(&server).await >= 2);
        drop(registry);
        // It is used by whoever watches.
        assert!(connections(&server).await >= 2);
        drop(watch);
        come_to("nobody is there", 0, async || connections(&server).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_somebody_has_made_something_else_take_no_backend_away() {
    let server = RedisServer::start().await;
    let registry = connect(&server);
    let instance = Instance::new("1", "10.0.0.1:1");
    let registration = registry.register("shop", instance, Duration::from_secs(60)).unwrap();
    registration.registered().await.unwrap();
    let mut watch = registry.watch("shop");
    first(&mut watch).await;
    for part in ["records", "expiry", "origin"] {
        let key = format!("{{tk:registry:shop}}:{part}");
        let failures = watch.stats().failures;
        server.command(&[b"DEL", key.as_bytes()]).await;
        let kind: &[&[u8]] = match part {
            "origin" => &[b"LPUSH", key.as_bytes(), b"garbage"],
            _ => &[b"SET", key.as_bytes(), b"garbage"],
        };
        server.command(kind).await;
        registry.healthy("shop").await.unwrap_err();
        come_to("it is noticed", true, async || watch.stats().failures > failures).await;
        assert_eq!(watch.latest().unwrap().len(), 1, "{part}");
        server.command(&[b"DEL", key.as_bytes()]).await;
        // The next heartbeat, or a new weight, brings it back.
        registration.set_weight(u16::try_from(failures).unwrap() + 2);
        come_to("it can be asked again", true, async || {
            watch.error().is_none() && registry.healthy("shop").await.is_ok_and(|it| it.len() == 1)
        })
        .await;
        assert_eq!(watch.latest().unwrap().len(), 1, "{part}");
    }
}
