//! Proxies that say by the PROXY protocol whom a connection is from.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use support::{Directory, Edge, Origin, field};

/// One that says who the client is said to be.
fn origin() -> Origin {
    Origin::new(|head, stream| {
        let client = field(head, "x-forwarded-for").unwrap();
        let head = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\n";
        write!(stream, "{head}content-length: {}\r\n\r\n{client}", client.len()).is_ok()
    })
}

fn config(listener: &str, origin: &Origin) -> String {
    format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\nheader_timeout = \"500ms\"\n{listener}\
        [pool.app]\nbackends = [\"http://{}\"]\n",
        origin.address
    )
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["--silent", "--insecure"]).args(arguments).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// What comes back of these bytes, until the connection ends.
fn raw(edge: &Edge, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(edge.address).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // An end with a reset is one as well.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn what_a_trusted_proxy_says_of_the_client_is_believed_in_both_versions() {
    let directory = Directory::new();
    support::tls::certificate(&directory, "one", &["one.test"]);
    let origin = origin();
    let proxies = "proxy_protocol = [\"127.0.0.0/8\"]\n";
    let edge = Edge::within(directory, &config(proxies, &origin));
    // curl says where it is itself.
    let url = format!("http://{}/", edge.address);
    assert_eq!(curl(&["--haproxy-protocol", &url]), "127.0.0.1");
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let text = format!("PROXY TCP4 192.0.2.7 127.0.0.1 4000 80\r\n{request}");
    assert!(raw(&edge, text.as_bytes()).ends_with("\r\n\r\n192.0.2.7"));
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x7f\0\0\x01\x0f\xa0\0\x50";
    let binary = [&binary[..], request.as_bytes()].concat();
    assert!(raw(&edge, &binary).ends_with("\r\n\r\n192.0.2.7"));
    // Who doesn't say it, or never ends, isn't heard.
    for bytes in [request.as_bytes(), b"PROXY TCP4 1.1.1.1 2.2.2.2 1 99999\r\n", b"PROXY TCP4 "] {
        assert_eq!(raw(&edge, bytes), "");
    }
    // In front of TLS, too.
    let certificates = "certificates = [{ chain = \"one.pem\", key = \"one.key\" }]\n";
    edge.reload(&config(&format!("{proxies}{certificates}"), &origin));
    let url = format!("https://{}/", edge.address);
    assert_eq!(curl(&["--haproxy-protocol", &url]), "127.0.0.1");
    assert_eq!(curl(&[&url]), "");
}

#[test]
fn nobody_else_is_believed() {
    let origin = origin();
    let edge = Edge::new(&config("proxy_protocol = [\"192.0.2.0/24\"]\n", &origin));
    assert_eq!(curl(&[&format!("http://{}/", edge.address)]), "127.0.0.1");
    let text = "PROXY TCP4 192.0.2.7 127.0.0.1 4000 80\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n";
    assert!(raw(&edge, text.as_bytes()).starts_with("HTTP/1.1 400 "));
    assert_eq!(origin.heads().len(), 1);
}
