//! What counts as in use, and for how long; who waits; and that whoever leaves leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use futures_util::{FutureExt, poll};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use proptest::prelude::*;
use tokio::time::{Instant, sleep};
use tower::{Service, ServiceExt, service_fn};
use tower_keep_balance::{
    Backend, Balance, BalanceError, ByCookie, ByHeader, ByUri, Classify, Hash, HttpFailures, Or,
    PickError, Pool, Queue, Strategy, Verdict,
};

fn in_flight<T>(pool: &Pool<T>) -> u32 {
    pool.status().iter().map(|backend| backend.in_flight).sum()
}

#[tokio::test(start_paused = true)]
async fn a_plain_call_counts_until_it_resolves() {
    let slow = service_fn(async |millis: u64| {
        sleep(Duration::from_millis(millis)).await;
        Ok::<_, Infallible>(millis)
    });
    let pool = Pool::builder().backend(Backend::new("a", slow)).build().unwrap();
    let balance = Balance::new(pool.clone());
    let mut call = pin!(balance.clone().oneshot(5));
    assert!(poll!(&mut call).is_pending());
    assert_eq!(in_flight(&pool), 1);
    assert_eq!(call.await, Ok(5));
    assert_eq!(in_flight(&pool), 0);
    let mut call = Box::pin(balance.oneshot(5));
    assert!(poll!(&mut call).is_pending());
    drop(call);
    assert_eq!(in_flight(&pool), 0);
}

/// Two frames of data, and trailers.
fn stream_body() -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
    let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("x"))]);
    let frames = ["a", "b"].map(|data| Frame::data(Bytes::from(data)));
    StreamBody::new(stream::iter(frames.into_iter().chain([Frame::trailers(trailers)]).map(Ok)))
}

#[tokio::test]
async fn an_http_call_counts_until_its_body_has_ended_or_is_dropped() {
    let serve = service_fn(async |_: Request<Empty<Bytes>>| {
        Ok::<_, Infallible>(Response::new(stream_body()))
    });
    let pool = Pool::builder().backend(Backend::new("a", serve)).build().unwrap();
    let balance = Balance::http(pool.clone());
    let get = || balance.clone().oneshot(Request::new(Empty::new())).map(Result::unwrap);
    let mut body = get().await.into_body();
    for data in ["a", "b"] {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), data);
        assert_eq!(in_flight(&pool), 1);
    }
    assert!(body.frame().await.unwrap().unwrap().is_trailers());
    assert_eq!(in_flight(&pool), 0, "after the trailers nothing comes");
    let dropped = get().await;
    assert_eq!(in_flight(&pool), 1);
    drop(dropped);
    assert_eq!(in_flight(&pool), 0);
}

#[tokio::test]
async fn a_body_of_known_end_is_as_it_was_and_counts_no_longer_than_it_takes() {
    let serve = service_fn(async |request: Request<&'static str>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(*request.body())))
    });
    let pool = Pool::builder().backend(Backend::new("a", serve)).build().unwrap();
    let balance = Balance::http(pool.clone());
    let response = balance.clone().oneshot(Request::new("")).await.unwrap();
    assert!(response.body().is_end_stream());
    assert_eq!(in_flight(&pool), 0, "nobody reads a body that has none");
    let mut body = balance.oneshot(Request::new("abc")).await.unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(3));
    assert_eq!(in_flight(&pool), 1);
    body.frame().await.unwrap().unwrap();
    assert_eq!(in_flight(&pool), 0, "hyper doesn't ask for a frame after the last");
}

#[tokio::test(start_paused = true)]
async fn what_no_backend_has_room_for_waits_in_turn_and_within_bounds() {
    let slow = service_fn(async |number: usize| {
        sleep(Duration::from_millis(100)).await;
        Ok::<_, Infallible>(number)
    });
    let backend = Backend::new("a", slow).max_in_flight(1);
    let pool = Pool::builder().backend(backend).build().unwrap();
    let queue = Queue::new(4, Duration::from_millis(250));
    let balance = Balance::new(pool.clone()).queue(queue);
    let began = Instant::now();
    let calls = (0..6).map(|number| {
        balance.clone().oneshot(number).map(move |result| (number, result, began.elapsed()))
    });
    let mut ended: Vec<_> = calls.collect::<stream::FuturesUnordered<_>>().collect().await;
    ended.sort_by_key(|(number, ..)| *number);
    let saturated = Err(BalanceError::Pick(PickError::Saturated));
    let ended: Vec<_> =
        ended.into_iter().map(|(_, result, after)| (result, after.as_millis() / 50 * 50)).collect();
    assert_eq!(
        ended,
        [
            (Ok(0), 100),
            (Ok(1), 200),
            (Ok(2), 300),
            (saturated, 250),
            (saturated, 250),
            (saturated, 0),
        ]
    );
    assert_eq!(in_flight(&pool), 0);
}

