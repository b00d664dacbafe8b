//! Who shares what with whom: one user's response is no other's, and nobody spoils it for the rest.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep};
use tower::ServiceExt;

use origin::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn what_is_validated_under_a_new_vary_is_for_one_variant() {
    let origin = Origin::new(|_n, request| async move {
        let from = request.headers().get("origin").map(|v| v.to_str().unwrap().to_owned());
        sleep(SECOND).await;
        let mut r = answer(&[("cache-control", "max-age=10"), ("etag", "\"e\"")], "body");
        if let Some(from) = from {
            r.headers_mut().insert("vary", "origin".parse().unwrap());
            r.headers_mut().insert("access-control-allow-origin", from.parse().unwrap());
        }
        if request.headers().contains_key("if-none-match") {
            let (mut parts, _) = r.into_parts();
            parts.status = StatusCode::NOT_MODIFIED;
            r = answer(&[], "").map(|b| b);
            *r.headers_mut() = parts.headers;
            *r.status_mut() = parts.status;
        }
        r
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    let (a, b) = tokio::join!(
        send(&cache, get(&[("origin", "https://a")])),
        send(&cache, get(&[("origin", "https://b")]))
    );
    assert_eq!(a.field("access-control-allow-origin"), "https://a");
    assert_eq!(b.field("access-control-allow-origin"), "https://b", "{}", b.cache());
}

#[tokio::test(start_paused = true)]
async fn fields_of_a_304_for_one_user_go_to_no_other() {
    let origin = Origin::new(|_, request| async move {
        sleep(SECOND).await;
        let mut r = answer(&[("cache-control", "max-age=10"), ("etag", "\"e\"")], "page");
        if let Some(user) = request.headers().get("cookie") {
            r.headers_mut().insert("vary", "cookie".parse().unwrap());
            r.headers_mut().insert("x-user", user.clone());
        }
        if request.headers().contains_key("if-none-match") {
            *r.status_mut() = StatusCode::NOT_MODIFIED;
        }
        r
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    let (_, bob) = tokio::join!(
        send(&cache, get(&[("cookie", "user=alice")])),
        send(&cache, get(&[("cookie", "user=bob")]))
    );
    assert_eq!(bob.field("x-user"), "user=bob", "{}", bob.cache());
}

#[tokio::test(start_paused = true)]
async fn a_304_to_one_who_is_identified_leaves_others_what_they_have() {
    let down = Arc::new(AtomicBool::new(false));
    let origin = Origin::new({
        let down = Arc::clone(&down);
        move |_, request| {
            let down = down.load(SeqCst);
            async move {
                let mut r = answer(
                    &[("cache-control", "max-age=10, stale-if-error=1000"), ("etag", "\"a\"")],
                    "page",
                );
                if down {
                    *r.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                } else if request.headers().contains_key("if-none-match") {
                    *r.status_mut() = StatusCode::NOT_MODIFIED;
                }
                r
            }
        }
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    send(&cache, get(&[("cookie", "analytics=1")])).await;
    down.store(true, SeqCst);
    let got = send(&cache, get(&[])).await;
    assert_eq!((got.status, got.text()), (200, "page"), "{}", got.cache());
}

#[tokio::test(start_paused = true)]
async fn a_private_answer_to_one_who_is_identified_lets_nobody_loose() {
    let origin = Origin::new(|n, request| async move {
        let control =
            if request.headers().contains_key("cookie") { "private" } else { "max-age=60" };
        sleep(SECOND).await;
        answer(&[("cache-control", control)], n.to_string())
    });
    let (cache, _) = cached(&origin);
    let first = tokio::spawn(cache.clone().oneshot(get(&[("cookie", "id=1")])));
    settle().await;
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let cache = cache.clone();
        all.spawn(async move { send(&cache, get(&[])).await.text().to_owned() });
    }
    all.join_all().await;
    first.await.unwrap().unwrap();
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn and_leaves_others_what_they_have() {
    let down = Arc::new(AtomicBool::new(false));
    let origin = Origin::new({
        let down = Arc::clone(&down);
        move |_, request| {
            let down = down.load(SeqCst);
            async move {
                let control = if request.headers().contains_key("cookie") {
                    "private"
                } else {
                    "max-age=10, stale-if-error=1000"
                };
                let mut r = answer(&[("cache-control", control)], "page");
                if down {
                    *r.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                r
            }
        }
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    send(&cache, get(&[("cookie", "id=1")])).await;
    down.store(true, SeqCst);
    let got = send(&cache, get(&[])).await;
    assert_eq!((got.status, got.text()), (200, "page"), "{}", got.cache());
}

#[tokio::test(start_paused = true)]
async fn a_private_leader_leaves_followers_what_is_stale() {
    // followers of a renewed response whose 304 turned it private
    let origin = Origin::new(|n, request| async move {
        sleep(SECOND).await;
        let cc = if n == 1 { "max-age=10" } else { "private, max-age=10" };
        let mut r = answer(&[("cache-control", cc), ("etag", "\"a\"")], n.to_string());
        if request.headers().contains_key("if-none-match") {
            *r.status_mut() = StatusCode::NOT_MODIFIED;
        }
        r
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    let (a, b) = tokio::join!(send(&cache, get(&[])), send(&cache, get(&[])));
    assert_eq!((a.text(), b.text()), ("1", "3"), "{} | {}", a.cache(), b.cache());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_for_one_who_is_identified_leaves_others_what_they_have() {
    let origin = Origin::new(|n, request| async move {
        let mut r = answer(
            &[("cache-control", "max-age=10, stale-while-revalidate=1000"), ("etag", "\"a\"")],
            n.to_string(),
        );
        if request.headers().contains_key("if-none-match") {
            *r.status_mut() = StatusCode::NOT_MODIFIED;
        }
        r
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    assert!(send(&cache, get(&[("cookie", "analytics=1")])).await.is_hit());
    settle().await;
    let got = send(&cache, get(&[])).await;
    assert!(got.is_hit(), "{}", got.cache());
}

#[tokio::test(start_paused = true)]
async fn a_429_does_not_send_everybody_at_once() {
    let origin = Origin::new(move |n, _| async move {
        sleep(SECOND).await;
        let mut r = answer(&[("cache-control", "max-age=60")], n.to_string());
        if n == 1 {
            r = answer(&[], "");
            *r.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        }
        r
    });
    let (cache, _) = cached(&origin);
    assert_eq!(send(&cache, get(&[])).await.status, 429);
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let cache = cache.clone();
        all.spawn(async move { send(&cache, get(&[])).await.status });
    }
    all.join_all().await;
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_validated_each_time_is_not_waited_for() {
    let origin = Origin::new(|n, request| async move {
        sleep(SECOND * 2).await;
        let mut r = answer(&[("cache-control", "no-cache"), ("etag", "\"a\"")], n.to_string());
        if request.headers().contains_key("if-none-match") {
            *r.status_mut() = StatusCode::NOT_MODIFIED;
        }
        r
    });
    let (cache, _) = cached(&origin);
    let timed = |wait| {
        let cache = cache.clone();
        async move {
            sleep(wait).await;
            let began = Instant::now();
            let got = send(&cache, get(&[])).await;
            (began.elapsed().as_millis(), got.cache().to_owned())
        }
    };
    for _ in 0..5 {
        tokio::join!(timed(Duration::ZERO), timed(SECOND));
    }
    let (_, two) = tokio::join!(timed(Duration::ZERO), timed(SECOND));
    assert_eq!(two.0, 2000, "{two:?}");
}

#[tokio::test(start_paused = true)]
async fn idle_clients_do_not_switch_the_cache_off() {
    let origin = Origin::new(|_, request| async move {
        let n = if request.uri().path() == "/small" { 1 } else { 4096 };
        trickle(
            &[("cache-control", "max-age=60")],
            SECOND / 1000,
            vec![Bytes::from(vec![7; 64 << 10]); n],
        )
    });
    let (cache, _) = cached(&origin); // defaults
    let mut held = Vec::new();
    for n in 0..16 {
        let uri = format!("http://example.com/{n}");
        held.push(cache.clone().oneshot(request("GET", &uri, &[])).await.unwrap());
    }
    sleep(SECOND * 10_000).await;
    let small = || request("GET", "http://example.com/small", &[]);
    send(&cache, small()).await;
    let got = send(&cache, small()).await;
    assert!(got.is_hit(), "{}", got.cache());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_keeps_nothing_from_being_stored() {
    let origin = Origin::new(|_, request| async move {
        let n = if request.uri().path() == "/small" { 1 } else { 4096 };
        trickle(
            &[("cache-control", "max-age=60")],
            SECOND / 1000,
            vec![Bytes::from(vec![7; 64 << 10]); n],
        )
    });
    let (cache, _) = cached_with(&origin, |b| b.max_body(1 << 20).max_in_flight(4 << 20));
    let mut held = Vec::new();
    for n in 0..20 {
        let uri = format!("http://example.com/{n}");
        held.push(cache.clone().oneshot(request("GET", &uri, &[])).await.unwrap());
    }
    sleep(SECOND * 1000).await;
    let small = || request("GET", "http://example.com/small", &[]);
    send(&cache, small()).await;
    assert!(send(&cache, small()).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn several_who_stopped_do_not_add_up() {
    let origin = Origin::new(|_, _| async {
        sleep(SECOND).await;
        trickle(
            &[("cache-control", "max-age=60")],
            SECOND / 1000,
            vec![Bytes::from(vec![7; 64 << 10]); 64],
        )
    });
    let (cache, _) = cached_with(&origin, |b| b.max_body(1 << 20).max_lag(SECOND * 5));
    let mut all = JoinSet::new();
    for _ in 0..11 {
        all.spawn(cache.clone().oneshot(get(&[])));
    }
    let mut all: Vec<_> =
        all.join_all().await.into_iter().map(|r| r.unwrap().into_body()).collect();
    let reading = all.pop().unwrap();
    // Each has read a bit more than the last.
    for (n, body) in all.iter_mut().enumerate() {
        for _ in 0..n {
            body.frame().await.unwrap().unwrap();
        }
    }
    let began = Instant::now();
    reading.collect().await.unwrap();
    assert!(began.elapsed().as_secs() <= 10, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_slow_reader_does_not_slow_the_rest() {
    let origin = Origin::new(|_, _| async {
        sleep(SECOND).await;
        trickle(
            &[("cache-control", "max-age=60")],
            SECOND / 1000,
            vec![Bytes::from(vec![7; 64 << 10]); 64],
        )
    });
    let (cache, _) = cached_with(&origin, |b| b.max_body(1 << 20).max_lag(SECOND * 5));
    let both = tokio::join!(cache.clone().oneshot(get(&[])), cache.clone().oneshot(get(&[])));
    let (reading, slow) = (both.0.unwrap(), both.1.unwrap());
    let slow = tokio::spawn(async move {
        let mut body = slow.into_body();
        for n in 0.. {
            if n > 16 {
                sleep(SECOND * 4).await;
            }
            if !matches!(body.frame().await, Some(Ok(_))) {
                break;
            }
        }
    });
    let began = Instant::now();
    reading.into_body().collect().await.unwrap();
    slow.abort();
    assert!(began.elapsed().as_secs() <= 20, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn two_rules_side_by_side_mix_nothing_up() {
    let origin = Origin::new(|_n, request| async move {
        sleep(SECOND).await;
        let v = if request.headers().contains_key("a") { "a" } else { "b" };
        let body = format!("{:?} {:?}", request.headers().get("a"), request.headers().get("b"));
        answer(&[("cache-control", "max-age=600"), ("vary", v)], body)
    });
    let (cache, _) = cached(&origin);
    let mut set = JoinSet::new();
    for n in 0..200 {
        let cache = cache.clone();
        set.spawn(async move {
            let v = (n % 4).to_string();
            let f = [if n % 2 == 0 { "a" } else { "b" }];
            let got = send(&cache, get(&[(f[0], &v)])).await;
            let expect = if n % 2 == 0 {
                format!("{:?} None", Some(http::HeaderValue::from_str(&v).unwrap()))
            } else {
                format!("None {:?}", Some(http::HeaderValue::from_str(&v).unwrap()))
            };
            assert_eq!(got.text(), expect);
        });
    }
    while let Some(r) = set.join_next().await {
        r.unwrap();
    }
    println!("calls {}", origin.calls());
}
