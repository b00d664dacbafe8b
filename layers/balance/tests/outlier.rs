//! Ejection of backends by how requests end.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_keep_balance::health::ProbeError;
use tower_keep_balance::{
    Backend, Ejection, HealthCheck, Outcome, OutlierDetection, Pool, PoolBuilder, SlowStart, State,
    Strategy, WhenNoneHealthy,
};

const SECOND: Duration = Duration::from_secs(1);

fn builder(count: usize, settings: OutlierDetection) -> PoolBuilder<usize> {
    let backends = (0..count).map(|at| Backend::new(at.to_string(), at));
    Pool::builder().strategy(Strategy::RoundRobin).backends(backends).outlier_detection(settings)
}

fn pool(count: usize, settings: OutlierDetection) -> Pool<usize> {
    builder(count, settings).build().unwrap()
}

/// Makes requests, and lets the keeper do its work.
async fn serve(
    pool: &Pool<usize>,
    requests: usize,
    fails: impl Fn(usize, usize) -> bool,
) -> Vec<usize> {
    let mut counts = vec![0; pool.status().len()];
    for request in 0..requests {
        let pick = pool.pick().unwrap();
        counts[*pick] += 1;
        let failed = fails(*pick, request);
        pick.finish(if failed { Outcome::Failure } else { Outcome::Success });
    }
    sleep(Duration::from_millis(15)).await;
    counts
}

