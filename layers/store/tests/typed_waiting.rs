//! Callers that wait for a fill of a typed value: for how long, and what becomes of the others when one is
//! cancelled, or the fill fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/calls.rs"]
mod calls;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::{advance, sleep, timeout};
use tower_keep_store::{FillError, Ttl};

use calls::{Origin, SECOND, fail, numbers, store};

fn origin_has_a_bug() -> bool {
    true
}

#[tokio::test(start_paused = true)]
async fn soft_timeout_serves_stale_and_the_fill_goes_on() {
    let store = store();
    let (numbers, origin) = (numbers(&store).soft_timeout(SECOND), Origin::default());
    let ttl = Ttl::secs(10).stale_if_error(SECOND * 60);
    let get = async |delay: Duration| {
        let origin = origin.clone();
        *numbers.get_or_try_set(&1, ttl.clone(), move || origin.slow_answer(delay)).await.unwrap()
    };
    assert_eq!(get(Duration::ZERO).await, 1);
    advance(SECOND * 20).await;
    assert_eq!(get(SECOND * 5).await, 1);
    sleep(SECOND * 5).await;
    assert_eq!(numbers.get(&1).await.as_deref(), Some(&2));
}

#[tokio::test(start_paused = true)]
async fn hard_timeout_releases_the_waiters() {
    let numbers = numbers(&store()).hard_timeout(SECOND);
    let endless = || async {
        std::future::pending::<()>().await;
        Ok::<u32, io::Error>(0)
    };
    let result = numbers.get_or_try_set(&1, Ttl::secs(1), endless).await;
    assert!(matches!(result, Err(FillError::TimedOut)));
}

#[tokio::test]
async fn a_cancelled_leader_cancels_nothing() {
    let (numbers, origin) = (numbers(&store()), Origin::default());
    let started = Arc::new(Notify::new());
    let (release, released) = oneshot::channel::<()>();
    let leader = tokio::spawn({
        let (numbers, origin, started) = (numbers.clone(), origin.clone(), Arc::clone(&started));
        async move {
            let fill = move || async move {
                started.notify_one();
                let _ = released.await;
                origin.answer().await
            };
            numbers.get_or_try_set(&1, Ttl::secs(60), fill).await
        }
    });
    started.notified().await;
    let waiter = tokio::spawn({
        let numbers = numbers.clone();
        async move { numbers.get_or_try_set(&1, Ttl::secs(60), fail).await }
    });
    tokio::task::yield_now().await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    release.send(()).unwrap();
    assert_eq!(*waiter.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_caller_cancelled_at_any_poll_leaves_the_key_usable() {
    // The future of a caller is dropped after each possible number of polls.
    for polls in 1..12 {
        let (numbers, origin) = (numbers(&store()), Origin::default());
        let ttl = Ttl::secs(60).tags(["t"]);
        {
            let origin = origin.clone();
            let fill = move || async move {
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                origin.answer().await
            };
            let mut caller = Box::pin(numbers.get_or_try_set(&1, ttl.clone(), fill));
            for _ in 0..polls {
                if futures_util::poll!(&mut caller).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let second = origin.clone();
        let got = numbers.get_or_try_set(&1, ttl, move || second.answer()).await.unwrap();
        assert_eq!((*got, origin.calls()), (1, 1), "after {polls} polls");
    }
}

#[tokio::test]
async fn a_fill_that_panics_or_fails_tells_all_who_wait() {
    let numbers = numbers(&store());
    let panics = || async {
        tokio::task::yield_now().await;
        assert!(!origin_has_a_bug(), "so it panics");
        Ok::<u32, io::Error>(0)
    };
    let (a, b) = tokio::join!(
        numbers.get_or_try_set(&1, Ttl::secs(1), panics),
        numbers.get_or_try_set(&1, Ttl::secs(1), panics),
    );
    assert!(matches!((a, b), (Err(FillError::Panicked), Err(FillError::Panicked))));
    let (a, b) = tokio::join!(
        numbers.get_or_try_set(&1, Ttl::secs(1), fail),
        numbers.get_or_try_set(&1, Ttl::secs(1), fail),
    );
    assert!(a.unwrap_err().to_string().contains("origin is down"));
    assert!(b.unwrap_err().to_string().contains("origin is down"));
    assert_eq!(
        *numbers
            .get_or_try_set(&1, Ttl::secs(1), || async { Ok::<_, io::Error>(5) })
            .await
            .unwrap(),
        5
    );
}

#[tokio::test(start_paused = true)]
async fn steady_invalidation_delays_nobody_by_more_than_two_fills() {
    let store = store();
    let numbers = numbers(&store);
    let churn = tokio::spawn({
        let store = store.clone();
        async move {
            loop {
                store.invalidate_tag("t").await.unwrap();
                sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let origin = Origin::default();
    let mut callers = JoinSet::new();
    for n in 0..60 {
        let (numbers, origin) = (numbers.clone(), origin.clone());
        callers.spawn(async move {
            sleep(Duration::from_millis(n)).await;
            let fill = move || origin.slow_answer(Duration::from_millis(50));
            numbers.get_or_try_set(&1, Ttl::secs(60).tags(["t"]), fill).await.unwrap();
        });
    }
    timeout(Duration::from_millis(60 + 2 * 50 + 20), callers.join_all()).await.unwrap();
    churn.abort();
    assert!(origin.calls() <= 4, "{} calls for 60 callers", origin.calls());
}

#[tokio::test(start_paused = true)]
async fn the_soft_timeout_waits_on_when_the_stale_value_is_gone_by_then() {
    let store = store();
    let numbers = numbers(&store).soft_timeout(SECOND);
    let ttl = Ttl::secs(10).stale_if_error(60 * SECOND).tags(["t"]);
    numbers.set(&1, 1, ttl.clone()).await.unwrap();
    advance(20 * SECOND).await;
    tokio::spawn({
        let store = store.clone();
        async move {
            sleep(SECOND / 2).await;
            store.invalidate_tag("t").await.unwrap();
        }
    });
    let fill = || async {
        sleep(2 * SECOND).await;
        Ok::<_, io::Error>(2)
    };
    assert_eq!(*numbers.get_or_try_set(&1, ttl, fill).await.unwrap(), 2);
}
