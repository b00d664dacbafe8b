//! Bounds on what clients can hold.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for another process"
)]

mod support;

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use http::Request;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use support::{Edge, Origin, get};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn edge(origin: &Origin, settings: &str) -> Edge {
    let listener = format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{settings}");
    Edge::new(&format!("{listener}[pool.app]\nbackends = [\"http://{}\"]\n", origin.address))
}

/// How long a connection stays open on which these are sent, one after the other's response.
fn open_for(edge: &Edge, sent: &[&str]) -> Duration {
    let mut client = edge.client();
    for (n, bytes) in sent.iter().enumerate() {
        if n > 0 {
            assert_eq!(client.response().status(), "200");
        }
        client.send(bytes);
    }
    let start = Instant::now();
    client.rest();
    start.elapsed()
}

#[test]
fn a_client_has_so_long_for_a_head() {
    let origin = Origin::saying(OK);
    let edge = edge(&origin, "header_timeout = \"300ms\"\nidle_timeout = \"1m\"\n");
    let (whole, half) = (&*get("/"), "GET / HTTP/1.1\r\nhost: a\r\n");
    for sent in [&[][..], &[half], &[whole, half]] {
        let open = open_for(&edge, sent);
        assert!(open >= Duration::from_millis(290), "{sent:?} {open:?}");
    }
}

#[test]
fn a_client_has_so_long_without_a_request() {
    let origin = Origin::saying(OK);
    let edge = edge(&origin, "header_timeout = \"1m\"\nidle_timeout = \"2s\"\n");
    let open = open_for(&edge, &[&get("/")]);
    assert!(open >= Duration::from_millis(1990), "{open:?}");
    // One that goes on asking stays.
    let mut client = edge.client();
    for _ in 0..8 {
        client.send(&get("/"));
        assert_eq!(client.response().status(), "200");
        std::thread::sleep(Duration::from_millis(400));
    }
}

#[test]
fn a_response_may_take_longer_than_any_of_that() {
    let origin = Origin::new(|_, stream| {
        use std::io::Write as _;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        stream.write_all(b"lf").is_ok()
    });
    let edge = edge(&origin, "header_timeout = \"500ms\"\nidle_timeout = \"500ms\"\n");
    assert_eq!(edge.get("/").body, "half");
}

