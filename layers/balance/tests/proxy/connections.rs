//! Connections to upstreams.

use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::routing::get as axum_get;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;
use tower_keep_balance::proxy::{Protocol, Upstream};

use super::support::{Origin, until};

fn request() -> Request<Empty<Bytes>> {
    Request::get("http://example.com/").body(Empty::new()).unwrap()
}

async fn ask(upstream: &Upstream) -> (Version, Bytes) {
    let response = upstream.clone().oneshot(request()).await.unwrap();
    let version = response.version();
    (version, response.into_body().collect().await.unwrap().to_bytes())
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_are_used_again() {
    for said in [OK, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"] {
        let origin = Origin::saying(said);
        let upstream = Upstream::new(&format!("http://{}", origin.address)).unwrap();
        for _ in 0..100 {
            assert_eq!(ask(&upstream).await.1, "ok");
        }
        // The next request can be quicker than the connection's task.
        assert!(origin.connections() < 20, "{}", origin.connections());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_the_upstream_has_closed_costs_no_request() {
    let origin = Origin::new(|_, stream| {
        stream.write_all(OK.as_bytes()).unwrap();
        false
    });
    let upstream = Upstream::new(&format!("http://{}", origin.address)).unwrap();
    for n in 1..=20 {
        assert_eq!(ask(&upstream).await.1, "ok");
        until("it is closed", || async { upstream.idle_connections() == 0 }).await;
        assert_eq!(origin.connections(), n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_response_nobody_wanted_is_closed() {
    let origin = Origin::saying("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    let upstream = Upstream::new(&format!("http://{}", origin.address)).unwrap();
    for n in 1..=3 {
        let response = upstream.clone().oneshot(request()).await.unwrap();
        drop(response);
        assert_eq!(upstream.idle_connections(), 0);
        assert_eq!(origin.connections(), n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_idle_for_long_is_closed() {
    let origin = Origin::saying(OK);
    let upstream = Upstream::builder(&format!("http://{}", origin.address));
    let upstream = upstream.idle_timeout(Duration::from_millis(200)).build().unwrap();
    ask(&upstream).await;
    assert_eq!(upstream.idle_connections(), 1);
    until("it is closed", || async { upstream.idle_connections() == 0 }).await;
    ask(&upstream).await;
    assert_eq!(origin.connections(), 2);
    until("it is closed, too", || async { upstream.idle_connections() == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_are_kept_than_may_be() {
    let origin = Origin::saying(OK);
    let upstream = Upstream::builder(&format!("http://{}", origin.address));
    let upstream = upstream.max_idle(1).build().unwrap();
    let ask = || upstream.clone().oneshot(request());

    let (a, b, c) = tokio::join!(ask(), ask(), ask());
    for response in [a, b, c] {
        response.unwrap().into_body().collect().await.unwrap();
    }
    assert!(upstream.idle_connections() <= 1);
}

/// A server of HTTP/2 without TLS that counts its connections.
async fn http2() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = inner.local_addr().unwrap();
    let router = Router::new().route(
        "/",
        axum_get(|request: Request<axum::body::Body>| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            format!("{:?} {}", request.version(), request.uri())
        }),
    );
    tokio::spawn(async move { axum::serve(inner, router).await.unwrap() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut from, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                let mut to = TcpStream::connect(target).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut from, &mut to).await);
            });
        }
    });
    (address, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_http_2_all_share_one() {
    let (address, count) = http2().await;
    let upstream = Upstream::builder(&format!("http://{address}")).protocol(Protocol::Http2);
    let upstream = upstream.build().unwrap();
    let all: Vec<_> = (0..50)
        .map(|_| {
            let upstream = upstream.clone();
            tokio::spawn(async move { ask(&upstream).await })
        })
        .collect();
    for one in all {
        let (version, body) = one.await.unwrap();
        assert_eq!(version, Version::HTTP_2);
        assert_eq!(body, "HTTP/2.0 http://example.com/");
    }
    assert_eq!(count.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_goes_away_while_it_is_made_spoils_nothing_for_others() {
    let (address, count) = http2().await;
    let upstream = Upstream::builder(&format!("http://{address}")).protocol(Protocol::Http2);
    let upstream = upstream.build().unwrap();
    for _ in 0..20 {
        let mut one = Box::pin(upstream.clone().oneshot(request()));
        let mut other = Box::pin(upstream.clone().oneshot(request()));
        std::future::poll_fn(|cx| {
            let _ = (one.as_mut().poll(cx), other.as_mut().poll(cx));
            Poll::Ready(())
        })
        .await;
        drop(one);
        assert_eq!(other.await.unwrap().status(), 200);
    }
    assert_eq!(count.load(SeqCst), 1);
}
