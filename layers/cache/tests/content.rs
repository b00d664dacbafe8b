//! Requests that are keyed by their content: what is read of it and what isn't, how it reaches the
//! handler, and what is stored of the answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{BodyExt, Full, StreamBody};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio::time::{Instant, advance, sleep};
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_cache::{BodyKeyLayer, BodyKeyLayerBuilder, CacheBody, CacheLayer, ReplayBody};
use tower_keep_store::{L1, Store};

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Answer = Response<BoxBody<Bytes, io::Error>>;

const SECOND: Duration = Duration::from_secs(1);

/// What the handler saw of a request.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    body: Bytes,
    trailers: Option<HeaderMap>,
    error: Option<String>,
    exact: Option<u64>,
    conditional: bool,
}

/// A handler that echoes what it gets, with the fields that the request asks for in `x-answer`, and
/// trailers in `x-trailers`.
#[derive(Clone)]
struct Service {
    inner: BoxCloneSyncService<Request<Body>, Got, Infallible>,
    calls: Arc<AtomicUsize>,
    seen: Arc<std::sync::Mutex<Vec<Seen>>>,
}

/// A response that was read to its end.
#[derive(Debug)]
struct Got {
    cache: String,
    text: String,
    trailers: Option<HeaderMap>,
    status: u16,
}

impl Got {
    fn is_hit(&self) -> bool {
        self.cache.starts_with("hit")
    }
}

fn fields(list: &str) -> HeaderMap {
    let pairs = list.split('|').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

async fn handle<B>(request: Request<B>, seen: Arc<std::sync::Mutex<Vec<Seen>>>) -> Answer
where
    B: http_body::Body<Data = Bytes, Error = io::Error>,
{
    let (parts, body) = request.into_parts();
    let mut body = Box::pin(body);
    let mut saw = Seen {
        exact: body.size_hint().exact(),
        conditional: parts.headers.contains_key("if-none-match"),
        ..Seen::default()
    };
    let mut data = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(chunk)) => data.extend_from_slice(&chunk),
            Ok(Err(frame)) => saw.trailers = frame.into_trailers().ok(),
            Err(error) => saw.error = Some(error.to_string()),
        }
    }
    saw.body = data.into();
    seen.lock().unwrap().push(saw.clone());
    let text = |name| parts.headers.get(name).map_or("", |value| value.to_str().unwrap());
    let answer = match text("x-answer") {
        "" => "cache-control=public, max-age=60",
        answer => answer,
    };
    let trailers = fields(text("x-trailers"));
    let mut frames = vec![Ok(Frame::data(saw.body))];
    if !trailers.is_empty() {
        frames.push(Ok(Frame::trailers(trailers)));
    }
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(stream::iter(frames))));
    *response.headers_mut() = fields(answer);
    response
}

fn posts(builder: BodyKeyLayerBuilder) -> BodyKeyLayerBuilder {
    builder.methods([Method::POST]).when(|head| head.uri().path() == "/search")
}

fn service_with(settings: impl FnOnce(BodyKeyLayerBuilder) -> BodyKeyLayerBuilder) -> Service {
    let store = Store::builder().l1(L1::bytes(16 << 20)).build().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::default();
    let handler = service_fn({
        let (calls, seen) = (Arc::clone(&calls), Arc::clone(&seen));
        move |request: Request<ReplayBody<Body>>| {
            calls.fetch_add(1, SeqCst);
            let answer = handle(request, Arc::clone(&seen));
            async move { Ok::<_, Infallible>(answer.await) }
        }
    });
    let cache = CacheLayer::builder(store).build().unwrap().layer(handler);
    let service = settings(posts(BodyKeyLayer::builder())).build().unwrap().layer(cache);
    let service =
        service.and_then(|response: Response<CacheBody<BoxBody<Bytes, io::Error>>>| async move {
            let (parts, body) = response.into_parts();
            let collected = body.collect().await.unwrap();
            tokio::task::yield_now().await;
            let cache = parts.headers["cache-status"].to_str().unwrap();
            Ok(Got {
                cache: cache.strip_prefix("tower-keep; ").unwrap().to_owned(),
                trailers: collected.trailers().cloned(),
                text: String::from_utf8_lossy(&collected.to_bytes()).into_owned(),
                status: parts.status.as_u16(),
            })
        });
    Service { inner: BoxCloneSyncService::new(service), calls, seen }
}

