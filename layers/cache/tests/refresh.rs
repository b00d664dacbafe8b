//! Responses are refreshed before anybody has to wait for them, an origin that fails is left alone for
//! a while, and `Cache-Status` says so. The clock is the test's, so that what a client waits is exact.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::{Instant, advance, sleep};
use tower::Layer;
use tower_keep_cache::{Cache, CacheLayer};
use tower_keep_store::remote::{Epochs, Listener, Put, Remote, RemoteFuture, Stored};
use tower_keep_store::{Error, L1, RemoteError, Store, Strength, Tag};

use origin::{Got, Origin, answer, cached, cached_with, get, request, send, settle};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// How long the origin takes.
const TAKES: Duration = Duration::from_millis(50);

/// Answers with the number of the call, after a while; with 304 if the one who asks has the version.
fn slow(control: &'static str) -> Origin {
    Origin::new(move |n, request| async move {
        sleep(TAKES).await;
        assert!(!request.headers().contains_key("cache-control"), "it is the client's own");
        let mut response = answer(&[("cache-control", control), ("etag", "\"a\"")], n.to_string());
        if request.headers().contains_key("if-none-match") {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response
    })
}

/// Asks once in each of so many milliseconds; how long they waited at the most, and the last answer.
async fn load(cache: &Cache<Origin>, requests: u32) -> (Duration, Got) {
    let mut longest = Duration::ZERO;
    let mut last = None;
    for _ in 0..requests {
        sleep(MS).await;
        let began = Instant::now();
        let got = send(cache, get(&[])).await;
        longest = longest.max(began.elapsed());
        last = Some(got);
    }
    (longest, last.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_hot_response_makes_nobody_wait_and_costs_about_one_call_for_each_life() {
    let origin = slow("max-age=4");
    let (cache, store) = cached(&origin);
    send(&cache, get(&[])).await;
    let mut misses = 0;
    for _ in 0..40_000 {
        sleep(MS).await;
        let began = Instant::now();
        let got = send(&cache, get(&[("cache-control", "max-age=60")])).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        misses += u32::from(!got.is_hit());
    }
    let calls = origin.calls() - 1;
    assert!((10..=12).contains(&calls), "{calls} in ten lives");
    assert_eq!((misses, store.stats().early_refreshes), (0, calls as u64));
}

#[tokio::test(start_paused = true)]
async fn without_early_refresh_somebody_waits() {
    let origin = slow("max-age=4");
    let (cache, _) = cached_with(&origin, |builder| builder.early_refresh(0.0));
    send(&cache, get(&[])).await;
    assert_eq!(load(&cache, 5_000).await.0, TAKES);
}

/// An origin that says this, and fails while it is down.
fn failing(control: &'static str) -> (Origin, Arc<AtomicBool>) {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let origin = Origin::new(move |n, _| {
        let is_down = is_down.load(SeqCst);
        async move {
            let mut response = answer(&[("cache-control", control)], n.to_string());
            if is_down {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response.headers_mut().remove("cache-control");
            }
            response
        }
    });
    (origin, down)
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_is_down_is_asked_once_a_second_and_nobody_waits() {
    for control in ["max-age=10, stale-if-error=600", "max-age=10, stale-while-revalidate=600"] {
        let (origin, down) = failing(control);
        let (cache, store) = cached(&origin);
        send(&cache, get(&[])).await;
        advance(SECOND * 10).await;
        down.store(true, SeqCst);
        let (longest, last) = load(&cache, 3_000).await;
        assert_eq!((longest, last.status, last.text()), (Duration::ZERO, 200, "1"));
        let calls = origin.calls() - 1;
        assert!((3..=4).contains(&calls), "{calls} in three seconds");
        assert!(store.stats().retries_paused > 2_900);
        let in_need = control.contains("error").then_some("hit; ttl=-3; detail=stale-if-error");
        assert_eq!(last.cache(), in_need.unwrap_or("hit; ttl=-3"));
        down.store(false, SeqCst);
        let (longest, last) = load(&cache, 1_001).await;
        assert_eq!(longest, Duration::ZERO);
        assert!(last.text() != "1", "the new one is there within the pause: {}", last.cache());
    }
}

#[tokio::test(start_paused = true)]
async fn the_pause_is_not_for_those_who_insist_on_the_origin() {
    let (origin, down) = failing("max-age=10, stale-if-error=600");
    let (cache, store) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 10).await;
    down.store(true, SeqCst);
    send(&cache, get(&[])).await;
    assert_eq!(origin.calls(), 2);
    let range = send(&cache, get(&[("range", "bytes=0-0")])).await;
    let head = send(&cache, request("HEAD", "http://example.com/a", &[])).await;
    let tolerant = send(&cache, get(&[("cache-control", "only-if-cached")])).await;
    assert_eq!((range.status, head.status, tolerant.status, origin.calls()), (206, 200, 200, 2));
    let insisting = send(&cache, get(&[("cache-control", "no-cache")])).await;
    assert_eq!((insisting.status, origin.calls()), (503, 3));
    store.expire_all().await;
    assert_eq!(send(&cache, get(&[])).await.text(), "1");
    assert_eq!(origin.calls(), 4, "after an invalidation it is worth trying");
    store.clear().await;
    assert_eq!(send(&cache, get(&[])).await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn what_must_be_validated_is_each_time() {
    let (origin, down) = failing("max-age=10, must-revalidate, stale-if-error=600");
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 10).await;
    down.store(true, SeqCst);
    for call in 2..5 {
        assert_eq!((send(&cache, get(&[])).await.status, origin.calls()), (503, call));
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_refresh_that_fails_hurts_nobody_and_is_not_repeated_at_each_hit() {
    let (hits, down) = failing("max-age=20");
    let origin = Origin::new(move |_, request| {
        let hits = hits.clone();
        async move {
            sleep(TAKES).await;
            tower::ServiceExt::oneshot(hits, request).await.unwrap()
        }
    });
    // So eager that each request in the second half would refresh.
    let (cache, _) = cached_with(&origin, |builder| builder.early_refresh(1000.0));
    send(&cache, get(&[])).await;
    down.store(true, SeqCst);
    let (longest, last) = load(&cache, 19_900).await;
    assert_eq!((longest, last.text()), (Duration::ZERO, "1"));
    assert!(last.is_hit() && (8..=14).contains(&origin.calls()), "{} in 10 s", origin.calls());
}

#[tokio::test(start_paused = true)]
async fn once_an_origin_has_failed_nobody_waits_while_it_hangs() {
    let origin = Origin::new(|n, _| async move {
        if n > 1 {
            sleep(SECOND * 3600).await;
        }
        answer(&[("cache-control", "max-age=10, stale-if-error=600")], n.to_string())
    });
    let (cache, _) = cached_with(&origin, |builder| builder.max_wait(SECOND * 5));
    send(&cache, get(&[])).await;
    advance(SECOND * 10).await;
    let began = Instant::now();
    send(&cache, get(&[])).await;
    assert_eq!(began.elapsed(), SECOND * 5, "the first finds out");
    let (longest, last) = load(&cache, 70_000).await;
    assert_eq!((longest, last.status, last.text()), (Duration::ZERO, 200, "1"));
    assert_eq!(origin.calls(), 3, "one after the other, each for `max_fill`");
    settle().await;
}

/// A second tier that is out of reach.
#[derive(Debug)]
struct Away;

impl Remote for Away {
    fn is_available(&self) -> bool {
        false
    }

    fn get(&self, _: Bytes) -> RemoteFuture<'_, Option<Bytes>> {
        Box::pin(async { Err(RemoteError::Unavailable) })
    }

    fn put(&self, _: Put) -> RemoteFuture<'_, Stored> {
        Box::pin(async { Err(RemoteError::Unavailable) })
    }

    fn resolve(&self, _: Vec<Tag>, _: u64) -> RemoteFuture<'_, Vec<Epochs>> {
        Box::pin(async { Err(RemoteError::Unavailable) })
    }

    fn invalidate(&self, _: Tag, _: Strength, _: u64, _: u64) -> RemoteFuture<'_, u64> {
        Box::pin(async { Err(RemoteError::Unavailable) })
    }

    fn buckets(&self) -> u16 {
        1
    }

    fn bucket(&self, _: &[u8]) -> u16 {
        0
    }

    fn removals(&self, _: Vec<u16>) -> RemoteFuture<'_, Vec<u64>> {
        Box::pin(async { Err(RemoteError::Unavailable) })
    }

    fn listen(&self, _: Arc<dyn Listener>) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_node_out_of_step_does_not_serve_is_told() {
    let origin = Origin::with(&[("cache-control", "max-age=60")]);
    let store = Store::builder().l1(L1::bytes(1 << 20)).l2(Away).max_unsynced(SECOND * 5);
    let layer = CacheLayer::builder(store.build().unwrap()).build().unwrap();
    let cache = layer.layer(origin.clone());
    send(&cache, get(&[])).await;
    assert!(send(&cache, get(&[])).await.is_hit(), "for now");
    advance(SECOND * 5).await;
    let got = send(&cache, get(&[])).await;
    assert_eq!(
        (got.text(), got.cache()),
        ("2", "fwd=stale; fwd-status=200; stored; detail=out-of-step")
    );
    assert!(send(&cache, get(&[])).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_node_out_of_step_gives_nobody_what_it_began_to_fetch_too_long_ago() {
    let origin = Origin::new(|n, _| async move {
        sleep(SECOND * 8).await;
        answer(&[("cache-control", "max-age=60")], n.to_string())
    });
    let store = Store::builder().l1(L1::bytes(1 << 20)).l2(Away).max_unsynced(SECOND * 5);
    let layer = CacheLayer::builder(store.build().unwrap()).build().unwrap();
    let cache = layer.layer(origin.clone());
    let ask_after = async |seconds| {
        sleep(SECOND * seconds).await;
        send(&cache, get(&[])).await.text().to_owned()
    };
    let asked = tokio::join!(ask_after(0), ask_after(4), ask_after(6), ask_after(7));
    let got = ["1", "1", "2", "2"].map(str::to_owned);
    assert_eq!(<[String; 4]>::from(asked), got);
}
