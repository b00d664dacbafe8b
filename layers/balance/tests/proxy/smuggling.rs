//! Requests that two servers could see differently: each is refused, or arrives as the one request
//! that it is (RFC 9112 §11.2).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::support::{Client, Origin, field, proxy, serve, until};

/// A server that reads each request's content strictly as its head says.
fn strict() -> Origin {
    Origin::new(|head, stream| {
        assert!(
            head.is_ascii() && !head.replace("\r\n", "").contains(['\r', '\n', '\0']),
            "{head:?}"
        );
        let length = field(head, "content-length");
        let coding = field(head, "transfer-encoding");
        match (length, coding) {
            (None, None) => {}
            (Some(length), None) => {
                let mut content = vec![0; length.parse().unwrap()];
                if stream.read_exact(&mut content).is_err() {
                    return false;
                }
            }
            (None, Some("chunked")) => while chunk(stream) > 0 {},
            both => panic!("framed in two ways: {both:?}"),
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    })
}

/// Reads one, and tells its length.
fn chunk(stream: &mut TcpStream) -> usize {
    let mut line = String::new();
    let mut byte = [0];
    while !line.ends_with("\r\n") {
        stream.read_exact(&mut byte).unwrap();
        line.push(char::from(byte[0]));
    }
    let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
    let mut rest = vec![0; length + 2];
    stream.read_exact(&mut rest).unwrap();
    length
}

fn send(address: SocketAddr, bytes: &str) -> String {
    let mut client = Client::connect(address);
    client.send(bytes);
    client.response().status().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ambiguous_is_refused() {
    let origin = strict();
    let address = serve(proxy(origin.address)).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let corpus = [
        (
            "differing lengths",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\n",
        ),
        ("a list of lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4, 5\r\n\r\n"),
        ("a signed length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +4\r\n\r\n"),
        ("a negative length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -4\r\n\r\n"),
        ("a hexadecimal length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x4\r\n\r\n"),
        (
            "a length with a space in it",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4 5\r\n\r\n",
        ),
        (
            "a length that overflows",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551620\r\n\r\n",
        ),
        ("an empty length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\n"),
        ("another coding", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n"),
        (
            "chunked, and not last",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n",
        ),
        (
            "chunked twice",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked on two lines",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "a coding before chunked",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked in quotes",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \"chunked\"\r\n\r\n",
        ),
        (
            "a vertical tab before chunked",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n",
        ),
        (
            "chunked in HTTP/1.0",
            "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "a space before the colon",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        ),
        ("a tab before the colon", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length\t: 4\r\n\r\n"),
        (
            "a folded line",
            "POST / HTTP/1.1\r\nhost: a\r\nx: y\r\n transfer-encoding: chunked\r\n\r\n",
        ),
        ("a folded coding", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n chunked\r\n\r\n"),
        ("a space before the first field", "POST / HTTP/1.1\r\n host: a\r\n\r\n"),
        ("a bare CR in a value", "POST / HTTP/1.1\r\nhost: a\r\nx: y\rcontent-length: 4\r\n\r\n"),
        ("a NUL in a value", "POST / HTTP/1.1\r\nhost: a\r\nx: y\0z\r\n\r\n"),
        ("a NUL in a name", "POST / HTTP/1.1\r\nhost: a\r\nx\0: y\r\n\r\n"),
        ("a line without a colon", "POST / HTTP/1.1\r\nhost: a\r\nxyz\r\n\r\n"),
        ("a name that is empty", "POST / HTTP/1.1\r\nhost: a\r\n: y\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
        ("no host", "GET / HTTP/1.1\r\nx: y\r\n\r\n"),
        ("a host with a path", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n"),
        ("a host with a space", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n"),
        ("a host with credentials", "GET / HTTP/1.1\r\nhost: u@a\r\n\r\n"),
        ("a host with a port that is none", "GET / HTTP/1.1\r\nhost: a:b\r\n\r\n"),
        ("a host with two ports", "GET / HTTP/1.1\r\nhost: a:80:81\r\n\r\n"),
        ("a target that is a host", "GET b:80 HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("the server as a whole", "GET * HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("a target of another scheme", "GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("a space in the target", "GET /x HTTP/1.1 /y HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("another version", "GET / HTTP/1.2\r\nhost: a\r\n\r\n"),
        ("a method with a CR in it", "GE\rT / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ];
    for (name, request) in corpus {
        assert_eq!(send(address, &format!("{request}{smuggled}")), "400", "{name}");
        assert_eq!(origin.heads(), [""; 0], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_in_the_middle_ends_there() {
    let chunked = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for (name, content) in [
        ("a negative size", "-1\r\nx\r\n"),
        ("a size that overflows", "1FFFFFFFFFFFFFFFF\r\nx\r\n"),
        ("a size with a prefix", "0x1\r\nx\r\n0\r\n\r\n"),
        ("no size", "\r\nx\r\n"),
        ("a chunk that is longer than its size", "1\r\nxy\r\n0\r\n\r\n"),
        ("an extension with a bare LF", "1;a\nb\r\nx\r\n0\r\n\r\n"),
    ] {
        let origin = Origin::new(|head, stream| {
            assert!(!head.contains("smuggled"), "{head}");
            stream.read_to_end(&mut Vec::new()).is_err()
        });
        let address = serve(proxy(origin.address)).await;
        let mut client = Client::connect(address);
        client.send(&format!("{chunked}{content}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"));
        // One answer, and then the connection is closed.
        let rest = client.rest();
        assert!(rest.starts_with("HTTP/1.1 400 "), "{name}: {rest}");
        assert_eq!(rest.matches("HTTP/1.1 ").count(), 1, "{name}: {rest}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_odd_arrives_as_one_request() {
    let corpus = [
        (
            "a length and a coding",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "a coding and a length",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "one length twice",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        ),
        ("lines that end with LF", "POST / HTTP/1.1\nhost: a\ncontent-length: 3\n\nabc"),
        ("zeros before the length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 003\r\n\r\nabc"),
        (
            "a chunk's extension",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "zeros before the chunk's size",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0003\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "the coding in capitals",
            "POST / HTTP/1.1\r\nhost: a\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "a connection that names its length",
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: content-length\r\ncontent-length: 3\r\n\r\nabc",
        ),
        (
            "a connection that names its coding",
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: transfer-encoding, host\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        ("content of GET", "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"),
        (
            "another host in the target",
            "POST http://b/ HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
        ),
        (
            "framing in trailers",
            "POST / HTTP/1.1\r\nhost: a\r\ntrailer: content-length, x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\ncontent-length: 50\r\n\r\n",
        ),
        (
            "a colon in a value",
            "POST / HTTP/1.1\r\nhost: a\r\nx: transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nabc",
        ),
        (
            "an underscore for a hyphen",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer_encoding: chunked\r\ncontent-length: 3\r\n\r\nabc",
        ),
    ];
    for (name, request) in corpus {
        let origin = strict();
        let address = serve(proxy(origin.address)).await;
        assert_eq!(send(address, request), "200", "{name}");
        // On the same connection to the upstream, if it still can be used.
        assert_eq!(send(address, "GET /next HTTP/1.1\r\nhost: a\r\n\r\n"), "200", "{name}");
        let heads = origin.heads();
        assert_eq!(heads.len(), 2, "{name}: {heads:?}");
        let expected = if name == "another host in the target" { "b" } else { "a" };
        assert_eq!(field(&heads[0], "host"), Some(expected), "{name}");
        assert!(heads[1].starts_with("GET /next "), "{name}: {heads:?}");
    }
}

/// A request of HTTP/2 as it can't be made with types that check; and all that is answered.
fn http2(address: SocketAddr, fields: &[(&str, &str)], data: &[u8], done: &dyn Fn(&[u8]) -> bool) {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    };
    let mut block = Vec::new();
    for (name, value) in fields {
        // RFC 7541 §6.2.2: literally, without an index.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).unwrap();
    let end = u8::from(data.is_empty());
    stream.write_all(&frame(1, 4 | end, 1, &block)).unwrap();
    if !data.is_empty() {
        stream.write_all(&frame(0, 1, 1, data)).unwrap();
    }
    let mut answered = Vec::new();
    let mut head = [0; 9];
    while !done(&answered) {
        stream.read_exact(&mut head).expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).expect("a whole frame");
        answered.push(head[3]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_http_2_nothing_is_smuggled_into_http_1_1() {
    let base = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    let corpus: [(&str, &[(&str, &str)]); 12] = [
        ("a line end in a value", &[("x", "y\r\ntransfer-encoding: chunked")]),
        ("a LF in a value", &[("x", "y\nz: 1")]),
        ("a NUL in a value", &[("x", "y\0")]),
        ("a line end in a name", &[("x: y\r\nz", "1")]),
        ("a colon in a name", &[("x: y", "1")]),
        ("capitals in a name", &[("X", "1")]),
        ("a coding", &[("transfer-encoding", "chunked")]),
        ("a connection", &[("connection", "close")]),
        ("a wrong length", &[("content-length", "2")]),
        ("two lengths", &[("content-length", "5"), ("content-length", "2")]),
        ("another host", &[("host", "b")]),
        ("a pseudo-header behind a field", &[("x", "1"), (":path", "/smuggled")]),
    ];
    for (name, fields) in corpus {
        let origin = strict();
        let address = serve(proxy(origin.address)).await;
        let fields: Vec<_> = base.iter().chain(fields).copied().collect();
        // A reset, the end of the connection, or a head that says 400 (of our own).
        http2(address, &fields, b"hello", &|frames| {
            frames.iter().any(|frame| [1, 3, 7].contains(frame))
        });
        let heads = origin.heads();
        // Its head may be on the way before its content is seen to be another; then it breaks off.
        let may_arrive = usize::from(name == "a wrong length");
        assert!(heads.len() <= may_arrive, "{name}: {heads:?}");
    }
    for (name, line) in [
        ("method", "GET /smuggled HTTP/1.1\r\nx: "),
        ("path", "/ HTTP/1.1\r\nx: y"),
        ("path", "/ HTTP/1.1"),
        ("path", "*"),
        ("path", ""),
        ("authority", "a\r\nx: y"),
        ("authority", "u@a"),
        ("authority", "a:b"),
        ("scheme", "ftp"),
    ] {
        let origin = strict();
        let address = serve(proxy(origin.address)).await;
        let fields = base.map(|(key, value)| (key, if key[1..] == *name { line } else { value }));
        http2(address, &fields, b"", &|frames| {
            frames.iter().any(|frame| [1, 3, 7].contains(frame))
        });
        assert!(origin.heads().is_empty(), "{name}");
    }
    // And this is how one arrives that is sound.
    let origin = strict();
    let address = serve(proxy(origin.address)).await;
    http2(address, &base, b"hello", &|frames| frames.contains(&1));
    until("it arrives", || async { origin.heads().len() == 1 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_can_not_split_a_response() {
    let cases = [
        (
            "a length and a coding",
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        (
            "a coding and a length",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 40\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        (
            "more than its length",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        ),
        ("content of 204", "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nevil"),
    ];
    for (name, said) in cases {
        let origin = Origin::saying(said);
        let address = serve(proxy(origin.address)).await;
        let mut client = Client::connect(address);
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let rest = client.rest();
        assert!(!rest.contains("evil"), "{name}: {rest}");
        assert_eq!(rest.matches("HTTP/1.1 ").count(), 1, "{name}: {rest}");
        let is_framed_twice = rest.contains("content-length") && rest.contains("transfer-encoding");
        assert!(!is_framed_twice, "{name}: {rest}");
        // The next one doesn't get what was left over.
        let mut client = Client::connect(address);
        client.send("GET /next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let rest = client.rest();
        assert!(!rest.contains("evil"), "{name}: {rest}");
    }
}
