//! Parts of what is stored (RFC 9110 §14).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::time::{Duration, SystemTime};

use http::StatusCode;
use tokio::time::advance;
use tower::ServiceExt;
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
async fn a_refresh_fetches_the_whole() {
    let origin = alphabet("max-age=60, stale-while-revalidate=60");
    let (cache, _) = cached(&origin);
    ask(&cache, &[]).await;
    // Whatever part it was that somebody asked for.
    advance(Duration::from_secs(90)).await;
    assert_eq!(ask(&cache, &[("range", "bytes=1-1")]).await.text(), "b");
    origin::settle().await;
    assert_eq!(origin.calls(), 2);
    let got = ask(&cache, &[]).await;
    assert!(got.is_hit() && got.text() == ALPHABET, "{}", got.cache());
    let cached_only = [("range", "bytes=2-2"), ("cache-control", "only-if-cached")];
    assert_eq!(ask(&cache, &cached_only).await.text(), "c");
}

/// Serves parts of the alphabet as a good origin does, in a version of its own from each of these
/// calls on.
fn parts(control: &'static str, etag: impl Fn(usize) -> String + Send + Sync + 'static) -> Origin {
    Origin::new(move |n, request| {
        let etag = etag(n);
        let fields = [("cache-control", control), ("etag", &etag), ("content-type", "text/plain")];
        let field = |name| request.headers().get(name).map(|value| value.to_str().unwrap());
        let asked = field("range").filter(|_| field("if-range").is_none_or(|tag| tag == etag));
        let Some(span) = asked else { return std::future::ready(answer(&fields, ALPHABET)) };
        let (first, last) = span.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap_or(25));
        let mut response = answer(&fields, &ALPHABET[first..=last]);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {first}-{last}/26");
        response.headers_mut().insert("content-range", range.parse().unwrap());
        std::future::ready(response)
    })
}

#[tokio::test]
async fn a_part_is_kept_and_answers_for_what_lies_in_it() {
    let origin = parts("max-age=60", |_| "\"1\"".into());
    let (cache, _) = cached(&origin);
    let of = async |range: &'static str| ask(&cache, &[("range", range)]).await;
    let first = of("bytes=5-9").await;
    assert_eq!((first.status, first.text()), (206, "fghij"));
    assert_eq!(first.cache(), "fwd=uri-miss; fwd-status=206; stored");
    for (range, text, content_range) in
        [("bytes=5-9", "fghij", "bytes 5-9/26"), ("bytes=6-7", "gh", "bytes 6-7/26")]
    {
        let got = of(range).await;
        assert!(got.is_hit(), "{range}: {}", got.cache());
        assert_eq!((got.status, got.text()), (206, text));
        assert_eq!(got.field("content-range"), content_range);
        assert_eq!(got.field("content-length"), text.len().to_string());
        assert_eq!(got.field("content-type"), "text/plain");
    }
    assert_eq!(of("bytes=30-").await.status, 416);
    assert_eq!(origin.calls(), 1);
    // One that adjoins it makes it longer; one that doesn't takes its place.
    assert_eq!(of("bytes=10-12").await.cache(), "fwd=partial; fwd-status=206; stored");
    assert_eq!(of("bytes=7-11").await.text(), "hijkl");
    assert_eq!(origin.calls(), 2);
    assert_eq!(of("bytes=20-25").await.text(), "uvwxyz");
    assert!(of("bytes=-2").await.is_hit() && !of("bytes=5-9").await.is_hit());
    let head = send(&cache, request("HEAD", "http://example.com/a", &[])).await;
    assert_eq!(head.cache(), "fwd=partial; fwd-status=200; detail=head", "a part has no such head");
}

#[tokio::test]
async fn the_rest_of_a_part_is_fetched_and_the_whole_is_kept() {
    for (range, rest) in [("bytes=0-9", "bytes=10-25"), ("bytes=10-25", "bytes=0-9")] {
        let origin = parts("max-age=60", |_| "\"1\"".into());
        let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (inner, noted) = (origin.clone(), asked.clone());
        let spied = Origin::new(move |_, request| {
            noted.lock().unwrap().push(request.headers().get("range").cloned());
            let answer = tower_service::Service::call(&mut inner.clone(), request);
            async move { answer.await.unwrap() }
        });
        let (cache, _) = cached(&spied);
        ask(&cache, &[("range", range)]).await;
        let whole = ask(&cache, &[]).await;
        assert_eq!((whole.status, whole.text()), (200, ALPHABET));
        assert_eq!(whole.cache(), "fwd=partial; fwd-status=206; stored");
        assert_eq!((whole.field("content-range"), whole.field("content-length")), ("", "26"));
        assert_eq!(asked.lock().unwrap()[1].as_ref().unwrap(), rest);
        let again = ask(&cache, &[]).await;
        assert!(again.is_hit() && again.text() == ALPHABET, "{}", again.cache());
    }
}

