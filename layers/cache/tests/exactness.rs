//! The fine print: what `Cache-Status` and `Age` say, what `only-if-cached` may do, which response a
//! 304 is about, and which requests have a key in common.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};
use tower::{Layer, ServiceExt};
use tower_keep_cache::CacheLayer;

use origin::{Origin, answer, cached, cached_with, get, request, send, store, trickle};

const SECOND: Duration = Duration::from_secs(1);
const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test(start_paused = true)]
async fn cache_status_says_whose_wish_it_was() {
    let (cache, _) = cached(&Origin::with(&[("cache-control", "max-age=60"), ("etag", "\"a\"")]));
    let of = async |control: &'static str| {
        send(&cache, get(&[("cache-control", control)])).await.cache().to_owned()
    };
    assert_eq!(of("only-if-cached").await, "detail=only-if-cached");
    assert_eq!(of("no-cache").await, "fwd=uri-miss; fwd-status=200; stored");
    advance(SECOND * 30).await;
    assert_eq!(of("max-age=10").await, "fwd=request; fwd-status=200; stored");
    assert_eq!(of("no-cache").await, "fwd=request; fwd-status=200; stored");
    advance(SECOND * 70).await;
    assert_eq!(of("no-cache").await, "fwd=stale; fwd-status=200; stored");
}

#[tokio::test(start_paused = true)]
async fn who_joins_late_is_told_the_age() {
    let origin = Origin::new(|_, _| async {
        trickle(FRESH, SECOND * 10, ["0", "1", "2", "3"].map(Bytes::from))
    });
    let (cache, _) = cached(&origin);
    let first = cache.clone().oneshot(get(&[])).await.unwrap();
    assert!(!first.headers().contains_key("age"), "it comes straight from the origin");
    sleep(SECOND * 35).await;
    let late = cache.clone().oneshot(get(&[])).await.unwrap();
    assert_eq!(late.headers()["age"], "35");
    assert_eq!(late.into_body().collect().await.unwrap().to_bytes(), "0123");
}

#[tokio::test(start_paused = true)]
async fn only_if_cached_neither_asks_nor_gets_in_the_way() {
    let origin = Origin::new(|n, _| async move {
        sleep(SECOND).await;
        answer(FRESH, n.to_string())
    });
    let (cache, _) = cached(&origin);
    let mut all = JoinSet::new();
    for n in 0..100 {
        let cache = cache.clone();
        let fields: &[(&str, &str)] =
            if n % 2 == 0 { &[("cache-control", "only-if-cached")] } else { &[] };
        all.spawn(async move { send(&cache, get(fields)).await.status });
    }
    let statuses = all.join_all().await;
    let refused = statuses.iter().filter(|status| **status == 504).count();
    assert_eq!((refused, origin.calls()), (50, 1));
}

