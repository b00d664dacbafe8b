//! The binary of the edge, an origin behind it that says what it is told byte by byte, and a client
//! that sees every byte.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "each test binary uses its own part, and a test may panic"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// After which whatever doesn't come is taken not to come at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running edge; killed when it is dropped.
pub struct Edge {
    child: Child,
    pub address: SocketAddr,
}

impl Edge {
    pub fn before(origin: SocketAddr) -> Self {
        Self::at("127.0.0.1:0", origin)
    }

    pub fn at(listen: &str, origin: SocketAddr) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_edge"))
            .args([&format!("http://{origin}"), listen])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.split_whitespace().next().expect("it says where it listens");
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Self { child, address }
    }

    pub fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    /// The response to one request on a connection of its own.
    pub fn ask(&self, request: &str) -> Response {
        let mut client = self.client();
        client.send(request);
        client.response()
    }

    pub fn get(&self, path: &str) -> Response {
        self.ask(&get(path))
    }

    /// The response from the store. A client can have its response a moment before the store has.
    pub fn hit(&self, path: &str) -> Response {
        for _ in 0..1000 {
            let response = self.get(path);
            if response.is_hit() {
                return response;
            }
            let status = response.field("cache-status").unwrap();
            assert!(status.ends_with("collapsed"), "{status}");
        }
        unreachable!("{path} is not stored")
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(kill.success());
    }

    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: example.com\r\n\r\n")
}

/// A connection to the edge.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    /// The next head, interim or final, up to and with its empty line.
    pub fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.0.read_line(&mut head).expect(&head);
            assert_ne!(read, 0, "the connection ended after {head:?}");
        }
        head
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// All until the connection ends.
    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).unwrap();
        rest
    }

    /// A whole response with a `Content-Length`, or without content.
    pub fn response(&mut self) -> Response {
        let head = self.head();
        let mut response = Response { head, body: String::new() };
        let length = response.field("content-length").map_or(0, |length| length.parse().unwrap());
        response.body = String::from_utf8(self.bytes(length)).unwrap();
        response
    }
}

/// A response that was read.
#[derive(Debug)]
pub struct Response {
    pub head: String,
    pub body: String,
}

impl Response {
    pub fn status(&self) -> &str {
        &self.head["HTTP/1.1 ".len()..][..3]
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub fn is_hit(&self) -> bool {
        self.field("cache-status").is_some_and(|status| status.starts_with("edge; hit"))
    }
}

/// The only line of a field in a head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut found = head.lines().filter_map(|line| line.split_once(": "));
    let value = found.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    assert!(!found.any(|(key, _)| key.eq_ignore_ascii_case(name)), "{name} is there twice: {head}");
    value
}

/// A server that hands each request's head to a function, with the connection to answer on.
pub struct Origin {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    /// A connection ends when `answer` returns false.
    pub fn new(answer: impl Fn(&str, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let origin =
            Self { address, connections: Arc::clone(&connections), heads: Arc::clone(&heads) };
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                connections.fetch_add(1, SeqCst);
                let (heads, answer) = (Arc::clone(&heads), Arc::clone(&answer));
                thread::spawn(move || {
                    while let Some(head) = head(&mut stream) {
                        heads.lock().unwrap().push(head.clone());
                        if !answer(&head, &mut stream) {
                            break;
                        }
                    }
                });
            }
        });
        origin
    }

    /// Answers every request with the same bytes.
    pub fn saying(response: &'static str) -> Self {
        Self::new(move |_, stream| stream.write_all(response.as_bytes()).is_ok())
    }

    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// The head of the next request; byte by byte, so that nothing of its content is taken.
fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}
