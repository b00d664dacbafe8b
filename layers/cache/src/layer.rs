//! The layer.

use std::sync::Arc;

use tower_keep_store::Store;
use tower_layer::Layer;

use crate::builder::CacheLayerBuilder;
use crate::core::Core;
use crate::service::Cache;

/// Puts an HTTP cache (RFC 9111) in front of a service.
///
/// All services made by one layer, and all layers on one store with the same
/// [`space`](CacheLayerBuilder::space), share their entries.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_keep_cache::CacheLayer;
/// use tower_keep_store::{L1, Store};
///
/// let keep = Store::builder().l1(L1::bytes(64 * 1024 * 1024)).build()?;
/// let layer = CacheLayer::builder(keep).max_body(2 * 1024 * 1024).build()?;
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CacheLayer {
    core: Arc<Core>,
}

impl CacheLayer {
    pub(crate) fn new(core: Core) -> Self {
        Self { core: Arc::new(core) }
    }

    /// Settings for a layer over `store`.
    pub fn builder(store: Store) -> CacheLayerBuilder {
        CacheLayerBuilder::new(store)
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        Cache::new(inner, Arc::clone(&self.core))
    }
}
