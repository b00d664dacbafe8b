//! What rules change for requests and responses, and what they can't.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use tokio::time::advance;
use tower_keep_cache::{RequestHead, Rule, SetCookie, Statuses};

use origin::{Answer, Origin, answer, cached_with, get, request, send, settle};

const SECOND: Duration = Duration::from_secs(1);
type Fields = &'static [(&'static str, &'static str)];

fn at(path: &str) -> http::Request<http_body_util::Empty<bytes::Bytes>> {
    request("GET", &format!("http://example.com{path}"), &[])
}

fn with_status(status: StatusCode, fields: &[(&str, &str)], body: String) -> Answer {
    let mut response = answer(fields, body);
    *response.status_mut() = status;
    response
}

/// Answers each call with the status of its turn, the last one from then on.
fn answering(statuses: &'static [u16], fields: Fields) -> Origin {
    Origin::new(move |n, _| async move {
        let status = statuses[(n - 1).min(statuses.len() - 1)];
        // A failure doesn't say what a page says.
        let fields = if status < 400 { fields } else { &[] };
        with_status(StatusCode::from_u16(status).unwrap(), fields, n.to_string())
    })
}

#[tokio::test(start_paused = true)]
async fn the_first_rule_that_applies_gives_what_says_nothing_a_time() {
    let origin = Origin::with(&[]);
    let (cache, _) = cached_with(&origin, |builder| {
        builder
            .default_ttl(SECOND * 5)
            .rule(Rule::new().path("/a/news").default_ttl(SECOND * 10))
            .rule(Rule::new().path_prefix("/a").default_ttl(SECOND * 60))
            .rule(Rule::new().path_prefix("/open").stale_if_error(SECOND))
    });
    for (path, secs) in [("/a/news", 10), ("/a/x", 60), ("/open", 5), ("/b", 5)] {
        assert!(send(&cache, at(path)).await.cache().ends_with("stored"), "{path}");
        let expected = format!("hit; ttl={secs}");
        assert_eq!(send(&cache, at(path)).await.cache(), expected, "{path}");
    }
    advance(SECOND * 11).await;
    assert!(!send(&cache, at("/a/news")).await.is_hit());
    assert!(send(&cache, at("/a/x")).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn what_the_response_says_counts_for_more_than_a_default() {
    let cases: &[(Fields, &str)] = &[
        (&[("cache-control", "max-age=3")], "hit; ttl=3"),
        (&[("cache-control", "s-maxage=4")], "hit; ttl=4"),
        (&[("cdn-cache-control", "max-age=7"), ("cache-control", "no-store")], "hit; ttl=7"),
        // Nothing that counts here says how long.
        (&[("cdn-cache-control", "public"), ("cache-control", "max-age=3")], "hit; ttl=60"),
        (&[("cache-control", "max-age=0")], "fwd=uri-miss; fwd-status=200; detail=stale"),
        (&[("cache-control", "no-store")], "fwd=uri-miss; fwd-status=200; detail=no-store"),
        (&[("cache-control", "no-cache")], "fwd=uri-miss; fwd-status=200; detail=stale"),
        (&[("cache-control", "private")], "fwd=uri-miss; fwd-status=200; detail=private"),
        (&[("expires", "0")], "fwd=uri-miss; fwd-status=200; detail=stale"),
    ];
    for (fields, expected) in cases {
        let origin = Origin::with(fields);
        let (cache, _) = cached_with(&origin, |builder| {
            builder.targets([HeaderName::from_static("cdn-cache-control")]).rule(
                Rule::new().default_ttl(SECOND * 60).default_ttl_for(StatusCode::OK, SECOND * 60),
            )
        });
        send(&cache, at("/")).await;
        assert_eq!(send(&cache, at("/")).await.cache(), *expected, "{fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_rule_makes_one_users_response_anothers() {
    let eager = || {
        let day = SECOND * 24 * 3600;
        let ok = StatusCode::OK;
        Rule::new().default_ttl(day).default_ttl_for(ok, day).min_ttl(day).stale_if_error(day)
    };
    let cases: &[(&str, Fields, Fields)] = &[
        ("authorization", &[("authorization", "Bearer x")], &[]),
        ("authorization", &[("authorization", "Bearer x")], &[("cache-control", "max-age=60")]),
        ("cookie", &[("cookie", "id=1")], &[]),
        ("set-cookie", &[], &[("set-cookie", "id=1")]),
        ("private", &[], &[("cache-control", "private, max-age=60")]),
        ("no-store", &[], &[("cache-control", "no-store, max-age=60")]),
        ("vary", &[], &[("vary", "*")]),
    ];
    for (detail, asked, answered) in cases {
        let origin = Origin::with(answered);
        let (cache, _) = cached_with(&origin, |builder| builder.rule(eager()));
        for n in ["1", "2"] {
            let got = send(&cache, get(asked)).await;
            assert_eq!(got.text(), n, "{detail}");
            assert_eq!(got.cache(), format!("fwd=uri-miss; fwd-status=200; detail={detail}"));
        }
    }
    // Deception: the account, under a name that looks like that of a style sheet.
    let origin = Origin::with(&[("content-type", "text/html")]);
    let css = || Rule::new().path_suffix(".css").default_ttl(SECOND * 60);
    let (cache, _) = cached_with(&origin, |builder| builder.rule(css()));
    let victim = request("GET", "http://example.com/account/x.css", &[("cookie", "id=1")]);
    send(&cache, victim).await;
    assert_eq!(send(&cache, at("/account/x.css")).await.text(), "2");
    // And under one that resolves to it.
    for n in ["3", "4"] {
        assert_eq!(send(&cache, at("/css/..%2faccount/y.css")).await.text(), n);
    }
    // With the layer's own setting, a rule stores what it may, and no more.
    let origin = Origin::with(&[("set-cookie", "id=1")]);
    let (cache, _) =
        cached_with(&origin, |builder| builder.set_cookie(SetCookie::Strip).rule(css()));
    assert!(send(&cache, at("/a.css")).await.headers.contains_key("set-cookie"));
    let second = send(&cache, at("/a.css")).await;
    assert!(second.is_hit() && !second.headers.contains_key("set-cookie"));
}

#[tokio::test(start_paused = true)]
async fn errors_are_kept_for_a_while_and_no_longer_than_a_write() {
    for status in [404, 410, 500, 501, 503, 505] {
        let origin = Origin::new(move |n, request| async move {
            let status = if request.method() == Method::GET { status } else { 204 };
            with_status(StatusCode::from_u16(status).unwrap(), &[], n.to_string())
        });
        let (cache, _) = cached_with(&origin, |builder| {
            builder.rule(Rule::new().path_prefix("/a").negative_ttl(SECOND * 10))
        });
        let missing = send(&cache, at("/a")).await;
        assert_eq!((missing.status, missing.text()), (status, "1"));
        let again = send(&cache, at("/a")).await;
        assert_eq!((again.status, again.cache()), (status, "hit; ttl=10"));
        for method in ["PUT", "POST", "DELETE", "PATCH", "BREW"] {
            let written = send(&cache, request(method, "http://example.com/a", &[])).await;
            assert_eq!(written.cache(), "fwd=method");
            assert!(!send(&cache, at("/a")).await.is_hit(), "{status} after {method}");
            assert!(send(&cache, at("/a")).await.is_hit());
        }
        advance(SECOND * 10).await;
        assert!(!send(&cache, at("/a")).await.is_hit(), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_class_leaves_out_what_is_about_the_asker() {
    for (status, stored) in [(400, true), (404, true), (401, false), (403, false), (429, false)] {
        let origin = Origin::new(move |n, _| async move {
            with_status(StatusCode::from_u16(status).unwrap(), &[], n.to_string())
        });
        let (cache, _) = cached_with(&origin, |builder| {
            builder.rule(Rule::new().default_ttl_for(Statuses::CLIENT_ERROR, SECOND * 10))
        });
        send(&cache, at("/")).await;
        assert_eq!(send(&cache, at("/")).await.is_hit(), stored, "{status}");
    }
    // A limit is of one client's, even if it says how long it holds.
    let origin = Origin::new(|n, _| async move {
        let fields = [("cache-control", "public, max-age=60")];
        with_status(StatusCode::TOO_MANY_REQUESTS, &fields, n.to_string())
    });
    let (cache, _) = cached_with(&origin, |builder| builder);
    send(&cache, at("/")).await;
    let second = send(&cache, at("/")).await;
    assert_eq!(
        (second.text(), second.cache()),
        ("2", "fwd=uri-miss; fwd-status=429; detail=status")
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_a_rule_would_store_replaces_nothing_usable() {
    let rule = || Rule::new().negative_ttl(SECOND * 10);

    // Something stale stands in for it.
    let origin = answering(&[200, 503], &[("cache-control", "max-age=1, stale-if-error=60")]);
    let (cache, _) =
        cached_with(&origin, |builder| builder.rule(rule()).retry_pause(Duration::ZERO));
    send(&cache, at("/")).await;
    advance(SECOND * 5).await;
    for _ in 0..3 {
        let got = send(&cache, at("/")).await;
        let expected = "fwd=stale; fwd-status=503; detail=stale-if-error";
        assert_eq!((got.status, got.text(), got.cache()), (200, "1", expected));
    }
    // Somebody who doesn't want that gets the failure, and keeps it for himself.
    let reload = request("GET", "http://example.com/", &[("cache-control", "no-cache")]);
    assert_eq!(send(&cache, reload).await.status, 503);
    assert_eq!(send(&cache, at("/")).await.text(), "1");
    // When that is no longer permitted, the failure is kept.
    advance(SECOND * 60).await;
    assert_eq!(send(&cache, at("/")).await.status, 503);
    let calls = origin.calls();
    assert_eq!(send(&cache, at("/")).await.cache(), "hit; ttl=10");
    assert_eq!(origin.calls(), calls);

    // Neither does one that a refresh in the background meets.
    let fields: Fields = &[("cache-control", "max-age=1, stale-while-revalidate=60")];
    let origin = answering(&[200, 503, 503, 200], fields);
    let (cache, _) =
        cached_with(&origin, |builder| builder.rule(rule()).retry_pause(Duration::ZERO));
    send(&cache, at("/")).await;
    advance(SECOND * 5).await;
    for _ in 0..3 {
        let got = send(&cache, at("/")).await;
        settle().await;
        assert_eq!((got.status, got.text()), (200, "1"));
    }
    assert_eq!(send(&cache, at("/")).await.text(), "4");
}

#[tokio::test(start_paused = true)]
async fn times_are_bounded_and_windows_opened_by_route() {
    let origin = Origin::with(&[("cache-control", "max-age=30"), ("etag", "\"a\"")]);
    let (cache, _) = cached_with(&origin, |builder| {
        builder
            .max_ttl(SECOND * 40)
            .rule(Rule::new().path("/least").min_ttl(SECOND * 50).max_ttl(SECOND * 60))
            .rule(Rule::new().path("/most").max_ttl(SECOND * 10))
            .rule(Rule::new().path("/stale").stale_while_revalidate(SECOND * 100))
    });
    for (path, ttl) in [("/least", 50), ("/most", 10), ("/stale", 30), ("/other", 30)] {
        send(&cache, at(path)).await;
        let expected = format!("hit; ttl={ttl}");
        assert_eq!(send(&cache, at(path)).await.cache(), expected, "{path}");
    }
    advance(SECOND * 31).await;
    assert_eq!(send(&cache, at("/stale")).await.cache(), "hit; ttl=-1");
    assert!(!send(&cache, at("/other")).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_bypass_neither_looks_up_nor_stores_but_writes_still_drop() {
    let origin = Origin::with(&[("cache-control", "max-age=60")]);
    let (cache, _) = cached_with(&origin, |builder| {
        let preview = |head: &RequestHead<'_>| head.headers().contains_key("x-preview");
        builder
            .rule(Rule::new().path("/admin/public"))
            .rule(Rule::new().path_prefix("/admin").bypass())
            .rule(Rule::new().when(preview).bypass())
    });
    for n in ["1", "2"] {
        let got = send(&cache, at("/admin")).await;
        assert_eq!((got.text(), got.cache()), (n, "fwd=bypass; detail=rule"));
    }
    send(&cache, at("/admin/public")).await;
    assert!(send(&cache, at("/admin/public")).await.is_hit(), "an earlier rule counts");

    send(&cache, get(&[])).await;
    let preview = |method| request(method, "http://example.com/a", &[("x-preview", "1")]);
    for method in ["GET", "HEAD"] {
        assert_eq!(send(&cache, preview(method)).await.cache(), "fwd=bypass; detail=rule");
        assert_eq!(send(&cache, get(&[])).await.text(), "4", "what is stored stays");
    }
    assert_eq!(send(&cache, preview("DELETE")).await.cache(), "fwd=method");
    assert!(!send(&cache, get(&[])).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_rule_sees_the_request_as_it_came() {
    #[derive(Clone)]
    struct Free;

    let origin = Origin::with(&[]);
    let (cache, _) = cached_with(&origin, |builder| {
        builder
            .rule(Rule::new().host("fast.example").default_ttl(SECOND))
            // The client's condition is gone from the request that a fill forwards.
            .rule(
                Rule::new()
                    .when(|head| head.headers().contains_key("if-none-match"))
                    .when(|head| head.extensions().get::<Free>().is_some())
                    .default_ttl(SECOND * 7),
            )
    });
    let fast = || request("GET", "/a", &[("host", "Fast.Example:8080")]);
    send(&cache, fast()).await;
    assert_eq!(send(&cache, fast()).await.cache(), "hit; ttl=1");
    let mut free = get(&[("if-none-match", "\"a\"")]);
    free.extensions_mut().insert(Free);
    send(&cache, free).await;
    assert_eq!(send(&cache, get(&[])).await.cache(), "hit; ttl=7");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_a_head_caused_is_a_get_for_the_rules_too() {
    let origin = Origin::with(&[]);
    let (cache, _) = cached_with(&origin, |builder| {
        builder.rule(
            Rule::new().method(Method::GET).default_ttl(SECOND).stale_while_revalidate(SECOND * 60),
        )
    });
    send(&cache, get(&[])).await;
    advance(SECOND * 2).await;
    assert!(send(&cache, request("HEAD", "http://example.com/a", &[])).await.is_hit());
    settle().await;
    assert_eq!(send(&cache, get(&[])).await.text(), "2");
    assert_eq!(send(&cache, get(&[])).await.cache(), "hit; ttl=1");
}

#[tokio::test(start_paused = true)]
async fn what_is_renewed_is_under_the_rule_again() {
    let origin = Origin::new(|n, request| async move {
        let asked = request.headers().contains_key("if-none-match");
        let status = if asked { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        with_status(status, &[("etag", "\"a\"")], n.to_string())
    });
    let (cache, _) =
        cached_with(&origin, |builder| builder.rule(Rule::new().default_ttl(SECOND * 9)));
    send(&cache, at("/")).await;
    advance(SECOND * 10).await;
    assert_eq!(send(&cache, at("/")).await.cache(), "fwd=stale; fwd-status=304; stored");
    assert_eq!(send(&cache, at("/")).await.cache(), "hit; ttl=9");
}
