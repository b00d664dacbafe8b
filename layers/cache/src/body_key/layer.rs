//! The layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::builder::{BodyKeyLayerBuilder, Settings};
use super::service::BodyKey;

/// Lets a [`CacheLayer`](crate::CacheLayer) inside of it answer requests with content: searches and
/// GraphQL queries by `POST`, unary calls of gRPC, `QUERY`.
///
/// Of the requests that are declared to read ([`methods`](BodyKeyLayerBuilder::methods),
/// [`when`](BodyKeyLayerBuilder::when)) it reads the content and leaves the SHA-256 of it on the
/// request. The cache then looks them up by that, by the method, and by the fields that say what the
/// content means (`Content-Type`, `Content-Encoding`, `Content-Language`, `grpc-encoding`,
/// `grpc-accept-encoding`), beside what makes every key. Whatever else tells their responses apart
/// has to be in `Vary` or in the [`KeyPolicy`](crate::KeyPolicy).
///
/// They are stored as others are: if the response says how long it is fresh. Of a gRPC call, moreover,
/// only a response whose trailers, or whose head if it has no body, say `grpc-status: 0`. A request
/// that writes to the same target drops them all, with what is stored for `GET`.
///
/// ```
/// use http::Method;
/// use tower::ServiceBuilder;
/// use tower_keep_cache::{BodyKeyLayer, CacheLayer};
/// use tower_keep_store::{L1, Store};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keep = Store::builder().l1(L1::bytes(64 * 1024 * 1024)).build()?;
/// let reads = BodyKeyLayer::builder()
///     .methods([Method::POST])
///     .when(|head| matches!(head.uri().path(), "/search" | "/catalog.Catalog/GetProduct"))
///     .build()?;
/// let layers = ServiceBuilder::new().layer(reads).layer(CacheLayer::builder(keep).build()?);
/// # let _ = layers;
/// # Ok(())
/// # }
/// ```
///
/// To the cache, and the services in it, the body is a [`ReplayBody`](crate::ReplayBody). axum's
/// routers take any; for a service that takes only its own, such as tonic's routes, put a
/// `MapRequestLayer::new(|request: Request<ReplayBody<_>>| request.map(tonic::body::Body::new))` of
/// tower's inside of the cache.
///
/// It belongs directly around the cache: a layer between the two that changes the content, the method
/// or the target makes the digest one of something else. All requests to the cache have to come
/// through it, also those that write, or these don't drop what it has made storable.
///
/// What it can't read to its end within [`max_len`](BodyKeyLayerBuilder::max_len) and
/// [`max_wait`](BodyKeyLayerBuilder::max_wait), or what has trailers, passes on as if nothing had
/// been read of it, and isn't looked up or stored; errors of the body reach the handler. A request
/// with `If-None-Match` passes, too, unless it is a `QUERY`: to other methods it means something
/// else (RFC 9110 §13.1.2).
#[derive(Clone, Debug)]
pub struct BodyKeyLayer {
    settings: Arc<Settings>,
}

impl BodyKeyLayer {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings) }
    }

    /// Settings for a layer.
    pub fn builder() -> BodyKeyLayerBuilder {
        BodyKeyLayerBuilder::new()
    }
}

impl<S> Layer<S> for BodyKeyLayer {
    type Service = BodyKey<S>;

    fn layer(&self, inner: S) -> BodyKey<S> {
        BodyKey::new(inner, Arc::clone(&self.settings))
    }
}
