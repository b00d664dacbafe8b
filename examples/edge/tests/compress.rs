//! Responses are compressed as curl can read them, and stored ones once.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for another process"
)]

mod support;

use std::io::Write as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use support::{Edge, Origin, PATIENCE, field};

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";

/// About 100 KiB that compress well.
fn page() -> String {
    let lines = (0..2500).map(|n| format!("<p>{n}: all work and no play makes</p>\n"));
    lines.collect::<Vec<_>>().concat()
}

/// The page, with the fields that the query of the request asks for: `?cache-control=private`.
fn origin() -> Origin {
    Origin::new(|head, stream| {
        let target = head.split(' ').nth(1).unwrap();
        let fields = target.split_once('?').map_or("", |(_, query)| query);
        let fields = fields.split('&').filter_map(|pair| pair.split_once('='));
        let fields = fields.map(|(name, value)| format!("{name}: {value}\r\n"));
        let fields = fields.collect::<Vec<_>>().concat();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n{fields}");
        write!(stream, "{head}content-length: {}\r\n\r\n{}", page().len(), page()).is_ok()
    })
}

fn config(origin: &Origin, rest: &str) -> String {
    format!("{LISTENER}[pool.app]\nbackends = [\"http://{}\"]\n{rest}", origin.address)
}

/// What curl got: the head, and the content after decoding.
fn curl(edge: &Edge, path: &str, arguments: &[&str]) -> (String, Vec<u8>) {
    let url = format!("http://{}{path}", edge.address);
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--dump-header", "/dev/stderr"])
        .args(arguments)
        .arg(url)
        .output()
        .unwrap();
    let head = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{head}");
    (head, output.stdout)
}

/// Which coding curl got the page in, of those that it says it can read.
fn coding(edge: &Edge, path: &str, arguments: &[&str]) -> Option<String> {
    let arguments = [&["--compressed"], arguments].concat();
    let (head, content) = curl(edge, path, &arguments);
    assert_eq!(content, page().as_bytes(), "{head}");
    field(&head, "content-encoding").map(str::to_owned)
}

#[test]
fn what_is_not_stored_is_compressed_as_it_is_sent() {
    let origin = origin();
    let edge = Edge::new(&config(&origin, "[compress]\n"));
    let path = "/?cache-control=no-cache";
    for name in ["zstd", "br", "gzip", "deflate"] {
        let accept = format!("accept-encoding: {name}");
        let (head, content) = curl(&edge, path, &["--compressed", "--header", &accept]);
        assert_eq!(field(&head, "content-encoding"), Some(name), "{head}");
        assert_eq!(content, page().as_bytes(), "{name}");
        let (_, encoded) = curl(&edge, path, &["--header", &accept]);
        assert!(encoded.len() * 4 < page().len(), "{name}: {}", encoded.len());
    }
    let (head, content) = curl(&edge, path, &[]);
    assert_eq!(
        (field(&head, "content-encoding"), field(&head, "vary")),
        (None, Some("accept-encoding"))
    );
    assert_eq!(content, page().as_bytes());
}