#[tokio::test]
async fn a_refusal_is_said_in_the_terms_of_the_protocol() {
    let serve = service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("x")))
    });
    let backend = Backend::new("a", serve).max_in_flight(1);
    let pool = Pool::builder().backend(backend).build().unwrap();
    let balance = Balance::http(pool.clone()).queue(Queue::none());
    let held = pool.pick().unwrap();
    let response = balance.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    let grpc = || {
        let request = Request::post("/x").header("content-type", "application/grpc");
        balance.clone().oneshot(request.body(()).unwrap()).map(Result::unwrap)
    };
    let response = grpc().await;
    assert_eq!(
        (response.status(), &response.headers()["grpc-status"]),
        (StatusCode::OK, &HeaderValue::from(8))
    );
    drop(held);
    pool.remove("a");
    assert_eq!(grpc().await.headers()["grpc-status"], "14");
}

#[test]
fn by_default_only_what_says_that_the_backend_cannot_work_is_its_failure() {
    let http = |failures: &HttpFailures, status: u16| {
        let response = Response::builder().status(status).body(()).unwrap();
        failures.classify(Ok::<_, &Infallible>(&response))
    };
    let grpc = |failures: &HttpFailures, code: &str| {
        let response = Response::builder().header("content-type", "application/grpc");
        let response = response.header("grpc-status", code).body(()).unwrap();
        failures.classify(Ok::<_, &Infallible>(&response))
    };
    let (usual, strict) = (HttpFailures::new(), HttpFailures::strict());
    let (good, bad) = (Verdict::Success, Verdict::Failure);
    for (status, by_default, strictly) in [
        (200, good, good),
        (404, good, good),
        (429, good, good),
        (500, good, bad),
        (501, good, good),
        (502, bad, bad),
        (503, bad, bad),
        (504, bad, bad),
        (505, good, good),
        (520, good, bad),
    ] {
        assert_eq!(
            (http(&usual, status), http(&strict, status)),
            (by_default, strictly),
            "{status}"
        );
    }
    for (code, by_default, strictly) in [
        ("0", good, good),
        ("2", good, bad),
        ("4", good, bad),
        ("5", good, good),
        ("13", good, bad),
        ("14", bad, bad),
        ("15", good, bad),
        ("99", good, good),
    ] {
        assert_eq!((grpc(&usual, code), grpc(&strict, code)), (by_default, strictly), "{code}");
    }
    let open = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    assert_eq!(usual.classify(Ok::<_, &Infallible>(&open)), Verdict::AtEnd);
    assert_eq!(usual.classify(Err::<&Response<()>, _>(&())), bad);
}

#[tokio::test(start_paused = true)]
async fn a_long_stream_does_not_count_as_a_slow_answer() {
    let endless =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(stream_body())));
    let pool = Pool::builder()
        .backend(Backend::new("streams", endless))
        .backend(Backend::new("rests", endless))
        .build()
        .unwrap();
    let mut balance = Balance::http(pool.clone());
    pool.set_healthy("rests", false);
    let body = balance.call(Request::new(())).await.unwrap().into_body();
    sleep(Duration::from_secs(60)).await;
    body.collect().await.unwrap();
    pool.set_healthy("rests", true);
    let hold = || (0..100).map(|_| pool.pick().unwrap()).collect::<Vec<_>>();
    let of_streams = hold().iter().filter(|pick| pick.name() == "streams").count();
    assert!(of_streams >= 45, "{of_streams}: it answered at once, and read slowly");
}

