//! What was removed, or replaced, does not come back by any of the ways in which a request may hold on
//! to it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http_body_util::BodyExt;

use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_keep_cache::CacheLayer;

use origin::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn what_was_removed_stands_in_for_nobody_who_asked_later() {
    let down = Arc::new(AtomicBool::new(false));
    let origin = Origin::new({
        let down = Arc::clone(&down);
        move |_, request| {
            let down = down.load(SeqCst) && request.method() == "GET";
            async move {
                if request.method() == "DELETE" {
                    return answer(&[], "");
                }
                sleep(SECOND).await;
                if down {
                    let mut r = answer(&[], "down");
                    *r.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    return r;
                }
                answer(&[("cache-control", "max-age=1, stale-if-error=1000")], "secret")
            }
        }
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    // It is called, but not polled before the removal.
    let mut c = cache.clone();
    let early = c.call(get(&[]));
    assert_eq!(send(&cache, request("DELETE", "http://example.com/a", &[])).await.status, 200);
    down.store(true, SeqCst);
    let early = tokio::spawn(early);
    settle().await;
    let late = send(&cache, get(&[])).await; // asked after the DELETE was answered
    early.await.unwrap().unwrap();
    assert_eq!(late.status, 503, "{} {}", late.cache(), late.text());
}

#[tokio::test(start_paused = true)]
async fn who_takes_over_brings_back_nothing_that_was_removed() {
    let origin = Origin::new(move |n, request| async move {
        if request.method() == "DELETE" {
            return answer(&[], "");
        }
        match n {
            1 => answer(&[("cache-control", "max-age=1, stale-if-error=1000")], "secret"),
            2 => std::future::pending().await,
            _ => {
                sleep(SECOND * 2).await;
                let mut r = answer(&[], "down");
                *r.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                r
            }
        }
    });
    let (cache, _) = cached_with(&origin, |b| b.max_wait(SECOND * 3));
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    let leader = tokio::spawn(cache.clone().oneshot(get(&[]))); // hangs
    settle().await;
    let follower = tokio::spawn({
        let cache = cache.clone();
        async move { send(&cache, get(&[])).await }
    });
    settle().await;
    assert_eq!(send(&cache, request("DELETE", "http://example.com/a", &[])).await.status, 200);
    // The follower takes over after 3 s; somebody else asks a second later.
    sleep(SECOND * 4).await;
    let late = send(&cache, get(&[])).await;
    follower.await.unwrap();
    leader.abort();
    assert_eq!(late.status, 503, "{} {}", late.cache(), late.text());
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_is_not_validated() {
    let origin = Origin::new(move |n, request| async move {
        if request.method() == "PURGE" {
            return answer(&[], "");
        }
        if n == 2 {
            std::future::pending::<()>().await;
        }
        let mut r = answer(&[("cache-control", "max-age=10"), ("etag", "\"a\"")], n.to_string());
        if request.headers().contains_key("if-none-match") {
            *r.status_mut() = StatusCode::NOT_MODIFIED;
        }
        r
    });
    let (cache, _) = cached_with(&origin, |b| b.max_wait(SECOND * 3));
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    let leader = tokio::spawn(cache.clone().oneshot(get(&[]))); // hangs
    settle().await;
    let follower = tokio::spawn({
        let cache = cache.clone();
        async move { send(&cache, get(&[])).await }
    });
    settle().await;
    send(&cache, request("PURGE", "http://example.com/a", &[])).await;
    follower.await.unwrap();
    let late = send(&cache, get(&[])).await; // asked long after the PURGE was answered
    leader.abort();
    assert_ne!(late.text(), "1", "{}", late.cache());
}

#[tokio::test(start_paused = true)]
async fn nor_is_a_variant_of_what_was_removed() {
    let origin = Origin::new(move |n, request| async move {
        if request.method() == "PURGE" {
            return answer(&[], "");
        }
        if n == 2 {
            std::future::pending::<()>().await;
        }
        let mut r = answer(
            &[("cache-control", "max-age=10"), ("etag", "\"a\""), ("vary", "accept-language")],
            n.to_string(),
        );
        if request.headers().contains_key("if-none-match") {
            *r.status_mut() = StatusCode::NOT_MODIFIED;
        }
        r
    });
    let (cache, _) = cached_with(&origin, |b| b.max_wait(SECOND * 3));
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    let leader = tokio::spawn(cache.clone().oneshot(get(&[]))); // hangs
    settle().await;
    let follower = tokio::spawn({
        let cache = cache.clone();
        async move { send(&cache, get(&[])).await }
    });
    settle().await;
    send(&cache, request("PURGE", "http://example.com/a", &[])).await;
    follower.await.unwrap();
    let late = send(&cache, get(&[])).await;
    leader.abort();
    assert_ne!(late.text(), "1", "{}", late.cache());
}

#[tokio::test(start_paused = true)]
async fn followers_do_not_share_what_was_removed() {
    let origin = Origin::new(move |n, request| async move {
        if request.method() == "PURGE" {
            return answer(&[], "");
        }
        let mut r = answer(&[("cache-control", "max-age=10"), ("etag", "\"a\"")], n.to_string());
        if request.headers().contains_key("if-none-match") {
            *r.status_mut() = StatusCode::NOT_MODIFIED;
        }
        r
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    let mut c = cache.clone();
    let early = c.call(get(&[])); // called, not polled
    send(&cache, request("PURGE", "http://example.com/a", &[])).await;
    read(early.await.unwrap()).await;
    let late = send(&cache, get(&[])).await;
    assert_ne!(late.text(), "1", "{}", late.cache());
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_stays_gone_for_those_who_go_alone() {
    let origin = Origin::new(|n, request| async move {
        let fr = request.headers().get("accept-language").is_some_and(|v| v == "fr");
        if fr {
            return answer(&[("cache-control", "private"), ("vary", "accept-language")], "fr");
        }
        match n {
            1 => answer(
                &[
                    ("cache-control", "max-age=10, stale-if-error=1000"),
                    ("vary", "accept-language"),
                ],
                "en",
            ),
            3 => {
                let mut r = answer(&[("cache-control", "no-store")], "gone");
                *r.status_mut() = StatusCode::GONE;
                r
            }
            _ => {
                let mut r = answer(&[], "down");
                *r.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                r
            }
        }
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[("accept-language", "en")])).await;
    advance(SECOND * 20).await;
    send(&cache, get(&[("accept-language", "fr")])).await;
    assert_eq!(send(&cache, get(&[("accept-language", "en")])).await.status, 410);
    let got = send(&cache, get(&[("accept-language", "en")])).await;
    assert_eq!(got.status, 503, "{} {}", got.cache(), got.text());
}

#[tokio::test]
async fn a_delete_is_no_grpc_call_whatever_it_claims() {
    let (cache, _) = cached(&Origin::with(&[("cache-control", "max-age=60")]));
    send(&cache, get(&[])).await;
    send(
        &cache,
        request("DELETE", "http://example.com/a", &[("content-type", "application/grpc")]),
    )
    .await;
    assert!(!send(&cache, get(&[])).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_location_may_be_a_query_alone() {
    let origin = Origin::new(|n, request| async move {
        let mut r = answer(&[("cache-control", "max-age=60")], n.to_string());
        if request.method() == "POST" {
            r.headers_mut().insert("content-location", "?x=1".parse().unwrap());
        }
        r
    });
    let (cache, _) = cached(&origin);
    send(&cache, request("GET", "http://example.com/d/a?x=1", &[])).await;
    send(&cache, request("POST", "http://example.com/d/a", &[])).await;
    assert!(!send(&cache, request("GET", "http://example.com/d/a?x=1", &[])).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn an_older_answer_does_not_replace_a_newer_one() {
    let origin = Origin::new(|n, _| async move {
        let date = httpdate::fmt_http_date(SystemTime::now() + SECOND * u32::try_from(n).unwrap());
        if n == 1 {
            sleep(SECOND * 20).await;
        }
        answer(&[("cache-control", "max-age=1000"), ("date", &date)], n.to_string())
    });
    let (cache, _) = cached_with(&origin, |b| b.max_wait(SECOND * 3));
    let first = tokio::spawn({
        let cache = cache.clone();
        async move { send(&cache, get(&[])).await }
    });
    settle().await;
    assert_eq!(send(&cache, get(&[])).await.text(), "2");
    assert_eq!(send(&cache, get(&[])).await.text(), "2");
    first.await.unwrap();
    settle().await;
    assert_eq!(send(&cache, get(&[])).await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn nor_does_an_older_304() {
    let origin = Origin::new(|n, _| async move {
        let etag = if n < 3 { "\"1\"" } else { "\"2\"" };
        if n == 2 {
            sleep(SECOND * 20).await;
        }
        let mut r = answer(&[("cache-control", "max-age=1000"), ("etag", etag)], n.to_string());
        if n == 2 {
            *r.status_mut() = StatusCode::NOT_MODIFIED;
        }
        r
    });
    let (cache, _) = cached_with(&origin, |b| b.max_wait(SECOND * 3));
    send(&cache, get(&[])).await;
    advance(SECOND * 2000).await;
    let first = tokio::spawn({
        let cache = cache.clone();
        async move { send(&cache, get(&[])).await }
    });
    settle().await;
    assert_eq!(send(&cache, get(&[])).await.text(), "3");
    first.await.unwrap();
    settle().await;
    assert_eq!(send(&cache, get(&[])).await.text(), "3");
}

#[tokio::test(start_paused = true)]
async fn a_nested_layer_does_not_refresh_with_what_was_expired() {
    let origin = Origin::with(&[
        ("cache-control", "max-age=10, stale-while-revalidate=1000"),
        ("cache-tag", "t"),
    ]);
    let store = store();
    let layer = CacheLayer::builder(store.clone()).build().unwrap();
    let cache = layer.layer(layer.layer(origin.clone()).map_response(|r| r.map(BodyExt::boxed)));
    let ask = || async {
        let r = cache.clone().oneshot(get(&[])).await.unwrap();
        let b = r.into_body().collect().await.unwrap().to_bytes();
        settle().await;
        b
    };
    assert_eq!(ask().await, "1");
    assert_eq!(ask().await, "1");
    store.expire_tag("t").await.unwrap();
    ask().await;
    assert_eq!(
        ask().await,
        "2",
        "after the refresh that expire_tag caused; {} calls",
        origin.calls()
    );
}

#[tokio::test(start_paused = true)]
async fn nor_with_what_is_stale() {
    let origin = Origin::with(&[
        ("cache-control", "max-age=10, stale-while-revalidate=1000"),
        ("cache-tag", "t"),
    ]);
    let store = store();
    let layer = CacheLayer::builder(store.clone()).build().unwrap();
    let cache = layer.layer(layer.layer(origin.clone()).map_response(|r| r.map(BodyExt::boxed)));
    let ask = || async {
        let r = cache.clone().oneshot(get(&[])).await.unwrap();
        let b = r.into_body().collect().await.unwrap().to_bytes();
        settle().await;
        b
    };
    assert_eq!(ask().await, "1");
    advance(SECOND * 20).await;
    ask().await;
    assert_eq!(ask().await, "2", "{} calls", origin.calls());
}

#[tokio::test]
async fn an_unsafe_request_with_two_hosts_drops_both() {
    let (cache, _) = cached(&Origin::with(&[("cache-control", "max-age=60")]));
    send(&cache, get(&[])).await;
    send(&cache, request("POST", "http://example.com/a", &[("host", "other.com")])).await;
    assert!(!send(&cache, get(&[])).await.is_hit());
}

#[tokio::test]
async fn a_port_that_is_there_anyway_hides_nothing() {
    let origin = Origin::with(&[("cache-control", "max-age=60")]);
    let (cache, _) = cached(&origin);
    send(&cache, request("GET", "/a", &[("host", "example.com:80")])).await;
    send(&cache, request("POST", "/a", &[("host", "example.com")])).await;
    assert!(!send(&cache, request("GET", "/a", &[("host", "example.com:80")])).await.is_hit());
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn a_target_rewritten_to_the_end_of_what_was_sent_is_another() {
    let origin = Origin::new(|_, request| async move {
        answer(&[("cache-control", "max-age=60")], request.uri().path().to_owned())
    });
    let (cache, _) = cached(&origin);
    let of = |uri: &str| {
        let mut r = request("GET", uri, &[("host", "h")]);
        r.extensions_mut().insert(axum::extract::OriginalUri("/page".parse().unwrap()));
        r
    };
    assert_eq!(send(&cache, of("/")).await.text(), "/");
    assert_eq!(send(&cache, of("/page")).await.text(), "/page");
}
