//! Values are refreshed before anybody has to wait for them, and an origin that fails is left alone
//! for a while. The clock is the test's, so that what a caller waits is exact.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::{Instant, advance, sleep};
use tower_keep_store::{FillError, L1, Store, Ttl, Typed};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// How long a fill takes.
const FILL: Duration = Duration::from_millis(50);

fn store() -> Store {
    Store::builder().l1(L1::bytes(1 << 20)).jitter(0).build().unwrap()
}

fn numbers(store: &Store) -> Typed<u8, u32> {
    store.typed("number")
}

/// An origin that answers each call with its number, unless it is down.
#[derive(Clone, Default)]
struct Origin {
    calls: Arc<AtomicU32>,
    down: Arc<AtomicBool>,
    takes: Duration,
}

impl Origin {
    fn calls(&self) -> u32 {
        self.calls.load(SeqCst)
    }

    fn set_down(&self, down: bool) {
        self.down.store(down, SeqCst);
    }

    /// What a caller gets, and how long it waited for it.
    async fn ask(&self, numbers: &Typed<u8, u32>, ttl: &Ttl) -> (Result<u32, FillError>, Duration) {
        let (origin, began) = (self.clone(), Instant::now());
        let fill = move || async move {
            let call = origin.calls.fetch_add(1, SeqCst) + 1;
            sleep(origin.takes).await;
            if origin.down.load(SeqCst) { Err(io::Error::other("down")) } else { Ok(call) }
        };
        let got = numbers.get_or_try_set(&1, ttl.clone(), fill).await;
        (got.map(|value| *value), began.elapsed())
    }
}

/// Asks once in each of so many milliseconds; how long they waited at the most, and what was answered
/// last.
async fn load(
    origin: &Origin,
    numbers: &Typed<u8, u32>,
    ttl: &Ttl,
    requests: u32,
) -> (Duration, u32) {
    let (mut longest, mut last) = (Duration::ZERO, 0);
    for _ in 0..requests {
        sleep(MS).await;
        let (got, waited) = origin.ask(numbers, ttl).await;
        (longest, last) = (longest.max(waited), got.unwrap());
    }
    (longest, last)
}

#[tokio::test(start_paused = true)]
async fn a_hot_value_makes_nobody_wait_and_costs_about_one_call_for_each_life() {
    let origin = Origin { takes: FILL, ..Origin::default() };
    let (store, ttl) = (store(), Ttl::secs(4));
    let numbers = numbers(&store);
    origin.ask(&numbers, &ttl).await.0.unwrap();
    let (longest, _) = load(&origin, &numbers, &ttl, 40_000).await;
    assert_eq!(longest, Duration::ZERO);
    let calls = origin.calls() - 1;
    assert!((10..=12).contains(&calls), "{calls} in ten lives");
    assert_eq!((store.stats().early_refreshes, store.stats().stale_served), (calls.into(), 0));
}

