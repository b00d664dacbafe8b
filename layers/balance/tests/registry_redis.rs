//! The registry on a Redis that is paused, killed, emptied and restarted.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may panic")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tower_keep_balance::Pool;
use tower_keep_balance::registry::{
    Discovery, Instance, Lease, Redis, Registration, RegistrationState, Registry, RegistryError,
    Watch,
};
use tower_keep_testing::{RedisCluster, RedisServer};

const TTL: Duration = Duration::from_millis(600);

/// As another process would.
fn connect(url: &str) -> Redis {
    Redis::builder(url).deadline(Duration::from_millis(500)).build().unwrap()
}

fn instance(id: &str) -> Instance {
    Instance::new(id, format!("10.0.0.1:{id}"))
}

async fn register(registry: &Redis, id: &str, ttl: Duration) -> Registration {
    let registration = registry.register("shop", instance(id), ttl).unwrap();
    let registered = timeout(Duration::from_secs(30), registration.registered());
    registered.await.unwrap_or_else(|_| panic!("{:?}", registration.state())).unwrap();
    registration
}

async fn sees(watch: &mut Watch, ids: &[&str]) {
    let waits = async {
        loop {
            if watch.latest().is_some_and(|it| it.iter().map(Instance::id).eq(ids.iter().copied()))
            {
                return;
            }
            watch.next().await.unwrap();
        }
    };
    timeout(Duration::from_secs(60), waits).await.unwrap_or_else(|_| panic!("{watch:?}"));
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let waits = async {
        while !done() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), waits).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_announce_themselves_and_two_others_see_it() {
    let server = RedisServer::start().await;
    let [a, b, c, d] = [(); 4].map(|()| connect(&server.url()));
    let mut watches = [c.watch("shop"), d.watch("shop")];
    let other = d.watch("other");
    let full = instance("1").weight(7).priority(2).meta("zone", "b é \n");
    let first = a.register("shop", full.clone(), TTL).unwrap();
    first.registered().await.unwrap();
    let second = register(&b, "2", TTL).await;
    for watch in &mut watches {
        sees(watch, &["1", "2"]).await;
        assert_eq!(watch.latest().unwrap()[0], full);
    }
    first.set_weight(0);
    until("the weight is seen", || watches[1].latest().unwrap()[0] == full.clone().weight(0)).await;
    // Much longer than they live without heartbeats.
    sleep(TTL * 3).await;
    assert_eq!(c.healthy("shop").await.unwrap().len(), 2);
    second.deregister().await.unwrap();
    for watch in &mut watches {
        sees(watch, &["1"]).await;
    }
    drop(first);
    for watch in &mut watches {
        sees(watch, &[]).await;
    }
    assert!(c.healthy("shop").await.unwrap().is_empty());
    assert!(other.latest().unwrap().is_empty() && other.stats().failures == 0);
    // Nothing is left of it on the server.
    sleep(TTL * 3).await;
    let keys = server.command(&[b"DBSIZE"]).await;
    assert!(matches!(keys, tower_keep_testing::Reply::Int(0)), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_dies_silently_is_gone_after_its_time() {
    let server = RedisServer::start().await;
    let [a, b] = [(); 2].map(|()| connect(&server.url()));
    let mut watch = b.watch("shop");
    let _alive = register(&a, "1", TTL).await;
    let lease = Lease::new(instance("2"), TTL).unwrap();
    for _ in 0..3 {
        let sent = Instant::now();
        assert!(a.heartbeat("shop", &lease).await.unwrap());
        let told = Instant::now();
        sees(&mut watch, &["1", "2"]).await;
        sees(&mut watch, &["1"]).await;
        let (most, least) = (sent.elapsed(), told.elapsed());
        println!("gone after {most:?} of {TTL:?}");
        assert!(most >= TTL && least < TTL + Duration::from_secs(5), "{least:?} to {most:?}");
    }
    assert_eq!(watch.stats().failures, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_is_seen_within_a_messages_time() {
    let server = RedisServer::start().await;
    let [a, b] = [(); 2].map(|()| connect(&server.url()));
    let mut watch = b.watch("shop");
    // Nothing but an announcement is that quick.
    let ttl = Duration::from_secs(60);
    let mut times = Vec::new();
    for _ in 0..30 {
        let registration = register(&a, "1", ttl).await;
        sees(&mut watch, &["1"]).await;
        sleep(Duration::from_millis(20)).await;
        let began = Instant::now();
        let leaves = tokio::spawn(registration.deregister());
        sees(&mut watch, &[]).await;
        times.push(began.elapsed());
        leaves.await.unwrap().unwrap();
    }
    times.sort();
    println!("p50 {:?}, worst {:?}", times[15], times[29]);
    assert!(times[15] < Duration::from_secs(1), "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_ten_times_to_live_takes_no_backend_away() {
    let mut server = RedisServer::start().await;
    let [a, b] = [(); 2].map(|()| connect(&server.url()));
    let ids: Vec<_> = (10..20).map(|id| id.to_string()).collect();
    let mut registrations = Vec::new();
    for id in &ids {
        registrations.push(register(&a, id, TTL).await);
    }
    let pool = Pool::builder().build().unwrap();
    let unit = |instance: &Instance| Ok::<_, Infallible>(instance.backend(()));
    let following = pool.follow(&b, "shop", unit);
    following.ready().await;
    let watch = b.watch("shop");
    until("all are there", || pool.status().len() == 10).await;
    let before: Vec<_> = pool.status().iter().map(|it| it.id).collect();
    let mut changes = pool.changes();
    for outage in ["paused", "killed", "emptied"] {
        match outage {
            "paused" => {
                server.pause();
                until("it is noticed", || watch.error().is_some()).await;
                sleep(TTL * 10).await;
                assert_eq!(pool.status().len(), 10, "while it is paused");
                server.resume();
            }
            "killed" => {
                server.kill();
                until("it is noticed", || watch.error().is_some()).await;
                sleep(TTL * 10).await;
                assert_eq!(pool.status().len(), 10, "while it is gone");
                // Without what it knew.
                server.restart().await;
            }
            _ => {
                server.command(&[b"FLUSHALL"]).await;
            }
        }
        let back = Instant::now();
        until("it can be asked again", || watch.error().is_none()).await;
        let registered = |it: &Registration| matches!(it.state(), RegistrationState::Registered);
        until("all are registered again", || registrations.iter().all(registered)).await;
        println!("{outage}: registered again after {:?}", back.elapsed());
        sleep(TTL * 3).await;
        assert_eq!(b.healthy("shop").await.unwrap().len(), 10, "{outage}");
        let now: Vec<_> = pool.status().iter().map(|it| it.id).collect();
        assert_eq!(now, before, "{outage}");
    }
    let changed = timeout(Duration::ZERO, changes.next()).await;
    assert!(changed.is_err(), "no backend came or went: {changed:?}");
    // And after all that, the end of one is believed.
    registrations.remove(0).deregister().await.unwrap();
    until("one has left", || pool.status().len() == 9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ends_during_an_outage_is_gone_a_time_to_live_after_it() {
    let server = RedisServer::start().await;
    let [a, b] = [(); 2].map(|()| connect(&server.url()));
    let mut watch = b.watch("shop");
    let _stays = register(&a, "1", TTL).await;
    let ends = register(&a, "2", TTL).await;
    sees(&mut watch, &["1", "2"]).await;
    server.pause();
    until("it is noticed", || watch.error().is_some()).await;
    assert!(timeout(TTL * 5, ends.deregister()).await.unwrap().is_err(), "it can't be told");
    server.resume();
    sees(&mut watch, &["1"]).await;
    sleep(TTL * 2).await;
    assert_eq!(watch.latest().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_starts_while_the_registry_is_down() {
    let mut server = RedisServer::start().await;
    let url = server.url();
    server.kill();
    let registry = connect(&url);
    let mut watch = registry.watch("shop");
    let registration = registry.register("shop", instance("1"), TTL).unwrap();
    until("it fails", || matches!(registration.state(), RegistrationState::Failing(_))).await;
    assert!(registry.healthy("shop").await.is_err() && watch.latest().is_none());
    server.restart().await;
    sees(&mut watch, &["1"]).await;
    timeout(Duration::from_secs(30), registration.registered()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_process_takes_its_id_over_and_the_old_one_cannot_end_it() {
    let server = RedisServer::start().await;
    let [a, b] = [(); 2].map(|()| connect(&server.url()));
    let old = register(&a, "1", TTL).await;
    let moved = Instance::new("1", "10.0.0.9:1");
    let new = b.register("shop", moved.clone(), TTL).unwrap();
    new.registered().await.unwrap();
    until("the old one gives up", || matches!(old.state(), RegistrationState::Replaced)).await;
    assert!(matches!(old.registered().await, Err(RegistryError::Replaced)));
    old.deregister().await.unwrap();
    assert_eq!(b.healthy("shop").await.unwrap(), [moved]);
    let stranger = Lease::new(instance("1"), TTL).unwrap();
    assert!(!b.deregister("shop", "1", stranger.holder).await.unwrap());
    new.deregister().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_put_there_is_skipped_and_counted() {
    let server = RedisServer::start().await;
    let registry = connect(&server.url());
    let mut watch = registry.watch("shop");
    let _registration = register(&registry, "1", TTL).await;
    sees(&mut watch, &["1"]).await;
    let (expiry, records) = (b"{tk:registry:shop}:expiry", b"{tk:registry:shop}:records");
    let large = vec![b'x'; 100_000];
    let [soon, later] = [3600, 1_000_000].map(|seconds| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        ((now.as_secs() + seconds) * 1000).to_string()
    });
    let good = br#"h 600 {"id":"6","address":"x"}"#;
    let cases: [(&str, &str, &[u8]); 5] = [
        ("2", &soon, &large),
        ("3", &soon, b"\xff\xfe"),
        ("4", &soon, br#"h 600 {"id":"5","address":"x"}"#),
        ("6", &later, good),
        ("7", "inf", good),
    ];
    for (id, until, record) in cases {
        server.command(&[b"ZADD", expiry, until.as_bytes(), id.as_bytes()]).await;
        server.command(&[b"HSET", records, id.as_bytes(), record]).await;
    }
    server.command(&[b"ZADD", expiry, soon.as_bytes(), b"without a record"]).await;
    server.command(&[b"PUBLISH", b"tk:registry:shop:0", &large]).await;
    server.command(&[b"PUBLISH", b"tk:registry:shop:0", b"-\xff"]).await;
    until("they are counted", || watch.stats().skipped >= 6).await;
    assert_eq!(watch.latest().unwrap().len(), 1);
    assert_eq!(registry.healthy("shop").await.unwrap().len(), 1);
    server.command(&[b"SET", records, b"something else"]).await;
    until("it can't be asked", || watch.error().is_some()).await;
    assert_eq!(watch.latest().unwrap().len(), 1);
    server.command(&[b"DEL", records]).await;
    until("it is mended", || watch.error().is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_a_registry_also_when_a_primary_dies() {
    let cluster = RedisCluster::start().await;
    let cluster = Arc::new(tokio::sync::Mutex::new(cluster));
    let mut cluster = cluster.lock().await;
    let [a, b] = [0, 1].map(|node| connect(&cluster.url_of(node)));
    let mut watch = b.watch("shop");
    let ttl = TTL * 3;
    let first = register(&a, "1", ttl).await;
    let second = register(&b, "2", ttl).await;
    sees(&mut watch, &["1", "2"]).await;
    let key = "{tk:registry:shop}:expiry";
    let primary = cluster.primary_of(key).await;
    cluster.node_mut(primary).kill();
    cluster.failed_over(key, primary).await;
    let healthy = async {
        while b.healthy("shop").await.map(|it| it.len()).unwrap_or_default() < 2 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), healthy).await.unwrap();
    assert_eq!(watch.latest().unwrap().len(), 2);
    until("it can be asked again", || watch.error().is_none()).await;
    first.deregister().await.unwrap();
    sees(&mut watch, &["2"]).await;
    second.deregister().await.unwrap();
    sees(&mut watch, &[]).await;
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_with_a_reason() {
    let refused = |builder: tower_keep_balance::registry::RedisBuilder| {
        builder.build().unwrap_err().to_string()
    };
    let builder = || Redis::builder("redis://127.0.0.1:1");
    assert!(refused(builder().prefix("a{b}")).contains("braces"));
    assert!(refused(builder().deadline(Duration::ZERO)).contains("deadline of zero"));
    assert!(refused(Redis::builder("http://x")).contains("begins with redis://"));
    assert!(refused(Redis::builder("redis://a:b:c")).contains("address cannot be used"));
}
