//! Connections of HTTP/1.1 to upstreams.

use std::io::Write;
use std::time::Duration;

use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use tower::ServiceExt;
use tower_keep_balance::proxy::Upstream;

use super::support::{Origin, until};

pub(crate) fn request() -> Request<Empty<Bytes>> {
    Request::get("http://example.com/").body(Empty::new()).unwrap()
}

pub(crate) async fn ask(upstream: &Upstream) -> (Version, Bytes) {
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
