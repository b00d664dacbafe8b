//! What clients send to be seen otherwise by the edge than by a backend, and what else they try.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for another process"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use support::tokens::Issuer;
use support::{Edge, Origin, field, get};

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";

fn config(origin: &Origin, rest: &str) -> String {
    format!("{LISTENER}[pool.app]\nbackends = [\"http://{}\"]\n{rest}", origin.address)
}

/// All that comes back of these bytes.
fn raw(edge: &Edge, bytes: &str) -> String {
    let mut stream = TcpStream::connect(edge.address).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // An end with a reset is one as well.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// Whether or not there is a cache on the way.
#[test]
fn a_request_that_two_could_read_differently_goes_nowhere() {
    let origin = Origin::saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let routes = "[[route]]\npool = \"app\"\n\
        [[route]]\npath_prefix = \"/raw\"\npool = \"app\"\ncache = false\n";
    let edge = Edge::new(&config(&origin, routes));
    let framings = [
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding: identity",
        "transfer-encoding: xchunked",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding: \u{b}chunked\r\ncontent-length: 5",
        "transfer-encoding : chunked",
        "transfer-encoding:\r\n chunked",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5, 5",
        "content-length: +5",
        "content-length: -5",
        "content-length: 0x5",
        "content-length: 99999999999999999999999",
        "content-length: ",
        "host: b",
        "x: a\rb",
        "x: a\0b",
        "x y: 1",
    ];
    for path in ["/", "/raw"] {
        for framing in framings {
            let request = format!("POST {path} HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n0\r\n\r\n");
            let answer = raw(&edge, &format!("{request}{}", get("/smuggled")));
            assert!(answer.starts_with("HTTP/1.1 400 "), "{framing:?}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{framing:?}: {answer}");
        }
    }
    assert_eq!(origin.heads().len(), 0);
}

/// By HTTP/1.1, the trailers of a request are the last of what a client can say.
#[test]
fn trailers_say_nothing_that_backends_believe() {
    let (sender, trailers) = std::sync::mpsc::channel();
    let origin = Origin::new(move |_, stream| {
        let mut content = Vec::new();
        while !content.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            content.push(byte[0]);
        }
        sender.send(String::from_utf8(content).unwrap()).unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_ok()
    });
    let issuer = Issuer::new();
    let jwt = format!("[jwt.users]\nclaims = {{ x-user = \"sub\" }}\n{}", issuer.section());
    let routes = "[[route]]\npool = \"app\"\njwt = \"users\"\ntoken = \"optional\"\n\
        request_headers = { x-tenant = \"a\" }\n";
    // Not even what a proxy that is trusted passes on.
    let forwarding = "[forwarding]\ntrusted = [\"127.0.0.0/8\"]\n";
    let edge = Edge::new(&config(&origin, &format!("{forwarding}{jwt}{routes}")));
    let names = [
        "X_User",
        "x-tenant",
        "x_tenant",
        "x-forwarded-for",
        "x_forwarded_host",
        "forwarded",
        "x-real-ip",
        "x-rewrite-url",
        "X_Original_URL",
    ];
    let mut client = edge.client();
    client.send(&format!(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, {}\r\n\r\n\
        1\r\na\r\n0\r\n{}x-sum: 1\r\n\r\n",
        names.join(", "),
        names.map(|name| format!("{name}: evil\r\n")).concat()
    ));
    assert_eq!(client.response().status(), "204");
    let trailers = trailers.recv().unwrap();
    assert!(trailers.contains("x-sum: 1") && !trailers.contains("evil"), "{trailers}");
}

