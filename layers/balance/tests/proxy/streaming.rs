//! Content streams both ways, and what surrounds it passes on: trailers, expectations, 1xx.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Sse;
use axum::response::sse::Event;
use axum::routing::{get as axum_get, post};
use futures_util::StreamExt;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Notify;

use super::support::{Client, Origin, field, get, pool_of, proxy, serve, serve_axum, until};
use tower_keep_balance::proxy::{Protocol, Proxy, Upstream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_arrive_one_by_one() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let events = move || {
        let wait = Arc::clone(&wait);
        let events = stream::iter(0..5).then(move |n| {
            let wait = Arc::clone(&wait);
            async move {
                wait.notified().await;
                Ok::<_, Infallible>(Event::default().data(n.to_string()))
            }
        });
        async move { Sse::new(events) }
    };
    let origin = serve_axum(Router::new().route("/", axum_get(events))).await;
    let address = serve(proxy(origin)).await;
    let client = Http::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let mut response = client.get(format!("http://{address}/").parse().unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    for n in 0..5 {
        // Nothing more is sent before this one is here.
        go.notify_one();
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), format!("data: {n}\n\n"));
    }
    assert!(response.body_mut().frame().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_side_is_read_faster_than_the_other_takes_it() {
    const PART: usize = 64 * 1024;
    const PARTS: usize = 1024;
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let endless = move || {
        let counter = Arc::clone(&counter);
        let parts = stream::iter(0..PARTS).map(move |_| {
            counter.fetch_add(1, SeqCst);
            Ok::<_, Infallible>(Bytes::from(vec![b'x'; PART]))
        });
        async move { Body::from_stream(parts) }
    };
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let slow = move |body: Body| async move {
        wait.notified().await;
        body.collect().await.unwrap().to_bytes().len().to_string()
    };
    let router = Router::new().route("/down", axum_get(endless)).route("/up", post(slow));
    let router = router.layer(axum::extract::DefaultBodyLimit::disable());
    let origin = serve_axum(router).await;

    for protocol in [Protocol::Http1, Protocol::Http2] {
        let upstream = Upstream::builder(&format!("http://{origin}")).protocol(protocol);
        let address = serve(Proxy::new(pool_of([upstream.build().unwrap()]))).await;
        let client = Http::builder(TokioExecutor::new()).build_http::<Body>();
        made.store(0, SeqCst);
        let request = Request::get(format!("http://{address}/down")).body(Body::empty()).unwrap();
        let response = client.request(request).await.unwrap();
        let still = settled(&made).await;
        // All the buffers on the way together: of hyper, and of the kernel.
        assert!(still < PARTS / 2, "{protocol:?}: {still} parts of {PARTS} were made for nobody");
        let all = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(all.len(), PART * PARTS);

        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let parts = stream::iter(0..PARTS).map(move |_| {
            counter.fetch_add(1, SeqCst);
            Ok::<_, Infallible>(Bytes::from(vec![b'x'; PART]))
        });
        let request = Request::post(format!("http://{address}/up")).body(Body::from_stream(parts));
        let response = tokio::spawn(client.request(request.unwrap()));
        let still = settled(&sent).await;
        assert!(still < PARTS / 2, "{protocol:?}: {still} parts of {PARTS} were taken by nobody");
        go.notify_one();
        let response = response.await.unwrap().unwrap();
        let length = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(length, (PART * PARTS).to_string());
    }
}

/// What it counts to before it stands still.
async fn settled(count: &AtomicUsize) -> usize {
    let (mut last, mut same) = (0, 0);
    while same < 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = count.load(SeqCst);
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_pass_both_ways() {
    let echo = |request: Request<Body>| async move {
        let body = request.into_body().collect().await.unwrap();
        let sum = body.trailers().and_then(|it| it.get("x-sum").cloned());
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", sum.unwrap_or(HeaderValue::from_static("none")));
        trailers.insert("x-other", HeaderValue::from_static("1"));
        // Not for trailers.
        trailers.insert("host", HeaderValue::from_static("evil"));
        let frames =
            [Ok::<_, Infallible>(Frame::data(body.to_bytes())), Ok(Frame::trailers(trailers))];
        let mut response = http::Response::new(Body::new(StreamBody::new(stream::iter(frames))));
        response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum, x-other"));
        response
    };
    let origin = serve_axum(Router::new().route("/", post(echo))).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let upstream = Upstream::builder(&format!("http://{origin}")).protocol(protocol);
        let address = serve(Proxy::new(pool_of([upstream.build().unwrap()]))).await;
        for http2 in [false, true] {
            let client = Http::builder(TokioExecutor::new()).http2_only(http2).build_http();
            let mut sum = HeaderMap::new();
            sum.insert("x-sum", HeaderValue::from_static("7"));
            let frames =
                [Ok::<_, Infallible>(Frame::data(Bytes::from("hi"))), Ok(Frame::trailers(sum))];
            let request = Request::post(format!("http://{address}/"))
                .header("trailer", "x-sum")
                .header("te", "trailers")
                .body(StreamBody::new(stream::iter(frames)))
                .unwrap();
            let response = client.request(request).await.unwrap();
            let body = response.into_body().collect().await.unwrap();
            let trailers = body.trailers().unwrap();
            assert_eq!(trailers["x-sum"], "7", "{protocol:?}, from HTTP/2: {http2}");
            assert_eq!(trailers["x-other"], "1");
            assert!(!trailers.contains_key("host"));
            assert_eq!(body.to_bytes(), "hi");
        }
    }
}

const EXPECTANT: &str = "POST / HTTP/1.1\r\nhost: example.com\r\nexpect: 100-continue\r\n\
    content-length: 5\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_expects_100_gets_it_from_the_upstream() {
    let origin = Origin::new(|head, stream| {
        assert_eq!(field(head, "expect"), Some("100-continue"));
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut content = [0; 5];
        stream.read_exact(&mut content).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").unwrap();
        stream.write_all(&content).is_ok()
    });
    let address = serve(proxy(origin.address)).await;
    let mut client = Client::connect(address);
    client.send(EXPECTANT);
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(client.response().body, "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_expects_100_gets_the_upstreams_refusal() {
    let origin = Origin::saying("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n");
    let address = serve(proxy(origin.address)).await;
    let mut client = Client::connect(address);
    client.send(EXPECTANT);
    assert_eq!(client.response().status(), "413");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_2_the_expectation_is_met_at_once() {
    let router = Router::new().route("/", post(|body: String| async move { body }));
    let origin = serve_axum(router).await;
    let upstream = Upstream::builder(&format!("http://{origin}")).protocol(Protocol::Http2);
    let address = serve(Proxy::new(pool_of([upstream.build().unwrap()]))).await;
    let mut client = Client::connect(address);
    client.send(EXPECTANT);
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(client.response().body, "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_responses_arrive_before_the_final_one() {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |_, stream| {
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").unwrap();
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let address = serve(proxy(origin.address)).await;
    let mut client = Client::connect(address);
    client.send(&get("/"));
    assert_eq!(client.head(), "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    go.send(()).unwrap();
    assert_eq!(client.response().body, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_cancels_the_request() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for path in ["/head", "/body"] {
            let gone = Arc::new(AtomicUsize::new(0));
            let has_come = Arc::new(AtomicUsize::new(0));
            let (counts, comes) = (Arc::clone(&gone), Arc::clone(&has_come));
            let handler = move |request: Request<Body>| async move {
                let guard = Guard(counts);
                comes.fetch_add(1, SeqCst);
                if request.uri().path() == "/head" {
                    std::future::pending::<()>().await;
                }
                let first = stream::iter([Ok::<_, Infallible>(Bytes::from("first"))]);
                let never = stream::once(async move {
                    std::future::pending::<()>().await;
                    drop(guard);
                    Ok(Bytes::new())
                });
                Body::from_stream(first.chain(never))
            };
            let router = Router::new().fallback(handler);
            let origin = serve_axum(router).await;
            let upstream = Upstream::builder(&format!("http://{origin}")).protocol(protocol);
            let pool = pool_of([upstream.build().unwrap()]);
            let address = serve(Proxy::new(pool.clone())).await;
            let mut client = Client::connect(address);
            client.send(&get(path));
            if path == "/body" {
                client.head();
            }
            until("it has come", || async { has_come.load(SeqCst) == 1 }).await;
            assert_eq!((gone.load(SeqCst), pool.status()[0].in_flight), (0, 1));
            drop(client);
            until("the upstream notices", || async { gone.load(SeqCst) == 1 }).await;
            until("it isn't counted", || async { pool.status()[0].in_flight == 0 }).await;
        }
    }
}

/// Counts when it is dropped.
struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}
