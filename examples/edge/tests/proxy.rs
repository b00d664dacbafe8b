//! The edge as a proxy, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, mpsc};

use support::{Edge, Origin, get};

const FRESH: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 2\r\n\r\nok";
const UNCACHEABLE: &str =
    "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_miss_is_asked_of_the_origin_and_a_hit_is_not() {
    let origin = Origin::saying(FRESH);
    let edge = Edge::before(origin.address);
    let miss = edge.get("/a?b");
    assert_eq!((miss.status(), miss.body.as_str(), miss.is_hit()), ("200", "ok", false));
    let hit = edge.hit("/a?b");
    assert_eq!((hit.status(), hit.body.as_str()), ("200", "ok"));
    assert!(!edge.get("/c").is_hit());
    let heads = origin.heads();
    assert_eq!(heads.len(), 2);
    assert!(heads[0].starts_with("GET /a?b HTTP/1.1\r\n"), "{heads:?}");
}

#[test]
fn what_is_about_one_connection_stays_on_it() {
    let origin = Origin::saying(
        "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nkeep-alive: timeout=9\r\nx-hop: 1\r\n\
         proxy-authenticate: Basic\r\nx-end: 1\r\ncache-control: max-age=60\r\ncontent-length: 2\r\n\r\nok",
    );
    let edge = Edge::before(origin.address);
    let request = "GET / HTTP/1.1\r\nhost: example.com\r\nconnection: x-hop\r\nx-hop: 1\r\n\
        keep-alive: 1\r\nte: gzip\r\nproxy-authorization: Basic eA==\r\nupgrade: h2c\r\nx-end: 1\r\n\r\n";
    // The miss, and then the hit.
    for _ in 0..2 {
        let response = edge.ask(request);
        for gone in ["connection", "keep-alive", "x-hop", "proxy-authenticate"] {
            assert_eq!(response.field(gone), None, "{gone}: {}", response.head);
        }
        assert_eq!(response.field("x-end"), Some("1"));
    }
    let heads = origin.heads();
    assert_eq!(heads.len(), 1);
    for gone in ["connection", "keep-alive", "x-hop", "te", "proxy-authorization", "upgrade"] {
        assert_eq!(support::field(&heads[0], gone), None, "{gone}: {}", heads[0]);
    }
    assert_eq!(support::field(&heads[0], "x-end"), Some("1"));
}

/// Were the field that `Connection` names removed behind the cache, its client would choose for whom
/// the origin's answer without it is stored.
#[test]
fn a_client_can_not_poison_a_variant_by_naming_its_field() {
    let origin = Origin::new(|head, stream| {
        let tongue = support::field(head, "accept-language").unwrap_or("en");
        let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nvary: accept-language\r\n";
        stream.write_all(format!("{head}content-length: 2\r\n\r\n{tongue}").as_bytes()).is_ok()
    });
    let edge = Edge::before(origin.address);
    let start = "GET / HTTP/1.1\r\nhost: example.com\r\naccept-language: de\r\n";
    assert_eq!(edge.ask(&format!("{start}connection: accept-language\r\n\r\n")).body, "en");
    assert_eq!(edge.ask(&format!("{start}\r\n")).body, "de");
}