#[tokio::test]
async fn parts_of_different_versions_are_never_put_together() {
    // The version changes with the second call.
    let changing = |n: usize| if n == 1 { "\"1\"".into() } else { "\"2\"".into() };
    let (cache, _) = cached(&parts("max-age=60", changing));
    ask(&cache, &[("range", "bytes=0-9")]).await;
    let whole = ask(&cache, &[]).await;
    assert_eq!((whole.status, whole.text()), (200, ALPHABET), "sent whole, by If-Range");

    let (cache, _) = cached(&parts("max-age=60", changing));
    ask(&cache, &[("range", "bytes=0-9")]).await;
    ask(&cache, &[("range", "bytes=10-12")]).await;
    assert!(!ask(&cache, &[("range", "bytes=0-9")]).await.is_hit(), "of the version before");

    // Weak validators can't tell: each part stands for itself.
    let origin = parts("max-age=60", |_| "W/\"1\"".into());
    let (cache, _) = cached(&origin);
    ask(&cache, &[("range", "bytes=0-9")]).await;
    assert_eq!(ask(&cache, &[]).await.text(), ALPHABET);
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn an_origin_that_sends_another_part_than_the_rest_is_not_believed() {
    let lying = Origin::new(|n, request| async move {
        let fields = [("cache-control", "max-age=60"), ("etag", "\"1\"")];
        if !request.headers().contains_key("range") {
            return answer(&fields, ALPHABET);
        }
        let mut response = answer(&fields, "0123");
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = if n == 1 { "bytes 0-3/26" } else { "bytes 5-8/26" };
        response.headers_mut().insert("content-range", range.parse().unwrap());
        response
    });
    let (cache, _) = cached(&lying);
    ask(&cache, &[("range", "bytes=0-3")]).await;
    let got = ask(&cache, &[]).await;
    assert_eq!((got.status, got.cache()), (502, "fwd=partial; fwd-status=206; detail=other-part"));
    assert_eq!(ask(&cache, &[]).await.text(), ALPHABET, "asked for whole then");
}

#[tokio::test(start_paused = true)]
async fn parts_that_may_not_be_stored_or_break_off_are_not() {
    for control in ["no-store", "private, max-age=60", "max-age=0"] {
        let origin = parts(control, |_| "\"1\"".into());
        let (cache, _) = cached(&origin);
        for calls in 1..=2 {
            let got = ask(&cache, &[("range", "bytes=0-9")]).await;
            assert_eq!((got.text(), origin.calls()), ("abcdefghij", calls), "{control}");
        }
    }
    // Of ten bytes that are announced, five come.
    let short = Origin::new(|_, _| async {
        let fields = [("cache-control", "max-age=60"), ("content-range", "bytes 0-9/26")];
        let mut response = answer(&fields, "abcde");
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        response
    });
    let (cache, _) = cached(&short);
    ask(&cache, &[("range", "bytes=0-9")]).await;
    ask(&cache, &[("range", "bytes=0-4")]).await;
    assert_eq!(short.calls(), 2);
    // And whoever is known gets what is theirs.
    let origin = parts("max-age=60", |_| "\"1\"".into());
    let (cache, _) = cached(&origin);
    ask(&cache, &[("range", "bytes=0-9"), ("authorization", "a")]).await;
    ask(&cache, &[("range", "bytes=0-9"), ("authorization", "b")]).await;
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn a_removal_overtakes_a_part_on_its_way() {
    let origin = parts("max-age=60", |_| "\"1\"".into());
    let (cache, _) = cached(&origin);
    let range = ("range", "bytes=0-9");
    let part = cache.clone().oneshot(get(&[range])).await.unwrap();
    send(&cache, request("DELETE", "http://example.com/a", &[])).await;
    origin::read(part).await;
    assert!(!ask(&cache, &[range]).await.is_hit());
}
