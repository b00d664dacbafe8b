//! An axum service behind the cache layer, over TCP and HTTP/1.1.

#![allow(clippy::unwrap_used, reason = "clippy lets only the functions marked #[test] unwrap")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tower::{ServiceBuilder, ServiceExt};
use tower_keep::prelude::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// What the handlers share with the test.
#[derive(Clone, Default)]
struct Origin {
    calls: Arc<AtomicUsize>,
    /// What `/stream` waits for before its second half.
    go_on: Arc<Notify>,
}

impl Origin {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

fn for_a_minute() -> CacheControl {
    CacheControl::public().max_age(Duration::from_secs(60))
}

async fn product(State(origin): State<Origin>, Path(id): Path<u64>) -> impl IntoResponse {
    let call = origin.calls.fetch_add(1, Ordering::Relaxed) + 1;
    let tags = CacheTags::from(["products".to_owned(), format!("product:{id}")]);
    (for_a_minute(), tags, [(header::ETAG, "\"v1\"")], format!("product {id}, call {call}"))
}

async fn change() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Two halves and a trailer, the second half when the test says so.
async fn streamed(State(origin): State<Origin>) -> impl IntoResponse {
    origin.calls.fetch_add(1, Ordering::Relaxed);
    let second = async move {
        origin.go_on.notified().await;
        Ok(Frame::data(Bytes::from("second")))
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("42"));
    let frames = [stream_of(async { Ok(Frame::data(Bytes::from("first "))) }), stream_of(second)];
    let frames = frames.into_iter().chain([stream_of(async { Ok(Frame::trailers(trailers)) })]);
    let body = Body::new(StreamBody::new(stream::StreamExt::flatten(stream::iter(frames))));
    // HTTP/1.1 sends only trailers that the head has announced.
    (for_a_minute(), [(header::TRAILER, "x-checksum")], body)
}

type Frames = stream::BoxStream<'static, Result<Frame<Bytes>, axum::Error>>;

fn stream_of(
    frame: impl Future<Output = Result<Frame<Bytes>, axum::Error>> + Send + 'static,
) -> Frames {
    Box::pin(stream::once(frame))
}

/// Leaves HTTP, as a WebSocket does, and answers each line in capitals.
async fn upgrade(mut request: Request<Body>) -> impl IntoResponse {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgraded.await.unwrap());
        let mut word = [0; 5];
        io.read_exact(&mut word).await.unwrap();
        io.write_all(&word.to_ascii_uppercase()).await.unwrap();
    });
    (
        StatusCode::SWITCHING_PROTOCOLS,
        [(header::CONNECTION, "upgrade"), (header::UPGRADE, "shouting")],
    )
}

/// The service, and the store behind its cache.
async fn start(origin: Origin) -> (SocketAddr, Store) {
    let keep = Store::builder().l1(L1::bytes(1 << 20)).build().unwrap();
    let cache = CacheLayer::builder(keep.clone()).build().unwrap();
    let router = Router::new()
        .route("/products/{id}", get(product).post(change))
        .route("/stream", get(streamed))
        .route("/upgrade", get(upgrade))
        .with_state(origin);
    let app = Router::new().fallback_service(ServiceBuilder::new().layer(cache).service(router));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, keep)
}

/// Sends a request over a connection of its own.
async fn send(
    address: SocketAddr,
    method: Method,
    path: &str,
    fields: &[(&str, &str)],
) -> Response<Incoming> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http1::handshake(io).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::builder().method(method).uri(path).header("host", "test");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap());
    timeout(PATIENCE, response).await.unwrap().unwrap()
}

async fn get_text(address: SocketAddr, path: &str) -> (HeaderMap, String) {
    let (parts, body) = send(address, Method::GET, path, &[]).await.into_parts();
    let bytes = timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
    (parts.headers, String::from_utf8(bytes.into()).unwrap())
}

