//! A node that has lost touch with the others serves what it holds for a while, and no longer.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/counting.rs"]
mod counting;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{advance, sleep};
use tower_keep_store::{Bincode, Fill, L1, Store, StoreBuilder, Ttl, Typed};

use counting::Counting;

const LONGEST: Duration = Duration::from_secs(10);
const NEARLY: Duration = Duration::from_millis(9_999);
/// For sleeps, which end up to a millisecond late.
const ALMOST: Duration = Duration::from_millis(9_990);
const A_BIT: Duration = Duration::from_millis(1);

fn builder() -> StoreBuilder {
    Store::builder().l1(L1::bytes(1 << 20)).jitter(0)
}

async fn fill(numbers: &Typed<u8, u32>, value: u32) -> u32 {
    let ttl = Ttl::secs(3600).stale_if_error(Duration::from_secs(3600));
    *numbers
        .get_or_try_set(&1, ttl, move || async move { Ok::<_, io::Error>(value) })
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn out_of_step_it_serves_for_so_long_after_the_loss_or_the_fill() {
    let remote = Counting::default();
    let store = builder().l2(remote.clone()).build().unwrap();
    let numbers = store.typed("number");
    let listener = remote.listener();
    assert!(!store.stats().in_step, "it hasn't begun to follow");
    listener.regained().await.unwrap();
    assert!(store.stats().in_step);

    fill(&numbers, 1).await;
    advance(LONGEST * 10).await;
    assert_eq!(fill(&numbers, 2).await, 1, "in step, it serves what is fresh");
    let lost_at = store.now();
    listener.lost();
    let stats = store.stats();
    assert_eq!((stats.in_step, stats.in_step_since, stats.losses), (false, lost_at, 1));

    advance(NEARLY).await;
    listener.lost();
    assert_eq!(store.stats().in_step_since, lost_at, "it has been out of step all the time");
    assert_eq!(fill(&numbers, 2).await, 1);
    advance(A_BIT).await;
    assert_eq!(numbers.get(&1).await, None);
    assert_eq!(store.stats().unvouched, 1);
    let fails = || async { Err::<u32, _>(io::Error::other("down")) };
    assert!(numbers.get_or_try_set(&1, Ttl::secs(1), fails).await.is_err(), "nor in need");

    assert_eq!(fill(&numbers, 2).await, 2);
    advance(NEARLY).await;
    assert_eq!(fill(&numbers, 3).await, 2, "it has just been fetched");
    advance(A_BIT).await;
    assert_eq!(fill(&numbers, 3).await, 3);

    listener.regained().await.unwrap();
    assert_eq!(fill(&numbers, 4).await, 3, "nothing was missed");
    advance(LONGEST * 10).await;
    assert_eq!(fill(&numbers, 4).await, 3);

    listener.lost();
    remote.has_epoch(b'1', 2);
    listener.regained().await.unwrap();
    assert_eq!(fill(&numbers, 4).await, 4, "it may have been removed meanwhile");
    advance(LONGEST * 10).await;
    assert_eq!(fill(&numbers, 5).await, 4);
}

/// What one gets who fills in `value`, which takes so long, or fails if there is none.
async fn slow_fill(numbers: &Typed<u8, u32>, takes: Duration, value: Option<u32>) -> Option<u32> {
    let fill = move || async move {
        sleep(takes).await;
        value.ok_or_else(|| io::Error::other("down"))
    };
    let ttl = Ttl::secs(3600).stale_if_error(Duration::from_secs(7200));
    numbers.get_or_try_set(&1, ttl, fill).await.ok().as_deref().copied()
}

#[tokio::test(start_paused = true)]
async fn what_took_long_to_fetch_is_as_old_as_its_beginning() {
    let remote = Counting::default();
    let store = builder().l2(remote.clone()).build().unwrap();
    let numbers = store.typed("number");
    remote.listener().regained().await.unwrap();
    remote.listener().lost();
    assert_eq!(slow_fill(&numbers, ALMOST, Some(1)).await, Some(1));
    // It is stored a moment later.
    for _ in 0..10 {
        yield_now().await;
    }
    assert_eq!(fill(&numbers, 2).await, 1, "it has been asked for within the bound");
    advance(A_BIT * 10).await;
    assert_eq!(fill(&numbers, 2).await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_validated_is_as_old_as_what_was_fetched() {
    let remote = Counting::default();
    let store = builder().l2(remote.clone()).build().unwrap();
    let numbers = store.typed::<u8, u32>("number");
    remote.listener().regained().await.unwrap();
    remote.listener().lost();
    let ttl = Ttl::secs(5).stale_if_error(LONGEST);
    let ask = async |value: u32| {
        let validates = move |earlier: Option<Arc<u32>>| async move {
            Ok::<_, io::Error>(earlier.map_or(Fill::value(value), |_| Fill::not_modified()))
        };
        let got = *numbers.get_or_try_refresh(&1, ttl.clone(), validates).await.unwrap();
        // It is stored a moment later.
        for _ in 0..10 {
            yield_now().await;
        }
        got
    };
    assert_eq!(ask(1).await, 1);
    advance(LONGEST / 2).await;
    assert_eq!((ask(2).await, store.stats().fills), (1, 2), "validated");
    advance(Duration::from_millis(4_999)).await;
    assert_eq!((ask(2).await, store.stats().fills), (1, 2), "and fresh");
    advance(A_BIT).await;
    assert_eq!(ask(3).await, 3, "it may have been invalidated more than so long ago");
}

#[tokio::test(start_paused = true)]
async fn one_who_asks_after_the_bound_gets_nothing_whose_fetching_began_before_it() {
    let remote = Counting::default();
    let store = builder().l2(remote.clone()).build().unwrap();
    let numbers = store.typed("number");
    remote.listener().regained().await.unwrap();
    let early = slow_fill(&numbers, LONGEST * 5 / 2, Some(1));
    let in_time = async {
        remote.listener().lost();
        sleep(ALMOST).await;
        fill(&numbers, 2).await
    };
    let late = async {
        sleep(LONGEST * 2).await;
        fill(&numbers, 3).await
    };
    assert_eq!(tokio::join!(early, in_time, late), (Some(1), 1, 3));
}

#[tokio::test(start_paused = true)]
async fn one_who_asks_after_the_bound_gets_nothing_that_stood_in_for_those_before_it() {
    let remote = Counting::default();
    let store = builder().l2(remote.clone()).build().unwrap();
    let numbers = store.typed("number");
    remote.listener().regained().await.unwrap();
    fill(&numbers, 1).await;
    advance(Duration::from_secs(3601)).await;
    remote.listener().lost();
    advance(LONGEST / 2).await;
    let early = slow_fill(&numbers, LONGEST, None);
    let late = async {
        sleep(LONGEST * 3 / 4).await;
        fill(&numbers, 2).await
    };
    assert_eq!(tokio::join!(early, late), (Some(1), 2));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stood_still_takes_an_old_beat_for_an_old_one() {
    let remote = Counting::default();
    let store = builder().l2(remote.clone()).build().unwrap();
    let numbers = store.typed("number");
    let (listener, span) = (remote.listener(), Duration::from_secs(4));
    listener.regained().await.unwrap();
    listener.confirmed(Duration::ZERO, span);
    fill(&numbers, 1).await;
    advance(A_BIT + LONGEST * 10).await;
    // It was sent just before that, and has been waiting to be heard.
    listener.confirmed(LONGEST * 10, span);
    assert_eq!(numbers.get(&1).await, None);
    assert!(!store.is_synced());
    let space = store.space::<u32>("number", Bincode);
    let mut key = space.key_buf();
    key.push(b"1");
    assert!(space.is_unvouched(space.key(&key), store.now()), "and it says why");
    listener.confirmed(Duration::ZERO, span);
    assert!(store.is_synced());
    assert_eq!(numbers.get(&1).await.as_deref(), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn the_bound_may_be_nothing_or_none() {
    for (longest, expected) in [(Duration::ZERO, 2), (Duration::MAX, 1)] {
        let remote = Counting::default();
        let store = builder().l2(remote.clone()).max_unsynced(longest).build().unwrap();
        remote.listener().regained().await.unwrap();
        let numbers = store.typed("number");
        fill(&numbers, 1).await;
        remote.listener().lost();
        advance(Duration::from_secs(1800) * u32::from(longest > LONGEST)).await;
        assert_eq!(fill(&numbers, 2).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_second_tier_there_is_nobody_to_be_in_step_with() {
    let store = builder().max_unsynced(Duration::ZERO).build().unwrap();
    let numbers = store.typed("number");
    fill(&numbers, 1).await;
    advance(LONGEST * 10).await;
    assert_eq!(fill(&numbers, 2).await, 1);
    assert!(store.stats().in_step && !store.is_synced());
}