fn ejected(pool: &Pool<usize>) -> Vec<usize> {
    let status = pool.status().into_iter().enumerate();
    status.filter(|(_, it)| matches!(it.state, State::Ejected { .. })).map(|(at, _)| at).collect()
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_eject() {
    let pool = pool(3, OutlierDetection::new());
    let mut changes = pool.changes();
    serve(&pool, 12, |at, _| at == 1).await;
    assert_eq!(ejected(&pool), [0; 0], "four are not enough");
    serve(&pool, 3, |_, _| false).await;
    serve(&pool, 12, |at, _| at == 1).await;
    assert_eq!(ejected(&pool), [0; 0], "there was a success in between");
    let began = Instant::now();
    serve(&pool, 3, |at, _| at == 1).await;
    let change = changes.next().await.unwrap();
    let State::Ejected { why, until } = change.state else { panic!("{change:?}") };
    assert_eq!((&*change.name, why), ("1", Ejection::ConsecutiveFailures));
    let length = until.saturating_duration_since(began.into_std());
    assert!((30 * SECOND..31 * SECOND).contains(&length), "{length:?}");
    assert_eq!(serve(&pool, 300, |_, _| false).await, [150, 0, 150]);
    assert_eq!(pool.stats().ejections, 1);
}

#[tokio::test(start_paused = true)]
async fn an_ejected_backend_returns_when_its_time_is_over_and_longer_ejections_follow() {
    let pool = pool(2, OutlierDetection::new());
    let mut lengths = Vec::new();
    for _ in 0..12 {
        let mut changes = pool.changes();
        serve(&pool, 10, |at, _| at == 1).await;
        let began = Instant::now();
        assert_eq!(changes.next().await.unwrap().state.as_str(), "ejected");
        assert_eq!(serve(&pool, 10, |_, _| false).await, [10, 0]);
        assert_eq!(changes.next().await.unwrap().state.as_str(), "up");
        lengths.push(began.elapsed().as_millis().div_ceil(1_000));
        sleep(Duration::from_millis(15)).await;
    }
    assert_eq!(lengths, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
    // Nine windows of good conduct: the next one is three times the base.
    for _ in 0..8 {
        sleep(10 * SECOND).await;
        assert_eq!(serve(&pool, 10, |_, _| false).await, [5, 5]);
    }
    serve(&pool, 10, |at, _| at == 1).await;
    sleep(89 * SECOND).await;
    assert_eq!(ejected(&pool), [1]);
    sleep(2 * SECOND).await;
    assert_eq!(ejected(&pool), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn no_more_are_ejected_than_may_be_and_never_the_last() {
    for (count, percent, allowed) in
        [(2, 50, 1), (3, 50, 2), (4, 50, 2), (10, 50, 5), (10, 10, 1), (3, 1, 1), (4, 100, 3)]
    {
        let pool = pool(count, OutlierDetection::new().max_ejected_percent(percent));
        for _ in 0..5 {
            serve(&pool, count * 5, |_, _| true).await;
        }
        assert_eq!(ejected(&pool).len(), allowed, "{percent} % of {count}");
        assert!(pool.stats().spared > 0 && !pool.panics());
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_was_spared_is_ejected_when_there_is_room() {
    let pool = pool(4, OutlierDetection::new().max_ejected_percent(25));
    serve(&pool, 20, |at, _| at == 1).await;
    serve(&pool, 30, |at, _| at == 2).await;
    assert_eq!(ejected(&pool), [1]);
    // 2 goes on failing, and 1 recovers.
    for _ in 0..32 {
        serve(&pool, 4, |at, _| at == 2).await;
        sleep(SECOND).await;
    }
    assert_eq!(ejected(&pool), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_success_rate_below_the_others_ejects() {
    let pool = pool(6, OutlierDetection::new());
    // One in three fails, and never five in a row.
    for _ in 0..3 {
        serve(&pool, 1_200, |at, request| at == 4 && request % 18 < 6).await;
        sleep(SECOND).await;
    }
    assert_eq!(ejected(&pool), [4]);
    let State::Ejected { why, .. } = pool.status()[4].state else { panic!() };
    assert_eq!(why, Ejection::SuccessRate);
}

#[tokio::test(start_paused = true)]
async fn at_low_traffic_a_success_rate_says_nothing() {
    let pool = pool(6, OutlierDetection::new().failure_percentage(10));
    // Half of what one gets fails: nine requests a second, for a minute.
    for _ in 0..60 {
        serve(&pool, 54, |at, request| at == 4 && request % 12 < 6).await;
        assert_eq!(ejected(&pool), [0; 0]);
        sleep(SECOND).await;
    }
    // And ten times as much does say something.
    for _ in 0..3 {
        serve(&pool, 540, |at, request| at == 4 && request % 12 < 6).await;
        sleep(SECOND).await;
    }
    assert_eq!(ejected(&pool), [4]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_percentage_ejects_where_there_are_few() {
    let pool = pool(2, OutlierDetection::new().failure_percentage(40));
    for _ in 0..3 {
        serve(&pool, 400, |at, request| at == 1 && request % 4 == 1).await;
        sleep(SECOND).await;
    }
    let State::Ejected { why, .. } = pool.status()[1].state else { panic!() };
    assert_eq!(why, Ejection::FailurePercentage);
}

#[tokio::test(start_paused = true)]
async fn what_ended_before_the_return_does_not_eject_again() {
    let pool = pool(2, OutlierDetection::new());
    let held: Vec<_> = (0..20).map(|_| pool.pick().unwrap()).collect();
    serve(&pool, 10, |at, _| at == 1).await;
    assert_eq!(ejected(&pool), [1]);
    for pick in held {
        let outcome = if *pick == 1 { Outcome::Failure } else { Outcome::Success };
        pick.finish(outcome);
    }
    sleep(31 * SECOND).await;
    assert_eq!(ejected(&pool), [0; 0]);
    assert_eq!(pool.stats().ejections, 1);
    assert_eq!(serve(&pool, 10, |_, _| false).await, [5, 5]);
}

#[tokio::test(start_paused = true)]
async fn ejections_end_when_checks_take_the_last_one_that_is_up() {
    for then in [WhenNoneHealthy::UseAll, WhenNoneHealthy::Refuse] {
        let check = HealthCheck::new(|at: &usize| {
            let at = *at;
            async move { if at == 0 { Err(ProbeError::other("down")) } else { Ok(()) } }
        });
        let check = check.interval(5 * SECOND).fall(3).jitter(0);
        let pool = builder(2, OutlierDetection::new()).when_none_healthy(then).health_check(check);
        let pool = pool.build().unwrap();
        serve(&pool, 10, |at, _| at == 1).await;
        assert_eq!(ejected(&pool), [1]);
        sleep(10 * SECOND).await;
        // Better one that failed requests than one that fails its checks, or none.
        assert_eq!(serve(&pool, 10, |_, _| false).await, [0, 10]);
        assert!(!pool.panics());
        // Nor is it ejected now that it is the last.
        serve(&pool, 10, |_, _| true).await;
        assert_eq!(ejected(&pool), [0; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_ejection_ends_when_checks_that_failed_pass_again() {
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let check = HealthCheck::new(move |at: &usize| {
        let fails = *at == 1 && down.load(SeqCst);
        async move { if fails { Err(ProbeError::other("down")) } else { Ok(()) } }
    });
    let check = check.interval(SECOND).fall(3).rise(2).jitter(0);
    let pool = builder(2, OutlierDetection::new()).health_check(check).build().unwrap();
    serve(&pool, 10, |at, _| at == 1).await;
    assert_eq!(ejected(&pool), [1]);
    sleep(5 * SECOND).await;
    assert!(matches!(pool.status()[1].state, State::Unhealthy(_)));
    is_down.store(false, SeqCst);
    sleep(3 * SECOND).await;
    assert!(matches!(pool.status()[1].state, State::Up), "{:?}", pool.status());
    assert_eq!(serve(&pool, 10, |_, _| false).await, [5, 5]);
    // Checks that never failed say nothing of what made requests fail.
    serve(&pool, 10, |at, _| at == 1).await;
    sleep(5 * SECOND).await;
    assert_eq!(ejected(&pool), [1]);
}

#[tokio::test(start_paused = true)]
async fn one_that_returns_gets_its_share_little_by_little_if_that_is_wanted() {
    let pool = builder(2, OutlierDetection::new()).slow_start(SlowStart::within(60 * SECOND));
    let pool = pool.build().unwrap();
    serve(&pool, 10, |at, _| at == 1).await;
    sleep(30 * SECOND).await;
    assert!(matches!(pool.status()[1].state, State::SlowStart));
    let counts = serve(&pool, 1_000, |_, _| false).await;
    assert!((40..200).contains(&counts[1]), "{counts:?}");
    sleep(60 * SECOND).await;
    assert_eq!(serve(&pool, 1_000, |_, _| false).await, [500, 500]);
}

#[tokio::test(start_paused = true)]
async fn the_keeper_ends_with_the_pool() {
    let pool = pool(2, OutlierDetection::new());
    sleep(SECOND).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 1);
    drop(pool);
    sleep(SECOND).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}
