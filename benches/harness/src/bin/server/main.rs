//! A server with one thread, on tokio's current-thread runtime, with mimalloc:
//! `server KIND ADDRESS CONTROL [SETTING=VALUE]...`.
//!
//! | kind | what it is |
//! | --- | --- |
//! | `router` | axum's router with one route, by `axum::serve` |
//! | `keep` | tower-keep's `CacheLayer` around it, as the fallback of an empty router, by `axum::serve` |
//! | `keep-hyper` | `CacheLayer` around it, by hyper's HTTP/1 |
//! | `handler` | the handler without a router, by hyper's HTTP/1 |
//! | `keep-handler` | `CacheLayer` around that |
//! | `response-cache`, `hitbox`, `http-cache` | those caches, by `axum::serve` |
//! | `pipeline` | `JwtLayer`, `CacheLayer` with compressed forms, and a router |
//!
//! At CONTROL, it says how often the handler was called, and invalidates tags. `redis=URL` gives
//! tower-keep a second tier; the other settings are the site's.

mod control;

use std::convert::Infallible;

use axum::error_handling::HandleError;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::{Router, http};
use harness::pipeline;
use harness::serve::serve;
use harness::site::{Handler, Site};
use harness::{BoxError, contenders};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tower::{Layer, Service, service_fn};
use tower_keep::cache::CacheLayer;
use tower_keep::store::{L1, Redis, Store};

use crate::control::Control;

/// nginx, Varnish and HAProxy bring allocators of their own, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, address, control, settings @ ..] = &arguments[..] else {
        return Err("server KIND ADDRESS CONTROL [SETTING=VALUE]...".into());
    };
    let (mut site, mut redis) = (Site::default(), None);
    for setting in settings {
        match setting.strip_prefix("redis=") {
            Some(url) => redis = Some(url),
            None => site.read(setting)?,
        }
    }
    let store = store(redis).await?;
    let cache = CacheLayer::builder(store.clone()).build()?;
    let handler = match kind.as_str() {
        "pipeline" => pipeline::handler(site),
        _ => Handler::new(site),
    };
    let control = Control::listen(control, handler.clone(), store.clone()).await?;
    tokio::spawn(control.serve());
    let fresh = std::time::Duration::from_secs(site.max_age);
    let listener = TcpListener::bind(address).await?;
    let router = handler.router();
    let route = "/products/{id}";
    match kind.as_str() {
        "router" => Ok(axum::serve(listener, router).await?),
        "keep" => around(listener, cache.layer(router)).await,
        "keep-hyper" => serve(listener, cache.layer(router)).await,
        "handler" => serve(listener, bare(handler)).await,
        "keep-handler" => serve(listener, cache.layer(bare(handler))).await,
        "response-cache" => {
            let route = Router::new()
                .route(route, contenders::response_cache_around(handler.route(), fresh));
            Ok(axum::serve(listener, route).await?)
        }
        "hitbox" if site.delay.is_zero() => around(listener, contenders::hitbox(router)).await,
        "hitbox" => around(listener, contenders::hitbox_collapsed(router, fresh)).await,
        "http-cache" => {
            // Its errors are its own, and become a 500, as axum's guide says.
            let cached = contenders::http_cache().layer(router);
            around(listener, HandleError::new(cached, failed)).await
        }
        "pipeline" => around(listener, pipeline::layers(store)?.layer(router)).await,
        _ => Err("there is no such kind".into()),
    }
}

async fn store(redis: Option<&str>) -> Result<Store, BoxError> {
    let builder = Store::builder().l1(L1::bytes(256 << 20));
    let Some(url) = redis else { return Ok(builder.build()?) };
    let store = builder.l2(Redis::connect(url).await?).build()?;
    while !store.is_synced() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    Ok(store)
}

fn bare(
    handler: Handler,
) -> impl Service<http::Request<Incoming>, Response = Response, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(move |request: http::Request<Incoming>| {
        let id = request.uri().path().rsplit('/').next().and_then(|id| id.parse().ok());
        std::future::ready(Ok(handler.answer(id.unwrap_or_default())))
    })
}

async fn failed(_: BoxError) -> http::StatusCode {
    http::StatusCode::INTERNAL_SERVER_ERROR
}

/// What goes around a whole router, made an axum app again, as its guide says.
async fn around<S>(listener: TcpListener, service: S) -> Result<(), BoxError>
where
    S: Service<Request, Response: IntoResponse, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    Ok(axum::serve(listener, Router::new().fallback_service(service)).await?)
}