#[test]
fn it_says_where_the_message_has_been_and_for_whom() {
    let origin = Origin::new(|_, stream| {
        let date = "date: Sun, 06 Nov 1994 08:49:37 GMT";
        let head =
            format!("HTTP/1.1 200 OK\r\nvia: 1.0 inner\r\n{date}\r\ncontent-length: 2\r\n\r\n");
        stream.write_all(format!("{head}ok").as_bytes()).is_ok()
    });
    let edge = Edge::before(origin.address);
    let response = edge.ask(
        "GET / HTTP/1.1\r\nhost: example.com:81\r\nvia: 1.1 outer\r\nforwarded: for=10.0.0.1\r\n\
         x-forwarded-for: 10.0.0.1\r\nx-forwarded-host: evil.example\r\nx-forwarded-proto: https\r\n\r\n",
    );
    assert!(response.head.contains("via: 1.0 inner\r\nvia: 1.1 edge-"), "{}", response.head);
    assert_eq!(response.field("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    let head = &origin.heads()[0];
    for line in [
        "via: 1.1 outer\r\nvia: 1.1 edge-",
        "forwarded: for=127.0.0.1;proto=http\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-host: example.com:81\r\n",
        "x-forwarded-proto: http\r\n",
        "host: example.com:81\r\n",
    ] {
        assert!(head.contains(line), "{line}\n{head}");
    }
    assert!(!head.contains("10.0.0.1"), "what a client says of itself is not believed: {head}");
}

#[test]
fn connections_to_the_origin_are_used_again() {
    let origin = Origin::saying(UNCACHEABLE);
    let edge = Edge::before(origin.address);
    for _ in 0..20 {
        assert_eq!(edge.get("/").status(), "200");
    }
    assert_eq!(origin.heads().len(), 20);
    // A client can be quicker than the pool that gets its connection back.
    assert!(origin.connections() <= 5, "{}", origin.connections());
}

#[test]
fn an_origin_that_is_down_is_a_bad_gateway() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let edge = Edge::before(nobody);
    let response = edge.get("/");
    assert_eq!(response.status(), "502");
    assert_eq!(response.body, "The origin does not answer.\n");
}

#[test]
fn what_is_stale_stands_in_for_an_origin_that_fails() {
    let calls = AtomicUsize::new(0);
    let origin = Origin::new(move |_, stream| {
        let brief = "HTTP/1.1 200 OK\r\ncache-control: max-age=2, stale-if-error=60\r\n\
            content-length: 2\r\n\r\nok";
        calls.fetch_add(1, SeqCst) == 0 && stream.write_all(brief.as_bytes()).is_ok()
    });
    let edge = Edge::before(origin.address);
    assert_eq!(edge.get("/").status(), "200");
    edge.hit("/");
    // After two seconds, it is stale. Nobody has to ask the origin for that: a refresh ahead of time may
    // have failed already.
    loop {
        let response = edge.get("/");
        assert_eq!((response.status(), response.body.as_str()), ("200", "ok"));
        let status = response.field("cache-status").unwrap();
        if status.contains("detail=stale-if-error") {
            break;
        }
        assert!(response.is_hit(), "{status}");
    }
    assert_eq!(edge.get("/other").status(), "502");
}

#[test]
fn large_bodies_stream_both_ways() {
    const PART: usize = 1 << 20;
    const PARTS: usize = 24;
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |head, stream| {
        let mut part = vec![b'x'; PART];
        if head.starts_with("PUT") {
            // Each part is waited for by the client before it sends the next one.
            for _ in 0..PARTS {
                stream.read_exact(&mut part).unwrap();
                stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").unwrap();
            }
            return stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_ok();
        }
        let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n";
        write!(stream, "{head}content-length: {}\r\n\r\n", PART * PARTS).unwrap();
        for _ in 0..PARTS {
            stream.write_all(&part).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
        true
    });
    let edge = Edge::before(origin.address);
    let mut client = edge.client();
    client.send(&get("/"));
    assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
    for _ in 0..PARTS {
        // It is here while the origin waits.
        assert!(client.bytes(PART).iter().all(|byte| *byte == b'x'));
        go.send(()).unwrap();
    }

    // An origin can't answer more than 16 times before the end, but it can read on.
    let length = PART * PARTS;
    client
        .send(&format!("PUT / HTTP/1.1\r\nhost: example.com\r\ncontent-length: {length}\r\n\r\n"));
    let part = "y".repeat(PART);
    for n in 0..PARTS {
        client.send(&part);
        if n < 16 {
            assert_eq!(client.head(), "HTTP/1.1 102 Processing\r\n\r\n");
        }
    }
    assert_eq!(client.response().status(), "204");
}

#[test]
fn a_response_without_a_date_gets_the_one_of_its_arrival() {
    let edge = Edge::before(Origin::saying(FRESH).address);
    let first = edge.get("/");
    let date = first.field("date").unwrap().to_owned();
    assert_eq!(edge.hit("/").field("date"), Some(&*date));
}

#[test]
fn trailers_are_for_those_who_say_so() {
    let origin = Origin::saying(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\
         cache-control: max-age=60\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n",
    );
    let edge = Edge::before(origin.address);
    let end = "connection: close\r\n\r\n";
    for _ in 0..2 {
        let start = "GET / HTTP/1.1\r\nhost: example.com\r\n";
        let mut client = edge.client();
        client.send(&format!("{start}te: trailers\r\n{end}"));
        let response = client.rest();
        assert!(response.ends_with("\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"), "{response}");
        let mut client = edge.client();
        client.send(&format!("{start}{end}"));
        let response = client.rest();
        assert!(!response.contains("x-sum: 7"), "{response}");
    }
    let heads = origin.heads();
    assert_eq!(heads.len(), 1);
    assert_eq!(support::field(&heads[0], "te"), Some("trailers"));
    assert_eq!(support::field(&heads[0], "connection"), Some("te"));
}

const EXPECTANT: &str = "POST / HTTP/1.1\r\nhost: example.com\r\nexpect: 100-continue\r\n\
    content-length: 5\r\n\r\n";

#[test]
fn a_client_that_expects_100_gets_it_from_the_origin() {
    let origin = Origin::new(|head, stream| {
        assert_eq!(support::field(head, "expect"), Some("100-continue"));
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut content = [0; 5];
        stream.read_exact(&mut content).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").unwrap();
        stream.write_all(&content).is_ok()
    });
    let edge = Edge::before(origin.address);
    let mut client = edge.client();
    client.send(EXPECTANT);
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(client.response().body, "hello");
}

#[test]
fn a_client_that_expects_100_gets_the_origins_refusal() {
    let origin = Origin::saying("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n");
    let edge = Edge::before(origin.address);
    let mut client = edge.client();
    client.send(EXPECTANT);
    assert_eq!(client.response().status(), "413");
}

#[test]
fn an_origin_that_never_asks_gets_the_content_all_the_same() {
    let origin = Origin::new(|_, stream| {
        let mut content = [0; 5];
        stream.read_exact(&mut content).unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_ok()
    });
    let edge = Edge::before(origin.address);
    let mut client = edge.client();
    client.send(EXPECTANT);
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(client.response().status(), "204");
}

#[test]
fn options_and_trace_go_as_far_as_they_may() {
    let origin = Origin::saying("HTTP/1.1 204 No Content\r\n\r\n");
    let edge = Edge::before(origin.address);
    let ask = |method: &str, target: &str, left: &str| {
        let host = "host: example.com\r\n";
        edge.ask(&format!("{method} {target} HTTP/1.1\r\n{host}max-forwards: {left}\r\n\r\n"))
    };
    assert_eq!(
        ask("OPTIONS", "*", "0").field("allow").map(|allow| allow.contains("GET")),
        Some(true)
    );
    assert!(ask("TRACE", "/a", "0").body.starts_with("TRACE /a HTTP/1.1\r\n"));
    assert!(origin.heads().is_empty());
    assert_eq!(ask("OPTIONS", "*", "1").status(), "204");
    let head = &origin.heads()[0];
    assert!(head.starts_with("OPTIONS * HTTP/1.1\r\n"), "{head}");
    assert_eq!(support::field(head, "max-forwards"), Some("0"));
}

/// It isn't answered from the store, nor stored.
#[test]
fn a_request_for_another_protocol_goes_round_the_cache() {
    let origin = Origin::new(|head, stream| {
        if support::field(head, "upgrade") != Some("websocket") {
            return stream.write_all(FRESH.as_bytes()).is_ok();
        }
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).unwrap();
        stream.write_all(&said).unwrap();
        false
    });
    let edge = Edge::before(origin.address);
    edge.get("/");
    edge.hit("/");
    let mut client = edge.client();
    let asks = "connection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.send(&format!("GET / HTTP/1.1\r\nhost: example.com\r\n{asks}"));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client.send("hello");
    assert_eq!(client.rest(), "hello");
    edge.hit("/");
}

#[test]
fn an_origin_that_is_the_edge_itself_is_noticed() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let edge = Edge::at(&free.to_string(), free);
    assert_eq!(edge.get("/").status(), "508");
}

#[test]
fn when_it_is_to_stop_it_finishes_what_it_has_begun() {
    let (asked, is_asked) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").unwrap();
        asked.send(()).unwrap();
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(b"lf").is_ok()
    });
    let edge = Edge::before(origin.address);
    let mut idle = edge.client();
    let mut client = edge.client();
    client.send(&get("/"));
    is_asked.recv().unwrap();
    client.head();
    assert_eq!(client.bytes(2), b"ha");
    edge.terminate();
    // The idle connection is ended, and no new one is accepted.
    assert_eq!(idle.rest(), "");
    while TcpStream::connect(edge.address).is_ok() {}
    go.send(()).unwrap();
    assert_eq!(client.bytes(2), b"lf");
    assert_eq!(client.rest(), "");
    assert!(edge.wait().success());
}
