//! The contract of `Service`: a hit doesn't wait for the inner service, a miss waits until it is
//! ready, and no service is called that isn't.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::Request;
use http_body_util::Empty;
use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, ServiceExt};
use tower_keep_cache::CacheLayer;

use origin::{Answer, Origin, answer, get, read, request, store};

/// Panics when it is called without having said that it is ready; a clone isn't ready until it
/// said so itself. It is ready while there are permits.
struct Strict {
    inner: Origin,
    permits: PollSemaphore,
    ready: bool,
}

impl Strict {
    fn new(inner: Origin, permits: &Arc<Semaphore>) -> Self {
        Self { inner, permits: PollSemaphore::new(Arc::clone(permits)), ready: false }
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), permits: self.permits.clone(), ready: false }
    }
}

impl Service<Request<Empty<Bytes>>> for Strict {
    type Response = Answer;
    type Error = std::convert::Infallible;
    type Future = <Origin as Service<Request<Empty<Bytes>>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.permits.poll_acquire(cx).map(|permit| {
            permit.unwrap().forget();
            self.ready = true;
            Ok(())
        })
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        self.inner.call(request)
    }
}

fn origin() -> Origin {
    Origin::with(&[("cache-control", "max-age=60, stale-while-revalidate=60")])
}

#[tokio::test]
async fn only_ready_services_are_called_for_every_kind_of_request() {
    let permits = Arc::new(Semaphore::new(100));
    let layer = CacheLayer::builder(store()).build().unwrap();
    let cache = layer.layer(Strict::new(origin(), &permits));
    for method in ["GET", "GET", "HEAD", "POST", "OPTIONS", "GET"] {
        read(cache.clone().oneshot(request(method, "http://example.com/a", &[])).await.unwrap())
            .await;
    }
    let uncached = request("GET", "http://example.com/b", &[("range", "bytes=0-1")]);
    read(cache.clone().oneshot(uncached).await.unwrap()).await;
}

#[tokio::test]
async fn a_hit_does_not_wait_for_a_saturated_service_and_a_miss_does() {
    let permits = Arc::new(Semaphore::new(1));
    let layer = CacheLayer::builder(store()).build().unwrap();
    let mut cache = layer.layer(Strict::new(origin(), &permits));
    read(cache.clone().oneshot(get(&[])).await.unwrap()).await;

    let ready = cache.ready().now_or_never().expect("always ready").unwrap();
    let hit = ready.call(get(&[])).now_or_never().expect("at once").unwrap();
    assert!(read(hit).await.is_hit());

    let miss = tokio::spawn(cache.clone().oneshot(request("GET", "http://example.com/b", &[])));
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(!miss.is_finished(), "it waits");
    permits.add_permits(1);
    assert_eq!(read(miss.await.unwrap().unwrap()).await.text(), "2");
}

#[tokio::test]
async fn a_finished_request_gives_its_place_back() {
    let layer = CacheLayer::builder(store()).build().unwrap();
    let cache = layer.layer(ConcurrencyLimit::new(origin(), 1));
    for path in 0..20 {
        let one = request("GET", &format!("http://example.com/{path}"), &[]);
        let response =
            tokio::time::timeout(Duration::from_secs(5), cache.clone().oneshot(one)).await;
        read(response.expect("a place is free").unwrap()).await;
    }
}

#[tokio::test]
async fn errors_of_the_service_are_its_own_and_release_all_who_wait() {
    let broken = Arc::new(AtomicBool::new(true));
    let service = tower::service_fn({
        let broken = Arc::clone(&broken);
        move |_: Request<Empty<Bytes>>| {
            let broken = Arc::clone(&broken);
            async move {
                tokio::task::yield_now().await;
                if broken.load(SeqCst) {
                    Err("no backend")
                } else {
                    Ok(answer(&[("cache-control", "max-age=60")], "fine"))
                }
            }
        }
    });
    let cache = CacheLayer::builder(store()).build().unwrap().layer(service);
    let (a, b) = tokio::join!(cache.clone().oneshot(get(&[])), cache.clone().oneshot(get(&[])));
    assert_eq!((a.unwrap_err(), b.unwrap_err()), ("no backend", "no backend"));
    broken.store(false, SeqCst);
    assert_eq!(read(cache.clone().oneshot(get(&[])).await.unwrap()).await.text(), "fine");
}
