//! Parts of what is stored (RFC 9110 §14).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::time::{Duration, SystemTime};

use http::StatusCode;
use tokio::time::advance;
use tower_keep_cache::Cache;

use origin::{Got, Origin, answer, cached, get, request, send};

const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz";
const MONDAY: &str = "Mon, 02 Nov 2026 10:00:00 GMT";
const TUESDAY: &str = "Tue, 03 Nov 2026 10:00:00 GMT";

/// Answers with the whole, or, of what it is asked for, with the part that it was asked for first.
fn alphabet(control: &'static str) -> Origin {
    Origin::new(move |_, request| async move {
        let now = httpdate::fmt_http_date(SystemTime::now());
        let fields = [
            ("cache-control", control),
            ("etag", "\"abc\""),
            ("last-modified", MONDAY),
            ("date", now.as_str()),
            ("content-type", "text/plain"),
        ];
        if !request.headers().contains_key("range") {
            return answer(&fields, ALPHABET);
        }
        let mut part = answer(&fields, "from the origin");
        part.headers_mut().insert("content-range", "bytes 0-14/26".parse().unwrap());
        *part.status_mut() = StatusCode::PARTIAL_CONTENT;
        part
    })
}

async fn ask(cache: &Cache<Origin>, fields: &[(&str, &str)]) -> Got {
    send(cache, get(fields)).await
}

#[tokio::test]
async fn parts_of_what_is_stored_come_from_the_store() {
    let origin = alphabet("max-age=60");
    let (cache, _) = cached(&origin);
    ask(&cache, &[]).await;
    for (range, part, text) in [
        ("bytes=0-2", "bytes 0-2/26", "abc"),
        ("bytes=23-", "bytes 23-25/26", "xyz"),
        ("bytes=-1", "bytes 25-25/26", "z"),
        ("bytes=20-99", "bytes 20-25/26", "uvwxyz"),
    ] {
        let got = ask(&cache, &[("range", range)]).await;
        assert_eq!((got.status, got.text()), (206, text), "{range}");
        assert_eq!(got.field("content-range"), part);
        assert_eq!(got.field("content-length"), text.len().to_string());
        assert_eq!((got.field("etag"), got.field("content-type")), ("\"abc\"", "text/plain"));
        assert!(got.is_hit(), "{}", got.cache());
    }
    let beyond = ask(&cache, &[("range", "bytes=26-")]).await;
    assert_eq!((beyond.status, beyond.text()), (416, ""));
    assert_eq!(beyond.field("content-range"), "bytes */26");
    for whole in ["bytes=2-1", "bytes=x", "bytes=0-25,0-25"] {
        let got = ask(&cache, &[("range", whole)]).await;
        assert_eq!((got.status, got.text()), (200, ALPHABET), "{whole}");
    }
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn several_parts_come_as_one_message() {
    let (cache, _) = cached(&alphabet("max-age=60"));
    ask(&cache, &[]).await;
    let got = ask(&cache, &[("range", "bytes=0-1, -2")]).await;
    assert_eq!(got.status, 206);
    let kind = got.field("content-type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let expected = format!(
        "--{boundary}\r\ncontent-type: text/plain\r\ncontent-range: bytes 0-1/26\r\n\r\nab\r\n\
         --{boundary}\r\ncontent-type: text/plain\r\ncontent-range: bytes 24-25/26\r\n\r\nyz\r\n\
         --{boundary}--\r\n"
    );
    assert_eq!(got.text(), expected);
    assert_eq!(got.field("content-length"), expected.len().to_string());
    assert_eq!(got.field("content-range"), "");
}

#[tokio::test]
async fn conditions_come_before_ranges() {
    let (cache, _) = cached(&alphabet("max-age=60"));
    ask(&cache, &[]).await;
    let range = ("range", "bytes=0-2");
    let status = async |condition| ask(&cache, &[range, condition]).await.status;
    assert_eq!(status(("if-none-match", "\"abc\"")).await, 304);
    assert_eq!(status(("if-none-match", "\"other\"")).await, 206);
    assert_eq!(status(("if-modified-since", MONDAY)).await, 304);
    assert_eq!(status(("if-range", "\"abc\"")).await, 206);
    assert_eq!(status(("if-range", MONDAY)).await, 206);
    for changed in ["\"other\"", "W/\"abc\"", TUESDAY, "abc"] {
        assert_eq!(status(("if-range", changed)).await, 200, "{changed}");
    }
    let head = request("HEAD", "http://example.com/a", &[range]);
    let head = send(&cache, head).await;
    assert_eq!((head.status, head.field("content-range")), (200, ""));
    assert!(head.is_hit());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_stored_is_asked_for_as_it_was() {
    let origin = alphabet("max-age=60, stale-while-revalidate=60");
    let (cache, _) = cached(&origin);
    let range = ("range", "bytes=0-14");
    for calls in 1..=2 {
        let got = ask(&cache, &[range]).await;
        assert_eq!((got.status, got.text()), (206, "from the origin"));
        assert_eq!(got.cache(), "fwd=uri-miss; fwd-status=206; detail=range");
        assert_eq!(origin.calls(), calls, "and never stored");
    }
    ask(&cache, &[]).await;
    // A refresh fetches the whole, whatever part it was that somebody asked for.
    advance(Duration::from_secs(90)).await;
    assert_eq!(ask(&cache, &[("range", "bytes=1-1")]).await.text(), "b");
    origin::settle().await;
    assert_eq!(origin.calls(), 4);
    let got = ask(&cache, &[]).await;
    assert!(got.is_hit() && got.text() == ALPHABET, "{}", got.cache());
    let cached_only = [("range", "bytes=2-2"), ("cache-control", "only-if-cached")];
    assert_eq!(ask(&cache, &cached_only).await.text(), "c");
}
