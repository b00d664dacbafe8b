//! Connections that change protocols.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message as AxumMessage, WebSocketUpgrade};
use axum::routing::any;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::support::{Client, Origin, field, pool, pool_of, proxy, serve, serve_axum, until};
use tower_keep_balance::Pool;
use tower_keep_balance::proxy::{Protocol as Version, Proxy, Upstream};

fn echo() -> Router {
    let handler = |upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                if matches!(message, AxumMessage::Text(_) | AxumMessage::Binary(_)) {
                    socket.send(message).await.unwrap();
                }
            }
        })
    };
    Router::new().route("/", any(handler))
}

/// A WebSocket to the one backend of `pool` carries what is sent both ways, and is counted until it is
/// closed.
async fn echoes_and_counts(address: SocketAddr, pool: &Pool<Upstream>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, response) = client_async(format!("ws://{address}/"), stream).await.unwrap();
    assert_eq!(response.status(), 101);
    for n in 0..10 {
        let text = Message::text(format!("{n}").repeat(1 << (2 * n)));
        socket.send(text.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), text);
    }
    assert_eq!(pool.status()[0].in_flight, 1);
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    drop(socket);
    until("it isn't counted any more", || async { pool.status()[0].in_flight == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_passes_and_counts_until_it_is_closed() {
    let pool = pool(&[serve_axum(echo()).await]);
    let address = serve(Proxy::new(pool.clone())).await;
    echoes_and_counts(address, &pool).await;
}

/// Asks for `protocol` by extended `CONNECT`.
async fn connect(
    address: SocketAddr,
    protocol: &'static str,
) -> (http2::SendRequest<Empty<Bytes>>, Response<Incoming>) {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut client, connection) =
        http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), stream).await.unwrap();
    until("the server says that it can", || async {
        connection.is_extended_connect_protocol_enabled()
    })
    .await;
    tokio::spawn(connection);
    let request = Request::connect(format!("http://{address}/"))
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static(protocol))
        .body(Empty::new());
    let response = client.send_request(request.unwrap()).await.unwrap();
    (client, response)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_over_http_2_passes_to_upstreams_of_either_version() {
    for version in [Version::Http1, Version::Http2] {
        let origin = serve_axum(echo()).await;
        let upstream = Upstream::builder(&format!("http://{origin}")).protocol(version);
        let pool = pool_of([upstream.build().unwrap()]);
        let address = serve(Proxy::new(pool.clone())).await;
        let (_, response) = connect(address, "connect-udp").await;
        assert_eq!(response.status(), 405);
        let (client, mut response) = connect(address, "websocket").await;
        assert_eq!(response.status(), 200, "{version:?}");
        for gone in ["sec-websocket-accept", "upgrade", "connection"] {
            assert!(!response.headers().contains_key(gone), "{:?}", response.headers());
        }
        let stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        for n in 0..10 {
            let text = Message::text(n.to_string());
            socket.send(text.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), text);
        }
        assert_eq!(pool.status()[0].in_flight, 1);
        drop(socket);
        drop(client);
        until("it isn't counted any more", || async { pool.status()[0].in_flight == 0 }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_over_http_1_1_passes_to_an_upstream_of_http_2() {
    let origin = serve_axum(echo()).await;
    let upstream = Upstream::builder(&format!("http://{origin}")).protocol(Version::Http2);
    let pool = pool_of([upstream.build().unwrap()]);
    let address = serve(Proxy::new(pool.clone())).await;
    for _ in 0..3 {
        // The client checks that its key was accepted.
        echoes_and_counts(address, &pool).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_of_http_2_can_say_no() {
    let router = Router::new().route("/", any(async || (StatusCode::FORBIDDEN, "no")));
    let origin = serve_axum(router).await;
    let upstream = Upstream::builder(&format!("http://{origin}")).protocol(Version::Http2);
    let mut client = Client::connect(serve(Proxy::new(pool_of([upstream.build().unwrap()]))).await);
    for _ in 0..2 {
        client.send(ASK);
        let response = client.response();
        assert_eq!((response.status(), response.body.as_str()), ("403", "no"));
    }
}

const ASK: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_side_that_has_ended_can_still_hear() {
    let origin = Origin::new(|head, stream| {
        assert_eq!(
            (field(head, "upgrade"), field(head, "connection")),
            (Some("websocket"), Some("upgrade"))
        );
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        // The client has ended, and hears this.
        stream.write_all(all.to_uppercase().as_bytes()).unwrap();
        false
    });
    let address = serve(proxy(origin.address)).await;
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(ASK.as_bytes()).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert!(all.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{all}");
    assert!(all.contains("upgrade: websocket\r\n") && all.ends_with("\r\n\r\nHELLO"), "{all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_in_which_nothing_moves_is_closed() {
    let origin = Origin::new(|_, stream| {
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        false
    });
    let pool = pool(&[origin.address]);
    let proxy = Proxy::builder(pool.clone()).tunnel_timeout(Duration::from_millis(100));
    let mut client = Client::connect(serve(proxy.build().unwrap()).await);
    client.send(ASK);
    client.head();
    assert_eq!(client.rest(), "");
    until("it isn't counted any more", || async { pool.status()[0].in_flight == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_passes_on_and_the_connection_with_it() {
    let origin = Origin::saying("HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\nno");
    let address = serve(proxy(origin.address)).await;
    let mut client = Client::connect(address);
    for _ in 0..2 {
        client.send(ASK);
        let response = client.response();
        assert_eq!((response.status(), response.body.as_str()), ("426", "no"));
    }
    // The connection to the upstream as well.
    until("it was used again", || async { origin.heads().len() == 2 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_upgraded_to_is_not_asked_for() {
    let origin = Origin::saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let address = serve(proxy(origin.address)).await;
    for ask in [
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n",
    ] {
        let mut client = Client::connect(address);
        client.send(ask);
        assert_eq!(client.response().body, "ok");
    }
    for head in origin.heads() {
        for gone in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(field(&head, gone), None, "{head}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_to_another_protocol_than_was_asked_for_is_an_error() {
    for said in ["h2c", "websocket, h2c", ""] {
        let origin = Origin::new(move |_, stream| {
            let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n";
            write!(stream, "{head}upgrade: {said}\r\n\r\n").is_ok()
        });
        let mut client = Client::connect(serve(proxy(origin.address)).await);
        client.send(ASK);
        let response = client.response();
        assert_eq!(response.status(), "502", "{said}");
        assert!(response.field("proxy-status").unwrap().ends_with("; error=http_upgrade_failed"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_nobody_asked_for_is_an_error() {
    let origin = Origin::saying(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nevil",
    );
    let address = serve(proxy(origin.address)).await;
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status(), "502");
    assert!(response.field("proxy-status").unwrap().ends_with("; error=http_upgrade_failed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_of_http_2_that_offers_no_change_is_not_asked_for_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(async |request: Request<Incoming>| {
                assert_eq!(request.method(), "GET");
                Ok::<_, Infallible>(Response::new(String::from("ok")))
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    let upstream = Upstream::builder(&url).protocol(Version::Http2).build().unwrap();
    let mut client = Client::connect(serve(Proxy::new(pool_of([upstream]))).await);
    for _ in 0..2 {
        client.send(ASK);
        let response = client.response();
        assert_eq!(response.status(), "502");
        assert!(response.field("proxy-status").unwrap().ends_with("; error=http_upgrade_failed"));
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.response().body, "ok");
    }
}
