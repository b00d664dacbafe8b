//! `CacheLayer`: hits of each kind, and a miss.

use std::convert::Infallible;
use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use tokio::runtime::Runtime;
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt};
use tower_keep::cache::{Cache, CacheLayer, CompressedForms};
use tower_keep::compress::{CompressLayer, Encoding};

use super::service::{Asked, KIB, answer, bare, request, request_with, send, sends};
use super::store::store;
use super::{ENTRIES, HOT, below};
use crate::{Way, With};

pub(super) fn hit(runtime: &Rc<Runtime>, entries: u64) -> Box<dyn Way> {
    let cached = filled(runtime, layer().layer(bare(KIB)), entries);
    let mut next = below(entries);
    sends(cached, move || request(next()))
}

pub(super) fn hit_before_axum(runtime: &Rc<Runtime>) -> Box<dyn Way> {
    let body = Bytes::from(vec![b'x'; KIB]);
    let handler = move || async move { answer(&body).map(Body::new) };
    let router: Router = Router::new().route("/products/{id}", get(handler));
    let router = router.into_service::<Empty<Bytes>>();
    let cached = filled(runtime, layer().layer(router), HOT);
    let mut next = below(HOT);
    sends(cached, move || request(next()))
}

pub(super) fn hit_compressed(runtime: &Rc<Runtime>) -> Box<dyn Way> {
    let (cached, br) = (forms().layer(bare(KIB)), HeaderValue::from_static("br"));
    let mut next = below(HOT);
    let ask = move |id| request_with(id, "accept-encoding", &br);
    compressed(runtime, &cached, HOT, &ask);
    sends(cached, move || ask(next()))
}

pub(super) fn not_modified(runtime: &Rc<Runtime>) -> Box<dyn Way> {
    let cached = filled(runtime, layer().layer(bare(KIB)), HOT);
    let tag = HeaderValue::from_static("\"1\"");
    let mut next = below(HOT);
    let ask = move |id| request_with(id, "if-none-match", &tag);
    assert_eq!(send(&cached, ask(0)).status(), StatusCode::NOT_MODIFIED);
    sends(cached, move || ask(next()))
}

pub(super) fn range(runtime: &Rc<Runtime>) -> Box<dyn Way> {
    let cached = filled(runtime, layer().layer(bare(KIB)), HOT);
    let range = HeaderValue::from_static("bytes=100-199");
    let mut next = below(HOT);
    let ask = move |id| request_with(id, "range", &range);
    assert_eq!(send(&cached, ask(0)).status(), StatusCode::PARTIAL_CONTENT);
    sends(cached, move || ask(next()))
}

/// Until what was sent is stored, too.
pub(super) fn miss(runtime: &Rc<Runtime>) -> Box<dyn Way> {
    let cached = filled(runtime, layer().layer(bare(KIB)), HOT);
    let mut next = HOT..;
    let runtime = Rc::clone(runtime);
    Box::new(With {
        prepare: move || request(next.next().unwrap()),
        run: move |request| runtime.block_on(fetch(&cached, request)),
    })
}

pub(super) fn layer() -> CacheLayer {
    CacheLayer::builder(store()).build().unwrap()
}

/// With compressed forms, of which the first is the last: else a denser one comes at a time that nobody
/// knows beforehand.
pub(super) fn forms() -> CacheLayer {
    let compress = CompressLayer::builder().encodings([Encoding::Brotli]).build().unwrap();
    let forms = CompressedForms::from(&compress).dense_up_to(0);
    CacheLayer::builder(store()).compress(forms).build().unwrap()
}

/// With `entries` responses in it.
fn filled<S, B>(runtime: &Runtime, cached: Cache<S>, entries: u64) -> Cache<S>
where
    Cache<S>: Service<Asked, Response = Response<B>, Error = Infallible> + Clone,
    B: HttpBody<Data = Bytes>,
{
    for id in 0..entries {
        runtime.block_on(fetch(&cached, request(id)));
    }
    let _entered = runtime.enter();
    for id in 0..entries {
        let hit = send(&cached, request(id));
        assert!(hit.headers()["cache-status"].to_str().unwrap().contains("hit"));
    }
    cached
}

/// Asks for `entries` responses until all of them are sent compressed.
pub(super) fn compressed<S, B>(
    runtime: &Runtime,
    cached: &S,
    entries: u64,
    ask: &impl Fn(u64) -> Asked,
) where
    S: Service<Asked, Response = Response<B>, Error = Infallible> + Clone,
    B: HttpBody<Data = Bytes>,
{
    for id in 0..entries {
        runtime.block_on(async {
            // Not all are made at once, and one that couldn't be made is tried again later.
            for _ in 0..10_000 {
                let response = cached.clone().oneshot(ask(id)).await.unwrap();
                let is_compressed = response.headers().get("content-encoding").is_some();
                drop(response.into_body().collect().await);
                if is_compressed {
                    return;
                }
                sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(id, ENTRIES, "no compressed form has come");
        });
    }
}

async fn fetch<S, B>(cached: &S, request: Asked)
where
    S: Service<Asked, Response = Response<B>, Error = Infallible> + Clone,
    B: HttpBody<Data = Bytes>,
{
    let response = cached.clone().oneshot(request).await.unwrap();
    drop(black_box(response.into_body().collect().await));
    tokio::task::yield_now().await;
}