fn service() -> Service {
    service_with(|builder| builder)
}

impl Service {
    async fn send(&self, request: Request<Body>) -> Got {
        let got = self.inner.clone().oneshot(request).await.unwrap();
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        got
    }

    async fn post(&self, body: &str, fields: &[(&str, &str)]) -> Got {
        self.send(post(full(body), fields)).await
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

fn full(body: &str) -> Body {
    Full::from(body.to_owned()).map_err(|never| match never {}).boxed_unsync()
}

fn frames(
    frames: impl IntoIterator<Item = Result<Frame<Bytes>, io::Error>, IntoIter: Send + 'static>,
) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(stream::iter(frames)))
}

fn request(method: &str, path: &str, body: Body, fields: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(format!("http://example.com{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

fn post(body: Body, fields: &[(&str, &str)]) -> Request<Body> {
    request("POST", "/search", body, fields)
}

#[tokio::test]
async fn the_same_content_is_a_hit_and_another_is_not() {
    let service = service();
    assert_eq!(service.post("a", &[]).await.cache, "fwd=uri-miss; fwd-status=200; stored");
    let got = service.post("a", &[]).await;
    assert!(got.is_hit() && got.text == "a");
    assert_eq!(service.post("b", &[]).await.text, "b");
    assert!(service.post("", &[]).await.text.is_empty());
    // However it comes.
    let halves = ["aaa", "bbb"].map(|half| Ok(Frame::data(Bytes::from(half))));
    service.send(post(frames(halves), &[("transfer-encoding", "chunked")])).await;
    assert!(service.post("aaabbb", &[("content-length", "6")]).await.is_hit());
    // What it means is in other fields.
    for about in ["content-type", "content-encoding", "content-language", "grpc-encoding"] {
        assert!(!service.post("a", &[(about, "x")]).await.is_hit(), "{about}");
        assert!(service.post("a", &[(about, "x")]).await.is_hit(), "{about}");
    }
    assert!(!service.send(request("POST", "/search?x", full("a"), &[])).await.is_hit());
    assert!(!service.send(request("GET", "/search", full(""), &[])).await.is_hit());
}

#[tokio::test]
async fn only_what_is_declared_to_read_is_looked_up() {
    let service = service_with(|builder| {
        builder.when_content(|_, content| !content.starts_with(b"mutation"))
    });
    for (method, path, body) in [
        ("POST", "/other", "a"),
        ("PUT", "/search", "a"),
        ("QUERY", "/search", "a"),
        ("POST", "/search", "mutation a"),
    ] {
        for _ in 0..2 {
            let got = service.send(request(method, path, full(body), &[])).await;
            assert_eq!(got.cache, "fwd=method", "{method} {path} {body}");
            assert_eq!(service.last().body, body);
        }
    }
    let query = service_with(|builder| builder.methods([Method::from_bytes(b"QUERY").unwrap()]));
    let ask = || query.send(request("QUERY", "/search", full("a"), &[]));
    ask().await;
    assert!(ask().await.is_hit());
}

#[tokio::test]
async fn what_is_not_for_all_is_not_stored_and_what_is_conditional_passes() {
    let service = service();
    for (field, detail) in [
        (("x-answer", "x=y"), "fwd=uri-miss; fwd-status=200; detail=no-freshness"),
        (
            ("x-answer", "cache-control=max-age=60, no-store"),
            "fwd=uri-miss; fwd-status=200; detail=no-store",
        ),
        (("cache-control", "no-store"), "fwd=request; detail=request-no-store"),
        (("if-none-match", "*"), "fwd=bypass; detail=precondition"),
        (("if-match", "*"), "fwd=bypass; detail=precondition"),
    ] {
        assert_eq!(service.post(field.1, &[field]).await.cache, detail);
    }
    let personal = [("authorization", "x"), ("x-answer", "cache-control=max-age=60")];
    let got = service.post("a", &personal).await;
    assert!(got.cache.ends_with("detail=authorization"), "{}", got.cache);
}

#[tokio::test]
async fn a_write_to_the_target_drops_all_that_was_read_from_it() {
    let service = service();
    let reads = || {
        [
            post(full("a"), &[]),
            post(full("b"), &[("content-type", "x")]),
            request("GET", "/search", full(""), &[]),
        ]
    };
    for write in [
        request("PUT", "/search", full("x"), &[]),
        request("DELETE", "/search", full(""), &[]),
        request("POST", "/other", full(""), &[("x-answer", "location=/search")]),
        post(full("a"), &[("x-http-method-override", "DELETE")]),
        request("GET", "/search", full(""), &[("x-http-method-override", "DELETE")]),
    ] {
        for read in reads() {
            service.send(read).await;
        }
        for read in reads() {
            assert!(service.send(read).await.is_hit());
        }
        assert_eq!(service.send(write).await.cache, "fwd=method");
        for read in reads() {
            assert!(!service.send(read).await.is_hit());
        }
    }
    // What only reads drops nothing, looked up or not.
    service.post(&"x".repeat(100_000), &[]).await;
    assert!(service.post("a", &[]).await.is_hit());
}

#[tokio::test]
async fn what_is_too_long_passes_on_whole() {
    let service = service_with(|builder| builder.max_len(10));
    let chunks = |count: usize| {
        frames(vec![0; count].into_iter().map(|_| Ok(Frame::data(Bytes::from("1234")))))
    };
    for _ in 0..2 {
        let got = service.send(post(chunks(5), &[])).await;
        assert_eq!(got.cache, "fwd=bypass; detail=content-too-long");
        assert_eq!(service.last().body, "1234".repeat(5));
    }
    // One that says so is not even looked at.
    let got = service.post("12345678901", &[]).await;
    assert_eq!(got.cache, "fwd=bypass; detail=content-too-long");
    assert_eq!(service.last().exact, Some(11));
    service.post("1234567890", &[]).await;
    assert_eq!(service.last().exact, Some(10), "its length is still known");
    assert!(service.post("1234567890", &[]).await.is_hit());
    // Many small frames are as much work as large ones.
    let many = frames((0..5000).map(|_| Ok(Frame::data(Bytes::new()))));
    assert_eq!(service.send(post(many, &[])).await.cache, "fwd=bypass; detail=content-too-long");
}

#[tokio::test]
async fn all_that_is_being_read_stays_within_a_bound() {
    let service = service_with(|builder| builder.max_len(10).max_in_flight(15));
    let (ask, frames) = mpsc::channel::<Result<Frame<Bytes>, io::Error>>(1);
    let slow = StreamBody::new(stream::unfold(frames, |mut frames| async {
        frames.recv().await.map(|frame| (frame, frames))
    }));
    let held = tokio::spawn({
        let service = service.clone();
        async move { service.send(post(BodyExt::boxed_unsync(slow), &[])).await }
    });
    ask.send(Ok(Frame::data(Bytes::from("12345678")))).await.unwrap();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let got = service.post("12345678", &[]).await;
    assert_eq!(got.cache, "fwd=bypass; detail=content-too-long");
    drop(ask);
    assert!(held.await.unwrap().cache.ends_with("stored"));
    assert!(service.post("12345678", &[]).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn what_is_too_slow_passes_on_as_it_comes() {
    let service = service();
    let slow = stream::iter(["a", "b", "c"]).then(|chunk| async move {
        sleep(SECOND * 7 / 10).await;
        Ok(Frame::data(Bytes::from(chunk)))
    });
    let began = Instant::now();
    let got = service.send(post(BodyExt::boxed_unsync(StreamBody::new(slow)), &[])).await;
    assert_eq!(
        (got.cache.as_str(), got.text.as_str()),
        ("fwd=bypass; detail=content-too-slow", "abc")
    );
    assert_eq!(began.elapsed(), SECOND * 21 / 10, "it waited for nothing else");
    assert!(!service.post("abc", &[]).await.is_hit());
}

#[tokio::test]
async fn errors_and_trailers_reach_the_handler() {
    let service = service();
    for _ in 0..2 {
        let broken = [Ok(Frame::data(Bytes::from("a"))), Err(io::Error::other("broken"))];
        let got = service.send(post(frames(broken), &[])).await;
        assert_eq!(got.cache, "fwd=bypass; detail=content-failed");
        let seen = service.last();
        assert_eq!((&seen.body[..], seen.error.as_deref()), (&b"a"[..], Some("broken")));

        let trailers = fields("x-sum=1");
        let with = [Ok(Frame::data(Bytes::from("a"))), Ok(Frame::trailers(trailers.clone()))];
        let got = service.send(post(frames(with), &[])).await;
        assert_eq!(got.cache, "fwd=bypass; detail=content-trailers");
        let seen = service.last();
        assert_eq!((&seen.body[..], seen.trailers), (&b"a"[..], Some(trailers)));
    }
    assert!(!service.post("a", &[]).await.is_hit());
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_content_with_it() {
    let service = service();
    let dropped = CancellationToken::new();
    let guard = dropped.clone().drop_guard();
    let hanging = stream::once(async move {
        let _guard = guard;
        std::future::pending::<Result<Frame<Bytes>, io::Error>>().await
    });
    let request = post(BodyExt::boxed_unsync(StreamBody::new(hanging)), &[]);
    let mut call = Box::pin(service.inner.clone().oneshot(request));
    assert!(futures_util::poll!(&mut call).is_pending());
    drop(call);
    assert!(dropped.is_cancelled());
    assert_eq!(service.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_stale_is_asked_for_again_with_its_content_and_no_condition() {
    let service = service();
    let answer = ("x-answer", "cache-control=max-age=10, stale-while-revalidate=60|etag=\"a\"");
    service.post("a", &[answer]).await;
    advance(SECOND * 20).await;
    assert!(service.post("a", &[answer]).await.is_hit());
    assert_eq!((service.calls(), service.last().body), (2, Bytes::from("a")));
    advance(SECOND * 100).await;
    let got = service.post("a", &[answer]).await;
    assert_eq!((got.status, got.cache.as_str()), (200, "fwd=stale; fwd-status=200; stored"));
    assert!(!service.last().conditional, "to POST it would be a condition for doing it");
}

#[tokio::test]
async fn concurrent_requests_with_the_same_content_are_one() {
    let service = service();
    let (a, b, c) =
        tokio::join!(service.post("a", &[]), service.post("a", &[]), service.post("b", &[]));
    assert_eq!((a.text.as_str(), b.text.as_str(), c.text.as_str()), ("a", "a", "b"));
    assert_eq!(service.calls(), 2);
}

#[tokio::test]
async fn of_grpc_only_what_went_well_is_stored() {
    let call = ("content-type", "application/grpc+proto");
    let fresh = "cache-control=public, max-age=60";
    let failed = "cache-control=public, max-age=60|grpc-status=5";
    for (answer, trailers, stored) in [
        (fresh, "grpc-status=0", true),
        (fresh, "grpc-status=14", false),
        (fresh, "grpc-status=00", false),
        (fresh, "x=y", false),
        (fresh, "", false),
        (failed, "", false),
        ("cache-control=public, max-age=60|grpc-status=0", "", true),
        ("x=y", "grpc-status=0", false),
    ] {
        let service = service();
        let fields = [call, ("x-answer", answer), ("x-trailers", trailers)];
        service.post("a", &fields).await;
        let again = service.post("a", &fields).await;
        assert_eq!(again.is_hit(), stored, "{answer} {trailers} {}", again.cache);
        let expected = Some(self::fields(trailers)).filter(|trailers| !trailers.is_empty());
        assert_eq!(again.trailers, expected);
        // A deadline is about the call, not about what it asks for.
        let timed = [call, ("x-answer", answer), ("x-trailers", trailers), ("grpc-timeout", "1S")];
        assert_eq!(service.post("a", &timed).await.is_hit(), stored);
        let coded = [
            call,
            ("x-answer", answer),
            ("x-trailers", trailers),
            ("grpc-accept-encoding", "gzip"),
        ];
        assert!(!service.post("a", &coded).await.is_hit());
    }
}

/// Ready as often as `places` says; panics when it is called without having said so. A clone isn't
/// ready until it said so itself.
struct Strict {
    places: Arc<AtomicUsize>,
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { places: Arc::clone(&self.places), ready: false }
    }
}

impl tower::Service<Request<ReplayBody<Body>>> for Strict {
    type Response = ();
    type Error = &'static str;
    type Future = std::future::Ready<Result<(), &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        let took = self.places.fetch_update(SeqCst, SeqCst, |places| places.checked_sub(1));
        self.ready |= took.is_ok();
        if took.is_ok() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, request: Request<ReplayBody<Body>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        std::future::ready(match request.uri().query() {
            Some(_) => Err("no backend"),
            None => Ok(()),
        })
    }
}

#[tokio::test]
async fn its_readiness_and_its_errors_are_those_of_the_service_inside() {
    let places = Arc::new(AtomicUsize::new(5));
    let inner = Strict { places: Arc::clone(&places), ready: false };
    let layer = posts(BodyKeyLayer::builder()).build().unwrap();
    let mut service = layer.layer(inner);
    for path in ["/search", "/other"] {
        // The same service twice, and a clone.
        for _ in 0..2 {
            let ready = service.ready().await.unwrap();
            tower::Service::call(ready, request("POST", path, full("a"), &[])).await.unwrap();
        }
    }
    let failing = request("POST", "/search?x", full("a"), &[]);
    assert_eq!(service.clone().oneshot(failing).await, Err("no backend"));
    assert_eq!(places.load(SeqCst), 0);
    let mut waiting = Box::pin(service.clone().oneshot(post(full("a"), &[])));
    assert!(futures_util::poll!(&mut waiting).is_pending());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::CONNECT] {
        let error = BodyKeyLayer::builder().methods([method.clone()]).build().unwrap_err();
        assert!(error.to_string().contains(method.as_str()), "{error}");
    }
    assert!(BodyKeyLayer::builder().methods([]).build().is_err());
    assert!(BodyKeyLayer::builder().max_wait(Duration::ZERO).build().is_err());
    assert!(BodyKeyLayer::builder().max_in_flight(1).build().is_err());
    assert!(BodyKeyLayer::builder().build().is_ok());
}

/// A body as it may come: chunks, and how it ends.
fn bodies() -> impl Strategy<Value = (Vec<Vec<u8>>, u8)> {
    (prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..8), 0..3u8)
}

proptest! {
    /// Whatever becomes of it, the handler gets what the client sent.
    #[test]
    fn every_body_arrives_as_it_was_sent((chunks, end) in bodies(), max_len in 1..40usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let sent = chunks.concat();
        let mut all: Vec<_> = chunks.into_iter().map(|chunk| Ok(Frame::data(Bytes::from(chunk)))).collect();
        let trailers = fields("x-sum=1");
        match end {
            1 => all.push(Ok(Frame::trailers(trailers.clone()))),
            2 => all.push(Err(io::Error::other("broken"))),
            _ => {}
        }
        runtime.block_on(async {
            let service = service_with(|builder| builder.max_len(max_len));
            let answer = [("x-answer", "cache-control=no-store")];
            let request = post(frames(all), &answer);
            service.send(request).await;
            let seen = service.last();
            prop_assert_eq!(&seen.body[..], &sent[..]);
            prop_assert_eq!(seen.trailers, (end == 1).then_some(trailers));
            prop_assert_eq!(seen.error.is_some(), end == 2);
            Ok(())
        })?;
    }
}
