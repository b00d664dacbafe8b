//! A node that hasn't heard of a removal yet must not undo it in the second tier.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;
#[path = "support/remote.rs"]
mod remote;

use std::sync::Arc;

use http::StatusCode;
use tokio::sync::Semaphore;
use tower::Layer;
use tower_keep_cache::{Cache, CacheLayer};
use tower_keep_store::{L1, Store};

use origin::{Got, Origin, answer, get, request, send, settle};
use remote::SilentRemote;

/// An origin with a page in several languages, of which one is held back.
fn pages(held: &'static str, lasting: &'static str, gate: &Arc<Semaphore>) -> Origin {
    let gate = Arc::clone(gate);
    Origin::new(move |n, request| {
        let gate = Arc::clone(&gate);
        async move {
            let language = request.headers()["accept-language"].to_str().unwrap().to_owned();
            let mut control = "max-age=600";
            // What a handler answers was true when it was asked.
            if language == held {
                gate.acquire().await.unwrap().forget();
                control = lasting;
            }
            let fields = [("cache-control", control), ("vary", "accept-language")];
            answer(&fields, format!("{language} {n}"))
        }
    })
}

fn node(origin: &Origin, remote: &SilentRemote, with_l1: bool) -> Cache<Origin> {
    let mut store = Store::builder().l2(remote.clone());
    if with_l1 {
        store = store.l1(L1::bytes(16 << 20));
    }
    CacheLayer::builder(store.build().unwrap()).build().unwrap().layer(origin.clone())
}

async fn page(node: &Cache<Origin>, language: &str) -> Got {
    let got = send(node, get(&[("accept-language", language)])).await;
    settle().await;
    got
}

async fn remove(node: &Cache<Origin>) {
    send(node, request("DELETE", "http://example.com/a", &[("accept-language", "")])).await;
    settle().await;
}

#[tokio::test]
async fn a_rule_that_is_to_be_extended_is_not_put_over_a_removal() {
    // The variant that is held back lives longer than its rule, so that this must be extended.
    for lasting in ["max-age=864000", "max-age=600"] {
        let gate = Arc::new(Semaphore::new(0));
        let (origin, remote) = (pages("fr", lasting, &gate), SilentRemote::default());
        let (late, other) = (node(&origin, &remote, true), node(&origin, &remote, true));
        assert_eq!(page(&late, "en").await.text(), "en 1");
        let fr = tokio::spawn({
            let late = late.clone();
            async move { page(&late, "fr").await }
        });
        settle().await;
        remove(&other).await;
        gate.add_permits(9);
        assert_eq!(fr.await.unwrap().text(), "fr 2");
        for (language, old) in [("en", "en 1"), ("fr", "fr 2")] {
            assert_ne!(page(&other, language).await.text(), old, "{lasting}");
        }
    }
}

#[tokio::test]
async fn a_fill_from_before_a_removal_is_not_put_under_a_rule_from_after_it() {
    for (warm, with_l1) in [(false, true), (true, true), (false, false), (true, false)] {
        let gate = Arc::new(Semaphore::new(0));
        let (origin, remote) = (pages("fr", "max-age=600", &gate), SilentRemote::default());
        let (late, other) = (node(&origin, &remote, with_l1), node(&origin, &remote, true));
        if warm {
            page(&late, "en").await;
        }
        let fr = tokio::spawn({
            let late = late.clone();
            async move { page(&late, "fr").await }
        });
        settle().await;
        let held = origin.calls();
        remove(&other).await;
        // Another variant makes a new rule.
        page(&other, "en").await;
        gate.add_permits(9);
        let old = format!("fr {held}");
        assert_eq!(fr.await.unwrap().text(), old);
        assert_ne!(page(&other, "fr").await.text(), old, "warm: {warm}, L1: {with_l1}");
        if !with_l1 {
            assert_ne!(page(&late, "fr").await.text(), old, "warm: {warm}");
        }
    }
}

#[tokio::test]
async fn variants_that_two_nodes_fetch_at_once_end_up_under_one_rule() {
    let gate = Arc::new(Semaphore::new(0));
    let (origin, remote) = (pages("fr", "max-age=600", &gate), SilentRemote::default());
    let (one, two) = (node(&origin, &remote, true), node(&origin, &remote, true));
    let fr = tokio::spawn({
        let one = one.clone();
        async move { page(&one, "fr").await }
    });
    settle().await;
    page(&two, "en").await;
    gate.add_permits(1);
    fr.await.unwrap();
    for (node, language) in [(&one, "en"), (&two, "fr"), (&two, "en"), (&one, "fr")] {
        let got = page(node, language).await;
        assert!(got.is_hit(), "{language}: {}", got.cache());
    }
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn what_was_invalidated_elsewhere_is_not_stored_for_being_validated() {
    let remote = SilentRemote::default();
    let origin = Origin::new(|n, request| async move {
        let tag = request.uri().path().trim_start_matches('/').to_owned();
        let fields = [("cache-control", "max-age=600"), ("etag", "\"1\""), ("cache-tag", &tag)];
        let mut response = answer(&fields, n.to_string());
        if request.headers().contains_key("if-none-match") {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response
    });
    let [a, b] = [(); 2].map(|()| {
        let store = Store::builder().l1(L1::bytes(16 << 20)).l2(remote.clone()).build().unwrap();
        let cache = CacheLayer::builder(store.clone()).build().unwrap().layer(origin.clone());
        (store, cache)
    });
    let ask = async |path: &str, fields: &[(&str, &str)]| {
        let got = send(&b.1, request("GET", path, fields)).await;
        settle().await;
        got.text().to_owned()
    };
    assert_eq!(ask("http://example.com/t", &[]).await, "1");
    a.0.invalidate_tag("t").await.unwrap();
    // Node b hasn't heard of that. But it hears of what comes later.
    a.0.invalidate_tag("u").await.unwrap();
    assert_eq!(ask("http://example.com/u", &[]).await, "2");
    let validated = ask("http://example.com/t", &[("cache-control", "no-cache")]).await;
    assert_eq!(validated, "1", "the origin says that it is still good");
    assert_eq!(ask("http://example.com/t", &[]).await, "4");
}

#[tokio::test]
async fn what_was_removed_elsewhere_does_not_return_for_being_validated() {
    for method in ["GET", "HEAD"] {
        let remote = SilentRemote::default();
        let origin = Origin::new(|n, request| async move {
            let fields = [("cache-control", "max-age=600"), ("etag", "\"1\"")];
            let mut response = answer(&fields, n.to_string());
            if request.headers().contains_key("if-none-match") {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
            }
            response
        });
        let [a, b] = [(); 2].map(|()| node(&origin, &remote, true));
        let ask = async |node: &Cache<Origin>, method: &str, fields: &[(&str, &str)]| {
            let got = send(node, request(method, "http://example.com/a", fields)).await;
            settle().await;
            got.text().to_owned()
        };
        assert_eq!(ask(&b, "GET", &[]).await, "1");
        remove(&a).await;
        ask(&b, method, &[("cache-control", "no-cache")]).await;
        let calls = origin.calls();
        assert_eq!(ask(&a, "GET", &[]).await, (calls + 1).to_string(), "{method}");
    }
}