#[tokio::test]
async fn requests_that_belong_together_go_to_one_backend() {
    let backend = |at: u32| {
        let serve = service_fn(move |_: Request<()>| async move {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(at.to_string())))
        });
        Backend::new(at.to_string(), serve)
    };
    let strategy = Strategy::Hash(Hash::default());
    let pool = Pool::builder().strategy(strategy).backends((0..8).map(backend)).build().unwrap();
    let request = |user: u32, cookie: bool, path: &str| {
        let builder = Request::builder().uri(path);
        let builder = if cookie {
            builder.header("cookie", format!("usr=0; user={user}; a=b"))
        } else {
            builder.header("x-user", user)
        };
        builder.body(()).unwrap()
    };
    let by_user =
        Or { first: ByCookie::new("user"), second: ByHeader::new("x-user".parse().unwrap()) };
    let by_user = Balance::http(pool.clone()).affinity(by_user);
    let by_uri = Balance::http(pool).affinity(ByUri);
    let mut seen = HashSet::new();
    for user in 0..50 {
        let mut of_user = HashSet::new();
        for is_cookie in [true, false, true, false] {
            let call = by_user.clone().oneshot(request(user, is_cookie, "/"));
            of_user.insert(call.await.unwrap().collect().await.unwrap().to_bytes());
        }
        assert_eq!(of_user.len(), 1, "{user}");
        seen.extend(of_user);
        let path = format!("/{user}?q");
        let call = |user| by_uri.clone().oneshot(request(user, true, &path));
        let (one, other) = (call(1).await.unwrap(), call(2).await.unwrap());
        let (one, other) = (one.collect().await.unwrap(), other.collect().await.unwrap());
        assert_eq!(one.to_bytes(), other.to_bytes());
    }
    assert_eq!(seen.len(), 8);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Calls that are dropped after so many polls, wherever they are then: waiting for room, for
    /// readiness, for the answer or in the body.
    #[test]
    fn whoever_leaves_at_any_point_leaves_nothing_behind(
        plan in proptest::collection::vec((0usize..12, 0usize..4), 1..40),
        limit in 1u32..3,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let serve = service_fn(async |polls: Request<usize>| {
                for _ in 0..*polls.body() {
                    tokio::task::yield_now().await;
                }
                Ok::<_, Infallible>(Response::new(stream_body()))
            });
            // A backend that isn't ready while it has something, besides.
            let serve = tower::limit::ConcurrencyLimit::new(serve, 2);
            let backends = ["a", "b"].map(|name| Backend::new(name, serve.clone()).max_in_flight(limit));
            let pool = Pool::builder().backends(backends).build().unwrap();
            let queue = Queue::new(8, Duration::from_millis(20));
            let balance = Balance::http(pool.clone()).queue(queue);
            let calls = plan.into_iter().map(|(polls, work)| {
                let balance = balance.clone();
                async move {
                    let work = async move {
                        let response = balance.oneshot(Request::new(work)).await.unwrap();
                        response.into_body().collect().await.unwrap();
                    };
                    let mut work = Box::pin(work);
                    for _ in 0..polls {
                        if poll!(&mut work).is_ready() {
                            return;
                        }
                        tokio::task::yield_now().await;
                    }
                }
            });
            futures_util::future::join_all(calls).await;
            prop_assert_eq!(in_flight(&pool), 0);
            // And nobody is thought to be waiting: all the places in the queue are free.
            let held: Vec<_> = (0..2 * limit).map(|_| pool.pick().unwrap()).collect();
            let mut waiting: Vec<_> =
                (0..8).map(|_| Box::pin(balance.clone().oneshot(Request::new(0)))).collect();
            for call in &mut waiting {
                prop_assert!(poll!(call).is_pending());
            }
            drop(held);
            for call in waiting {
                prop_assert_eq!(call.await.unwrap().status(), 200);
            }
            prop_assert_eq!(in_flight(&pool), 0);
            Ok(())
        })?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_is_lost_between_those_who_free_and_those_who_wait() {
    let work = service_fn(async |(): ()| {
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(())
    });
    let backends = ["a", "b"].map(|name| Backend::new(name, work).max_in_flight(1));
    let pool = Pool::builder().backends(backends).build().unwrap();
    let balance = Balance::new(pool.clone()).queue(Queue::new(64, Duration::from_secs(60)));
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let balance = balance.clone();
            tokio::spawn(async move {
                for _ in 0..500 {
                    balance.clone().oneshot(()).await.unwrap();
                }
            })
        })
        .collect();
    let began = Instant::now();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(50), "one has waited for its time limit");
    assert_eq!(in_flight(&pool), 0);
}
