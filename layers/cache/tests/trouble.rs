//! What becomes of everybody when a handler hangs, fails or refuses, and when a client leaves or
//! stops reading.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep, timeout};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, ServiceExt};
use tower_keep_cache::CacheLayer;

use origin::{
    Answer, Origin, answer, cached, cached_with, get, read, request, send, settle, store, trickle,
};

const SECOND: Duration = Duration::from_secs(1);
const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

/// Hangs at its first call, and then answers.
fn hanging_once() -> Origin {
    Origin::new(|n, _| async move {
        if n == 1 {
            std::future::pending::<()>().await;
        }
        answer(FRESH, n.to_string())
    })
}

/// A body of `chunks` pieces of 64 KiB, one a millisecond.
fn long(chunks: usize) -> Answer {
    trickle(FRESH, SECOND / 1000, vec![Bytes::from(vec![7; 64 << 10]); chunks])
}

#[tokio::test(start_paused = true)]
async fn a_hung_handler_holds_its_key_for_one_wait_only() {
    let origin = hanging_once();
    let (cache, _) = cached_with(&origin, |builder| builder.max_wait(SECOND * 3));
    let stuck = tokio::spawn(cache.clone().oneshot(get(&[])));
    settle().await;
    stuck.abort();
    let began = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let cache = cache.clone();
        all.spawn(async move { send(&cache, get(&[])).await.text().to_owned() });
    }
    assert!(all.join_all().await.iter().all(|text| text == "2"));
    assert_eq!((began.elapsed().as_secs(), origin.calls()), (3, 2));
    assert!(send(&cache, get(&[])).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_always_hangs_holds_nobody_but_its_own_client() {
    let origin = Origin::new(|n, _| async move {
        if n < 9 {
            std::future::pending::<()>().await;
        }
        answer(FRESH, n.to_string())
    });
    let (cache, _) = cached_with(&origin, |builder| builder.max_wait(SECOND));
    let mut stuck: Vec<_> = (0..9).map(|_| tokio::spawn(cache.clone().oneshot(get(&[])))).collect();
    sleep(SECOND * 3).await;
    let ninth = stuck.iter().filter(|task| task.is_finished()).count();
    assert_eq!((origin.calls(), ninth), (9, 1), "after two waits each asks for itself");
    stuck.drain(..).for_each(|task| task.abort());
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_may_be_stored_does_not_end_the_use_of_what_is_refreshed() {
    let origin = Origin::new(|n, _| async move {
        let failed = n == 2;
        let control = if failed { "max-age=60" } else { "max-age=1, stale-while-revalidate=60" };
        let mut response = answer(&[("cache-control", control)], n.to_string());
        if failed {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    });
    let (cache, _) = cached_with(&origin, |builder| builder.retry_pause(Duration::ZERO));
    send(&cache, get(&[])).await;
    advance(SECOND * 2).await;
    for expected in ["1", "1", "3"] {
        let got = send(&cache, get(&[])).await;
        settle().await;
        assert_eq!((got.status, got.text()), (200, expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_handler_is_dropped_when_nobody_wants_its_answer() {
    for (finish, after) in [(false, 0), (true, 60)] {
        let layer = CacheLayer::builder(store()).finish_abandoned(finish).build().unwrap();
        let cache = layer.layer(ConcurrencyLimit::new(hanging_once(), 1));
        let stuck = tokio::spawn(cache.clone().oneshot(get(&[])));
        settle().await;
        stuck.abort();
        let began = Instant::now();
        let other = cache.oneshot(request("GET", "http://example.com/other", &[]));
        timeout(SECOND * 100, other).await.expect("the permit is free again").unwrap();
        assert_eq!(began.elapsed().as_secs(), after, "finish_abandoned: {finish}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_takes_nobody_along() {
    for etag in ["", "\"a\""] {
        let origin = Origin::new(|_, _| async {
            sleep(SECOND).await;
            let mut response = long(4);
            response.headers_mut().insert("etag", "\"a\"".parse().unwrap());
            response
        });
        let (cache, _) = cached_with(&origin, |builder| builder.finish_abandoned(false));
        // It leaves, or it is answered without a body.
        let leader = cache.clone().oneshot(get(&[("if-none-match", etag)]));
        let leader = tokio::spawn(async { leader.await.map(drop) });
        settle().await;
        let follower = tokio::spawn({
            let cache = cache.clone();
            async move { send(&cache, get(&[])).await }
        });
        settle().await;
        if etag.is_empty() {
            leader.abort();
        }
        let got = follower.await.unwrap();
        assert_eq!((got.body.len(), origin.calls()), (4 * (64 << 10), 1), "{}", got.cache());
        assert!(send(&cache, get(&[])).await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_finished_though_nobody_waits_for_it() {
    let origin = Origin::new(|n, request| async move {
        assert!(!request.headers().contains_key("cache-control"), "that was the client's");
        sleep(SECOND).await;
        answer(&[("cache-control", "max-age=10, stale-while-revalidate=60")], n.to_string())
    });
    let (cache, _) = cached_with(&origin, |builder| builder.finish_abandoned(false));
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    let stale = send(&cache, get(&[("cache-control", "only-if-cached")])).await;
    assert!(stale.is_hit() && stale.text() == "1");
    sleep(SECOND * 2).await;
    assert_eq!(send(&cache, get(&[])).await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_stored_is_waited_for_once() {
    let storable = Arc::new(AtomicUsize::new(usize::MAX));
    let origin = Origin::new({
        let storable = Arc::clone(&storable);
        move |n, _| {
            let control =
                if n < storable.load(SeqCst) { "private, max-age=60" } else { "max-age=60" };
            async move {
                sleep(SECOND * 2).await;
                answer(&[("cache-control", control)], n.to_string())
            }
        }
    });
    let (cache, _) = cached(&origin);
    let timed = |wait| {
        let cache = cache.clone();
        async move {
            sleep(wait).await;
            let began = Instant::now();
            let got = send(&cache, get(&[])).await;
            (began.elapsed().as_millis(), got.cache().to_owned())
        }
    };
    tokio::join!(timed(Duration::ZERO), timed(SECOND));
    for _ in 0..100 {
        let (one, two) = tokio::join!(timed(Duration::ZERO), timed(SECOND));
        let expected = (2000, "fwd=uri-miss; fwd-status=200; detail=private".to_owned());
        assert_eq!([&one, &two], [&expected; 2]);
    }
    // As soon as it can be stored, it is.
    storable.store(0, SeqCst);
    timed(Duration::ZERO).await;
    assert!(timed(Duration::ZERO).await.1.ends_with("stored"));
    assert_eq!(timed(Duration::ZERO).await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn clients_that_only_validate_do_not_keep_a_resource_out_of_the_store() {
    let origin = Origin::new(|n, request| async move {
        let control = if n == 1 { "private" } else { "max-age=60" };
        let mut response = answer(&[("cache-control", control), ("etag", "\"a\"")], n.to_string());
        if request.headers().contains_key("if-none-match") {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    for _ in 0..10 {
        assert_eq!(send(&cache, get(&[("if-none-match", "\"a\"")])).await.status, 304);
        advance(SECOND * 10).await;
    }
    assert!(send(&cache, get(&[])).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn one_who_says_who_he_is_spoils_nothing_for_the_others() {
    let origin = Origin::new(|n, _| async move {
        sleep(SECOND).await;
        answer(FRESH, n.to_string())
    });
    let (cache, _) = cached(&origin);
    let first = tokio::spawn(cache.clone().oneshot(get(&[("cookie", "id=1")])));
    settle().await;
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let cache = cache.clone();
        all.spawn(async move { send(&cache, get(&[])).await.text().to_owned() });
    }
    assert!(all.join_all().await.iter().all(|text| text == "2"));
    first.await.unwrap().unwrap();
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failing_origin_gets_those_who_wait_step_by_step() {
    let waves = Arc::new(std::sync::Mutex::new(std::collections::BTreeMap::<u64, usize>::new()));
    let began = Instant::now();
    let origin = Origin::new({
        let waves = Arc::clone(&waves);
        move |_, _| {
            *waves.lock().unwrap().entry(began.elapsed().as_secs()).or_default() += 1;
            async move {
                sleep(SECOND).await;
                let mut response = answer(&[], "");
                // It recovers.
                if began.elapsed() < SECOND * 4 {
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                } else {
                    response = answer(FRESH, "ok");
                }
                response
            }
        }
    });
    let (cache, _) = cached(&origin);
    let mut all = JoinSet::new();
    for _ in 0..500 {
        let cache = cache.clone();
        all.spawn(async move { send(&cache, get(&[])).await.status });
    }
    let ok = all.join_all().await.iter().filter(|status| **status == 200).count();
    let waves = waves.lock().unwrap().clone();
    assert!(ok > 300, "{ok} were answered well; calls by second: {waves:?}");
    assert!(waves[&0] == 1 && waves[&1] < 20 && waves[&2] < 40, "{waves:?}");
}

#[tokio::test(start_paused = true)]
async fn something_stale_stands_in_for_whoever_may_have_it() {
    const LASTING: &[(&str, &str)] = &[("cache-control", "max-age=10, stale-if-error=100")];
    for failure in [LASTING, &[]] {
        let origin = Origin::new(move |n, _| async move {
            sleep(SECOND).await;
            if n == 1 {
                return answer(LASTING, "good");
            }
            let mut response = answer(failure, "bad");
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        });
        let (cache, _) = cached(&origin);
        send(&cache, get(&[])).await;
        advance(SECOND * 20).await;
        // One who reloads doesn't want it; one who waits for that answer does.
        let reload = get(&[("cache-control", "no-cache")]);
        let (reload, other) = tokio::join!(send(&cache, reload), send(&cache, get(&[])));
        assert_eq!((reload.status, other.status, other.text()), (503, 200, "good"));
        assert!(other.cache().ends_with("collapsed; detail=stale-if-error"), "{}", other.cache());
        let head = send(&cache, request("HEAD", "http://example.com/a", &[])).await;
        assert_eq!(head.status, 200, "{}", head.cache());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_keeps_the_others_for_a_bounded_time() {
    let origin = Origin::new(|_, _| async {
        sleep(SECOND).await;
        long(64)
    });
    let (cache, _) = cached_with(&origin, |builder| builder.max_body(1 << 20).max_lag(SECOND * 5));
    let both = tokio::join!(cache.clone().oneshot(get(&[])), cache.clone().oneshot(get(&[])));
    let (reading, stopped) = (both.0.unwrap(), both.1.unwrap());
    let began = Instant::now();
    let body = reading.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), 64 * (64 << 10));
    assert_eq!(began.elapsed().as_secs(), 5);
    let error = stopped.into_body().collect().await.unwrap_err();
    assert!(error.to_string().contains("not read for too long"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn bodies_in_flight_stay_within_their_bound() {
    // Chunks that tell when they are dropped.
    #[derive(Clone)]
    struct Live(Arc<AtomicUsize>, Arc<AtomicUsize>);
    struct Chunk(Vec<u8>, Arc<AtomicUsize>);
    impl AsRef<[u8]> for Chunk {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Chunk {
        fn drop(&mut self) {
            self.1.fetch_sub(self.0.len(), SeqCst);
        }
    }
    let live = Live(Arc::default(), Arc::default());
    let origin = Origin::new({
        let live = live.clone();
        move |_, _| {
            let Live(now, peak) = live.clone();
            let frames = stream::iter(0..16).map(move |_| {
                let held = now.fetch_add(64 << 10, SeqCst) + (64 << 10);
                peak.fetch_max(held, SeqCst);
                let chunk = Chunk(vec![7; 64 << 10], Arc::clone(&now));
                Ok::<_, io::Error>(Frame::data(Bytes::from_owner(chunk)))
            });
            async move { answer(FRESH, "").map(|_| BodyExt::boxed(StreamBody::new(frames))) }
        }
    });
    let bound = 2 << 20;
    let (cache, _) = cached_with(&origin, |builder| builder.max_body(bound).max_in_flight(bound));
    // Many clients that read nothing.
    let mut held = Vec::new();
    for n in 0..40 {
        let uri = format!("http://example.com/{n}");
        held.push(cache.clone().oneshot(request("GET", &uri, &[])).await.unwrap());
        settle().await;
    }
    // One chunk of each body that has no room is with its reader or on its way.
    let peak = live.1.load(SeqCst);
    assert!(peak <= bound + 40 * 2 * (64 << 10), "{peak} bytes at once");
    for response in held {
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 1 << 20);
    }
    settle().await;
    assert_eq!(live.0.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn slow_readers_of_what_is_stored_hold_no_budget() {
    let origin = Origin::new(|_, _| async { answer(FRESH, vec![7; 1 << 20]) });
    let (cache, _) =
        cached_with(&origin, |builder| builder.max_body(1 << 20).max_in_flight(2 << 20));
    let mut held = Vec::new();
    for n in 0..20 {
        let uri = format!("http://example.com/{n}");
        held.push(cache.clone().oneshot(request("GET", &uri, &[])).await.unwrap());
        settle().await;
    }
    for n in 0..20 {
        let uri = format!("http://example.com/{n}");
        assert!(send(&cache, request("GET", &uri, &[])).await.is_hit(), "{n}");
    }
    assert_eq!(read(held.remove(0)).await.body.len(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_cache_inside_of_a_cache_does_not_wait_for_itself() {
    let origin = Origin::with(FRESH);
    let layer = CacheLayer::builder(store()).build().unwrap();
    let cache =
        layer.layer(layer.layer(origin).map_response(|response| response.map(BodyExt::boxed)));
    let began = Instant::now();
    let response = cache.clone().oneshot(get(&[])).await.unwrap();
    assert_eq!(response.headers().get_all("cache-status").iter().count(), 2);
    assert_eq!(response.headers()["cache-status"], "tower-keep; fwd=bypass; detail=nested");
    response.into_body().collect().await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    settle().await;
    let hit = cache.oneshot(get(&[])).await.unwrap();
    let ours = hit.headers().get_all("cache-status").iter().next_back().unwrap();
    assert!(ours.to_str().unwrap().contains("hit"), "{ours:?}");
}

#[tokio::test(start_paused = true)]
async fn a_post_whose_client_leaves_or_whose_handler_errs_drops_its_target() {
    let acted = Arc::new(Semaphore::new(0));
    let service = tower::service_fn({
        let acted = Arc::clone(&acted);
        move |request: http::Request<http_body_util::Empty<Bytes>>| {
            let acted = Arc::clone(&acted);
            async move {
                match (request.method().as_str(), request.uri().query()) {
                    ("POST", Some("err")) => Err("reset after the handler had acted"),
                    ("POST", _) => {
                        acted.add_permits(1);
                        std::future::pending().await
                    }
                    _ => Ok(answer(FRESH, "x")),
                }
            }
        }
    });
    let cache = CacheLayer::builder(store()).build().unwrap().layer(service);
    for target in ["http://example.com/a?err", "http://example.com/a?leave"] {
        let look = || async {
            let response = cache.clone().oneshot(request("GET", target, &[])).await.unwrap();
            read(response).await.is_hit()
        };
        assert!(!look().await && look().await);
        let post = tokio::spawn(cache.clone().oneshot(request("POST", target, &[])));
        if target.ends_with("err") {
            post.await.unwrap().unwrap_err();
        } else {
            acted.acquire().await.unwrap().forget();
            post.abort();
            settle().await;
        }
        assert!(!look().await, "{target}");
    }
}
