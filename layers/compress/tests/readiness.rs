//! The contract of `Service`: no service is called that isn't ready.
#![cfg(feature = "gzip")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tower::{Layer, Service, ServiceExt};
use tower_keep_compress::{CompressLayer, DecompressLayer};

/// Panics when it is called without having said that it is ready; a clone isn't ready until it said
/// so itself. It is ready every other time it is asked.
#[derive(Default)]
struct Strict {
    asked: bool,
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<B> Service<Request<B>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.asked = !self.asked;
        if self.asked {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        let content = Full::from("content ".repeat(1000));
        ready(Ok(Response::builder().header("content-type", "text/plain").body(content).unwrap()))
    }
}

fn requests() -> impl Iterator<Item = Request<Empty<Bytes>>> {
    [
        ("accept-encoding", "gzip"),
        ("content-encoding", "gzip"),
        ("content-encoding", "x"),
        ("x", "y"),
    ]
    .into_iter()
    .map(|(name, value)| Request::get("/").header(name, value).body(Empty::new()).unwrap())
}

#[tokio::test]
async fn only_ready_services_are_called() {
    let compress = CompressLayer::builder().build().unwrap().layer(Strict::default());
    let decompress = DecompressLayer::builder().build().unwrap().layer(Strict::default());
    for request in requests() {
        compress.clone().oneshot(request.clone()).await.unwrap();
        decompress.clone().oneshot(request).await.unwrap();
    }
}

#[tokio::test]
async fn a_service_that_is_not_ready_is_not_called() {
    let mut compress = CompressLayer::builder().build().unwrap().layer(Strict::default());
    let mut decompress = DecompressLayer::builder().build().unwrap().layer(Strict::default());
    let mut cx = Context::from_waker(futures_util::task::noop_waker_ref());
    assert!(Service::<Request<Empty<Bytes>>>::poll_ready(&mut compress, &mut cx).is_pending());
    assert!(Service::<Request<Empty<Bytes>>>::poll_ready(&mut decompress, &mut cx).is_pending());
    for request in requests() {
        let compress = ServiceExt::<Request<Empty<Bytes>>>::ready(&mut compress).await.unwrap();
        compress.call(request).now_or_never().unwrap().unwrap();
    }
}