/// Waits until the response to a GET is a hit: it is stored when its last byte has been sent, which
/// a client may see a moment earlier.
async fn until_hit(address: SocketAddr, path: &str) -> (HeaderMap, String) {
    let hit = async {
        loop {
            let (headers, text) = get_text(address, path).await;
            if status_of(&headers).starts_with("tower-keep; hit; ttl=") {
                return (headers, text);
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, hit).await.unwrap()
}

fn status_of(headers: &HeaderMap) -> &str {
    headers["cache-status"].to_str().unwrap()
}

const MISS: &str = "tower-keep; fwd=uri-miss; fwd-status=200; stored";

#[tokio::test]
async fn the_second_get_is_a_hit() {
    let origin = Origin::default();
    let (address, _keep) = start(origin.clone()).await;
    let (headers, first) = get_text(address, "/products/42").await;
    assert_eq!(headers["cache-control"], "public, max-age=60");
    assert_eq!(status_of(&headers), MISS);
    assert!(!headers.contains_key(header::AGE));
    assert_eq!(first, "product 42, call 1");

    let (headers, second) = until_hit(address, "/products/42").await;
    assert_eq!(second, first);
    assert!(headers[header::AGE].to_str().unwrap().parse::<u64>().unwrap() < 60);
    assert_eq!(headers[header::ETAG], "\"v1\"");
    assert_eq!(headers[header::CONTENT_LENGTH], first.len().to_string());

    let head = send(address, Method::HEAD, "/products/42", &[]).await;
    assert!(status_of(head.headers()).starts_with("tower-keep; hit"));
    assert_eq!(head.headers()[header::CONTENT_LENGTH], first.len().to_string());
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn who_has_it_already_gets_304() {
    let origin = Origin::default();
    let (address, _keep) = start(origin.clone()).await;
    until_hit(address, "/products/42").await;
    let fields = [("if-none-match", "W/\"v0\", \"v1\"")];
    let response = send(address, Method::GET, "/products/42", &fields).await;
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(response.headers()[header::ETAG], "\"v1\"");
    assert!(status_of(response.headers()).starts_with("tower-keep; hit"));
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn tags_of_a_handler_drop_its_responses() {
    let origin = Origin::default();
    let (address, keep) = start(origin.clone()).await;
    for id in [1, 2] {
        until_hit(address, &format!("/products/{id}")).await;
    }
    keep.invalidate_tag("product:1").await.unwrap();
    let (headers, text) = get_text(address, "/products/1").await;
    assert_eq!((status_of(&headers), text.as_str()), (MISS, "product 1, call 3"));
    until_hit(address, "/products/2").await;

    keep.invalidate_tag("products").await.unwrap();
    assert_eq!(status_of(&get_text(address, "/products/2").await.0), MISS);
}

#[tokio::test]
async fn an_unsafe_method_drops_its_target() {
    let origin = Origin::default();
    let (address, _keep) = start(origin.clone()).await;
    for id in [1, 2] {
        until_hit(address, &format!("/products/{id}")).await;
    }
    let response = send(address, Method::POST, "/products/1", &[]).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(status_of(response.headers()), "tower-keep; fwd=method");
    assert_eq!(status_of(&get_text(address, "/products/1").await.0), MISS);
    assert!(status_of(&get_text(address, "/products/2").await.0).starts_with("tower-keep; hit"));
}

#[tokio::test]
async fn a_stream_arrives_as_it_is_sent_and_is_stored() {
    let origin = Origin::default();
    let (address, _keep) = start(origin.clone()).await;
    let mut response = send(address, Method::GET, "/stream", &[]).await;
    assert_eq!(status_of(response.headers()), MISS);
    let frame = timeout(PATIENCE, response.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "first ");
    origin.go_on.notify_one();
    let rest = timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap();
    assert_eq!(rest.to_bytes(), "second");

    assert_eq!(until_hit(address, "/stream").await.1, "first second");
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn trailers_follow_a_body_that_arrives_and_one_that_is_stored() {
    let origin = Origin::default();
    let (address, _keep) = start(origin.clone()).await;
    origin.go_on.notify_one();
    // What it takes for HTTP/1.1 to send trailers.
    let fields = [("te", "trailers"), ("connection", "te")];
    for round in ["miss", "hit"] {
        let response = send(address, Method::GET, "/stream", &fields).await;
        let whole = timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap();
        let trailers = whole.trailers().cloned().unwrap_or_default();
        assert_eq!(trailers.get("x-checksum").unwrap(), "42", "{round}");
        assert_eq!(whole.to_bytes(), "first second");
        until_hit(address, "/stream").await;
    }
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn an_upgrade_passes() {
    let (address, _keep) = start(Origin::default()).await;
    let fields = [("connection", "upgrade"), ("upgrade", "shouting")];
    let response = send(address, Method::GET, "/upgrade", &fields).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()[header::UPGRADE], "shouting");
    assert_eq!(status_of(response.headers()), "tower-keep; fwd=bypass; detail=upgrade");
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    io.write_all(b"hello").await.unwrap();
    let mut answer = [0; 5];
    timeout(PATIENCE, io.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HELLO");
}

#[tokio::test]
async fn nested_routers_keep_their_responses_apart() {
    let store = Store::builder().l1(L1::bytes(1 << 20)).build().unwrap();
    let cache = CacheLayer::builder(store).build().unwrap();
    let users = |text: &'static str| {
        let handler = get(move || async move { (for_a_minute(), text) })
            .post(|| async { StatusCode::NO_CONTENT });
        Router::new().route("/users", handler).layer(cache.clone())
    };
    let app = Router::new().nest("/admin", users("secret")).nest("/api", users("public"));
    let send = async |method: Method, path: &str| {
        let request = Request::builder().method(method).uri(path).header(header::HOST, "h");
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        (status.contains("hit"), body)
    };
    for (hit, path, text) in [
        (false, "/admin/users", "secret"),
        (false, "/api/users", "public"),
        (true, "/admin/users", "secret"),
        (true, "/api/users", "public"),
    ] {
        assert_eq!(send(Method::GET, path).await, (hit, Bytes::from_static(text.as_bytes())));
    }
    send(Method::POST, "/api/users").await;
    assert!(!send(Method::GET, "/api/users").await.0);
    assert!(send(Method::GET, "/admin/users").await.0, "another resource");
}
