//! Interim responses of the origin reach the client (RFC 9110 §15.2), and nothing else is changed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::Write;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use support::{Edge, Origin, field, get};

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nx-hint: 1\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 2\r\n\r\nok";
const HINTED: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nx-hint: 1\r\n\r\n\
    HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn one_arrives_while_the_final_response_is_still_being_made() {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |_, stream| {
        stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").unwrap();
        stream.write_all(HINT.as_bytes()).unwrap();
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(OK.as_bytes()).is_ok()
    });
    let edge = Edge::before(origin.address);
    let mut client = edge.client();
    client.send(&get("/"));
    assert_eq!(client.head(), "HTTP/1.1 102 Processing\r\n\r\n");
    assert_eq!(client.head(), HINT);
    go.send(()).unwrap();
    let response = client.response();
    assert_eq!((response.status(), response.body.as_str()), ("200", "ok"));
    assert_eq!(response.field("x-hint"), None);

    // From the store comes the final response alone.
    let response = edge.hit("/");
    assert_eq!((response.field("x-hint"), response.field("link")), (None, None));
}

#[test]
fn pipelined_requests_get_each_their_own() {
    let origin = Origin::new(|head, stream| {
        let path = head.split(' ').nth(1).unwrap();
        let hint = format!("HTTP/1.1 103 Early Hints\r\nx-path: {path}\r\n\r\n");
        let ok = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len());
        stream.write_all(hint.as_bytes()).unwrap();
        stream.write_all(ok.as_bytes()).is_ok()
    });
    let edge = Edge::before(origin.address);
    for _ in 0..20 {
        let mut client = edge.client();
        client.send(&["/a", "/bc", "/d"].map(get).concat());
        for path in ["/a", "/bc", "/d"] {
            assert_eq!(field(&client.head(), "x-path"), Some(path));
            assert_eq!(client.response().body, path);
        }
    }
}

#[test]
fn a_fill_in_the_background_says_nothing_to_whoever_is_next() {
    let (asked, is_asked) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |head, stream| {
        if head.starts_with("GET /other") {
            return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother").is_ok();
        }
        asked.send(()).unwrap();
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(HINT.as_bytes()).unwrap();
        let stale = "HTTP/1.1 200 OK\r\ncache-control: max-age=0, stale-while-revalidate=60\r\n\
            content-length: 2\r\n\r\nok";
        stream.write_all(stale.as_bytes()).is_ok()
    });
    let edge = Edge::before(origin.address);
    go.send(()).unwrap();
    let mut client = edge.client();
    client.send(&get("/"));
    assert_eq!(client.head(), HINT);
    client.response();
    is_asked.recv().unwrap();
    // Answered from the store, and refreshed while the same client asks for something else; as soon
    // as the first fill is through.
    while {
        client.send(&get("/"));
        assert_eq!(client.response().body, "ok");
        is_asked.recv_timeout(Duration::from_millis(50)).is_err()
    } {}
    go.send(()).unwrap();
    client.send(&get("/other"));
    assert_eq!(client.response().body, "other");
}

#[test]
fn a_client_of_http_1_0_gets_none() {
    let edge = Edge::before(Origin::saying(HINTED).address);
    let mut client = edge.client();
    client.send("GET / HTTP/1.0\r\nhost: example.com\r\n\r\n");
    let response = client.rest();
    assert!(response.starts_with("HTTP/1.0 200 OK\r\n"), "{response}");
    assert!(!response.contains("103"), "{response}");
}

#[tokio::test]
async fn a_connection_of_http_2_stays_sound() {
    let edge = Edge::before(Origin::saying(HINTED).address);
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for path in ["a", "b", "a"] {
        let uri = format!("http://{}/{path}", edge.address);
        let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(
            (response.version(), response.status()),
            (Version::HTTP_2, 200.try_into().unwrap())
        );
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    }
}
