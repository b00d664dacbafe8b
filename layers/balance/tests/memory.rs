//! Bodies of a gigabyte pass in both directions, and the process stays as small as it is. Everything
//! is in one process here, client and upstream as well, so what is measured is more than the proxy's.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Request;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower_keep_balance::proxy::{Protocol, Proxy, Upstream};
use tower_keep_balance::{Backend, Pool};

const PART: usize = 256 * 1024;
const MIB: usize = 1024 * 1024;
/// What the process may grow by: buffers of sockets and streams, of which there are a few.
const GROWTH: usize = 32 * MIB;

/// A body that costs no memory of its own.
fn content(length: usize) -> Body {
    let part = Bytes::from(vec![b'x'; PART]);
    let parts = stream::repeat(part).take(length / PART).map(Ok::<_, Infallible>);
    Body::from_stream(parts)
}

async fn length(body: impl http_body::Body<Data = Bytes, Error: std::fmt::Debug>) -> usize {
    let mut body = std::pin::pin!(body);
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    length
}

async fn upstream() -> SocketAddr {
    let router = Router::new()
        .route(
            "/down/{length}",
            get(|length: axum::extract::Path<usize>| async move { content(*length) }),
        )
        .route("/up", post(|body: Body| async move { length(body).await.to_string() }))
        .layer(DefaultBodyLimit::disable());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn proxy(protocol: Protocol) -> SocketAddr {
    let upstream = Upstream::builder(&format!("http://{}", upstream().await)).protocol(protocol);
    let backend = Backend::new("one", upstream.build().unwrap());
    let proxy = Proxy::new(Pool::builder().backend(backend).build().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(proxy.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                drop(server.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    address
}

/// The most memory that this process ever had, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_passes_each_way_in_little_memory() {
    for (protocol, size) in [(Protocol::Http1, 1024 * MIB), (Protocol::Http2, 128 * MIB)] {
        let http2 = protocol == Protocol::Http2;
        let address = proxy(protocol).await;
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Body>();
        let up = |size| {
            let request =
                Request::post(format!("http://{address}/up")).body(content(size)).unwrap();
            let response = client.request(request);
            async move {
                let said = response.await.unwrap().into_body().collect().await.unwrap().to_bytes();
                assert_eq!(said, size.to_string());
            }
        };
        let down = |size| {
            let response = client.get(format!("http://{address}/down/{size}").parse().unwrap());
            async move { assert_eq!(length(response.await.unwrap().into_body()).await, size) }
        };
        // What is allocated once.
        up(MIB).await;
        down(MIB).await;
        let before = peak();
        up(size).await;
        down(size).await;
        let growth = peak() - before;
        println!("{protocol:?}: {} MiB before, {} KiB more", before / MIB, growth / 1024);
        assert!(growth < GROWTH, "{protocol:?}: {growth} bytes more");
    }
}
