//! Upstreams that misbehave: nothing of it reaches another request, and nothing is waited for without
//! end.
#![allow(clippy::disallowed_methods, reason = "an origin has threads of its own, which may sleep")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;
use tower_keep_balance::proxy::{Protocol, Proxy, Upstream};

use super::support::{Client, Origin, get, pool_of, proxy, serve, serve_axum, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A proxy to `origin`, which may be silent for a little while.
fn impatient(origin: &Origin) -> Proxy {
    let upstream = Upstream::builder(&format!("http://{}", origin.address));
    let upstream = upstream.response_timeout(Duration::from_millis(300)).build().unwrap();
    Proxy::new(pool_of([upstream]))
}

/// Writes until the other side has enough.
fn without_end(stream: &mut TcpStream, parts: &str, pause: Duration) -> bool {
    while stream.write_all(parts.as_bytes()).is_ok() {
        sleep(pause);
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_where_there_can_be_none_is_nobodys_response() {
    for (method, said) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\ncontent-length: 4\r\n\r\nevil"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
    ] {
        let origin = Origin::new(move |head, stream| {
            let said = if head.contains(" /next ") { OK } else { said };
            stream.write_all(said.as_bytes()).is_ok()
        });
        let address = serve(proxy(origin.address)).await;
        for _ in 0..5 {
            let mut client = Client::connect(address);
            client.send(&format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n"));
            let head = client.head();
            assert!(!head.contains("evil"), "{head}");
            client.send("GET /next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            let rest = client.rest();
            assert!(rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("\r\n\r\nok"), "{rest}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_the_request_was_read_leaves_nothing_of_it_for_the_next() {
    // It takes what comes behind the head for another request, as one who is to be deceived does.
    let origin = Origin::new(|head, stream| {
        let said = match head {
            head if head.starts_with("POST") => {
                "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno"
            }
            head if head.contains("/smuggled") => {
                "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
            }
            _ => OK,
        };
        stream.write_all(said.as_bytes()).is_ok()
    });
    let address = serve(proxy(origin.address)).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for round in 0..10 {
        let mut client = Client::connect(address);
        let length = smuggled.len() + 100;
        client.send(&format!(
            "POST /{round} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n"
        ));
        assert_eq!(client.response().status(), "413");
        // The rest comes when there is nobody who wants it; or half of it, and the client is gone.
        if round % 2 == 0 {
            let _ =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.send(smuggled)));
        }
        drop(client);
        let mut client = Client::connect(address);
        client.send(&get("/next"));
        assert_eq!(client.response().body, "ok");
        let mut client = Client::connect(address);
        client.send(&get("/after"));
        assert_eq!(client.response().body, "ok");
    }
    let own = |head: &&String| head.starts_with("GET /next ") || head.starts_with("GET /after ");
    assert_eq!(origin.heads().iter().filter(own).count(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_nobody_asked_for_is_not_given_to_the_next() {
    let origin = Origin::new(|_, stream| {
        stream.write_all(OK.as_bytes()).unwrap();
        sleep(Duration::from_millis(50));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").is_ok()
    });
    let upstream = Upstream::new(&format!("http://{}", origin.address)).unwrap();
    let address = serve(Proxy::new(pool_of([upstream.clone()]))).await;
    for _ in 0..10 {
        let mut client = Client::connect(address);
        client.send(&get("/"));
        assert_eq!(client.response().body, "ok");
        until("its connection is closed", || async { upstream.idle_connections() == 0 }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_never_ends_is_given_up_in_time() {
    // A millisecond, in which all that was written can be read: hyper goes on as long as there is more, and
    // without optimizations it takes ten seconds to read what a connection takes at a time.
    let heads: [(&str, &str, u64, &str); 4] = [
        ("a byte now and then", "", 20, "x"),
        ("fields without end", "HTTP/1.1 200 OK\r\n", 1, "x: 0123456789abcdef0123456789abcdef\r\n"),
        ("one field without end", "HTTP/1.1 200 OK\r\nx: ", 1, "0123456789abcdef0123456789abcdef"),
        ("interim responses without end", "", 1, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
    ];
    for (name, begin, pause, part) in heads {
        let parts = part.repeat(if part.len() == 1 { 1 } else { 64 });
        let origin = Origin::new(move |_, stream| {
            stream.write_all(begin.as_bytes()).is_ok()
                && without_end(stream, &parts, Duration::from_millis(pause))
        });
        let mut client = Client::connect(serve(impatient(&origin)).await);
        let began = Instant::now();
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        let (mut interim, mut head) = (0, client.head());
        while head.starts_with("HTTP/1.1 1") {
            interim += 1;
            head = client.head();
        }
        assert!(head.starts_with("HTTP/1.1 50"), "{name}: {head}");
        assert!(interim <= 16, "{name}: {interim} interim responses");
        assert!(began.elapsed() < Duration::from_secs(15), "{name}: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_not_sound_is_an_error() {
    for said in [
        "HTTP/1.1 200 OK\r\nx: y\r\n z: folded\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx: y\0z\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 99 No\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/3.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ] {
        let origin = Origin::saying(said);
        let mut client = Client::connect(serve(proxy(origin.address)).await);
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(client.response().status(), "502", "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_chunk_ends_the_response_and_is_not_made_whole() {
    for chunk in
        ["zz\r\n", "-1\r\nx\r\n", "1FFFFFFFFFFFFFFFF\r\nx\r\n", "2\r\nabc\r\n0\r\n\r\n", "\r\n"]
    {
        let origin = Origin::new(move |_, stream| {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(chunk.as_bytes()).is_ok()
        });
        let pool = pool_of([Upstream::new(&format!("http://{}", origin.address)).unwrap()]);
        let mut client = Client::connect(serve(Proxy::new(pool.clone())).await);
        client.send(&get("/"));
        let rest = client.rest();
        assert!(
            rest.starts_with("HTTP/1.1 200 ") && !rest.contains("\r\n0\r\n"),
            "{chunk:?}: {rest}"
        );
        until("it isn't counted", || async { pool.status()[0].in_flight == 0 }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_reads_nothing_of_a_long_upload_is_given_up() {
    let origin = Origin::new(|_, stream| {
        sleep(Duration::from_secs(20));
        stream.read_exact(&mut [0]).is_ok()
    });
    let endless = http_body_util::StreamBody::new(futures_util::stream::repeat_with(|| {
        Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from_static(&[0; 16_384])))
    }));
    let request = Request::post("http://a/").body(endless).unwrap();
    let response = timeout(Duration::from_secs(15), impatient(&origin).oneshot(request)).await;
    assert_eq!(response.unwrap().unwrap().status(), 504);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_as_a_whole_can_be_asked_for_in_either_version() {
    let router = axum::Router::new().fallback(async |request: Request<axum::body::Body>| {
        format!("{} {}", request.method(), request.uri().path())
    });
    let origin = serve_axum(router).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let upstream = Upstream::builder(&format!("http://{origin}")).protocol(protocol);
        let proxy = Proxy::new(pool_of([upstream.build().unwrap()]));
        let request = Request::builder().method(Method::OPTIONS).uri("*").header("host", "a");
        let response = proxy.oneshot(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200, "{protocol:?}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "OPTIONS *", "{protocol:?}");
    }
}