#[tokio::test(start_paused = true)]
async fn a_304_about_another_representation_updates_nothing() {
    let origin = Origin::new(|n, request| async move {
        let control = ("cache-control", "max-age=10, stale-if-error=1000");
        let mut response = answer(&[control, ("etag", "\"new\"")], n.to_string());
        if request.headers().contains_key("if-none-match") {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else if n == 1 {
            response.headers_mut().insert("etag", "\"old\"".parse().unwrap());
        }
        response
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    let got = send(&cache, get(&[])).await;
    assert!(got.cache().ends_with("detail=other-etag"), "{}", got.cache());
    let next = send(&cache, get(&[])).await;
    assert_eq!((next.text(), next.field("etag")), ("3", "\"new\""), "{}", next.cache());
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_does_not_come_back_when_the_origin_fails() {
    let origin = Origin::new(|n, _| async move {
        let mut response =
            answer(&[("cache-control", "max-age=10, stale-if-error=1000")], n.to_string());
        match n {
            2 => {
                sleep(SECOND).await;
                response = answer(&[("cache-control", "no-store")], "");
                *response.status_mut() = StatusCode::GONE;
            }
            3 => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
            _ => {}
        }
        response
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 20).await;
    // One asks, and one waits for the answer, which turns out not to be for both.
    let (leader, follower) = tokio::join!(send(&cache, get(&[])), send(&cache, get(&[])));
    assert_eq!((leader.status, follower.status), (410, 503));
    origin.restart_at(3);
    assert_eq!(send(&cache, get(&[])).await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn what_was_invalidated_is_not_brought_back_by_a_304() {
    let origin = Origin::new(|n, request| async move {
        let fields = [("cache-control", "max-age=10"), ("etag", "\"a\""), ("cache-tag", "t")];
        let mut response = answer(&fields, format!("body {n}"));
        if request.headers().contains_key("if-none-match") {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response
    });
    let (cache, store) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 11).await;
    // It has found the stale response, and is about to have it validated.
    let mut asked = Box::pin(cache.clone().oneshot(get(&[])));
    assert!(futures_util::poll!(&mut asked).is_pending());
    store.invalidate_tag("t").await.unwrap();
    asked.await.unwrap();
    let later = send(&cache, get(&[])).await;
    assert_ne!(later.text(), "body 1", "{}", later.cache());
}

#[tokio::test]
async fn the_conditions_of_a_client_are_answered_also_when_nothing_is_stored() {
    let origin = Origin::with(&[("cache-control", "no-store"), ("etag", "\"a\"")]);
    let (cache, _) = cached(&origin);
    for _ in 0..2 {
        let got = send(&cache, get(&[])).await;
        assert_eq!((got.status, got.field("etag")), (200, "\"a\""));
    }
    let (cache, _) = cached(&origin);
    let got = send(&cache, get(&[("if-none-match", "\"a\"")])).await;
    assert_eq!((got.status, got.text()), (304, ""));
}

#[tokio::test]
async fn a_redirect_to_https_is_not_the_answer_to_what_it_leads_to() {
    let origin = Origin::new(|n, request| async move {
        let mut response = answer(FRESH, n.to_string());
        if request.uri().scheme_str() == Some("http") {
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        }
        response
    });
    let (cache, _) = cached(&origin);
    let of = async |method, uri| send(&cache, request(method, uri, &[])).await;
    assert_eq!(of("GET", "http://example.com/a").await.status, 301);
    assert_eq!(of("GET", "https://example.com/a").await.status, 200);
    assert!(of("GET", "https://example.com:443/a").await.is_hit());
    let local = || request("GET", "/a", &[("host", "example.com")]);
    assert!(!send(&cache, local()).await.is_hit() && send(&cache, local()).await.is_hit());
    // Whoever changes it, by whichever version of HTTP, all forms go.
    of("DELETE", "https://example.com/a").await;
    assert!(!send(&cache, local()).await.is_hit());
    assert!(!of("GET", "http://example.com/a").await.is_hit());
    send(&cache, request("POST", "/a", &[("host", "example.com")])).await;
    assert!(!of("GET", "http://example.com/a").await.is_hit());
}

#[tokio::test]
async fn responses_that_vary_on_more_or_less_find_their_place() {
    let origin = Origin::new(|n, request| async move {
        let vary = match request.headers().get("origin") {
            Some(_) => "accept-language, origin",
            None => "accept-language",
        };
        answer(&[("cache-control", "max-age=60"), ("vary", vary)], n.to_string())
    });
    let (cache, _) = cached(&origin);
    let of = async |language, from: &'static str| {
        let fields = [("accept-language", language), ("origin", from)];
        let fields = if from.is_empty() { &fields[..1] } else { &fields[..] };
        send(&cache, get(fields)).await
    };
    for _ in 0..20 {
        of("en", "").await;
        of("fr", "https://a").await;
        of("de", "").await;
    }
    // The first one twice: it lay under a rule that had to be extended.
    assert_eq!(origin.calls(), 4);
    assert!(!of("fr", "https://b").await.is_hit(), "this one varies on more");
    assert!(of("fr", "https://a").await.is_hit());
}

#[tokio::test]
async fn a_body_that_knows_it_is_empty_only_by_its_length_is_none() {
    struct Shy;
    impl http_body::Body for Shy {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(None)
        }
        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(0)
        }
    }
    let origin =
        tower::service_fn(|_: Request<Shy>| async { Ok::<_, Infallible>(answer(FRESH, "x")) });
    let cache = CacheLayer::builder(store()).build().unwrap().layer(origin);
    let request = Request::get("http://example.com/").body(Shy).unwrap();
    let response = cache.oneshot(request).await.unwrap();
    assert_eq!(
        response.headers()["cache-status"],
        "tower-keep; fwd=uri-miss; fwd-status=200; stored"
    );
}

#[tokio::test(start_paused = true)]
async fn a_field_for_this_cache_counts_more_than_one_for_all() {
    let fields: &[_] = &[
        ("cache-control", "private, no-store"),
        ("expires", "Thu, 31 Dec 2099 23:59:59 GMT"),
        ("cdn-cache-control", "max-age=60"),
    ];
    let origin = Origin::with(fields);
    let (cache, _) = cached_with(&origin, |builder| {
        builder.targets(["keep-cache-control", "cdn-cache-control"].map(HeaderName::from_static))
    });
    send(&cache, get(&[])).await;
    let got = send(&cache, get(&[])).await;
    assert_eq!(got.cache(), "hit; ttl=60");
    for (name, value) in fields {
        assert_eq!(got.field(name), *value, "others still read it");
    }
    advance(SECOND * 61).await;
    assert!(!send(&cache, get(&[])).await.is_hit(), "Expires doesn't count beside it");
    // Who doesn't listen to it goes by Cache-Control.
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    assert!(!send(&cache, get(&[])).await.is_hit());
}