#[tokio::test(start_paused = true)]
async fn without_early_refresh_somebody_waits() {
    let never = Store::builder().l1(L1::bytes(1 << 20)).jitter(0).early_refresh(0.0);
    for (store, ttl) in
        [(never.build().unwrap(), Ttl::secs(4)), (store(), Ttl::secs(4).early_refresh(0.0))]
    {
        let origin = Origin { takes: FILL, ..Origin::default() };
        let numbers = numbers(&store);
        origin.ask(&numbers, &ttl).await.0.unwrap();
        let (longest, _) = load(&origin, &numbers, &ttl, 5_000).await;
        assert_eq!((longest, store.stats().early_refreshes), (FILL, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_refresh_that_fails_hurts_nobody_and_is_not_repeated_at_each_hit() {
    let origin = Origin { takes: FILL, ..Origin::default() };
    // So eager that each lookup in the second half would refresh.
    let (store, ttl) = (store(), Ttl::secs(20).early_refresh(1000.0));
    let numbers = numbers(&store);
    origin.ask(&numbers, &ttl).await.0.unwrap();
    origin.set_down(true);
    let (longest, last) = load(&origin, &numbers, &ttl, 19_900).await;
    assert_eq!((longest, last), (Duration::ZERO, 1));
    let failed = store.stats().failed_fills;
    assert!((8..=13).contains(&failed), "{failed} in ten seconds");
    assert!(origin.calls() <= 14, "{}", origin.calls());
}

#[tokio::test(start_paused = true)]
async fn a_value_that_was_set_or_is_seldom_asked_for_is_left_alone() {
    let origin = Origin { takes: FILL, ..Origin::default() };
    let (store, ttl) = (store(), Ttl::secs(60));
    let numbers = numbers(&store);
    numbers.set(&1, 7, ttl.clone()).await.unwrap();
    assert_eq!(load(&origin, &numbers, &ttl, 59_000).await.1, 7);
    numbers.remove(&1).await;
    for _ in 0..20 {
        origin.ask(&numbers, &ttl).await.0.unwrap();
        sleep(SECOND * 57 / 20).await;
    }
    assert_eq!((origin.calls(), store.stats().early_refreshes), (1, 0));
}

/// A value that went stale, and whose origin is down.
async fn in_need(ttl: &Ttl, takes: Duration) -> (Store, Typed<u8, u32>, Origin) {
    let origin = Origin { takes, ..Origin::default() };
    let store = store();
    let numbers = numbers(&store);
    origin.ask(&numbers, ttl).await.0.unwrap();
    advance(SECOND * 10).await;
    origin.set_down(true);
    (store, numbers, origin)
}

fn lasting() -> Ttl {
    Ttl::secs(10).stale_if_error(HOUR).tags(["t"]).early_refresh(0.0)
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_is_down_is_asked_once_a_second_and_nobody_waits() {
    let behind = Ttl::secs(10).stale_while_revalidate(HOUR).early_refresh(0.0);
    for ttl in [lasting(), behind] {
        let (store, numbers, origin) = in_need(&ttl, Duration::ZERO).await;
        let (longest, last) = load(&origin, &numbers, &ttl, 3_000).await;
        assert_eq!((longest, last), (Duration::ZERO, 1));
        let calls = origin.calls() - 1;
        assert!((3..=4).contains(&calls), "{calls} in three seconds");
        assert!(store.stats().retries_paused > 2_900);
        origin.set_down(false);
        let (longest, last) = load(&origin, &numbers, &ttl, 1_001).await;
        assert!(longest.is_zero() && last > 1, "the new one is there within the pause");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_pause_each_caller_asks() {
    let ttl = lasting();
    let (_store, numbers, origin) = in_need(&ttl, Duration::ZERO).await;
    let numbers = numbers.retry_pause(Duration::ZERO);
    load(&origin, &numbers, &ttl, 100).await;
    assert_eq!(origin.calls(), 101);
}

#[tokio::test(start_paused = true)]
async fn once_an_origin_has_failed_nobody_waits_while_it_hangs() {
    let ttl = lasting();
    let (_store, numbers, origin) = in_need(&ttl, Duration::ZERO).await;
    let numbers = numbers.hard_timeout(SECOND * 5);
    let hanging = Origin { takes: HOUR, ..origin };
    let (got, waited) = hanging.ask(&numbers, &ttl).await;
    assert_eq!((got.unwrap(), waited), (1, SECOND * 5), "the first finds out");
    let (longest, last) = load(&hanging, &numbers, &ttl, 30_000).await;
    assert_eq!((longest, last), (Duration::ZERO, 1));
    assert!((7..=9).contains(&hanging.calls()), "one after the other: {}", hanging.calls());
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_nobody_asked_about_for_long_is_forgotten() {
    let ttl = lasting();
    let (_store, numbers, origin) = in_need(&ttl, FILL).await;
    origin.ask(&numbers, &ttl).await.0.unwrap();
    origin.set_down(false);
    advance(SECOND * 60).await;
    let (got, waited) = origin.ask(&numbers, &ttl).await;
    assert_eq!((got.unwrap(), waited), (3, FILL), "not a value of long ago");
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_ends_the_pause() {
    let ttl = lasting();
    let (store, numbers, origin) = in_need(&ttl, Duration::ZERO).await;
    for (round, soft) in [0, 1].into_iter().enumerate() {
        origin.ask(&numbers, &ttl).await.0.unwrap();
        let paused = origin.calls();
        origin.ask(&numbers, &ttl).await.0.unwrap();
        assert_eq!(origin.calls(), paused);
        match soft {
            0 => drop(store.expire_tag("t").await.unwrap()),
            _ => drop(numbers.expire(&1).await),
        }
        let (got, _) = origin.ask(&numbers, &ttl).await;
        assert_eq!((got.unwrap(), origin.calls()), (1, paused + 1), "{round}");
    }
    store.invalidate_tag("t").await.unwrap();
    assert!(origin.ask(&numbers, &ttl).await.0.is_err(), "what is gone is gone");
    origin.set_down(false);
    assert!(origin.ask(&numbers, &ttl).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_expires_while_a_refresh_fails_is_refreshed_without_a_pause() {
    let ttl = lasting();
    for by_tag in [true, false] {
        let (store, numbers, origin) = in_need(&ttl, FILL).await;
        let failing = tokio::spawn({
            let (numbers, origin, ttl) = (numbers.clone(), origin.clone(), ttl.clone());
            async move { origin.ask(&numbers, &ttl).await.0 }
        });
        sleep(FILL / 2).await;
        if by_tag {
            store.expire_tag("t").await.unwrap();
        } else {
            numbers.expire(&1).await;
        }
        assert_eq!(failing.await.unwrap().unwrap(), 1);
        origin.set_down(false);
        let (got, waited) = origin.ask(&numbers, &ttl).await;
        assert_eq!((got.unwrap(), waited), (3, FILL), "by tag: {by_tag}");
    }
}

#[tokio::test(start_paused = true)]
async fn plain_reads_are_served_in_need_too() {
    let ttl = lasting();
    let (_store, numbers, origin) = in_need(&ttl, Duration::ZERO).await;
    assert_eq!(numbers.get(&1).await, None, "nobody knows yet that the origin is down");
    origin.ask(&numbers, &ttl).await.0.unwrap();
    assert_eq!(numbers.get(&1).await.as_deref(), Some(&1));
    assert_eq!(numbers.get_many([&1, &2]).await, [Some(Arc::new(1)), None]);
    advance(SECOND * 2).await;
    assert_eq!(numbers.get(&1).await, None, "nor whether it still is");
}
