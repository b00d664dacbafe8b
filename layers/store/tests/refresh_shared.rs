//! Early refresh and paused retries where nodes share a real Redis.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/nodes.rs"]
mod nodes;

use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::sleep;
use tower_keep_store::{Store, Ttl};
use tower_keep_testing::RedisServer;

use nodes::{node, numbers, until, written};

/// What `store` has at 1, or what it takes `takes` to get. It asks for no refresh in the first half of
/// the five seconds that a value is fresh, and nearly always for one in the second.
async fn ask(store: &Store, value: u32, takes: Duration) -> u32 {
    let ttl = Ttl::secs(5).early_refresh(50.0);
    let fill = move || async move {
        sleep(takes).await;
        Ok::<_, io::Error>(value)
    };
    *numbers(store).get_or_try_set(&1, ttl, fill).await.unwrap()
}

#[tokio::test]
async fn how_long_a_fill_took_is_known_to_all_and_one_refresh_does_for_all() {
    const TAKES: Duration = Duration::from_millis(300);
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    assert_eq!(ask(&a, 1, TAKES).await, 1);
    written(&server, "tk:2:number:1").await;
    assert_eq!(ask(&b, 2, TAKES).await, 1, "it comes from Redis");
    let began = b.now();
    until("b has refreshed it", async || ask(&b, 2, TAKES).await == 2).await;
    let after = b.now().saturating_since(began);
    assert!(after < Duration::from_millis(4500), "before its end, not after {after:?}");
    assert_eq!((b.stats().early_refreshes, b.stats().fills), (1, 1));
    until("a has it from Redis", async || ask(&a, 3, TAKES).await == 2).await;
    assert_eq!(a.stats().fills, 1, "and did not ask its origin again");
}

#[tokio::test]
async fn nobody_waits_for_a_retry_though_it_reads_the_same_value_again() {
    let server = RedisServer::start().await;
    let a = node(&server).await;
    let numbers = numbers(&a).retry_pause(Duration::from_secs(3));
    let ttl = || Ttl::new(Duration::from_millis(1)).stale_if_error(Duration::from_secs(600));
    numbers.get_or_try_set(&1, ttl(), || async { Ok::<_, io::Error>(1) }).await.unwrap();
    written(&server, "tk:2:number:1").await;
    sleep(Duration::from_millis(5)).await;
    let fails = || async { Err::<u32, _>(io::Error::other("down")) };
    assert_eq!(*numbers.get_or_try_set(&1, ttl(), fails).await.unwrap(), 1);
    let at_once = async || {
        let hangs = || std::future::pending::<Result<u32, io::Error>>();
        let found = numbers.get_or_try_set(&1, ttl(), hangs).now_or_never();
        assert_eq!(found.map(Result::unwrap).as_deref(), Some(&1), "without waiting");
    };
    until("it is tried again", async || {
        at_once().await;
        a.stats().fills == 3
    })
    .await;
    // What the retry read from Redis has taken the place of what was held.
    for _ in 0..100 {
        at_once().await;
    }
    assert!(a.stats().retries_paused > 100);
}
