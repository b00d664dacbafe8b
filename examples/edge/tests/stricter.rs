//! A listener that comes to ask for more, and those who came in while it did not.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for another process"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::sync::{Mutex, mpsc};

use http::Request;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use support::tls::{certificate, connect_as};
use support::{Client, Directory, Edge, Origin, PATIENCE, field, get};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const TLS: &str = "certificates = [{ chain = \"one.pem\", key = \"one.key\" }]\n";

fn config(listener: &str, origin: &Origin) -> String {
    format!(
        "[server]\ndrain_timeout = \"500ms\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n{listener}\
        [pool.app]\nbackends = [\"http://{}\"]\n",
        origin.address
    )
}

/// With a certificate of its own beside its configuration.
fn edge(origin: &Origin) -> (Edge, String) {
    let directory = Directory::new();
    let pem = certificate(&directory, "one", &["one.test"]);
    (Edge::within(directory, &config("", origin)), pem)
}

/// One that has had a response, and is kept.
fn kept(edge: &Edge) -> Client {
    let mut client = edge.client();
    client.send(&get("/"));
    assert_eq!(client.response().status(), "200");
    client
}

#[tokio::test]
async fn who_came_without_tls_goes_when_it_is_asked_for() {
    let origin = Origin::saying(OK);
    let (edge, _) = edge(&origin);
    let mut idle = kept(&edge);
    let stream = TcpStream::connect(edge.address).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://a.test/").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);

    // What asks for no more ends nothing.
    edge.reload(&config("max_headers = 50\n", &origin));
    idle.send(&get("/"));
    assert_eq!(idle.response().status(), "200");

    edge.reload(&config(TLS, &origin));
    assert_eq!(idle.rest(), "");
    // By a GOAWAY, which is no error.
    timeout(PATIENCE, connection).await.unwrap().unwrap().unwrap();
}

#[test]
fn what_is_under_way_is_finished_first_and_then_the_connection_is_closed() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |_, stream| {
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(OK.as_bytes()).is_ok()
    });
    let (edge, _) = edge(&origin);
    let patient = |listener: &str| config(listener, &origin).replace("500ms", "1h");
    edge.reload(&patient(""));
    let mut client = edge.client();
    client.send(&get("/"));
    while origin.heads().is_empty() {
        std::thread::yield_now();
    }
    edge.reload(&patient(TLS));
    go.send(()).unwrap();
    let response = client.response();
    assert_eq!((response.status(), response.field("connection")), ("200", Some("close")));
    assert_eq!(client.rest(), "");
}

#[test]
fn what_is_asked_for_since_is_not_answered() {
    let origin = Origin::saying(OK);
    let (edge, _) = edge(&origin);
    let mut client = kept(&edge);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n");
    std::thread::sleep(std::time::Duration::from_millis(100));
    edge.reload(&config(TLS, &origin));
    client.send("\r\n");
    let said = client.rest();
    // On a busy machine, half of a head may not have been seen before it is told to go.
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 421 "), "{said}");
}

#[test]
fn what_does_not_end_is_cut_off_when_the_time_to_drain_is_over() {
    let (left, gone) = mpsc::channel();
    let left = Mutex::new(left);
    let origin = Origin::new(move |head, stream| {
        let head = match field(head, "upgrade") {
            Some(_) => {
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
            }
            None => "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        };
        stream.write_all(head.as_bytes()).unwrap();
        // Until the edge leaves.
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        left.lock().unwrap().send(()).unwrap();
        false
    });
    let (edge, _) = edge(&origin);
    let mut half = edge.client();
    half.send(&get("/"));
    half.head();
    assert_eq!(half.bytes(4), b"half");
    let mut socket = edge.client();
    socket.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert!(socket.head().starts_with("HTTP/1.1 101 "));
    edge.reload(&config(TLS, &origin));
    assert_eq!((half.rest(), socket.rest()), (String::new(), String::new()));
    for _ in 0..2 {
        gone.recv_timeout(PATIENCE).unwrap();
    }
}

/// The status of one more response, or none where the connection is closed.
async fn ask(stream: &mut TlsStream<TcpStream>) -> Option<String> {
    // What is closed may be noticed only by reading.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: one.test\r\n\r\n").await;
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\nok") {
        let mut bytes = [0; 256];
        let read = timeout(PATIENCE, stream.read(&mut bytes)).await.unwrap().unwrap_or(0);
        if read == 0 {
            return None;
        }
        response.extend_from_slice(&bytes[..read]);
    }
    Some(String::from_utf8(response[9..12].to_vec()).unwrap())
}

#[tokio::test]
async fn who_came_with_no_certificate_or_one_that_is_trusted_no_more_goes() {
    let origin = Origin::saying(OK);
    let directory = Directory::new();
    let server = certificate(&directory, "one", &["one.test"]);
    let [one, two] = ["a", "b"].map(|name| {
        let pem = certificate(&directory, name, &["client.test"]);
        (pem, std::fs::read_to_string(directory.0.join(format!("{name}.key"))).unwrap())
    });
    let config =
        |trusted: &str| config(&format!("{TLS}client_authorities = [{trusted}]\n"), &origin);
    let edge = Edge::within(directory, &config(""));
    let connect = async |client: Option<&(String, String)>| {
        let client = client.map(|(chain, key)| (chain.as_str(), key.as_str()));
        connect_as(edge.address, "one.test", &server, &["http/1.1"], client).await.unwrap()
    };
    let ok = Some("200".to_owned());
    let mut nobody = connect(None).await;
    assert_eq!(ask(&mut nobody).await, ok);
    edge.reload(&config("\"a.pem\""));
    assert_eq!(ask(&mut nobody).await, None);
    let mut known = connect(Some(&one)).await;
    assert_eq!(ask(&mut known).await, ok);
    // Who is trusted as well is nothing to those who were before.
    edge.reload(&config("\"b.pem\", \"a.pem\""));
    assert_eq!(ask(&mut known).await, ok);
    let mut either = connect(Some(&two)).await;
    assert_eq!(ask(&mut either).await, ok);
    // Nobody knows of which of them it was.
    edge.reload(&config("\"b.pem\""));
    assert_eq!((ask(&mut known).await, ask(&mut either).await), (None, None));
    let mut other = connect(Some(&two)).await;
    assert_eq!(ask(&mut other).await, ok);
    edge.reload(&config(""));
    assert_eq!(ask(&mut other).await, ok);
}

#[test]
fn who_said_of_himself_what_a_proxy_is_to_say_goes_and_the_other_way_round() {
    let origin = Origin::saying(OK);
    let (edge, _) = edge(&origin);
    let proxies = |networks: &str| config(&format!("proxy_protocol = [{networks}]\n"), &origin);
    let mut direct = kept(&edge);
    edge.reload(&proxies("\"192.0.2.0/24\""));
    direct.send(&get("/"));
    assert_eq!(direct.response().status(), "200");
    edge.reload(&proxies("\"192.0.2.0/24\", \"127.0.0.0/8\""));
    assert_eq!(direct.rest(), "");
    let mut announced = edge.client();
    announced.send("PROXY TCP4 192.0.2.7 127.0.0.1 4000 80\r\n");
    announced.send(&get("/"));
    assert_eq!(announced.response().status(), "200");
    edge.reload(&proxies("\"127.0.0.1/32\""));
    announced.send(&get("/"));
    assert_eq!(announced.response().status(), "200");
    // What was said is believed of nobody there any more.
    edge.reload(&config("", &origin));
    assert_eq!(announced.rest(), "");
}
