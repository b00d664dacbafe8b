//! What retries tell of backends, and what they leave behind.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{Method, Request};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::time::sleep;
use tower::{Layer, ServiceExt};
use tower_keep_balance::retry::{Backoff, Budget, Hedge};
use tower_keep_balance::{Balance, BuildError, Pool, Strategy};

use super::support::{Step, backends, backends_by, builder, first, request};

#[tokio::test(start_paused = true)]
async fn who_leaves_leaves_nothing_counted() {
    let (pool, _) = backends(2, |_| Step::Slow(60_000));
    let layer = builder().hedge(Hedge::after(Duration::from_millis(50))).build().unwrap();
    let retry = layer.layer(Balance::http(pool.clone()));
    let mut call = Box::pin(retry.oneshot(request(Method::GET, "")));
    assert!((&mut call).now_or_never().is_none());
    let _ = tokio::time::timeout(Duration::from_millis(100), &mut call).await;
    assert_eq!(pool.status().iter().map(|backend| backend.in_flight).sum::<u32>(), 2);
    drop(call);
    assert_eq!(pool.status().iter().map(|backend| backend.in_flight).sum::<u32>(), 0);
}

/// How many of a hundred picks are the backend `at`.
fn share<T>(pool: &Pool<T>, at: usize) -> usize {
    let picks = (0..100).map(|_| pool.pick().unwrap());
    picks.filter(|pick| pick.name() == at.to_string()).count()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_speaks_against_its_backend() {
    let (pool, log) = backends_by(Strategy::default(), 2, first(Step::Slow(60_000)));
    let times = builder().per_try_timeout(Duration::from_millis(100)).build().unwrap();
    let retry = times.layer(Balance::http(pool.clone()));
    sleep(Duration::from_secs(60)).await;
    assert!(share(&pool, 0) > 20);
    while log.lock().unwrap().iter().all(|(at, ..)| *at != 0) {
        retry.clone().oneshot(request(Method::GET, "")).await.unwrap();
    }
    assert_eq!(share(&pool, 0), 0);
}

#[tokio::test(start_paused = true)]
async fn what_its_client_broke_off_speaks_against_nobody() {
    let (pool, log) = backends_by(Strategy::default(), 2, |_| Step::Status(200));
    let retry = builder().build().unwrap().layer(Balance::http(pool.clone()));
    sleep(Duration::from_secs(60)).await;
    let broken = stream::iter([Err::<Frame<Bytes>, _>(io::Error::other("gone"))]);
    let request = Request::put("/").body(StreamBody::new(broken)).unwrap();
    retry.oneshot(request).await.unwrap_err();
    assert_eq!(log.lock().unwrap().len(), 1);
    assert!((20..80).contains(&share(&pool, 0)), "{}", share(&pool, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_tried_again_takes_no_turn_from_first_attempts() {
    let (pool, log) = backends(3, first(Step::Status(503)));
    let layer = builder().budget(Budget::new(100, 100)).build().unwrap();
    let retry = layer.layer(Balance::http(pool));
    for _ in 0..30 {
        assert_eq!(retry.clone().oneshot(request(Method::GET, "")).await.unwrap().status(), 200);
    }
    let (mut firsts, mut again) = (Vec::new(), Vec::new());
    let log: Vec<_> = log.lock().unwrap().iter().map(|(at, ..)| *at).collect();
    for (at, backend) in log.iter().enumerate() {
        // What comes after the one that fails is another attempt.
        let is_again = at > 0 && log[at - 1] == 0;
        if is_again { &mut again } else { &mut firsts }.push(*backend);
    }
    assert_eq!(firsts, [0, 1, 2].repeat(10), "{log:?}");
    assert_eq!(again, [1, 2].repeat(5), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn hedges_take_no_turn_from_first_attempts() {
    let (pool, log) = backends(3, first(Step::Slow(1_000)));
    let hedge = Hedge::after(Duration::from_millis(10));
    let layer = builder().budget(Budget::new(100, 100)).hedge(hedge).build().unwrap();
    let retry = layer.layer(Balance::http(pool));
    for _ in 0..30 {
        retry.clone().oneshot(request(Method::GET, "")).await.unwrap();
    }
    let log: Vec<_> = log.lock().unwrap().iter().map(|(at, ..)| *at).collect();
    assert_eq!(log, [[0, 1, 1, 2], [0, 2, 1, 2]].concat().repeat(5));
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        Just(Step::Status(200)),
        Just(Step::Status(503)),
        Just(Step::Grpc(14)),
        Just(Step::Unsent),
        Just(Step::Reset),
        (0u64..80).prop_map(Step::Slow),
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// Requests that are dropped after some time, wherever they are then: in an attempt, in a hedge,
    /// in a wait.
    #[test]
    fn whoever_leaves_at_any_time_leaves_nothing_counted_and_no_post_comes_twice(
        steps in proptest::collection::vec(step(), 3),
        leave in proptest::collection::vec(0u64..120, 1..12),
        limit in 1u32..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (pool, log) = backends(3, move |at| steps[at]);
            let backoff = Backoff::new(Duration::from_millis(9), Duration::from_millis(20));
            let layer = builder()
                .backoff(backoff)
                .max_attempts(limit + 1)
                .per_try_timeout(Duration::from_millis(40))
                .deadline(Duration::from_millis(100))
                .hedge(Hedge::after(Duration::from_millis(15)))
                .build()
                .unwrap();
            let retry = layer.layer(Balance::http(pool.clone()));
            let posts = leave.len();
            let calls = leave.into_iter().map(|millis| {
                let get = retry.clone().oneshot(request(Method::GET, "content"));
                let post = retry.clone().oneshot(request(Method::POST, "x"));
                let both = async { futures_util::future::join(get, post).await };
                tokio::time::timeout(Duration::from_millis(millis), both)
            });
            futures_util::future::join_all(calls).await;
            let left: u32 = pool.status().iter().map(|backend| backend.in_flight).sum();
            proptest::prop_assert_eq!(left, 0);
            // Of those that were read; where nothing was sent, nothing was read.
            let read = log.lock().unwrap().iter().filter(|(_, body, _)| body == "x").count();
            proptest::prop_assert!(read <= posts, "{} of {}", read, posts);
            Ok(())
        })?;
    }
}

#[test]
fn settings_that_cannot_work_say_what_to_change() {
    let ms = Duration::from_millis;
    for (builder, says) in [
        (builder().max_attempts(0), "max_attempts(0)"),
        (builder().per_try_timeout(ms(0)), "per_try_timeout of zero"),
        (builder().deadline(ms(0)), "deadline of zero"),
        (builder().per_try_timeout(ms(9)).deadline(ms(9)), "shorter than deadline"),
        (builder().max_attempts(1).hedge(Hedge::after(ms(1))), "at least 2"),
        (builder().hedge(Hedge::percentile(100.0)), "from 50"),
        (builder().hedge(Hedge::percentile(f64::NAN)), "from 50"),
    ] {
        match builder.build() {
            Err(BuildError::Setting(text)) => assert!(text.contains(says), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
