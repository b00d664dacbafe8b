//! Cache groups (RFC 9875).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::time::Duration;

use http::StatusCode;
use tokio::time::{advance, sleep};
use tower::ServiceExt;
use tower_keep_cache::Cache;

use origin::{Origin, answer, cached, request, send};

/// Every path is in the group of its first letter, and in the group of all; POST invalidates what its
/// query says.
fn grouped() -> Origin {
    Origin::new(|n, request| async move {
        if request.method() != "GET" {
            let groups = request.uri().query().unwrap().replace('\'', "\"");
            return answer(&[("cache-group-invalidation", &groups)], "");
        }
        let groups = format!("\"all\", \"{}\"", &request.uri().path()[1..2]);
        answer(&[("cache-control", "max-age=60"), ("cache-groups", &groups)], n.to_string())
    })
}

async fn is_hit(cache: &Cache<Origin>, uri: &str) -> bool {
    send(cache, request("GET", uri, &[])).await.is_hit()
}

#[tokio::test]
async fn an_unsafe_request_invalidates_the_groups_that_its_response_names() {
    let (cache, store) = cached(&grouped());
    let all = ["http://h/a1", "http://h/a2", "http://h/b1", "http://other/a1"];
    let post = async |groups: &str| {
        let uri = format!("http://h/form?{groups}");
        send(&cache, request("POST", &uri, &[])).await;
        let mut hits = Vec::new();
        for uri in all {
            hits.push(is_hit(&cache, uri).await);
        }
        hits
    };
    assert_eq!(post("'none'").await, [false; 4]);
    assert_eq!(post("'a'").await, [false, false, true, true], "of this origin only");
    assert_eq!(post("'x',%20'b'").await, [true; 4], "no list of strings");
    assert_eq!(post("'x','b'").await, [true, true, false, true]);
    assert_eq!(post("'all'").await, [false, false, false, true]);
    // A user's tag is another thing than a group, whatever its name.
    store.invalidate_tag("all").await.unwrap();
    assert!(is_hit(&cache, all[0]).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_is_invalidated_too_and_validation_keeps_groups() {
    let slow = Origin::new(|n, request| async move {
        if request.method() != "GET" {
            return answer(&[("cache-group-invalidation", "\"g\"")], "");
        }
        sleep(Duration::from_secs(1)).await;
        let fields =
            [("cache-control", "max-age=60"), ("etag", "\"e\""), ("cache-groups", "\"g\"")];
        let mut response = answer(&fields, n.to_string());
        if request.headers().contains_key("if-none-match") {
            response.headers_mut().remove("cache-groups");
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response
    });
    let (cache, _) = cached(&slow);
    let uri = "http://h/a";
    let fill = tokio::spawn(cache.clone().oneshot(request("GET", uri, &[])));
    origin::settle().await;
    send(&cache, request("DELETE", "http://h/other", &[])).await;
    origin::read(fill.await.unwrap().unwrap()).await;
    assert!(!is_hit(&cache, uri).await, "born stale");
    assert!(is_hit(&cache, uri).await);
    advance(Duration::from_secs(61)).await;
    let renewed = send(&cache, request("GET", uri, &[])).await;
    assert_eq!(renewed.cache(), "fwd=stale; fwd-status=304; stored");
    assert!(is_hit(&cache, uri).await);
    send(&cache, request("DELETE", "http://h/other", &[])).await;
    assert!(!is_hit(&cache, uri).await, "still in its group");
}

#[tokio::test]
async fn safe_and_failed_requests_invalidate_no_group() {
    let origin = Origin::new(|n, request| async move {
        let fields = [
            ("cache-control", "max-age=60"),
            ("cache-groups", "\"g\""),
            ("cache-group-invalidation", "\"g\""),
        ];
        let mut response = answer(&fields, n.to_string());
        if request.method() != "GET" {
            *response.status_mut() = StatusCode::CONFLICT;
        }
        response
    });
    let (cache, _) = cached(&origin);
    is_hit(&cache, "http://h/a").await;
    is_hit(&cache, "http://h/b").await;
    send(&cache, request("POST", "http://h/c", &[])).await;
    assert!(is_hit(&cache, "http://h/a").await);
}
