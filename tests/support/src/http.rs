//! A client and a server of HTTP/1.1 that show each byte: for what real ones hide or refuse to send.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// After which whatever doesn't come is taken not to come at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request for a path of `example.com`.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: example.com\r\n\r\n")
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client(BufReader<TcpStream>);

impl Client {
    /// A new one.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Self(BufReader::new(stream))
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &str) {
        self.try_send(bytes).expect("the server reads");
    }

    /// The same, to a server that may have ended the connection.
    ///
    /// # Errors
    ///
    /// If it is known to have.
    pub fn try_send(&mut self, bytes: &str) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes.as_bytes())
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

    /// The next bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).expect("it works");
        bytes
    }

    /// All until the connection ends.
    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).expect("it works");
        rest
    }

    /// A whole response with a `Content-Length`, or without content.
    pub fn response(&mut self) -> Response {
        let head = self.head();
        let mut response = Response { head, body: String::new() };
        let length =
            response.field("content-length").map_or(0, |length| length.parse().expect("it works"));
        response.body = String::from_utf8(self.bytes(length)).expect("it works");
        response
    }
}

/// A response that was read.
#[derive(Debug)]
pub struct Response {
    /// With its empty line.
    pub head: String,
    /// The content.
    pub body: String,
}

impl Response {
    /// The status, three digits.
    pub fn status(&self) -> &str {
        &self.head["HTTP/1.1 ".len()..][..3]
    }

    /// The only line of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// Whether a cache answered, by its `Cache-Status`.
    pub fn is_hit(&self) -> bool {
        self.field("cache-status").is_some_and(|status| status.contains("; hit"))
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
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    /// A connection ends when `answer` returns false.
    pub fn new(answer: impl Fn(&str, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("it works");
        let address = listener.local_addr().expect("it works");
        let connections = Arc::new(AtomicUsize::new(0));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let origin =
            Self { address, connections: Arc::clone(&connections), heads: Arc::clone(&heads) };
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("it works");
                stream.set_nodelay(true).expect("it works");
                connections.fetch_add(1, SeqCst);
                let (heads, answer) = (Arc::clone(&heads), Arc::clone(&answer));
                thread::spawn(move || {
                    while let Some(head) = head(&mut stream) {
                        heads.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
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

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