#[test]
fn what_is_stored_is_compressed_once_and_sent_as_it_is() {
    let origin = origin();
    let edge = Edge::new(&config(&origin, "[compress]\nencodings = [\"br\", \"gzip\"]\n"));
    let path = "/?cache-control=max-age=60";
    for name in ["br", "gzip"] {
        let accept = format!("accept-encoding: {name}");
        let start = Instant::now();
        // Only of a form that is there whole, the length is known.
        loop {
            let (head, content) = curl(&edge, path, &["--compressed", "--header", &accept]);
            assert_eq!(field(&head, "content-encoding"), Some(name), "{head}");
            assert_eq!(content, page().as_bytes());
            if field(&head, "content-length").is_some() {
                assert!(head.contains("; hit"), "{head}");
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{name} is not stored: {head}");
            thread::sleep(Duration::from_millis(20));
        }
    }
    let (head, content) = curl(&edge, path, &[]);
    assert!(field(&head, "content-encoding").is_none() && head.contains("; hit"), "{head}");
    assert_eq!(content, page().as_bytes());
    assert_eq!(origin.heads().len(), 1);
}

#[test]
fn routes_say_otherwise_and_a_reload_changes_it() {
    let origin = origin();
    let routes = "[[route]]\npool = \"app\"\n\
        [[route]]\npool = \"app\"\npath = \"/plain\"\ncompress = false\n\
        [[route]]\npool = \"app\"\npath = \"/gzip\"\ncache = false\n\
        compress = { encodings = [\"gzip\"] }\n\
        [[route]]\npool = \"app\"\npath = \"/long\"\ncompress = { min_size = \"1MiB\" }\n\
        [[route]]\npool = \"app\"\npath = \"/left\"\ncompress = { leave_types = [\"text/*\"] }\n";
    let edge = Edge::new(&config(&origin, &format!("[compress]\nencodings = [\"br\"]\n{routes}")));
    let coding = |path| coding(&edge, path, &[]);
    assert_eq!(coding("/"), Some("br".to_owned()));
    assert_eq!(coding("/gzip"), Some("gzip".to_owned()));
    for path in ["/plain", "/long", "/left"] {
        assert_eq!(coding(path), None, "{path}");
    }
    // Without the table, only what says so.
    let routes = "[[route]]\npool = \"app\"\n\
        [[route]]\npool = \"app\"\npath = \"/gzip\"\ncompress = { encodings = [\"gzip\"] }\n\
        [[route]]\npool = \"app\"\npath = \"/all\"\ncompress = true\n\
        [[route]]\npath = \"/own\"\ncompress = true\nrespond = { body = \"BODY\" }\n";
    edge.reload(&config(&origin, &routes.replace("BODY", &"all work and no play ".repeat(100))));
    assert_eq!(coding("/"), None);
    assert_eq!(coding("/gzip"), Some("gzip".to_owned()));
    assert!(coding("/all").is_some());
    let (head, content) = curl(&edge, "/own", &["--compressed"]);
    assert!(field(&head, "content-encoding").is_some(), "{head}");
    assert_eq!(content.len(), 2100);
    edge.reload_in_vain(&config(&origin, "[compress]\nencodings = [\"lzma\"]\n"));
    edge.wait_for_log("expected a content coding", 1);
    assert!(coding("/all").is_some());
}

#[test]
fn where_there_are_secrets_what_is_for_one_is_not_compressed() {
    let origin = origin();
    let edge = Edge::new(&config(&origin, "[compress]\nsecrets = true\n"));
    let is_compressed = |path: &str, cookie: bool| {
        let more: &[_] = if cookie { &["--header", "cookie: session=1"] } else { &[] };
        coding(&edge, path, more).is_some()
    };
    let cases = [
        ("/", false, true),
        ("/", true, false),
        ("/?cache-control=no-cache", true, false),
        ("/?cache-control=private", false, false),
        ("/?set-cookie=csrf=1", false, false),
        ("/?cache-control=public,max-age=60", true, true),
        ("/?cache-control=s-maxage=60", true, true),
        ("/?cache-control=max-age=60", false, true),
    ];
    // Also when it is stored.
    for _ in 0..3 {
        for (path, cookie, expected) in cases {
            assert_eq!(is_compressed(path, cookie), expected, "{path} {cookie}");
        }
    }
    edge.reload(&config(&origin, "[compress]\n"));
    for (path, cookie, _) in cases {
        assert!(is_compressed(path, cookie), "{path} {cookie}");
    }
}

#[test]
fn what_a_backend_sends_piece_by_piece_is_not_held_back() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::new(move |_, stream| {
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(b"6\r\nfirst\n\r\n").unwrap();
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(b"7\r\nsecond\n\r\n0\r\n\r\n").is_ok()
    });
    let edge = Edge::new(&config(&origin, "[compress]\n"));
    let mut curl = Command::new("curl")
        .args(["--silent", "--no-buffer", "--compressed", "--header", "accept-encoding: br"])
        .arg(format!("http://{}/", edge.address))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(curl.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    go.send(()).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "second");
    assert!(curl.wait().unwrap().success());
}
