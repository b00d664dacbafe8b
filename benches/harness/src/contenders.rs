//! Caches for HTTP responses in front of the same handler, each set up as its own guide says.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Request, Response};
use axum::routing::{MethodRouter, get};
use axum_response_cache::CacheLayer as ResponseCacheLayer;
use bytes::Bytes;
use hitbox::concurrency::{
    BroadcastConcurrencyManager, ConcurrencyManager, NoopConcurrencyManager,
};
use hitbox::policy::{ConcurrencyLimit, PolicyConfig};
use hitbox_backend::format::BincodeFormat;
use hitbox_http::extractors::Method;
use hitbox_http::extractors::path::PathExtractor;
use hitbox_http::predicates::{NeutralRequestPredicate, NeutralResponsePredicate};
use hitbox_http::{BufferedBody, CacheableHttpResponse};
use hitbox_moka::MokaBackend;
use http_cache::MokaManager;
use http_cache_tower_server::ServerCacheLayer;
use tower::util::{ServiceFn, service_fn};
use tower::{Layer, Service};
use tower_keep::cache::CacheLayer;
use tower_keep::store::{L1, Store};

use crate::BoxError;

/// What all of them may keep: more than any workload here asks for, unless it says so.
pub const CAPACITY: u64 = 2_000_000;

/// How long what they store is fresh, where nothing else is said.
const HOUR: Duration = Duration::from_hours(1);

/// What the handler answers with.
#[derive(Clone, Debug)]
pub struct Page(Bytes);

impl Page {
    /// So many bytes.
    pub fn of(size: usize) -> Self {
        Self(Bytes::from(vec![b'x'; size]))
    }

    fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.0.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
        response
    }
}

/// What its calls end in.
pub type Answer = Ready<Result<Response<Body>, Infallible>>;

/// The handler as a service of its own, without any router.
pub fn bare(page: Page) -> ServiceFn<impl FnMut(Request<Body>) -> Answer + Clone + Send + 'static> {
    service_fn(move |_| ready(Ok(page.response())))
}

/// The handler behind axum's router.
pub fn router(page: Page) -> Router {
    let handler = async move |Path(_): Path<u64>| page.response();
    Router::new().route("/products/{id}", get(handler))
}

/// tower-keep's cache, with its defaults.
///
/// # Errors
///
/// If its settings can't work.
pub fn keep() -> Result<CacheLayer, BoxError> {
    let store = Store::builder().l1(L1::bytes(CAPACITY * 4096)).build()?;
    Ok(CacheLayer::builder(store).build()?)
}

/// axum-response-cache, around each route, as it has to be.
pub fn response_cache(page: Page) -> Router {
    let handler = async move |Path(_): Path<u64>| page.response();
    Router::new().route("/products/{id}", response_cache_around(get(handler), HOUR))
}

/// axum-response-cache around one route. It doesn't read what a response says about its freshness.
pub fn response_cache_around(route: MethodRouter, fresh: Duration) -> MethodRouter {
    route.layer(ResponseCacheLayer::with_lifespan(fresh))
}

/// http-cache-tower-server on moka, to be put around a router.
pub fn http_cache() -> ServerCacheLayer<MokaManager> {
    ServerCacheLayer::new(MokaManager::new(moka::future::Cache::new(CAPACITY)))
}

/// hitbox on moka, in the format that it recommends, around `inner`.
pub fn hitbox<S>(
    inner: S,
) -> impl Service<Request<Body>, Response = Response<BufferedBody<Body>>, Error = S::Error, Future: Send>
+ Clone
+ Send
where
    S: Service<Request<BufferedBody<Body>>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
{
    let policy = PolicyConfig::builder().ttl(HOUR).build();
    hitbox_by(inner, policy, NoopConcurrencyManager)
}

/// The same with what it has against stampedes: what is asked for at the same time is asked of `inner`
/// once. It doesn't read what a response says about its freshness.
pub fn hitbox_collapsed<S>(
    inner: S,
    fresh: Duration,
) -> impl Service<Request<Body>, Response = Response<BufferedBody<Body>>, Error = S::Error, Future: Send>
+ Clone
+ Send
where
    S: Service<Request<BufferedBody<Body>>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
{
    let policy = PolicyConfig::builder().ttl(fresh).concurrency(ConcurrencyLimit::MIN).build();
    hitbox_by(inner, policy, BroadcastConcurrencyManager::new())
}

fn hitbox_by<S, C>(
    inner: S,
    policy: PolicyConfig,
    concurrency: C,
) -> impl Service<Request<Body>, Response = Response<BufferedBody<Body>>, Error = S::Error, Future: Send>
+ Clone
+ Send
where
    S: Service<Request<BufferedBody<Body>>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    C: ConcurrencyManager<Result<CacheableHttpResponse<Body>, S::Error>>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let backend = MokaBackend::builder().max_entries(CAPACITY).value_format(BincodeFormat).build();
    let config = hitbox::Config::builder()
        .request_predicate(NeutralRequestPredicate::new())
        .response_predicate(NeutralResponsePredicate::new())
        .extractor(Method::new().path("/products/{id}"))
        .policy(policy)
        .build();
    let layer = hitbox_tower::Cache::builder().backend(backend).config(config);
    layer.concurrency_manager(concurrency).build().layer(inner)
}
