//! Responses that are never to be compressed, whoever gets them: also by a compressing layer outside, which
//! sees answers from the store.
#![cfg(feature = "gzip")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/forms.rs"]
mod kept;
#[path = "support/origin.rs"]
mod origin;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, response};
use http_body_util::{BodyExt, Empty};
use tower::{Layer, Service, ServiceExt};
use tower_keep_compress::{CompressLayer, LeaveUncompressed};

use kept::*;
use origin::*;

fn marked(mut answer: Answer) -> Answer {
    answer.extensions_mut().insert(LeaveUncompressed);
    answer
}

/// The cache in front of `origin`, inside of a layer that compresses; whether it keeps forms itself.
macro_rules! compressed {
    ($origin:expr, $keeps_forms:expr) => {{
        let compress = CompressLayer::builder().build().unwrap();
        let (cache, _) =
            cached_with(
                $origin,
                |builder| {
                    if $keeps_forms { builder.compress(&compress) } else { builder }
                },
            );
        compress.layer(cache)
    }};
}

/// The head and the content of an answer to one who reads gzip.
async fn ask<S, B>(service: &S, method: &str, fields: &[(&str, &str)]) -> (response::Parts, Bytes)
where
    S: Service<Request<Empty<Bytes>>, Response = http::Response<B>> + Clone,
    S::Error: std::fmt::Debug,
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    let mut asked = request(method, "http://example.com/a", fields);
    asked.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
    let (head, body) = service.clone().oneshot(asked).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    settle().await;
    (head, body)
}

fn is_plain(head: &response::Parts) -> bool {
    !head.headers.contains_key("content-encoding")
        && head.headers.get_all("vary").iter().next().is_none()
        && head.headers.get("etag").is_none_or(|tag| tag == "\"v1\"")
}

#[tokio::test]
async fn a_mark_holds_for_whoever_is_answered_from_the_store() {
    for keeps_forms in [false, true] {
        let origin = Origin::new(|_, _| async {
            let half = Bytes::from(page(1).repeat(2));
            marked(trickle(PAGE, Duration::from_millis(20), [half.clone(), half]))
        });
        let service = compressed!(&origin, keeps_forms);
        let whole = Bytes::from(page(1).repeat(4));
        let first = ask(&service, "GET", &[]);
        let follower = ask(&service, "GET", &[]);
        let late = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            ask(&service, "GET", &[]).await
        };
        let (first, follower, late) = tokio::join!(first, follower, late);
        let hit = ask(&service, "GET", &[]).await;
        for (who, (head, body)) in
            [("first", first), ("follower", follower), ("late", late), ("hit", hit)]
        {
            assert!(is_plain(&head), "{who}: {head:?}");
            assert_eq!(body, whole, "{who}");
        }
        let (head, _) = ask(&service, "HEAD", &[]).await;
        assert!(is_plain(&head), "HEAD: {head:?}");
        let (head, _) = ask(&service, "GET", &[("if-none-match", "\"v1\"")]).await;
        assert_eq!(head.status, StatusCode::NOT_MODIFIED);
        assert_eq!(head.headers["etag"], "\"v1\"");
        assert!(head.extensions.get::<LeaveUncompressed>().is_some(), "304: {head:?}");
        let (head, body) = ask(&service, "GET", &[("range", "bytes=1-2000")]).await;
        assert_eq!(head.status, StatusCode::PARTIAL_CONTENT);
        assert!(is_plain(&head) && body == whole.slice(1..2001), "part: {head:?}");
        assert_eq!(origin.calls(), 1);
    }
}

#[tokio::test]
async fn without_a_mark_all_of_them_are_compressed() {
    let origin = Origin::new(|_, _| async { answer(PAGE, page(1)) });
    let service = compressed!(&origin, false);
    for _ in 0..2 {
        let (head, _) = ask(&service, "GET", &[]).await;
        assert_eq!(head.headers["content-encoding"], "gzip");
    }
}

#[tokio::test]
async fn a_mark_on_a_validation_counts_from_then_on() {
    let origin = Origin::new(|n, _| async move {
        let control = if n == 1 { "max-age=0, stale-while-revalidate=9" } else { "max-age=600" };
        let fields = [("cache-control", control), ("etag", "\"v1\""), PAGE[1]];
        let mut answer = answer(&fields, if n == 1 { page(1) } else { String::new() });
        if n > 1 {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            answer = marked(answer);
        }
        answer
    });
    let service = compressed!(&origin, true);
    for _ in 0..2 {
        assert!(!is_plain(&ask(&service, "GET", &[]).await.0));
    }
    for _ in 0..2 {
        let (head, body) = ask(&service, "GET", &[]).await;
        assert!(is_plain(&head) && body == page(1), "{head:?}");
    }
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn a_mark_on_any_part_holds_for_the_whole() {
    // Which of them is marked, and whether the second is asked for by a client or to complete the first.
    for (marks, by_client) in [(1, true), (2, true), (1, false), (2, false)] {
        let origin = Origin::new(move |n, request| async move {
            let whole = Bytes::from(page(1));
            let range = request.headers()["range"].to_str().unwrap().to_owned();
            let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            let first: usize = first.parse().unwrap();
            let last = last.parse().unwrap_or(whole.len() - 1);
            let mut answer = answer(PAGE, whole.slice(first..=last));
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {first}-{last}/{}", whole.len());
            answer.headers_mut().insert("content-range", range.parse().unwrap());
            if n == marks { marked(answer) } else { answer }
        });
        let service = compressed!(&origin, true);
        ask(&service, "GET", &[("range", "bytes=0-3999")]).await;
        if by_client {
            ask(&service, "GET", &[("range", "bytes=4000-")]).await;
        }
        for _ in 0..3 {
            let (head, body) = ask(&service, "GET", &[]).await;
            assert!(is_plain(&head), "{marks} {by_client}: {head:?}");
            assert_eq!(body, page(1));
        }
        assert_eq!(origin.calls(), 2);
    }
}
