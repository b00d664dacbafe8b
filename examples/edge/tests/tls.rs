//! TLS to clients and to backends, and the versions of HTTP.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use http::{Response, Version};
use hyper::body::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use support::tls::{ask, certificate, connect, connect_as};
use support::{Directory, Edge, Origin, field, get};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BOTH: &[&str] = &["h2", "http/1.1"];

fn pool(origin: &Origin) -> String {
    format!("[pool.app]\nbackends = [\"http://{}\"]\n", origin.address)
}

fn said(response: &Response<Bytes>) -> (u16, &[u8]) {
    (response.status().as_u16(), response.body())
}

#[tokio::test]
async fn clients_get_the_certificate_of_the_host_they_ask_for() {
    let directory = Directory::new();
    let one = certificate(&directory, "one", &["one.test", "www.one.test"]);
    let two = certificate(&directory, "two", &["two.test", "*.two.test"]);
    let origin = Origin::saying(OK);
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificates = [\
        { chain = \"one.pem\", key = \"one.key\" }, { chain = \"two.pem\", key = \"two.key\" }]\n";
    let edge = Edge::within(directory, &format!("{listener}{}", pool(&origin)));
    let cases = [
        ("one.test", &one, true),
        ("www.one.test", &one, true),
        ("two.test", &two, true),
        ("TWO.test", &two, true),
        ("a.two.test", &two, true),
        // A star is one label, and nobody has this one: it is the first.
        ("a.b.two.test", &two, false),
        ("one.test", &two, false),
    ];
    for (name, certificate, is_right) in cases {
        let connection = connect(edge.address, name, certificate, BOTH).await;
        assert_eq!(connection.is_ok(), is_right, "{name}");
        let Ok(connection) = connection else { continue };
        assert_eq!(connection.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let response = ask(connection, true, &format!("https://{name}/")).await;
        assert_eq!((said(&response), response.version()), ((200, &b"ok"[..]), Version::HTTP_2));
    }
    let connection = connect(edge.address, "one.test", &one, &["http/1.1"]).await.unwrap();
    assert_eq!(said(&ask(connection, false, "https://one.test/").await), (200, &b"ok"[..]));
    let heads = origin.heads();
    assert!(
        heads.iter().all(|head| field(head, "x-forwarded-proto") == Some("https")),
        "{heads:?}"
    );
}

#[tokio::test]
async fn without_tls_http_2_is_spoken_by_prior_knowledge_and_can_be_left_out() {
    let origin = Origin::saying(OK);
    let listeners = "[[listener]]\nname = \"both\"\naddress = \"127.0.0.1:0\"\n\
        [[listener]]\nname = \"h2\"\naddress = \"127.0.0.1:0\"\nprotocols = [\"h2\"]\n\
        [[listener]]\nname = \"http1\"\naddress = \"127.0.0.1:0\"\nprotocols = [\"http/1.1\"]\n";
    let edge = Edge::new(&format!("{listeners}{}", pool(&origin)));
    for (name, is_http2) in [("both", true), ("both", false), ("h2", true), ("http1", false)] {
        let stream = TcpStream::connect(edge.at_name(name)).await.unwrap();
        let response = ask(stream, is_http2, "http://one.test/").await;
        assert_eq!(said(&response), (200, &b"ok"[..]), "{name}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_after_a_reload_and_open_connections_stay() {
    let directory = Directory::new();
    let old = certificate(&directory, "one", &["one.test"]);
    let origin = Origin::saying(OK);
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\n\
        certificates = [{ chain = \"one.pem\", key = \"one.key\" }]\n";
    let config = format!("{listener}{}", pool(&origin));
    let edge = Edge::within(directory, &config);
    let open = connect(edge.address, "one.test", &old, &["http/1.1"]).await.unwrap();
    let new = certificate(&edge.directory, "one", &["one.test"]);
    edge.reload(&config);
    assert!(connect(edge.address, "one.test", &old, BOTH).await.is_err());
    let connection = connect(edge.address, "one.test", &new, BOTH).await.unwrap();
    assert_eq!(said(&ask(connection, true, "https://one.test/").await), (200, &b"ok"[..]));
    assert_eq!(said(&ask(open, false, "https://one.test/").await), (200, &b"ok"[..]));
    // One that doesn't go with its key changes nothing.
    let (chain, directory) =
        (std::fs::read(edge.directory.0.join("one.pem")).unwrap(), Directory::new());
    certificate(&directory, "other", &["one.test"]);
    let other = std::fs::read(directory.0.join("other.key")).unwrap();
    edge.directory.write("one.key", other);
    edge.reload_in_vain(&config);
    edge.wait_for_log("it doesn't go with the chain", 1);
    assert!(!chain.is_empty());
    assert!(connect(edge.address, "one.test", &new, BOTH).await.is_ok());
}

#[tokio::test]
async fn clients_need_a_certificate_where_the_listener_says_whose() {
    let directory = Directory::new();
    let server = certificate(&directory, "one", &["one.test"]);
    let [known, other] = ["known", "other"].map(|name| {
        let pem = certificate(&directory, name, &["client.test"]);
        (pem, std::fs::read_to_string(directory.0.join(format!("{name}.key"))).unwrap())
    });
    let origin = Origin::saying(OK);
    let config = |authority: &str| {
        format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\nclient_authorities = [\"{authority}.pem\"]\n\
            certificates = [{{ chain = \"one.pem\", key = \"one.key\" }}]\n{}",
            pool(&origin)
        )
    };
    let edge = Edge::within(directory, &config("known"));
    // In TLS 1.3, a client is refused only after its own handshake is done.
    let status = |client| {
        let server = &server;
        let address = edge.address;
        async move {
            let connecting = connect_as(address, "one.test", server, &["http/1.1"], client);
            let mut stream = connecting.await.ok()?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: one.test\r\n\r\n").await.ok()?;
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.ok()?;
            Some(String::from_utf8(status.to_vec()).unwrap())
        }
    };
    let of = |(chain, key): &'static (String, String)| Some((chain.as_str(), key.as_str()));
    let (known, other) = (Box::leak(Box::new(known)), Box::leak(Box::new(other)));
    let ok = Some("HTTP/1.1 200".to_owned());
    assert_eq!(
        [status(of(known)).await, status(of(other)).await, status(None).await],
        [ok.clone(), None, None]
    );
    edge.reload(&config("other"));
    assert_eq!([status(of(known)).await, status(of(other)).await], [None, ok.clone()]);
    edge.reload_in_vain(&config("nowhere"));
    edge.wait_for_log("nowhere.pem: No such file", 1);
    assert_eq!(status(of(other)).await, ok);
}

#[test]
fn a_listener_can_send_everybody_to_https() {
    let origin = Origin::saying(OK);
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\nhttp_redirect = true\n";
    let edge = Edge::new(&format!("{listener}{}", pool(&origin)));
    let response = edge.get("/a?b");
    assert_eq!(
        (response.status(), response.field("location")),
        ("308", Some("https://example.com/a?b"))
    );
    let response = edge.ask("GET / HTTP/1.1\r\nhost: example.com:8080\r\n\r\n");
    assert_eq!(response.field("location"), Some("https://example.com/"));
    edge.reload(&format!("{listener}https_port = 8443\n{}", pool(&origin)));
    assert_eq!(edge.get("/").field("location"), Some("https://example.com:8443/"));
    assert!(origin.heads().is_empty());
}

/// An application behind it answers the one with a redirect to the other, and both are cacheable.
#[tokio::test]
async fn what_came_without_tls_is_not_answered_by_what_came_with_it() {
    let directory = Directory::new();
    let pem = certificate(&directory, "one", &["one.test"]);
    let origin = Origin::new(|head, stream| {
        let proto = field(head, "x-forwarded-proto").unwrap();
        let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n";
        let head = format!("{head}content-length: {}\r\n\r\n{proto}", proto.len());
        std::io::Write::write_all(stream, head.as_bytes()).is_ok()
    });
    let listeners = "[[listener]]\naddress = \"127.0.0.1:0\"\n\
        [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n\
        certificates = [{ chain = \"one.pem\", key = \"one.key\" }]\n";
    let edge = Edge::within(directory, &format!("{listeners}{}", pool(&origin)));
    for _ in 0..3 {
        let plain = edge.ask("GET / HTTP/1.1\r\nhost: one.test\r\n\r\n");
        assert_eq!(plain.body, "http");
        for (is_http2, offered) in [(false, "http/1.1"), (true, "h2")] {
            let stream = connect(edge.at_name("tls"), "one.test", &pem, &[offered]).await.unwrap();
            assert_eq!(ask(stream, is_http2, "https://one.test/").await.body(), "https");
        }
    }
    assert_eq!(origin.heads().len(), 2, "both are stored");
}

/// One edge is the backend of the other.
#[test]
fn backends_with_tls_are_checked_and_asked_and_others_are_not_trusted() {
    let (directory, clients) = (Directory::new(), Directory::new());
    let pem = certificate(&directory, "one", &["one.test"]);
    let other = certificate(&clients, "other", &["one.test"]);
    clients.write("one.pem", pem);
    assert!(!other.is_empty());
    let origin = Origin::saying(OK);
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\n\
        certificates = [{ chain = \"one.pem\", key = \"one.key\" }]\n";
    let inner = Edge::within(directory, &format!("{listener}{}", pool(&origin)));
    let config = |trusted: &str| {
        format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n\
            [admin]\naddress = \"127.0.0.1:0\"\ntoken = \"0123456789abcdef\"\n\
            [pool.app]\nbackends = [\"https://{}\"]\nwhen_none_healthy = \"refuse\"\n\
            [pool.app.tls]\nauthorities = [\"{trusted}\"]\nserver_name = \"one.test\"\n\
            [pool.app.health]\ninterval = \"500ms\"\nrise = 1\nfall = 1\ninitially = \"unhealthy\"\n",
            inner.address
        )
    };
    let edge = Edge::within(clients, &config("one.pem"));
    while edge.get("/").status() != "200" {}
    edge.reload(&config("other.pem"));
    let answer = edge.get("/");
    assert_eq!(answer.status(), "503", "{}", answer.head);
    let checks = |edge: &Edge| {
        let mut client = support::Client::connect(edge.at_name("admin"));
        client.send(
            &get("/pools")
                .replace("\r\n\r\n", "\r\nauthorization: Bearer 0123456789abcdef\r\n\r\n"),
        );
        client.response().body
    };
    while checks(&edge).contains("\"failed_checks\":0") {}
    assert_eq!(edge.get("/").status(), "503");
}
