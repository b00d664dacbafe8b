//! A service that counts its calls and answers as it was told, and the cache in front of it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses its own part, and a test may panic"
)]

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tower::ServiceExt;
use tower_keep_cache::{Cache, CacheBody, CacheLayer, CacheLayerBuilder};
use tower_keep_store::{L1, Store};
use tower_layer::Layer;
use tower_service::Service;

pub type Body = BoxBody<Bytes, std::io::Error>;
pub type Answer = Response<Body>;
type Handler = dyn Fn(usize, Request<Empty<Bytes>>) -> Pin<Box<dyn Future<Output = Answer> + Send>>
    + Send
    + Sync;

/// An origin; its handler is given the number of the call, from 1.
#[derive(Clone)]
pub struct Origin {
    calls: Arc<AtomicUsize>,
    handler: Arc<Handler>,
}

impl Origin {
    pub fn new<F, Fut>(handler: F) -> Self
    where
        F: Fn(usize, Request<Empty<Bytes>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        Self {
            calls: Arc::default(),
            handler: Arc::new(move |n, request| Box::pin(handler(n, request))),
        }
    }

    /// Answers each call with its number, and these fields.
    pub fn with(fields: &'static [(&'static str, &'static str)]) -> Self {
        Self::new(move |n, _| async move { answer(fields, n.to_string()) })
    }

    /// Counts from `n` again.
    pub fn restart_at(&self, n: usize) {
        self.calls.store(n - 1, SeqCst);
    }

    pub fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

impl Service<Request<Empty<Bytes>>> for Origin {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let answer = (self.handler)(self.calls.fetch_add(1, SeqCst) + 1, request);
        Box::pin(async move { Ok(answer.await) })
    }
}

pub fn answer(fields: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut response =
        Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed());
    for (name, value) in fields {
        response
            .headers_mut()
            .append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    response
}

pub fn store() -> Store {
    Store::builder().l1(L1::bytes(64 << 20)).build().unwrap()
}

/// A cache in front of `origin`, and the store behind it.
pub fn cached(origin: &Origin) -> (Cache<Origin>, Store) {
    cached_with(origin, |builder| builder)
}

pub fn cached_with(
    origin: &Origin,
    settings: impl FnOnce(CacheLayerBuilder) -> CacheLayerBuilder,
) -> (Cache<Origin>, Store) {
    let store = store();
    let layer = settings(CacheLayer::builder(store.clone())).build().unwrap();
    (layer.layer(origin.clone()), store)
}

pub fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}

pub fn get(fields: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    request("GET", "http://example.com/a", fields)
}

/// Lets every task that can run do so.
pub async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// A response whose body is `chunks`, with a pause before each.
pub fn trickle(
    fields: &[(&str, &str)],
    pause: Duration,
    chunks: impl IntoIterator<Item = Bytes, IntoIter: Send + Sync + 'static>,
) -> Answer {
    let chunks = stream::iter(chunks).then(move |chunk| async move {
        tokio::time::sleep(pause).await;
        chunk
    });
    of_stream(fields, chunks)
}

/// A response whose body is `chunks`, as fast as they are asked for.
pub fn streamed(
    fields: &[(&str, &str)],
    chunks: impl IntoIterator<Item = Bytes, IntoIter: Send + Sync + 'static>,
) -> Answer {
    of_stream(fields, stream::iter(chunks))
}

pub fn of_stream(
    fields: &[(&str, &str)],
    chunks: impl Stream<Item = Bytes> + Send + Sync + 'static,
) -> Answer {
    let frames = chunks.map(|chunk| Ok::<_, std::io::Error>(Frame::data(chunk)));
    answer(fields, "").map(|_| BodyExt::boxed(StreamBody::new(Box::pin(frames))))
}

/// A response that was read to its end.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Got {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn cache(&self) -> &str {
        self.field("cache-status").strip_prefix("tower-keep; ").unwrap()
    }

    pub fn is_hit(&self) -> bool {
        self.cache().starts_with("hit")
    }
}

pub async fn read(response: Response<CacheBody<Body>>) -> Got {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    // What is to be stored is, once the task that read it had its turn.
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    Got {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: collected.to_bytes(),
        trailers,
    }
}

pub async fn send(cache: &Cache<Origin>, request: Request<Empty<Bytes>>) -> Got {
    read(cache.clone().oneshot(request).await.unwrap()).await
}
