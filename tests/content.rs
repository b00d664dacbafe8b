//! Requests with content that are answered from the store: searches by `POST` at an axum service over
//! HTTP/1.1, and unary calls of a tonic server over HTTP/2, trailers included.

#![allow(clippy::unwrap_used, reason = "clippy lets only the functions marked #[test] unwrap")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::server::NamedService;
use tonic::transport::{Channel, Server};
use tonic_prost::ProstCodec;
use tower::util::MapRequestLayer;
use tower::{Service, ServiceBuilder, service_fn};
use tower_keep::cache::{BodyKeyLayer, ReplayBody};
use tower_keep::prelude::*;

type Calls = Arc<AtomicUsize>;
type Codec = ProstCodec<String, String>;

fn cache() -> CacheLayer {
    let keep = Store::builder().l1(L1::bytes(1 << 20)).build().unwrap();
    CacheLayer::builder(keep).build().unwrap()
}

fn reads(path: &'static str) -> BodyKeyLayer {
    let builder = BodyKeyLayer::builder().methods([Method::POST]);
    builder.when(move |head| head.uri().path() == path).build().unwrap()
}

/// Asks until the answer is a hit: what is stored is so a moment after it was sent.
async fn until_hit<T>(mut ask: impl AsyncFnMut() -> (String, T)) -> T {
    let began = Instant::now();
    loop {
        let (cache, answer) = ask().await;
        if cache.starts_with("tower-keep; hit") {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "no hit: {cache}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn search(State(calls): State<Calls>, query: String) -> impl IntoResponse {
    let call = calls.fetch_add(1, SeqCst) + 1;
    let policy = CacheControl::public().max_age(Duration::from_secs(60));
    (policy, [("content-type", "application/json")], format!("{{\"{query}\":{call}}}"))
}

/// The status of the cache, and the answer.
async fn send(address: SocketAddr, method: Method, path: &str, body: &str) -> (String, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(path).header("host", "test");
    let request = request.header("content-type", "application/json");
    let response =
        sender.send_request(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await;
    let (parts, body) = response.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let cache = parts.headers["cache-status"].to_str().unwrap().to_owned();
    (cache, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_search_by_post_is_answered_from_the_store() {
    let calls = Calls::default();
    let router = Router::new()
        .route("/search", post(search).put(async || StatusCode::NO_CONTENT))
        .route("/", get(async || "home"))
        .with_state(Arc::clone(&calls));
    let service = ServiceBuilder::new().layer(reads("/search")).layer(cache()).service(router);
    let app = Router::new().fallback_service(service);
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let ask = async |body| send(address, Method::POST, "/search", body).await;
    assert_eq!(ask("shoes").await.1, "{\"shoes\":1}");
    assert_eq!(until_hit(async || ask("shoes").await).await, "{\"shoes\":1}");
    assert_eq!(ask("hats").await.1, "{\"hats\":2}");
    // Beyond the bound it passes on, and all of it arrives.
    let long = "x".repeat(200_000);
    let (status, answer) = ask(&long).await;
    assert_eq!(status, "tower-keep; fwd=bypass; detail=content-too-long");
    assert_eq!(answer.len(), long.len() + "{\"\":3}".len());
    // A write drops the answers to all searches.
    assert_eq!(send(address, Method::PUT, "/search", "new").await.0, "tower-keep; fwd=method");
    assert_eq!(ask("shoes").await.1, "{\"shoes\":4}");
    assert_eq!(send(address, Method::GET, "/", "").await.1, "home");
}

/// A gRPC service with one method that reads, and one that collects a stream.
#[derive(Clone, Default)]
struct Catalog {
    calls: Calls,
}

impl NamedService for Catalog {
    const NAME: &'static str = "test.Catalog";
}

impl Service<http::Request<tonic::body::Body>> for Catalog {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let call = self.calls.fetch_add(1, SeqCst) + 1;
        let find = move |request: tonic::Request<String>| async move {
            let name = request.into_inner();
            if name == "none" {
                return Err(with_lifetime_status());
            }
            let mut reply = tonic::Response::new(format!("{name} {call}"));
            with_lifetime(reply.metadata_mut());
            Ok(reply)
        };
        let count = |request: tonic::Request<tonic::Streaming<String>>| async {
            let messages = request.into_inner().count().await;
            let mut reply = tonic::Response::new(messages.to_string());
            with_lifetime(reply.metadata_mut());
            Ok(reply)
        };
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Codec::default());
            Ok(match request.uri().path() {
                "/test.Catalog/Find" => grpc.unary(service_fn(find), request).await,
                _ => grpc.client_streaming(service_fn(count), request).await,
            })
        })
    }
}

fn with_lifetime(metadata: &mut MetadataMap) {
    metadata.insert("cache-control", MetadataValue::from_static("public, max-age=60"));
}

fn with_lifetime_status() -> tonic::Status {
    let mut status = tonic::Status::not_found("no such product");
    with_lifetime(status.metadata_mut());
    status
}

async fn client(catalog: &Catalog, path: &'static str) -> tonic::client::Grpc<Channel> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    // tonic's services take its own body only.
    let to_tonic =
        |request: http::Request<ReplayBody<tonic::body::Body>>| request.map(tonic::body::Body::new);
    let layers = ServiceBuilder::new()
        .layer(reads(path))
        .layer(cache())
        .layer(MapRequestLayer::new(to_tonic));
    let server = Server::builder().layer(layers).add_service(catalog.clone());
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    client.ready().await.unwrap();
    client
}

fn at(path: &'static str) -> http::uri::PathAndQuery {
    http::uri::PathAndQuery::from_static(path)
}

#[tokio::test]
async fn a_unary_call_is_answered_from_the_store_with_its_trailers() {
    const FIND: &str = "/test.Catalog/Find";
    let catalog = Catalog::default();
    let mut client = client(&catalog, FIND).await;
    let mut find = async |name: &str| {
        client.ready().await.unwrap();
        let mut request = tonic::Request::new(name.to_owned());
        // Each call has a deadline of its own.
        request.set_timeout(Duration::from_secs(100) + Duration::from_millis(name.len() as u64));
        client.unary(request, at(FIND), Codec::default()).await
    };
    let mut ask = async |name: &str| {
        let reply = find(name).await.unwrap();
        assert_eq!(reply.metadata().get("grpc-status").unwrap(), "0", "from its trailers");
        let cache = reply.metadata().get("cache-status").unwrap().to_str().unwrap().to_owned();
        (cache, reply.into_inner())
    };
    assert_eq!(ask("shoe").await.1, "shoe 1");
    assert_eq!(until_hit(async || ask("shoe").await).await, "shoe 1");
    assert_eq!(catalog.calls.load(SeqCst), 1);
    assert_eq!(ask("hat").await.1, "hat 2");
    // What failed is asked for again, though it says for how long it is fresh.
    for _ in 0..2 {
        let status = find("none").await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::NotFound);
        let cache = status.metadata().get("cache-status").unwrap().to_str().unwrap();
        assert!(cache.ends_with("detail=grpc-status"), "{cache}");
    }
    assert_eq!(catalog.calls.load(SeqCst), 4);
}

#[tokio::test]
async fn a_call_that_streams_passes_on_as_it_comes() {
    const COUNT: &str = "/test.Catalog/Count";
    let mut client = client(&Catalog::default(), COUNT).await;
    // Longer than the layer waits.
    let messages = stream::iter(0..6).then(|n| async move {
        sleep(Duration::from_millis(250)).await;
        n.to_string()
    });
    let reply = client.client_streaming(tonic::Request::new(messages), at(COUNT), Codec::default());
    let reply = reply.await.unwrap();
    let cache = reply.metadata().get("cache-status").unwrap();
    assert_eq!(cache, "tower-keep; fwd=bypass; detail=content-too-slow");
    assert_eq!(reply.into_inner(), "6");
}
