//! Validation, conditions and ages, where a mistake is easily made.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;
#[path = "support/remote.rs"]
mod remote;

use std::sync::Arc;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;

use tokio::time::{advance, sleep};
use tower::{Layer, ServiceExt};
use tower_keep_cache::CacheLayer;
use tower_keep_store::{L1, Store};

use origin::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn without_a_modification_date_nothing_is_unmodified() {
    let origin = Origin::new(|n, _| async move {
        let now = httpdate::fmt_http_date(SystemTime::now());
        answer(&[("cache-control", "private, no-store"), ("date", &now)], n.to_string())
    });
    let (cache, _) = cached(&origin);
    // A client whose clock is ahead.
    let since = httpdate::fmt_http_date(SystemTime::now() + SECOND * 100);
    let got = send(&cache, get(&[("if-modified-since", &since)])).await;
    assert_eq!((got.status, got.text()), (200, "1"), "{}", got.cache());
}

#[tokio::test]
async fn head_is_answered_from_the_second_tier() {
    let remote = remote::SilentRemote::default();
    let node = |origin: &Origin| {
        let store = Store::builder().l1(L1::bytes(1 << 20)).l2(remote.clone()).build().unwrap();
        CacheLayer::builder(store).build().unwrap().layer(origin.clone())
    };
    let origin = Origin::with(&[("cache-control", "max-age=60")]);
    let (one, two) = (node(&origin), node(&origin));
    send(&one, get(&[])).await;
    for _ in 0..20 {
        sleep(SECOND / 100).await;
    }
    let head = send(&two, request("HEAD", "http://example.com/a", &[])).await;
    assert!(head.is_hit(), "{}", head.cache());
}

