//! The cache in front of a proxy in front of several servers, with axum around all of it.

#![allow(clippy::unwrap_used, reason = "clippy lets only the functions marked #[test] unwrap")]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower::ServiceBuilder;
use tower_keep::prelude::*;
use tower_keep_testing::http::{Client, get as ask};

/// A server that says its name, and for whom it was asked.
async fn server(name: &'static str) -> (String, JoinHandle<()>) {
    let page = async move |headers: HeaderMap| {
        let client = headers.get("x-forwarded-for").map(|client| client.to_str().unwrap());
        let body = format!("{name} for {}", client.unwrap_or("nobody"));
        ([("cache-control", "max-age=60")], body)
    };
    let router = Router::new().route("/page/{n}", get(page)).route("/health", get(async || ()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (url, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_in_front_of_a_proxy_outlives_one_server_after_the_other() {
    let ((big_url, big), (small_url, small)) = (server("big").await, server("small").await);
    let check = HealthCheck::http("/health").interval(Duration::from_millis(100)).fall(1);
    let pool = Pool::builder()
        .strategy(Strategy::RoundRobin)
        .backend(Backend::http(&big_url).unwrap().weight(2))
        .backend(Backend::http(&small_url).unwrap())
        .health_check(check)
        .build()
        .unwrap();
    let keep = Store::builder().l1(L1::bytes(1024 * 1024)).build().unwrap();
    let cache = CacheLayer::builder(keep).build().unwrap();
    let edge = ServiceBuilder::new().layer(cache).service(Proxy::new(pool.clone()));
    let app = Router::new().fallback_service(edge);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let mut client = Client::connect(address);
    let mut page = |n: usize| {
        client.send(&ask(&format!("/page/{n}")));
        client.response()
    };
    let names: Vec<_> = (0..6).map(|n| page(n).body).collect();
    assert_eq!(names.iter().filter(|name| *name == "big for 127.0.0.1").count(), 4, "{names:?}");
    assert!((0..6).all(|n| page(n).is_hit()));

    big.abort();
    let _ = big.await;
    let mut pages = 6..;
    while pool.status()[0].is_up {
        assert_eq!(page(pages.next().unwrap()).status(), "200");
    }
    for n in pages.by_ref().take(10) {
        assert_eq!(page(n).body, "small for 127.0.0.1");
    }
    small.abort();
    let _ = small.await;
    let failed = loop {
        let response = page(pages.next().unwrap());
        if response.status() != "200" {
            break response;
        }
    };
    assert_eq!(failed.status(), "502");
    assert!(failed.field("proxy-status").unwrap().ends_with("; error=connection_refused"));
    assert!((0..16).all(|n| page(n).is_hit()), "what is stored is there without any server");
}
