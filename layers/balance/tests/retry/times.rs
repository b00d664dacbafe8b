//! Time limits, waits and hedges.

use std::collections::HashSet;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_keep_balance::retry::{Backoff, Budget, Hedge};
use tower_keep_balance::{Balance, RetryLayer};

use super::support::{Step, backends, builder, first, request, send};

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_given_up_for_another() {
    let times = || builder().per_try_timeout(Duration::from_millis(100));
    let slow = first(Step::Slow(60_000));
    assert_eq!(send(times(), 2, Method::GET, slow).await, (200, vec![0, 1]));
    let slow = first(Step::Slow(60_000));
    assert_eq!(send(times(), 2, Method::POST, slow).await, (504, vec![0]));
    let began = Instant::now();
    assert_eq!(send(times(), 2, Method::GET, |_| Step::Slow(60_000)).await, (504, vec![0, 1]));
    assert_eq!(began.elapsed().as_millis() / 10, 20);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_for_all_attempts_and_waits() {
    let deadline = Duration::from_millis(250);
    let times = || builder().deadline(deadline).max_attempts(9);
    let began = Instant::now();
    assert_eq!(send(times(), 2, Method::GET, |_| Step::Slow(60_000)).await.0, 504);
    assert_eq!(began.elapsed().as_millis() / 10, 25);
    let times = times().per_try_timeout(Duration::from_millis(100));
    assert_eq!(send(times, 5, Method::GET, |_| Step::Slow(60_000)).await, (504, vec![0, 1, 2]));
    let waits = builder().deadline(deadline).max_wait(Duration::from_secs(9));
    let began = Instant::now();
    assert_eq!(send(waits, 2, Method::GET, |_| Step::RetryAfter(1)).await, (503, vec![0]));
    assert!(began.elapsed().is_zero(), "a wait beyond the deadline isn't begun");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_grpc_client_holds_too() {
    let (pool, _) = backends(1, |_| Step::Slow(60_000));
    let retry =
        builder().deadline(Duration::from_secs(9)).build().unwrap().layer(Balance::http(pool));
    let mut request = request(Method::POST, "");
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request.headers_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let began = Instant::now();
    let response = retry.oneshot(request).await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["grpc-status"]),
        (StatusCode::OK, &"4".parse().unwrap())
    );
    assert_eq!(began.elapsed().as_millis() / 10, 30);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_asks_for_a_wait_gets_it_or_is_left_alone() {
    for (step, waits) in [
        (Step::RetryAfter(1), Some(1_000)),
        (Step::RetryAfter(2), None),
        (Step::Pushback("700"), Some(700)),
        (Step::Pushback("7000"), None),
        (Step::Pushback("-1"), None),
        (Step::Pushback("soon"), None),
    ] {
        let began = Instant::now();
        let (_, seen) = send(builder(), 2, Method::GET, first(step)).await;
        let waited = (seen == [0, 1]).then(|| began.elapsed().as_millis() / 10 * 10);
        assert_eq!(waited, waits, "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_grow_and_differ() {
    let mut all = Vec::new();
    for _ in 0..20 {
        let (pool, log) = backends(9, |_| Step::Status(503));
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
        let retry = RetryLayer::builder().backoff(backoff).max_attempts(5).build().unwrap();
        let _ = retry.layer(Balance::http(pool)).oneshot(request(Method::GET, "")).await;
        let log = log.lock().unwrap();
        let waits: Vec<_> =
            log.windows(2).map(|two| two[1].2.as_millis() - two[0].2.as_millis()).collect();
        for (wait, most) in waits.iter().zip([100, 200, 400, 400]) {
            assert!(*wait <= most + 2, "{waits:?}");
        }
        all.extend(waits);
    }
    assert!(all.iter().collect::<HashSet<_>>().len() > 40, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hedge_is_sent_when_the_first_is_slow_and_the_faster_one_wins() {
    let hedges = || builder().hedge(Hedge::after(Duration::from_millis(50)));
    let began = Instant::now();
    let slow = first(Step::Slow(60_000));
    assert_eq!(send(hedges(), 2, Method::GET, slow).await, (200, vec![0, 1]));
    assert_eq!(began.elapsed().as_millis() / 10, 5);
    // The hedge fails, the first one doesn't.
    let script = |at| if at == 0 { Step::Slow(200) } else { Step::Status(503) };
    assert_eq!(send(hedges(), 2, Method::GET, script).await, (200, vec![0, 1]));
    // One that is fast isn't hedged, one that may not be sent twice isn't, and none without budget.
    assert_eq!(send(hedges(), 2, Method::GET, first(Step::Slow(40))).await, (200, vec![0]));
    assert_eq!(send(hedges(), 2, Method::POST, first(Step::Slow(200))).await, (200, vec![0]));
    let poor = hedges().budget(Budget::none());
    assert_eq!(send(poor, 2, Method::GET, first(Step::Slow(200))).await, (200, vec![0]));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_by_percentile_follows_what_was_measured() {
    let (pool, log) = backends(1, |_| Step::Slow(10));
    let layer = builder().hedge(Hedge::percentile(95.0)).build().unwrap();
    let retry = layer.layer(Balance::http(pool.clone()));
    for _ in 0..100 {
        retry.clone().oneshot(request(Method::GET, "")).await.unwrap();
    }
    let (slow, _) = backends(2, first(Step::Slow(60_000)));
    assert_eq!(log.lock().unwrap().len(), 100);
    let began = Instant::now();
    layer.layer(Balance::http(slow)).oneshot(request(Method::GET, "")).await.unwrap();
    assert!((10..20).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}
