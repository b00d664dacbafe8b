//! Fields, HEAD and bounds, where they meet each other.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tokio::time::advance;
use tower::ServiceExt;
use tower_keep_cache::{CacheStatusField, Rule};

use origin::*;

fn part(fields: &[(&str, &str)], range: &str, body: &'static str) -> Answer {
    let mut a = answer(fields, body);
    a.headers_mut().insert("content-range", range.parse().unwrap());
    *a.status_mut() = StatusCode::PARTIAL_CONTENT;
    a
}

const F: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("etag", "\"v\"")];

async fn stalled(chunk: usize) -> bool {
    let origin = Origin::new(move |_n, _request| async move {
        streamed(
            &[("cache-control", "max-age=60")],
            (0..100).map(move |_| Bytes::from(vec![0u8; chunk])).collect::<Vec<_>>(),
        )
    });
    let (cache, _) = cached_with(&origin, |b| {
        b.max_body(100).max_in_flight(1000).max_lag(Duration::from_secs(1))
    });
    let r = cache.clone().oneshot(get(&[])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    r.into_body().collect().await.is_err()
}

#[tokio::test]
async fn there_may_be_no_bound_on_lag() {
    let (cache, _) = cached_with(&Origin::with(&[("cache-control", "max-age=60")]), |b| {
        b.max_lag(Duration::MAX)
    });
    send(&cache, get(&[])).await;
}

#[tokio::test]
async fn a_hit_counts_once_whatever_is_said_of_it() {
    for field in [CacheStatusField::On, CacheStatusField::WithKey, CacheStatusField::Off] {
        let (cache, store) = cached_with(&Origin::with(&[("cache-control", "max-age=60")]), |b| {
            b.cache_status(field)
        });
        send(&cache, get(&[])).await;
        let before = store.stats().l1_hits;
        for _ in 0..10 {
            send(&cache, get(&[])).await;
        }
        println!("{field:?} {}", store.stats().l1_hits - before);
        assert_eq!(store.stats().l1_hits - before, 10);
    }
}

#[tokio::test]
async fn what_the_cache_says_of_itself_cannot_be_left_out() {
    let (cache, _) = cached_with(
        &Origin::with(&[("cache-control", "max-age=60, no-cache=\"cache-status, age\"")]),
        |b| b.cache_status(CacheStatusField::Off),
    );
    let got = send(&cache, get(&[])).await;
    println!("{:?}", got.headers);
    assert!(!got.headers.contains_key("cache-status"));
}

#[tokio::test]
async fn what_head_says_must_not_be_stored_is_dropped() {
    let origin = Origin::new(|n, request| async move {
        if request.method() == "HEAD" {
            return answer(&[("cache-control", "no-store"), ("etag", "\"v\"")], "");
        }
        answer(F, n.to_string())
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    send(&cache, request("HEAD", "http://example.com/a", &[("cache-control", "no-cache")])).await;
    assert!(!send(&cache, get(&[])).await.is_hit());
}

#[tokio::test]
async fn the_digest_of_a_part_is_not_that_of_the_whole() {
    let origin = Origin::new(|n, _request| async move {
        match n {
            1 => {
                part(&[F[0], F[1], ("content-digest", "sha-256=:first:")], "bytes 0-4/10", "aaaaa")
            }
            _ => {
                part(&[F[0], F[1], ("content-digest", "sha-256=:second:")], "bytes 5-9/10", "bbbbb")
            }
        }
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[("range", "bytes=0-4")])).await;
    let got = send(&cache, get(&[])).await;
    println!("{} {} {:?}", got.status, got.text(), got.headers);
    assert!(!got.headers.contains_key("content-digest"));
}

#[tokio::test]
async fn nor_that_of_the_whole_of_a_part() {
    let (cache, _) = cached(&Origin::with(&[
        ("cache-control", "max-age=60"),
        ("content-digest", "sha-256=:whole:"),
    ]));
    send(&cache, get(&[])).await;
    let got = send(&cache, get(&[("range", "bytes=0-0")])).await;
    assert_eq!(got.status, 206);
    assert!(!got.headers.contains_key("content-digest"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stopped_is_cut_off_when_memory_is_short() {
    assert!(stalled(100).await);
}

#[tokio::test(start_paused = true)]
async fn and_when_it_is_just_too_short_for_more() {
    assert!(stalled(90).await);
}

#[tokio::test(start_paused = true)]
async fn a_304_for_one_alone_can_say_that_nothing_is_to_be_stored() {
    let origin = Origin::new(|n, request| async move {
        match n {
            1 => answer(
                &[("cache-control", "max-age=0, stale-if-error=600"), ("etag", "\"v\"")],
                "old",
            ),
            2 => {
                assert!(request.headers().contains_key("if-none-match"));
                let mut a = answer(&[("cache-control", "no-store"), ("etag", "\"v\"")], "");
                *a.status_mut() = StatusCode::NOT_MODIFIED;
                a
            }
            _ => {
                let mut a = answer(&[], "down");
                *a.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                a
            }
        }
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    let got = send(&cache, get(&[])).await;
    println!("{}", got.cache());
    let got = send(&cache, get(&[])).await;
    println!("{} {}", got.text(), got.cache());
    assert_eq!(got.text(), "down");
}

#[tokio::test(start_paused = true)]
async fn what_head_says_is_judged_as_of_get() {
    let origin = Origin::new(|n, _request| async move {
        answer(&[("etag", "\"v\""), ("cache-control", "max-age=1")], n.to_string())
    });
    let (cache, _) = cached_with(&origin, |b| {
        b.rule(Rule::new().method(Method::HEAD).min_ttl(Duration::from_secs(3600)))
    });
    send(&cache, get(&[])).await;
    advance(Duration::from_secs(2)).await;
    let h = send(&cache, request("HEAD", "http://example.com/a", &[])).await;
    println!("{}", h.cache());
    advance(Duration::from_secs(100)).await;
    let got = send(&cache, get(&[])).await;
    println!("{}", got.cache());
    assert!(!got.is_hit());
}

#[tokio::test(start_paused = true)]
async fn nor_is_the_digest_of_a_304() {
    let origin = Origin::new(|n, _request| async move {
        if n == 1 {
            return answer(
                &[
                    ("cache-control", "max-age=1"),
                    ("etag", "\"v\""),
                    ("content-digest", "sha-256=:whole:"),
                ],
                "x",
            );
        }
        let mut a = answer(
            &[
                ("cache-control", "max-age=60"),
                ("etag", "\"v\""),
                ("content-digest", "sha-256=:empty:"),
            ],
            "",
        );
        *a.status_mut() = StatusCode::NOT_MODIFIED;
        a
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(Duration::from_secs(2)).await;
    let g = send(&cache, get(&[])).await;
    assert_eq!(g.field("content-digest"), "sha-256=:whole:");
}
