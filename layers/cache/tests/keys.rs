//! Keys by a policy: what shares a response, what doesn't, and that a change drops every form of a
//! resource, whatever its keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;
#[path = "support/remote.rs"]
mod remote;

use std::sync::Arc;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, Request};
use http_body_util::Empty;
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt};
use tower_keep_cache::{Cache, CacheKind, CacheLayer, KeyPolicy, RequestHead};
use tower_keep_store::{L1, Store};

use origin::{Origin, answer, cached_with, get, read, request, send, settle};
use remote::SilentRemote;

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

/// What a layer outside leaves on a request.
#[derive(Clone)]
struct User(&'static str);

fn user(head: &RequestHead<'_>) -> Option<&'static str> {
    head.extensions().get::<User>().map(|user| user.0)
}

fn of_user(name: &'static str, mut request: Request<Empty<Bytes>>) -> Request<Empty<Bytes>> {
    if !name.is_empty() {
        request.extensions_mut().insert(User(name));
    }
    request
}

fn keyed(origin: &Origin, policy: KeyPolicy) -> (Cache<Origin>, Store) {
    cached_with(origin, |builder| builder.key(policy))
}

fn at(uri: &str) -> Request<Empty<Bytes>> {
    request("GET", uri, &[])
}

#[tokio::test]
async fn what_does_not_count_shares_a_response_and_still_reaches_the_origin() {
    let origin = Origin::new(|_, request| async move { answer(FRESH, request.uri().to_string()) });
    let policy = KeyPolicy::new().ignore_params(["utm_*"]).sort_params();
    let (cache, _) = keyed(&origin, policy);
    let first = send(&cache, at("http://h/a?utm_source=x&b=1&a=2")).await;
    assert_eq!(first.text(), "http://h/a?utm_source=x&b=1&a=2");
    for uri in ["http://h/a?a=2&b=1", "http://h/a?b=1&utm_medium&a=2"] {
        assert!(send(&cache, at(uri)).await.is_hit(), "{uri}");
    }
    for uri in ["http://h/a?a=2", "http://h/a?a=2&b=1&%75tm_x=1", "http://i/a?a=2&b=1"] {
        assert!(!send(&cache, at(uri)).await.is_hit(), "{uri}");
    }
}

#[tokio::test]
async fn hosts_and_schemes_may_be_left_out() {
    let (cache, _) = keyed(&Origin::with(FRESH), KeyPolicy::new().ignore_host().ignore_scheme());
    send(&cache, at("http://one/a")).await;
    assert!(send(&cache, at("https://two:8443/a")).await.is_hit());
    send(&cache, request("DELETE", "/a", &[("host", "three")])).await;
    assert!(!send(&cache, at("http://one/a")).await.is_hit());
}

#[tokio::test]
async fn parts_tell_responses_apart() {
    let policy = KeyPolicy::new()
        .header(HeaderName::from_static("x-country"))
        .cookie("theme")
        .part("user", user);
    let (cache, _) = keyed(&Origin::with(&[("cache-control", "public, max-age=60")]), policy);
    let requests = || {
        [
            get(&[]),
            get(&[("x-country", "")]),
            get(&[("x-country", "nl")]),
            get(&[("cookie", "theme=dark")]),
            get(&[("cookie", "theme=dark; theme=light")]),
            get(&[("cookie", "theme=light; theme=dark")]),
            of_user("ada", get(&[])),
            of_user("bob", get(&[])),
        ]
    };
    for request in requests() {
        assert!(!send(&cache, request).await.is_hit());
    }
    for request in requests() {
        assert!(send(&cache, request).await.is_hit());
    }
    let more = [("cookie", "id=1; theme=dark"), ("x-other", "y")];
    assert!(send(&cache, get(&more)).await.is_hit());
}

#[tokio::test]
async fn identity_lets_what_is_somebodys_be_stored_for_him_alone() {
    let policy = || KeyPolicy::new().identity("user", user);
    for field in ["authorization", "cookie"] {
        let (cache, _) = keyed(&Origin::with(FRESH), policy());
        let ask = async |name| send(&cache, of_user(name, get(&[(field, "x")]))).await;
        assert!(ask("ada").await.cache().ends_with("stored"));
        assert!(ask("ada").await.is_hit());
        assert!(!ask("bob").await.is_hit());
        // Nobody vouches for this one.
        for _ in 0..2 {
            let got = ask("").await;
            assert!(got.cache().ends_with(&format!("detail={field}")), "{}", got.cache());
        }
    }
    let private = Origin::with(&[("cache-control", "private, max-age=60")]);
    let (cache, _) = keyed(&private, policy());
    for _ in 0..2 {
        let got = send(&cache, of_user("ada", get(&[("cookie", "x")]))).await;
        assert!(got.cache().ends_with("detail=private"), "{}", got.cache());
    }
    let (cache, _) =
        cached_with(&private, |builder| builder.key(policy()).kind(CacheKind::Private));
    send(&cache, of_user("ada", get(&[]))).await;
    assert!(send(&cache, of_user("ada", get(&[]))).await.is_hit());
}

#[tokio::test]
async fn users_who_ask_at_once_get_their_own() {
    let origin = Origin::new(|_, request| async move {
        settle().await;
        answer(FRESH, request.headers()[AUTHORIZATION].as_bytes().to_vec())
    });
    let (cache, _) = keyed(&origin, KeyPolicy::new().identity("user", user));
    let ask = |name| send(&cache, of_user(name, get(&[("authorization", name)])));
    let (a, b, c, d) = tokio::join!(ask("ada"), ask("bob"), ask("ada"), ask("bob"));
    assert_eq!([a.text(), b.text(), c.text(), d.text()], ["ada", "bob", "ada", "bob"]);
    assert_eq!(origin.calls(), 2);
}

/// All requests for the resource, none of which has the same key as another.
fn forms() -> Vec<Request<Empty<Bytes>>> {
    vec![
        at("http://h/a"),
        at("https://h/a?utm_source=1"),
        request("GET", "/a", &[("host", "h"), ("x-country", "nl")]),
        request("GET", "http://h/a", &[("cookie", "theme=dark")]),
        of_user("ada", at("http://h/a")),
    ]
}

fn in_all_parts() -> KeyPolicy {
    KeyPolicy::new()
        .ignore_params(["utm_*"])
        .header(HeaderName::from_static("x-country"))
        .cookie("theme")
        .identity("user", user)
}

#[tokio::test]
async fn a_change_drops_every_form_of_a_resource() {
    let vary: &[_] = &[("cache-control", "public, max-age=60"), ("vary", "accept")];
    for fields in [&vary[..1], vary] {
        let (cache, _) = keyed(&Origin::with(fields), in_all_parts());
        let changes = [
            request("DELETE", "http://h/a", &[]),
            request("PUT", "/a?utm_source=2", &[("host", "h"), ("x-country", "de")]),
            of_user("bob", request("POST", "https://h/a", &[("cookie", "theme=light")])),
            request("GET", "http://h/a", &[("x-http-method-override", "DELETE")]),
        ];
        for change in changes {
            for request in forms() {
                send(&cache, request).await;
            }
            for request in forms() {
                assert!(send(&cache, request).await.is_hit());
            }
            send(&cache, at("http://h/b")).await;
            send(&cache, change).await;
            for request in forms() {
                assert!(!send(&cache, request).await.is_hit());
            }
            assert!(send(&cache, at("http://h/b")).await.is_hit(), "it is another resource");
        }
    }
}

#[tokio::test]
async fn a_change_drops_every_form_of_what_it_names() {
    let origin = Origin::new(|_, request| async move {
        if request.method() == "POST" {
            return answer(&[("location", "/a")], "");
        }
        answer(&[("cache-control", "public, max-age=60")], "")
    });
    let (cache, _) = keyed(&origin, in_all_parts());
    for request in forms() {
        send(&cache, request).await;
    }
    send(&cache, request("POST", "http://h/all", &[])).await;
    for request in forms() {
        assert!(!send(&cache, request).await.is_hit());
    }
}

#[tokio::test]
async fn what_was_asked_for_before_a_change_is_not_stored_after_it() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let origin = Origin::new(move |n, request| {
        let held = Arc::clone(&held);
        async move {
            if n == 1 && request.method() == "GET" {
                held.acquire().await.unwrap().forget();
            }
            answer(FRESH, n.to_string())
        }
    });
    let (cache, _) = keyed(&origin, KeyPolicy::new().part("user", user));
    let before = tokio::spawn(cache.clone().oneshot(of_user("ada", get(&[]))));
    settle().await;
    send(&cache, of_user("bob", request("PUT", "http://example.com/a", &[]))).await;
    // Who asks now must not be given what was asked for before.
    let after = tokio::spawn(cache.clone().oneshot(of_user("ada", get(&[]))));
    settle().await;
    gate.add_permits(1);
    let (before, after) = (before.await.unwrap().unwrap(), after.await.unwrap().unwrap());
    assert_eq!(read(before).await.text(), "1");
    assert_eq!(read(after).await.text(), "3");
    assert_eq!(send(&cache, of_user("ada", get(&[]))).await.text(), "3");
}

#[tokio::test]
async fn the_tag_of_a_resource_is_nobody_elses() {
    let tags = (0..64).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    let origin = Origin::new(move |_, _| {
        let tags = tags.clone();
        async move {
            answer(
                &[("cache-control", "max-age=10"), ("surrogate-key", &tags), ("etag", "\"a\"")],
                "",
            )
        }
    });
    let remote = SilentRemote::default();
    let store = Store::builder().l1(L1::bytes(1 << 20)).l2(remote.clone()).build().unwrap();
    let layer = CacheLayer::builder(store.clone()).key(KeyPolicy::new().part("user", user));
    let cache = layer.build().unwrap().layer(origin.clone());
    send(&cache, get(&[])).await;
    settle().await;
    let got = send(&cache, get(&[])).await;
    assert!(got.is_hit(), "64 tags are still the handler's own: {}", got.cache());
    // Another node reads them from the second tier.
    let store = Store::builder().l1(L1::bytes(1 << 20)).l2(remote).build().unwrap();
    let layer = CacheLayer::builder(store).key(KeyPolicy::new().part("user", user));
    let other = layer.build().unwrap().layer(origin);
    assert!(send(&other, get(&[])).await.is_hit());
    // No response can name such a tag, or the store's.
    let forged = Origin::with(&[("cache-control", "max-age=60"), ("surrogate-key", "*/http/0 *")]);
    let (cache, _) = keyed(&forged, KeyPolicy::new().part("user", user));
    assert!(send(&cache, get(&[])).await.cache().ends_with("detail=tags"));
}

#[tokio::test(start_paused = true)]
async fn a_renewed_response_is_still_dropped_by_a_change() {
    let origin = Origin::new(|n, request| async move {
        let mut response =
            answer(&[("cache-control", "max-age=10"), ("etag", "\"a\"")], n.to_string());
        if request.headers().contains_key("if-none-match") {
            *response.status_mut() = http::StatusCode::NOT_MODIFIED;
        }
        response
    });
    let (cache, _) = keyed(&origin, KeyPolicy::new().part("user", user));
    send(&cache, of_user("ada", get(&[]))).await;
    tokio::time::advance(std::time::Duration::from_secs(11)).await;
    assert_eq!(send(&cache, of_user("ada", get(&[]))).await.text(), "1");
    assert!(send(&cache, of_user("ada", get(&[]))).await.is_hit());
    send(&cache, request("PUT", "http://example.com/a", &[])).await;
    assert_eq!(send(&cache, of_user("ada", get(&[]))).await.text(), "4");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let build = |policy| CacheLayer::builder(origin::store()).key(policy).build();
    let text = build(KeyPolicy::new().ignore_params(["utm%5f*"])).unwrap_err().to_string();
    assert!(text.contains("`utm%5f*`"), "{text}");
    assert!(build(KeyPolicy::new().cookie("a=b")).is_err());
    assert!(build(KeyPolicy::new().part("", user)).is_err());
    assert!(build(KeyPolicy::new().keep_params(["q", "page_*"]).cookie("theme")).is_ok());
}
