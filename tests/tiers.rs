//! Responses in two tiers: two instances of a service on one Redis, which is killed and restarted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep, timeout};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_keep::prelude::*;
use tower_keep::store::Reach;
use tower_keep_testing::{RedisServer, Reply};

/// One instance: its cache, its store, and how often its handler was called.
#[derive(Clone)]
struct Instance {
    service: BoxCloneSyncService<Request, Response, Infallible>,
    store: Store,
    calls: Arc<AtomicUsize>,
}

impl Instance {
    async fn start(server: &RedisServer) -> Self {
        let redis = Redis::connect(&server.url()).await.unwrap();
        Self::on(Store::builder().l1(L1::bytes(16 << 20)).l2(redis).build().unwrap()).await
    }

    async fn on(store: Store) -> Self {
        until("it is in step", || store.is_synced()).await;
        let calls = Arc::new(AtomicUsize::new(0));
        let handler = service_fn({
            let calls = Arc::clone(&calls);
            move |request: Request| {
                let n = calls.fetch_add(1, SeqCst) + 1;
                let language = request.headers().get("accept-language").cloned();
                let language =
                    language.map_or("any".into(), |value| value.to_str().unwrap().to_owned());
                let vary = match request.uri().path() {
                    "/plain" => "",
                    "/changing" if n > 1 => "accept-language, origin",
                    _ => "accept-language",
                };
                let response = Response::builder()
                    .header("cache-control", "max-age=600")
                    .header("vary", vary)
                    .header("etag", format!("\"{language}\""))
                    .header("cache-tag", "pages")
                    .header("x-bytes", http::HeaderValue::from_bytes(b"caf\xe9").unwrap())
                    .body(Body::from(format!("{language} {n}")));
                std::future::ready(Ok::<_, Infallible>(response.unwrap()))
            }
        });
        let cache = CacheLayer::builder(store.clone()).build().unwrap();
        let service = cache.layer(handler).map_response(|response| response.map(Body::new));
        Self { service: BoxCloneSyncService::new(service), store, calls }
    }