#[tokio::test]
async fn an_idle_connection_of_http_2_is_told_to_go() {
    let origin = Origin::saying(OK);
    let edge = edge(&origin, "header_timeout = \"10s\"\nidle_timeout = \"500ms\"\n");
    let stream = tokio::net::TcpStream::connect(edge.address).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://a.test/").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    // By a GOAWAY, which is no error.
    tokio::time::timeout(support::PATIENCE, connection).await.unwrap().unwrap().unwrap();
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let origin = Origin::saying(OK);
    let edge = edge(&origin, "max_header_size = \"8KiB\"\nmax_headers = 20\n");
    let with = |fields: &str| edge.ask(&format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
    assert_eq!(with(&format!("x-long: {}\r\n", "x".repeat(4 << 10))).status(), "200");
    assert_eq!(with(&format!("x-long: {}\r\n", "x".repeat(16 << 10))).status(), "431");
    assert_eq!(with(&"x-many: 1\r\n".repeat(40)).status(), "431");
    assert_eq!(origin.heads().len(), 1);
}

#[test]
fn beyond_the_most_connections_a_client_waits_until_another_leaves() {
    let origin = Origin::saying(OK);
    let edge = edge(&origin, "max_connections = 2\n");
    let (mut one, mut two) = (edge.client(), edge.client());
    for client in [&mut one, &mut two] {
        client.send(&get("/"));
        assert_eq!(client.response().status(), "200");
    }
    let mut three = edge.client();
    three.send(&get("/"));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(origin.heads().len(), 2);
    drop(one);
    assert_eq!(three.response().status(), "200");
}

#[test]
fn a_handshake_of_tls_that_does_not_end_is_ended() {
    let directory = support::Directory::new();
    support::tls::certificate(&directory, "one", &["one.test"]);
    let origin = Origin::saying(OK);
    let edge = Edge::within(
        directory,
        &format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\nheader_timeout = \"200ms\"\n\
            certificates = [{{ chain = \"one.pem\", key = \"one.key\" }}]\n\
            [pool.app]\nbackends = [\"http://{}\"]\n",
            origin.address
        ),
    );
    let mut stream = TcpStream::connect(edge.address).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_websocket_counts_as_long_as_it_is_open() {
    let origin = Origin::new(|head, stream| {
        use std::io::Write as _;
        if support::field(head, "upgrade").is_none() {
            return stream.write_all(OK.as_bytes()).is_ok();
        }
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        // Until the client leaves.
        let _ = stream.read(&mut [0]);
        false
    });
    let edge = edge(&origin, "max_connections = 1\n");
    let mut socket = edge.client();
    let asks = "connection: upgrade\r\nupgrade: websocket\r\n\r\n";
    socket.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{asks}"));
    assert!(socket.head().starts_with("HTTP/1.1 101 "));
    let mut other = edge.client();
    other.send(&get("/"));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(origin.heads().len(), 1);
    drop(socket);
    assert_eq!(other.response().status(), "200");
}

/// The backend must not be blamed for it, or a client could have all of them ejected.
#[test]
fn content_that_does_not_go_on_is_given_up_and_no_backend_is_blamed() {
    let origin = Origin::new(|head, stream| {
        use std::io::Write as _;
        let length = support::field(head, "content-length").map_or(0, |it| it.parse().unwrap());
        let whole = stream.read_exact(&mut vec![0; length]).is_ok();
        whole && stream.write_all(OK.as_bytes()).is_ok()
    });
    let listener = "body_timeout = \"300ms\"\nbody_rate = \"none\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
        token = \"0123456789abcdef\"\n";
    let edge = edge(&origin, listener);
    let mut slow: Vec<_> = (0..10).map(|_| edge.client()).collect();
    for client in &mut slow {
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhal");
    }
    for client in &mut slow {
        let response = client.response();
        let connection = response.field("connection");
        assert_eq!((response.status(), connection), ("408", Some("close")), "{}", response.head);
    }
    let mut admin = support::Client::connect(edge.at_name("admin"));
    admin.send("GET /pools HTTP/1.1\r\nhost: a\r\nauthorization: Bearer 0123456789abcdef\r\n\r\n");
    let pools = admin.response().body;
    assert!(pools.contains("\"ejections\":0") && !pools.contains("ejected"), "{pools}");
    // One that goes on, if slowly, is heard.
    let mut client = edge.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n");
    for byte in ["h", "e", "l", "l", "o"] {
        std::thread::sleep(Duration::from_millis(100));
        client.send(byte);
    }
    assert_eq!(client.response().status(), "200");
}

/// One of whom each byte comes in time.
#[test]
fn content_that_drips_is_given_up_unless_the_route_is_patient() {
    let origin = Origin::new(|head, stream| {
        use std::io::Write as _;
        let length = support::field(head, "content-length").map_or(0, |it| it.parse().unwrap());
        let whole = stream.read_exact(&mut vec![0; length]).is_ok();
        whole && stream.write_all(OK.as_bytes()).is_ok()
    });
    let routes = "[[route]]\npool = \"app\"\n\
        [[route]]\npool = \"app\"\npath = \"/patient\"\nbody_rate = \"none\"\n";
    let edge = edge(&origin, &format!("body_timeout = \"1s\"\nbody_rate = \"1KiB\"\n{routes}"));
    let drip = |path: &str| {
        let mut client = edge.client();
        client.send(&format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 8000\r\n\r\n"));
        // What came quickly is no credit.
        client.send(&"x".repeat(7980));
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(100));
            // It may have been closed.
            if client.try_send("x").is_err() {
                break;
            }
        }
        let response = client.response();
        (response.status().to_owned(), response.field("connection").map(str::to_owned))
    };
    assert_eq!(drip("/"), ("408".to_owned(), Some("close".to_owned())));
    assert_eq!(drip("/patient"), ("200".to_owned(), None));
    // Who keeps up may take longer than that.
    let mut client = edge.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 16000\r\n\r\n");
    for _ in 0..16 {
        std::thread::sleep(Duration::from_millis(100));
        client.send(&"x".repeat(1000));
    }
    assert_eq!(client.response().status(), "200");
}

/// As in calls of gRPC in which both sides stream.
#[test]
fn who_has_an_answer_may_be_silent_for_as_long_as_it_likes() {
    let origin = Origin::new(|_, stream| {
        use std::io::Write as _;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").unwrap();
        // The last chunk, as the edge writes it.
        let mut content = Vec::new();
        while !content.ends_with(b"\r\n0\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            content.push(byte[0]);
        }
        stream.write_all(b"heard").is_ok()
    });
    let edge = edge(&origin, "body_timeout = \"100ms\"\n");
    let mut client = edge.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200"));
    std::thread::sleep(Duration::from_millis(500));
    client.send("3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(client.bytes(5), b"heard");
}
