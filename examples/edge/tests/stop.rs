//! The end of the edge, and connections that outlive a reload.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for another process"
)]

mod support;

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::routing::any;
use futures_util::{SinkExt as _, StreamExt as _};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite;
use tower_keep_testing::RedisServer;

use support::{Client, Edge, Origin, get};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";

fn pool(origin: std::net::SocketAddr) -> String {
    format!("[pool.app]\nbackends = [\"http://{origin}\"]\n")
}

/// Sends half of its response, and the rest when it is told to.
fn halting() -> (Origin, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").unwrap();
        let _ = wait.lock().unwrap().recv();
        stream.write_all(b"lf").is_ok()
    });
    (origin, go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_http_2_are_told_to_go_and_get_what_they_have_asked_for() {
    let (origin, go) = halting();
    let edge = Edge::new(&format!("{LISTENER}{}", pool(origin.address)));
    let stream = tokio::net::TcpStream::connect(edge.address).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://a.test/").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    edge.terminate();
    while TcpStream::connect(edge.address).is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    go.send(()).unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "half");
    connection.await.unwrap().unwrap();
    assert!(edge.wait().success());
}

#[test]
fn who_takes_too_long_is_left() {
    let (origin, go) = halting();
    let server = "[server]\ndrain_timeout = \"300ms\"\n";
    let edge = Edge::new(&format!("{server}{LISTENER}{}", pool(origin.address)));
    let mut client = edge.client();
    client.send(&get("/"));
    client.head();
    let start = Instant::now();
    edge.terminate();
    edge.wait_for_log("some clients have not taken their responses", 1);
    assert!(edge.wait().success());
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(290) && took < Duration::from_secs(10), "{took:?}");
    drop(go);
}

#[test]
fn for_a_while_connections_are_still_taken() {
    let origin = Origin::saying(OK);
    let server = "[server]\ndrain_delay = \"2s\"\n";
    let edge = Edge::new(&format!("{server}{LISTENER}{}", pool(origin.address)));
    let start = Instant::now();
    edge.signal("-INT");
    while start.elapsed() < Duration::from_millis(700) {
        assert_eq!(edge.get("/").status(), "200");
    }
    assert!(edge.wait().success());
    assert!(start.elapsed() >= Duration::from_millis(1990));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_passes_and_stays_open_when_its_pool_is_replaced() {
    let echo = |upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                if matches!(message, Message::Text(_)) {
                    socket.send(message).await.unwrap();
                }
            }
        })
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/{*path}", any(echo));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let start = Instant::now();
    let other = Origin::saying(OK);
    let edge = Edge::new(&format!("{LISTENER}{}", pool(address)));
    let stream = tokio::net::TcpStream::connect(edge.address).await.unwrap();
    let (mut socket, response) =
        client_async(format!("ws://{}/chat", edge.address), stream).await.unwrap();
    assert_eq!(response.status(), 101);
    for n in 0..6 {
        let text = tungstenite::Message::text(format!("{n}"));
        socket.send(text.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), text);
        // Another backend, another pool, and back.
        match n {
            1 => edge.reload(&format!("{LISTENER}{}", pool(other.address))),
            2 => edge.reload(&format!("{LISTENER}{}", pool(other.address).replace("app", "other"))),
            3 => edge.reload(&format!("{LISTENER}{}", pool(address))),
            _ => {}
        }
    }
    // And at the end, until it is closed.
    edge.terminate();
    while TcpStream::connect(edge.address).is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    socket.send(tungstenite::Message::text("last")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), tungstenite::Message::text("last"));
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    drop(socket);
    assert!(edge.wait().success());
    assert!(start.elapsed() < Duration::from_secs(25));
}

/// An edge in front of edges, which come and go by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_that_announce_themselves_are_found_and_leave_without_a_failure() {
    let redis = RedisServer::start().await;
    let origin = Origin::saying(OK);
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let inner = |address: std::net::SocketAddr| {
        Edge::new(&format!(
            "[server]\nname = \"inner\"\ndrain_delay = \"500ms\"\n\
            [announce]\nredis = \"{}\"\nservice = \"inner\"\naddress = \"http://{address}\"\nttl = \"5s\"\n\
            [[listener]]\naddress = \"{address}\"\n{}",
            redis.url(),
            pool(origin.address)
        ))
    };
    let (one, two) = (free(), free());
    let (first, second) = (inner(one), inner(two));
    let outer = Edge::new(&format!(
        "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"0123456789abcdef\"\n{LISTENER}\
        [pool.inner]\nstrategy = \"round-robin\"\n\
        [pool.inner.discovery]\nkind = \"redis\"\nurl = \"{}\"\nservice = \"inner\"\n\
        [pool.inner.queue]\ntime = \"10s\"\n",
        redis.url()
    ));
    let pools = || {
        let mut client = Client::connect(outer.at_name("admin"));
        client.send(
            "GET /pools HTTP/1.1\r\nhost: a\r\nauthorization: Bearer 0123456789abcdef\r\n\r\n",
        );
        client.response().body
    };
    let wait_for = |known: &dyn Fn(&str) -> bool| {
        let start = Instant::now();
        while !known(&pools()) {
            assert!(start.elapsed() < support::PATIENCE, "{}", pools());
            thread::sleep(Duration::from_millis(10));
        }
    };
    let both = |pools: &str| [one, two].iter().all(|it| pools.contains(&it.to_string()));
    wait_for(&both);
    let mut client = outer.client();
    let mut ask = || {
        client.send(&get("/"));
        assert_eq!(client.response().status(), "200");
    };
    (0..20).for_each(|_| ask());
    first.terminate();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        ask();
    }
    assert!(first.wait().success());
    wait_for(&|pools| !pools.contains(&one.to_string()) && pools.contains(&two.to_string()));
    (0..20).for_each(|_| ask());
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_leave_no_connection_to_redis_behind() {
    let redis = RedisServer::start().await;
    let config = |n: usize| {
        let url = redis.url();
        // Other definitions each time, so that all is made anew.
        format!(
            "[announce]\nredis = \"{url}\"\nservice = \"edge\"\naddress = \"http://a:{n}\"\n\
            [cache]\nredis = \"{url}\"\nmemory = \"{n}MiB\"\n{LISTENER}\
            [pool.inner]\nmax_idle = {n}\n\
            [pool.inner.discovery]\nkind = \"redis\"\nurl = \"{url}\"\nservice = \"none\"\n\
            [[route]]\npool = \"inner\"\njwt = \"users\"\n[jwt.users]\n[[jwt.users.issuer]]\n\
            name = \"https://id.example.com\"\naudiences = [\"a\"]\n\
            jwks = \"http://127.0.0.1:1/\"\nallow_http = true\n\
            [jwt.users.revocation]\npatience = \"{n}s\"\n"
        )
    };
    let clients = async || match redis.command(&[b"CLIENT", b"LIST"]).await {
        tower_keep_testing::Reply::Bytes(list) => String::from_utf8(list).unwrap().lines().count(),
        other => unreachable!("{other:?}"),
    };
    let edge = Edge::new(&config(10));
    let start = Instant::now();
    let mut before = 0;
    // All of its connections are there.
    for _ in 0..20 {
        before = before.max(clients().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(before > 3, "{before}");
    (11..21).for_each(|n| edge.reload(&config(n)));
    while clients().await > before {
        assert!(start.elapsed() < support::PATIENCE, "{} of {before}", clients().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
