//! A time without an end is "never", and nothing that panics.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::{Request, Response};
use tokio::time::{sleep, timeout};
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_balance::retry::{Backoff, Budget, Hedge};
use tower_keep_balance::{
    Backend, Balance, HealthCheck, Outcome, OutlierDetection, PeakEwma, PickError, Pool, Queue,
    RetryLayer, Strategy, Wish,
};

const NEVER: Duration = Duration::MAX;

#[tokio::test(start_paused = true)]
async fn one_who_waits_in_the_queue_for_ever_is_served_when_there_is_room() {
    let pool = Pool::builder().backend(Backend::new("a", ()).max_in_flight(1)).build().unwrap();
    let held = pool.pick().unwrap();
    let waiting = pool.pick_within(Wish::new(), Queue::new(1, NEVER));
    let mut waiting = std::pin::pin!(waiting);
    assert!(timeout(Duration::from_secs(3_600), waiting.as_mut()).await.is_err());
    drop(held);
    assert_eq!(waiting.await.unwrap().name(), "a");
    assert_eq!(pool.pick_within(Wish::new(), Queue::none()).await.err(), None::<PickError>);
}

#[tokio::test(start_paused = true)]
async fn retries_take_limits_without_an_end() {
    for asked in ["18446744073709551615", "1"] {
        let tries = AtomicUsize::new(0);
        let busy = service_fn(|_: Request<_>| {
            let is_first = tries.fetch_add(1, SeqCst) == 0;
            let response = Response::builder().status(if is_first { 503 } else { 200 });
            let response = response.header("retry-after", asked).body(String::new()).unwrap();
            async { Ok::<_, Infallible>(response) }
        });
        let layer = RetryLayer::builder()
            .per_try_timeout(NEVER / 2)
            .deadline(NEVER)
            .max_wait(NEVER)
            .backoff(Backoff::new(NEVER, NEVER))
            .hedge(Hedge::after(NEVER))
            .budget(Budget::new(u32::MAX, u32::MAX));
        let retry = layer.build().unwrap().layer(busy);
        let request = Request::get("/").body(String::new()).unwrap();
        let waits = timeout(Duration::from_secs(3_600), retry.oneshot(request)).await;
        assert!(waits.is_err(), "{asked}: it waits");
        assert_eq!(tries.load(SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_never_checked_again_was_checked_once_and_is_used() {
    let checks = std::sync::Arc::new(AtomicUsize::new(0));
    let counts = std::sync::Arc::clone(&checks);
    let check = HealthCheck::new(move |(): &()| {
        counts.fetch_add(1, SeqCst);
        async { Ok(()) }
    });
    let check = check.interval(NEVER).timeout(NEVER);
    // Within the first part of the interval: at once if that is none.
    let pool = Pool::builder().backend(Backend::new("a", ())).health_check(check.jitter(0));
    let pool = pool.build().unwrap();
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(checks.load(SeqCst), 1);
    assert!(pool.pick().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_ejection_for_ever_is_one() {
    let settings = OutlierDetection::new().consecutive_failures(1);
    let settings = settings.base_ejection(NEVER).max_ejection(NEVER).window(NEVER);
    let pool = Pool::builder().backends(["a", "b"].map(|name| Backend::new(name, ())));
    let pool = pool.outlier_detection(settings).build().unwrap();
    while pool.stats().ejections == 0 {
        let pick = pool.pick().unwrap();
        let is_bad = pick.name() == "a";
        pick.finish(if is_bad { Outcome::Failure } else { Outcome::Success });
        tokio::task::yield_now().await;
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_secs(24 * 3_600)).await;
    for _ in 0..100 {
        assert_eq!(pool.pick().unwrap().name(), "b");
    }
    assert_eq!(pool.stats().ejections, 1);
    // The keeper still works.
    assert!(pool.set_healthy("b", false));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(pool.pick().unwrap().name(), "a", "better one that failed than none");
}

#[tokio::test(start_paused = true)]
async fn averages_take_times_without_an_end() {
    let settings = PeakEwma::default().decay(NEVER).initial(NEVER);
    let backends = ["a", "b"].map(|name| Backend::new(name, ()));
    let pool = Pool::builder().strategy(Strategy::PeakEwma(settings)).backends(backends);
    let pool = pool.build().unwrap();
    for round in 0..20 {
        pool.set_healthy("a", round % 2 == 0);
        let pick = pool.pick().unwrap();
        sleep(Duration::from_millis(1)).await;
        match round % 3 {
            0 => pick.finish(Outcome::Failure),
            1 => pick.finish(Outcome::Success),
            _ => drop(pick),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_ever_only_while_no_backend_has_room() {
    let slow = service_fn(async |wait: Duration| {
        sleep(wait).await;
        Ok::<_, Infallible>(())
    });
    let pool = Pool::builder().backend(Backend::new("a", slow).max_in_flight(1)).build().unwrap();
    let balance = Balance::new(pool).queue(Queue::new(10, NEVER));
    let calls = (0..5).map(|_| balance.clone().oneshot(Duration::from_secs(60)));
    for ended in futures_util::future::join_all(calls).await {
        ended.unwrap();
    }
}