    /// The status of the cache, and the body.
    async fn get(&self, path: &str, language: &str) -> (String, String) {
        let request =
            Request::get(path).header("host", "shop.test").header("accept-language", language);
        let response =
            self.service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["x-bytes"].as_bytes(), b"caf\xe9");
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until so many entries lie in Redis.
async fn entries(server: &RedisServer, count: usize) {
    let start = Instant::now();
    loop {
        match server.command(&[b"KEYS", b"tk:2:http:*"]).await {
            Reply::Array(keys) if keys.len() == count => return,
            found => {
                assert!(
                    start.elapsed() < Duration::from_secs(20),
                    "not {count} entries: {found:?}"
                );
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_instance_answers_with_what_another_stored_variants_included() {
    let server = RedisServer::start().await;
    let (a, b) = (Instance::start(&server).await, Instance::start(&server).await);
    assert_eq!(a.get("/plain", "en").await.1, "en 1");
    assert_eq!(a.get("/page", "en").await.1, "en 2");
    assert_eq!(a.get("/page", "fr").await.1, "fr 3");
    // The plain one, the rule of the other, and its two variants.
    entries(&server, 4).await;
    for (path, language, body) in
        [("/plain", "de", "en 1"), ("/page", "en", "en 2"), ("/page", "fr", "fr 3")]
    {
        let (status, found) = b.get(path, language).await;
        assert_eq!(found, body);
        assert!(status.contains("hit"), "{path} {language}: {status}");
    }
    assert_eq!(b.calls(), 0);
    assert_eq!(b.get("/page", "de").await.1, "de 1");
}

#[tokio::test]
async fn the_second_tier_is_enough() {
    let server = RedisServer::start().await;
    let redis = Redis::connect(&server.url()).await.unwrap();
    let only = Instance::on(Store::builder().l2(redis).build().unwrap()).await;
    only.get("/plain", "en").await;
    only.get("/page", "en").await;
    only.get("/page", "fr").await;
    entries(&server, 4).await;
    for (path, language, body) in
        [("/plain", "de", "en 1"), ("/page", "en", "en 2"), ("/page", "fr", "fr 3")]
    {
        assert_eq!(only.get(path, language).await.1, body);
    }
    only.store.invalidate_tag("pages").await.unwrap();
    assert_eq!(only.get("/plain", "en").await.1, "en 4");
}

#[tokio::test]
async fn a_resource_whose_vary_changed_is_shared_as_before() {
    for with_l1 in [true, false] {
        let server = RedisServer::start().await;
        let mut store = Store::builder().l2(Redis::connect(&server.url()).await.unwrap());
        if with_l1 {
            store = store.l1(L1::bytes(16 << 20));
        }
        let instance = Instance::on(store.build().unwrap()).await;
        instance.get("/changing", "en").await;
        entries(&server, 2).await;
        assert_eq!(instance.get("/changing", "fr").await.1, "fr 2");
        // The rule, the variant of the former rule, and the one of the new rule.
        entries(&server, 3).await;
        until_async("it is a hit", async || {
            instance.get("/changing", "fr").await.0.contains("hit")
        })
        .await;
        assert_eq!(instance.calls(), 2);
        let other = Instance::start(&server).await;
        let (status, body) = other.get("/changing", "fr").await;
        assert!(status.contains("hit") && body == "fr 2", "{status}: {body}");
    }
}

#[tokio::test]
async fn an_invalidation_on_one_instance_reaches_the_other() {
    let server = RedisServer::start().await;
    let (a, b) = (Instance::start(&server).await, Instance::start(&server).await);
    a.get("/page", "en").await;
    entries(&server, 2).await;
    assert_eq!(b.get("/page", "en").await.1, "en 1");
    assert_eq!(a.store.invalidate_tag("pages").await.unwrap(), Reach::Everywhere);
    let start = Instant::now();
    while b.get("/page", "en").await.0.contains("hit") && b.calls() == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "b goes on serving it");
        sleep(Duration::from_millis(5)).await;
    }

    // An unsafe method drops the resource, all variants of it, everywhere.
    a.get("/page", "fr").await;
    b.get("/page", "fr").await;
    let post = Request::post("/page").header("host", "shop.test").body(Body::empty()).unwrap();
    a.service.clone().oneshot(post).await.unwrap();
    let calls = b.calls();
    until_async("b asks again", async || {
        b.get("/page", "fr").await;
        b.calls() > calls
    })
    .await;
}

async fn until_async(what: &str, done: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn every_request_is_answered_while_redis_dies_and_it_is_used_again_after() {
    let mut server = RedisServer::start().await;
    let (a, b) = (Instance::start(&server).await, Instance::start(&server).await);
    let answered = Arc::new(AtomicUsize::new(0));
    let traffic = tokio::spawn({
        let (a, answered) = (a.clone(), Arc::clone(&answered));
        async move {
            for page in 0.. {
                let path = format!("/page/{page}");
                timeout(Duration::from_secs(2), a.get(&path, "en")).await.expect("an answer");
                answered.fetch_add(1, SeqCst);
                sleep(Duration::from_micros(200)).await;
            }
        }
    });
    let more = async |n: usize| {
        let target = answered.load(SeqCst) + n;
        until("traffic goes on", || answered.load(SeqCst) >= target || traffic.is_finished()).await;
        assert!(!traffic.is_finished(), "a request failed");
    };
    more(100).await;
    server.kill();
    more(500).await;
    server.restart().await;
    until("both are in step again", || a.store.is_synced() && b.store.is_synced()).await;
    more(100).await;
    traffic.abort();
    assert_eq!(a.get("/again", "en").await.0, "tower-keep; fwd=uri-miss; fwd-status=200; stored");
    until_async("it is in Redis", async || {
        matches!(server.command(&[b"KEYS", b"tk:2:http:shop.test/again*"]).await, Reply::Array(keys) if keys.len() == 2)
    })
    .await;
    assert!(b.get("/again", "en").await.0.contains("hit"), "b has it from the second tier");
}
