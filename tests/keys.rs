//! Keys with parts beside the target, on two nodes that share a Redis: a change at either drops every
//! form of a resource at both.

#![allow(clippy::unwrap_used, reason = "clippy lets only the functions marked #[test] unwrap")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::body::Body;
use http::{HeaderName, Request, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_keep::cache::{BodyKeyLayer, CacheBody, KeyPolicy};
use tower_keep::prelude::*;
use tower_keep_testing::RedisServer;

struct Node {
    service: BoxCloneSyncService<Request<Body>, String, Infallible>,
}

impl Node {
    async fn start(server: &RedisServer) -> Self {
        let redis = Redis::connect(&server.url()).await.unwrap();
        let store = Store::builder().l1(L1::bytes(16 << 20)).l2(redis).build().unwrap();
        let began = Instant::now();
        while !store.is_synced() {
            assert!(began.elapsed() < Duration::from_secs(20), "it is not in step");
            sleep(Duration::from_millis(5)).await;
        }
        let calls = Arc::new(AtomicUsize::new(0));
        let handler = service_fn(move |_| {
            let n = calls.fetch_add(1, SeqCst) + 1;
            let response = Response::builder().header("cache-control", "public, max-age=600");
            let response = response.body(Body::from(n.to_string())).unwrap();
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let policy = KeyPolicy::new()
            .ignore_params(["utm_*"])
            .header(HeaderName::from_static("x-country"))
            .cookie("theme");
        let cache = CacheLayer::builder(store).key(policy).build().unwrap().layer(handler);
        let reads = BodyKeyLayer::builder().methods([http::Method::POST]).build().unwrap();
        // The status of the cache is all that counts here.
        let service =
            reads.layer(cache).and_then(|response: Response<CacheBody<Body>>| async move {
                let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
                response.into_body().collect().await.unwrap();
                Ok(status)
            });
        Self { service: BoxCloneSyncService::new(service) }
    }

    async fn is_hit(&self, request: Request<Body>) -> bool {
        self.service.clone().oneshot(request).await.unwrap().starts_with("tower-keep; hit")
    }
}

/// All of the same resource; none has the same key as another.
fn forms() -> Vec<Request<Body>> {
    let get = |uri: &str| Request::get(uri).header("host", "shop.test");
    vec![
        get("/a").body(Body::empty()).unwrap(),
        get("https://shop.test/a?utm_source=x").body(Body::empty()).unwrap(),
        get("/a").header("x-country", "nl").body(Body::empty()).unwrap(),
        get("/a").header("cookie", "theme=dark").body(Body::empty()).unwrap(),
        get("/a").method("POST").body(Body::from("query")).unwrap(),
    ]
}

#[tokio::test]
async fn a_change_drops_every_form_of_a_resource_on_every_node() {
    let server = RedisServer::start().await;
    let (one, other) = (Node::start(&server).await, Node::start(&server).await);
    for changed in [&one, &other, &one] {
        for form in 0..forms().len() {
            let began = Instant::now();
            for node in [&one, &other] {
                while !node.is_hit(forms().swap_remove(form)).await {
                    assert!(began.elapsed() < Duration::from_secs(20), "form {form} is not stored");
                    sleep(Duration::from_millis(2)).await;
                }
            }
        }
        let change = Request::put("/a?utm_medium=y").header("host", "shop.test");
        changed.is_hit(change.body(Body::empty()).unwrap()).await;
        // Here at once; there when it is heard of.
        for request in forms().into_iter().step_by(2) {
            assert!(!changed.is_hit(request).await);
        }
        let began = Instant::now();
        let unheard = if std::ptr::eq(changed, &raw const one) { &other } else { &one };
        // The two that nobody has asked for since.
        for form in [1, 3] {
            while unheard.is_hit(forms().swap_remove(form)).await {
                assert!(began.elapsed() < Duration::from_secs(20), "form {form} is still there");
                sleep(Duration::from_millis(2)).await;
            }
        }
    }
}
