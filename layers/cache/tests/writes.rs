//! What writes drop, whatever form they and their keys have.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::time::{advance, sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_cache::{BodyKeyLayer, CacheLayer, KeyPolicy, ReplayBody, Rule};

use origin::*;

#[tokio::test]
async fn a_group_is_of_all_hosts_where_they_share_responses() {
    let origin = Origin::new(|n, request| async move {
        if request.method() == "POST" {
            return answer(&[("cache-group-invalidation", "\"g\"")], "");
        }
        answer(&[("cache-control", "max-age=60"), ("cache-groups", "\"g\"")], n.to_string())
    });
    let (cache, _) = cached_with(&origin, |b| b.key(KeyPolicy::new().ignore_host()));
    assert_eq!(send(&cache, request("GET", "http://a/x", &[])).await.text(), "1");
    assert_eq!(send(&cache, request("GET", "http://b/x", &[])).await.text(), "1");
    send(&cache, request("POST", "http://b/form", &[])).await;
    assert!(!send(&cache, request("GET", "http://b/x", &[])).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn many_groups_survive_a_validation() {
    let origin = Origin::new(|_n, request| async move {
        let groups: Vec<_> = (0..33).map(|i| format!("\"{i}\"")).collect();
        let mut a = answer(
            &[
                ("cache-control", "max-age=1"),
                ("etag", "\"v\""),
                ("cache-groups", &groups.join(", ")),
            ],
            "x",
        );
        if request.headers().contains_key("if-none-match") {
            a = a.map(|_| answer(&[], "").into_body());
            *a.status_mut() = StatusCode::NOT_MODIFIED;
        }
        a
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    assert!(send(&cache, get(&[])).await.is_hit());
    advance(Duration::from_secs(2)).await;
    let got = send(&cache, get(&[])).await;
    println!("{}", got.cache());
    assert!(got.cache().contains("stored"));
    assert!(send(&cache, get(&[])).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn many_tags_survive_a_validation_beside_that_of_the_resource() {
    let origin = Origin::new(|_n, request| async move {
        let tags: Vec<_> = (0..64).map(|i| format!("{i}")).collect();
        let mut a = answer(
            &[
                ("cache-control", "max-age=1"),
                ("etag", "\"v\""),
                ("surrogate-key", &tags.join(" ")),
            ],
            "x",
        );
        if request.headers().contains_key("if-none-match") {
            a = a.map(|_| answer(&[], "").into_body());
            *a.status_mut() = StatusCode::NOT_MODIFIED;
        }
        a
    });
    let (cache, _) = cached_with(&origin, |b| b.key(KeyPolicy::new().cookie("theme")));
    send(&cache, get(&[])).await;
    assert!(send(&cache, get(&[])).await.is_hit());
    advance(Duration::from_secs(2)).await;
    let got = send(&cache, get(&[])).await;
    println!("{}", got.cache());
    assert!(got.cache().contains("stored"));
}

#[tokio::test]
async fn what_is_too_long_to_tell_may_write() {
    let service = service_fn(|_request: Request<ReplayBody<Full<Bytes>>>| async move {
        Ok::<_, Infallible>(answer(&[("cache-control", "max-age=60")], "old"))
    });
    let store = store();
    let reads = BodyKeyLayer::builder()
        .methods([Method::POST])
        .max_len(100)
        .when_content(|_, content| content.starts_with(b"query"))
        .build()
        .unwrap();
    let app = reads.layer(CacheLayer::builder(store).build().unwrap().layer(service));
    let post = |body: &str| {
        let r = Request::post("http://h/graphql")
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let app = app.clone();
        async move {
            let r = app.oneshot(r).await.unwrap();
            let c = r.headers()["cache-status"].to_str().unwrap().to_owned();
            r.into_body().collect().await.unwrap();
            settle().await;
            c
        }
    };
    println!("{}", post("query").await);
    assert!(post("query").await.contains("hit"));
    println!("{}", post("mutation").await);
    assert!(!post("query").await.contains("hit"), "short mutation");
    assert!(post("query").await.contains("hit"));
    println!("{}", post(&format!("mutation{}", " ".repeat(200))).await);
    assert!(!post("query").await.contains("hit"), "long mutation");
}

#[tokio::test]
async fn a_method_that_is_overridden_may_write_whatever_its_length() {
    let service = service_fn(|_request: Request<ReplayBody<Full<Bytes>>>| async move {
        Ok::<_, Infallible>(answer(&[("cache-control", "max-age=60")], "old"))
    });
    let store = store();
    let reads = BodyKeyLayer::builder().methods([Method::POST]).max_len(100).build().unwrap();
    let app = reads.layer(CacheLayer::builder(store).build().unwrap().layer(service));
    let post = |over: bool, body: &str| {
        let mut r = Request::post("http://h/graphql");
        if over {
            r = r.header("x-http-method-override", "DELETE");
        }
        let r = r.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let app = app.clone();
        async move {
            let r = app.oneshot(r).await.unwrap();
            let c = r.headers()["cache-status"].to_str().unwrap().to_owned();
            r.into_body().collect().await.unwrap();
            settle().await;
            c
        }
    };
    post(false, "q").await;
    assert!(post(false, "q").await.contains("hit"));
    post(true, &" ".repeat(200)).await;
    assert!(!post(false, "q").await.contains("hit"));
}

#[tokio::test]
async fn a_call_of_grpc_invalidates_groups() {
    let origin = Origin::new(|n, request| async move {
        if request.method() == "POST" {
            return answer(&[("cache-group-invalidation", "\"g\"")], "");
        }
        answer(&[("cache-control", "max-age=60"), ("cache-groups", "\"g\"")], n.to_string())
    });
    let (cache, _) = cached(&origin);
    send(&cache, request("GET", "http://a/x", &[])).await;
    send(&cache, request("POST", "http://a/pkg.S/Write", &[("content-type", "application/grpc")]))
        .await;
    assert!(!send(&cache, request("GET", "http://a/x", &[])).await.is_hit());
}

#[tokio::test]
async fn a_write_with_two_hosts_invalidates_groups_of_both() {
    let origin = Origin::new(|n, request| async move {
        if request.method() == "POST" {
            return answer(&[("cache-group-invalidation", "\"g\"")], "");
        }
        answer(&[("cache-control", "max-age=60"), ("cache-groups", "\"g\"")], n.to_string())
    });
    let (cache, _) = cached(&origin);
    send(&cache, request("GET", "http://h/x", &[])).await;
    send(&cache, request("POST", "http://h/form", &[("host", "other")])).await;
    assert!(!send(&cache, request("GET", "http://h/x", &[])).await.is_hit());
}

#[tokio::test]
async fn an_ignored_scheme_hides_no_port() {
    let (cache, _) = cached_with(&Origin::with(&[("cache-control", "max-age=60")]), |b| {
        b.key(KeyPolicy::new().ignore_scheme())
    });
    let get = || request("GET", "/a", &[("host", "h:80")]);
    send(&cache, get()).await;
    assert!(send(&cache, get()).await.is_hit());
    send(&cache, request("DELETE", "http://h:80/a", &[])).await;
    assert!(!send(&cache, get()).await.is_hit());
}

#[tokio::test]
async fn nor_the_other_way_round() {
    let (cache, _) = cached_with(&Origin::with(&[("cache-control", "max-age=60")]), |b| {
        b.key(KeyPolicy::new().ignore_scheme())
    });
    let get = || request("GET", "https://h/a", &[]);
    send(&cache, get()).await;
    send(&cache, request("DELETE", "/a", &[("host", "h:443")])).await;
    assert!(!send(&cache, get()).await.is_hit());
}

#[tokio::test]
async fn nor_does_a_scheme_that_is_not_ignored() {
    let (cache, _) = cached(&Origin::with(&[("cache-control", "max-age=60")]));
    let get = || request("GET", "/a", &[("host", "h:80")]);
    send(&cache, get()).await;
    send(&cache, request("DELETE", "http://h:80/a", &[])).await;
    assert!(!send(&cache, get()).await.is_hit());
}

#[tokio::test]
async fn and_whatever_its_conditions() {
    let service = service_fn(|_request: Request<ReplayBody<Full<Bytes>>>| async move {
        Ok::<_, Infallible>(answer(&[("cache-control", "max-age=60")], "old"))
    });
    let reads = BodyKeyLayer::builder().methods([Method::POST]).build().unwrap();
    let app = reads.layer(CacheLayer::builder(store()).build().unwrap().layer(service));
    let post = |over: bool| {
        let mut r = Request::post("http://h/a");
        if over {
            r = r.header("x-http-method-override", "PUT").header("if-none-match", "*");
        }
        let r = r.body(Full::new(Bytes::from("q"))).unwrap();
        let app = app.clone();
        async move {
            let r = app.oneshot(r).await.unwrap();
            let c = r.headers()["cache-status"].to_str().unwrap().to_owned();
            r.into_body().collect().await.unwrap();
            settle().await;
            c
        }
    };
    post(false).await;
    assert!(post(false).await.contains("hit"));
    println!("{}", post(true).await);
    assert!(!post(false).await.contains("hit"));
}

#[tokio::test]
async fn a_content_type_hides_no_write() {
    let (cache, _) = cached(&Origin::with(&[("cache-control", "max-age=60")]));
    send(&cache, get(&[])).await;
    send(&cache, request("POST", "http://example.com/a", &[("content-type", "application/grpc")]))
        .await;
    assert!(!send(&cache, get(&[])).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn identities_are_apart_and_a_write_drops_them_all() {
    // a user's response with identity, then the same without identity
    let origin = Origin::new(|_n, request| async move {
        answer(&[("cache-control", "max-age=60")], format!("{:?}", request.headers().get("cookie")))
    });
    let (cache, _) = cached_with(&origin, |b| {
        b.key(
            KeyPolicy::new()
                .identity("u", |h| h.headers().get("x-sub").map(|v| v.as_bytes().to_vec())),
        )
    });
    send(&cache, get(&[("x-sub", "alice"), ("cookie", "a")])).await;
    assert!(send(&cache, get(&[("x-sub", "alice"), ("cookie", "a")])).await.is_hit());
    assert!(!send(&cache, get(&[("x-sub", "bob"), ("cookie", "b")])).await.is_hit());
    assert!(!send(&cache, get(&[("cookie", "a")])).await.is_hit());
    send(&cache, request("DELETE", "http://example.com/a", &[])).await;
    assert!(!send(&cache, get(&[("x-sub", "alice"), ("cookie", "a")])).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_while_the_origin_fails_stands_in_for_nobody() {
    let origin = Origin::new(|n, request| async move {
        if request.method() == "DELETE" {
            return answer(&[], "");
        }
        if n == 1 {
            return answer(&[("cache-control", "max-age=1, stale-if-error=600")], "old");
        }
        sleep(Duration::from_secs(3)).await;
        let mut a = answer(&[], "down");
        *a.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        a
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(Duration::from_secs(2)).await;
    let c = cache.clone();
    let a = tokio::spawn(async move { send(&c, get(&[])).await });
    sleep(Duration::from_secs(1)).await;
    send(&cache, request("DELETE", "http://example.com/a", &[])).await;
    let b = send(&cache, get(&[])).await;
    println!("a {} b {} {}", a.await.unwrap().text(), b.text(), b.cache());
    assert_eq!(b.text(), "down");
}

#[tokio::test]
async fn rules_know_the_methods_of_requests_with_content() {
    let r = CacheLayer::builder(store()).rule(Rule::new().method(Method::POST).bypass()).build();
    println!("{:?}", r.as_ref().err());
    assert!(r.is_ok());
}
