//! Connections of HTTP/2, which requests share.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::routing::get as axum_get;
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower::ServiceExt;
use tower_keep_balance::RetryLayer;
use tower_keep_balance::proxy::{Protocol, Proxy, Upstream};
use tower_keep_balance::retry::Backoff;

use super::connections::{ask, request};
use super::support::{pool_of, until};

/// A server of HTTP/2 without TLS that counts its connections.
async fn http2() -> (SocketAddr, Arc<AtomicUsize>) {
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

/// A server of HTTP/2 that takes `streams` requests at a time on one connection, and answers none
/// before it is let; and how many connections it has had, and has.
async fn few_streams(
    streams: u32,
    go: watch::Receiver<bool>,
) -> (SocketAddr, Arc<[AtomicUsize; 2]>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let counts = Arc::<[AtomicUsize; 2]>::default();
    let counters = Arc::clone(&counts);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            for count in &*counters {
                count.fetch_add(1, SeqCst);
            }
            let (counters, go) = (Arc::clone(&counters), go.clone());
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |_: Request<Incoming>| {
                    let mut go = go.clone();
                    async move {
                        let _ = go.wait_for(|go| *go).await;
                        Ok::<_, Infallible>(Response::new(String::from("ok")))
                    }
                });
                let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                server.max_concurrent_streams(streams);
                drop(server.serve_connection(TokioIo::new(stream), service).await);
                counters[1].fetch_sub(1, SeqCst);
            });
        }
    });
    (address, counts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_http_2_more_are_made_when_the_upstream_takes_no_more_on_one() {
    let (go, wait) = watch::channel(true);
    let (address, counts) = few_streams(4, wait).await;
    let upstream = Upstream::builder(&format!("http://{address}")).protocol(Protocol::Http2);
    let upstream = upstream.response_timeout(Duration::from_secs(20)).build().unwrap();
    // By the second one it is known how many it takes.
    for _ in 0..2 {
        assert_eq!(ask(&upstream).await.1, "ok");
    }
    go.send(false).unwrap();
    let long = (0..8).map(|_| {
        let upstream = upstream.clone();
        tokio::spawn(async move { ask(&upstream).await })
    });
    let long: Vec<_> = long.collect();
    until("there are two", || async { counts[0].load(SeqCst) == 2 }).await;
    // Once the second one has said how many it takes, others aren't kept waiting there.
    let mut more = Vec::new();
    until("there are three", || {
        let upstream = upstream.clone();
        more.push(tokio::spawn(async move { ask(&upstream).await }));
        async { counts[0].load(SeqCst) >= 3 }
    })
    .await;
    go.send(true).unwrap();
    for one in long.into_iter().chain(more) {
        assert_eq!(one.await.unwrap().1, "ok");
    }
    until("one is left", || async { counts[1].load(SeqCst) == 1 }).await;
    assert_eq!(ask(&upstream).await.1, "ok");
    assert!(counts[0].load(SeqCst) < 8, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_at_any_time_takes_no_place_on_them() {
    let (go, wait) = watch::channel(true);
    let (address, counts) = few_streams(4, wait).await;
    let upstream = Upstream::builder(&format!("http://{address}")).protocol(Protocol::Http2);
    let upstream = upstream.build().unwrap();
    for _ in 0..2 {
        assert_eq!(ask(&upstream).await.1, "ok");
    }
    for round in 0..100 {
        // Before the answer, in the middle of it, or before any of it was read.
        go.send(round % 2 == 0).unwrap();
        let leaves = (0..6).map(|at| {
            let asked = upstream.clone().oneshot(request());
            tokio::time::timeout(Duration::from_micros(at * 150), async move {
                // A new connection may refuse what it has yet to say that it doesn't take.
                let Ok(response) = asked.await else { return };
                if at % 2 == 0 {
                    let _ = response.into_body().collect().await;
                }
            })
        });
        futures_util::future::join_all(leaves).await;
    }
    go.send(true).unwrap();
    until("one is left", || async { counts[1].load(SeqCst) == 1 }).await;
    let before = counts[0].load(SeqCst);
    for _ in 0..5 {
        futures_util::future::join_all((0..4).map(|_| ask(&upstream))).await;
    }
    assert_eq!(counts[0].load(SeqCst), before, "there was a place for each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ends_as_it_is_made_costs_neither_the_request_nor_its_host() {
    let (inner, _) = http2().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for at in 0.. {
            let (mut from, _) = listener.accept().await.unwrap();
            if at % 3 < 2 {
                // SETTINGS, GOAWAY (the last stream is 0, NO_ERROR), and the end.
                let said =
                    [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                from.write_all(&said).await.unwrap();
                continue;
            }
            tokio::spawn(async move {
                let mut to = TcpStream::connect(inner).await.unwrap();
                // For one request.
                let both = tokio::io::copy_bidirectional(&mut from, &mut to);
                let _ = tokio::time::timeout(Duration::from_millis(300), both).await;
            });
        }
    });
    let upstream = Upstream::builder(&format!("http://{address}")).protocol(Protocol::Http2);
    let upstream = upstream.build().unwrap();
    let retry = RetryLayer::builder().max_attempts(5).backoff(Backoff::none());
    let pool = pool_of([upstream]);
    let proxy = Proxy::builder(pool).retry(retry).build().unwrap();
    for _ in 0..6 {
        let response = proxy.clone().oneshot(request()).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "HTTP/2.0 http://example.com/");
        tokio::time::sleep(Duration::from_millis(350)).await;
    }
}