#[tokio::test(start_paused = true)]
async fn a_304_with_another_date_validates_nothing() {
    let origin = Origin::new(|n, request| async move {
        let lm =
            if n == 1 { "Mon, 02 Nov 2020 10:00:00 GMT" } else { "Tue, 03 Nov 2020 10:00:00 GMT" };
        let mut r =
            answer(&[("cache-control", "max-age=10"), ("last-modified", lm)], n.to_string());
        if request.headers().contains_key("if-modified-since") {
            *r.status_mut() = StatusCode::NOT_MODIFIED;
        }
        r
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    send(&cache, get(&[])).await;
    let got = send(&cache, get(&[])).await;
    assert!(
        !(got.is_hit() && got.text() == "1" && got.field("last-modified").starts_with("Tue")),
        "{} {:?}",
        got.text(),
        got.headers
    );
}

#[tokio::test]
async fn a_416_is_not_to_be_cached_as_the_whole() {
    let (cache, _) = cached(&Origin::with(&[("cache-control", "max-age=60"), ("etag", "\"a\"")]));
    send(&cache, get(&[])).await;
    let got = send(&cache, get(&[("range", "bytes=99-")])).await;
    assert_eq!(got.status, 416);
    assert_eq!(got.field("cache-control"), "", "{:?}", got.headers);
}

#[tokio::test(start_paused = true)]
async fn a_range_of_what_is_stale_starts_a_refresh() {
    let remote = remote::SilentRemote::default();
    let origin = Origin::with(&[("cache-control", "max-age=10, stale-while-revalidate=1000")]);
    let store = Store::builder().l2(remote.clone()).build().unwrap();
    let cache = CacheLayer::builder(store).build().unwrap().layer(origin.clone());
    send(&cache, get(&[])).await;
    settle().await;
    advance(SECOND * 20).await;
    let got = send(&cache, get(&[("range", "bytes=0-0")])).await;
    assert_eq!(got.status, 206, "{}", got.cache());
    settle().await;
    assert_eq!(origin.calls(), 2, "refreshed");
}

#[tokio::test(start_paused = true)]
async fn what_was_expired_and_must_be_revalidated_stands_in_for_nothing() {
    let origin = Origin::new(|n, _| async move {
        let mut r = answer(&[], "down");
        *r.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        if n == 1 {
            r = answer(
                &[("cache-control", "max-age=100, must-revalidate"), ("cache-tag", "t")],
                "old",
            );
        }
        r
    });
    let (cache, store) = cached(&origin);
    send(&cache, get(&[])).await;
    store.expire_tag("t").await.unwrap();
    let got = send(&cache, get(&[])).await;
    assert_eq!(got.status, 503, "{}", got.cache());
}

#[tokio::test(start_paused = true)]
async fn of_two_dates_neither_counts() {
    let (cache, _) = cached(&Origin::with(&[
        ("cache-control", "max-age=60"),
        ("last-modified", "Mon, 02 Nov 2020 10:00:00 GMT"),
    ]));
    send(&cache, get(&[])).await;
    let l = ("if-modified-since", "Tue, 03 Nov 2020 10:00:00 GMT");
    assert_eq!(send(&cache, get(&[l, l])).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_date_is_given_one() {
    let (cache, _) = cached(&Origin::with(&[("cache-control", "max-age=60")]));
    send(&cache, get(&[])).await;
    let got = send(&cache, get(&[])).await;
    assert!(got.is_hit() && got.headers.contains_key("date"));
}

#[tokio::test(start_paused = true)]
async fn only_if_cached_never_asks_the_origin() {
    let origin = Origin::with(&[("cache-control", "max-age=60")]);
    let (cache, _) = cached(&origin);
    let got = send(&cache, get(&[("cache-control", "only-if-cached, no-store")])).await;
    assert_eq!((got.status, origin.calls()), (504, 0), "{}", got.cache());
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_late_is_not_stored() {
    let origin = Origin::new(|n, _| async move {
        sleep(SECOND * 100).await;
        answer(&[("cache-control", "max-age=1000")], n.to_string())
    });
    let (cache, _) = cached_with(&origin, |b| b.max_fill(SECOND * 10));
    send(&cache, get(&[])).await;
    assert!(
        !send(&cache, get(&[])).await.is_hit(),
        "max_fill: the longest a response may take and still be stored"
    );
}

#[tokio::test(start_paused = true)]
async fn something_stale_stands_in_for_an_origin_that_hangs() {
    let origin = Origin::new(|n, _| async move {
        if n > 1 {
            std::future::pending::<()>().await;
        }
        answer(&[("cache-control", "max-age=10, stale-if-error=1000")], n.to_string())
    });
    let (cache, _) = cached_with(&origin, |b| b.max_wait(SECOND));
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    let got = tokio::time::timeout(SECOND * 100, send(&cache, get(&[]))).await;
    assert!(got.is_ok(), "nothing came in 100 s though something stale is there");
}

#[tokio::test(start_paused = true)]
async fn a_variant_that_is_stale_is_refreshed() {
    // budget is given back
    let origin = Origin::new(|_n, _| async move {
        trickle(
            &[("cache-control", "max-age=60")],
            SECOND / 1000,
            vec![Bytes::from(vec![7; 64 << 10]); 40],
        )
    });
    let (cache, _) = cached_with(&origin, |b| {
        b.max_body(1 << 20).max_in_flight(1 << 20).finish_abandoned(false)
    });
    for n in 0..50 {
        let uri = format!("http://example.com/{n}");
        let r = cache.clone().oneshot(request("GET", &uri, &[])).await.unwrap();
        let mut b = r.into_body();
        for _ in 0..n {
            b.frame().await;
        }
        drop(b);
        settle().await;
    }
    sleep(SECOND).await;
    let origin2 = Origin::with(&[("cache-control", "max-age=60")]);
    let _ = origin2;
    let r = cache.clone().oneshot(request("GET", "http://example.com/x", &[])).await.unwrap();
    let mut b = r.into_body();
    let mut n = 0;
    while let Some(f) = b.frame().await {
        f.unwrap();
        n += 1;
    }
    assert_eq!(n, 40);
}

#[tokio::test(start_paused = true)]
async fn and_for_a_service_that_is_never_ready() {
    let origin = Origin::with(&[("cache-control", "max-age=10, stale-if-error=1000")]);
    let sem = Arc::new(tokio::sync::Semaphore::new(1));
    let cache = CacheLayer::builder(store()).max_wait(SECOND).build().unwrap().layer(
        tower::limit::GlobalConcurrencyLimitLayer::with_semaphore(sem.clone())
            .layer(origin.clone()),
    );
    cache.clone().oneshot(get(&[])).await.unwrap().into_body().collect().await.unwrap();
    advance(SECOND * 20).await;
    let _all = sem.acquire().await.unwrap();
    let got = tokio::time::timeout(SECOND * 100, cache.clone().oneshot(get(&[]))).await;
    assert!(got.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_wish_to_close_the_connection_is_heeded() {
    let (cache, _) =
        cached(&Origin::with(&[("cache-control", "max-age=60"), ("connection", "close")]));
    assert_eq!(send(&cache, get(&[])).await.field("connection"), "close");
}

#[tokio::test(start_paused = true)]
async fn what_head_says_is_true_of_get() {
    // Of each call the etag, and what else is new in it.
    let origin = Origin::new(|n, request| async move {
        let (etag, body) = if n < 3 { ("\"1\"", "12345") } else { ("\"2\"", "123456") };
        let number = n.to_string();
        let fields = [("cache-control", "max-age=10"), ("etag", etag), ("x-n", &number)];
        let length = body.len().to_string();
        let mut response = answer(&fields, if request.method() == "HEAD" { "" } else { body });
        response.headers_mut().insert("content-length", length.parse().unwrap());
        response
    });
    let (cache, _) = cached(&origin);
    let head = || request("HEAD", "http://example.com/a", &[]);
    send(&cache, get(&[])).await;
    advance(SECOND * 11).await;
    assert_eq!(send(&cache, head()).await.cache(), "fwd=stale; fwd-status=200; detail=head");
    let got = send(&cache, get(&[])).await;
    assert!(got.is_hit(), "made fresh by HEAD: {}", got.cache());
    assert_eq!((got.text(), got.field("x-n")), ("12345", "2"));
    // The next says that there is another version, so what is stored is of no use any more.
    let reload = request("HEAD", "http://example.com/a", &[("cache-control", "no-cache")]);
    assert_eq!(send(&cache, reload).await.field("x-n"), "3");
    let got = send(&cache, get(&[])).await;
    assert_eq!((got.text(), got.cache()), ("123456", "fwd=uri-miss; fwd-status=200; stored"));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_finds_nothing_leaves_nothing() {
    let origin = Origin::new(|n, _| async move {
        let mut response = answer(&[("cache-control", "max-age=10, stale-if-error=99")], "a");
        if n > 1 {
            *response.status_mut() =
                if n == 2 { StatusCode::GONE } else { StatusCode::BAD_GATEWAY };
        }
        response
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 11).await;
    send(&cache, request("HEAD", "http://example.com/a", &[])).await;
    assert_eq!(send(&cache, get(&[])).await.status, 502, "nothing stands in");
}

#[tokio::test(start_paused = true)]
async fn fields_that_are_named_are_for_the_one_who_asked() {
    let origin = Origin::new(|n, request| async move {
        let control = "max-age=10, private=\"x-user\", no-cache=\"x-now, set-cookie\"";
        let number = n.to_string();
        let fields = [
            ("cache-control", control),
            ("etag", "\"1\""),
            ("x-user", &number),
            ("x-now", &number),
            ("set-cookie", &number),
            ("x-other", &number),
        ];
        let mut response = answer(&fields, "page");
        if request.headers().contains_key("if-none-match") {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response
    });
    let (cache, _) = cached(&origin);
    let fields = |got: &Got| {
        ["x-user", "x-now", "set-cookie", "x-other"].map(|name| got.field(name).to_owned())
    };
    let first = send(&cache, get(&[])).await;
    assert_eq!(fields(&first), ["1"; 4], "{}", first.cache());
    let second = send(&cache, get(&[])).await;
    assert!(second.is_hit());
    assert_eq!(fields(&second), ["", "", "", "1"]);
    advance(SECOND * 11).await;
    assert_eq!(fields(&send(&cache, get(&[])).await), ["2"; 4], "validated for this one");
    assert_eq!(fields(&send(&cache, get(&[])).await), ["", "", "", "2"]);
}