/// Else, a backend would answer what the route isn't for.
#[test]
fn nobody_asks_for_another_target_than_the_one_that_is_routed() {
    let origin = Origin::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let names = [
        "front-end-https",
        "x-host",
        "x-original-host",
        "x-original-url",
        "x-rewrite-url",
        "x-url-scheme",
        "x-forwarded-path",
        "x-forwarded-scheme",
        "x-forwarded-uri",
    ];
    let said = names.map(|name| {
        let disguised = name.replace('-', "_");
        format!("{name}: /admin\r\n{disguised}: /admin\r\n")
    });
    let edge = Edge::new(&config(&origin, ""));
    let reach = |path: &str| {
        edge.ask(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n{}\r\n", said.concat()));
        let head = origin.heads().pop().unwrap();
        assert!(head.starts_with(&format!("GET {path} ")), "{head}");
        let lines = head.lines().filter(|line| line.ends_with(": /admin"));
        let mut names: Vec<_> =
            lines.map(|line| line.split(':').next().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(reach("/1"), [""; 0]);
    edge.reload(&config(&origin, "[forwarding]\nkeep = [\"x-original-url\"]\n"));
    assert_eq!(reach("/2"), ["x-original-url"]);
    edge.reload(&config(&origin, "[forwarding]\ntrusted = [\"127.0.0.1/32\"]\n"));
    let mut all = names;
    all.sort_unstable();
    assert_eq!(reach("/3"), all);
}

/// It must neither look whole nor be stored, whatever is made of it on the way.
#[test]
fn what_breaks_off_at_the_backend_breaks_off_at_the_client() {
    let origin = Origin::new(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncache-control: max-age=60\r\n";
        write!(stream, "{head}content-length: 100000\r\n\r\n{}", "half ".repeat(10_000)).unwrap();
        false
    });
    let edge = Edge::new(&config(&origin, "[compress]\n"));
    for accept in ["identity", "gzip", "br", "zstd"] {
        let curl = Command::new("curl")
            .args(["--silent", "--header", &format!("accept-encoding: {accept}")])
            .arg(format!("http://{}/{accept}", edge.address))
            .output()
            .unwrap();
        // 18: a part of the file; 52: nothing, as the encoder has not let go of any; 56: a reset.
        assert!(matches!(curl.status.code(), Some(18 | 52 | 56)), "{accept}: {:?}", curl.status);
    }
    let before = origin.heads().len();
    raw(
        &edge,
        &format!("GET /identity HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", edge.address),
    );
    assert_eq!(origin.heads().len(), before + 1);
}

#[test]
fn a_storm_of_signals_loses_no_request_and_floods_no_issuer() {
    let origin = Origin::saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let issuer = Issuer::new();
    let routes = "[[route]]\npool = \"app\"\njwt = \"users\"\ncache = false\n";
    let edge = Edge::new(&config(&origin, &format!("[jwt.users]\n{}{routes}", issuer.section())));
    let token = issuer.token("a");
    let asks = get("/").replace("\r\n\r\n", &format!("\r\nauthorization: Bearer {token}\r\n\r\n"));
    let mut client = edge.client();
    for n in 0..300 {
        edge.signal("-HUP");
        if n % 10 == 0 {
            client.send(&asks);
            let response = client.response();
            assert_eq!((response.status(), field(&response.head, "connection")), ("200", None));
        }
    }
    edge.wait_for_log("the configuration is loaded again", 1);
    assert_eq!(issuer.asked(), 1);
}

#[test]
fn tokens_that_nobody_signed_ask_the_issuer_once() {
    let origin = Origin::saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let routes = "[[route]]\npool = \"app\"\njwt = \"users\"\n";
    let jwt =
        format!("[jwt.users]\n{}look_interval = \"1h\"\nmax_wait = \"100ms\"\n", issuer.section());
    let edge = Edge::new(&config(&origin, &format!("{jwt}{routes}")));
    issuer.wait_until_asked(1);
    for n in 0..20 {
        let token = other.token(&format!("user:{n}"));
        let field = format!("\r\nauthorization: Bearer {token}\r\n\r\n");
        let status = edge.ask(&get("/").replace("\r\n\r\n", &field)).status().to_owned();
        assert!(["401", "503"].contains(&status.as_str()), "{status}");
    }
    let long = format!("\r\nauthorization: Bearer {}\r\n\r\n", "a".repeat(20_000));
    assert_eq!(edge.ask(&get("/").replace("\r\n\r\n", &long)).status(), "401");
    assert!(issuer.asked() <= 2, "{}", issuer.asked());
    assert_eq!(origin.heads().len(), 0);
}
