//! The layer.

use tower_layer::Layer;

use crate::builder::CompressLayerBuilder;
use crate::policy::Policy;
use crate::service::Compress;

/// Compresses responses, as far as clients can read it and it is worth it. See the
/// [crate's documentation](crate).
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_keep_compress::{CompressLayer, Encoding};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let compress = CompressLayer::builder()
///     .encodings([Encoding::Brotli, Encoding::Gzip])
///     .min_size(512)
///     .build()?;
/// let layers = ServiceBuilder::new().layer(compress);
/// # let _ = layers;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CompressLayer {
    policy: Policy,
}

impl CompressLayer {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy }
    }

    /// Settings for a layer.
    pub fn builder() -> CompressLayerBuilder {
        CompressLayerBuilder::new()
    }

    /// What decides on each response.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}

impl<S> Layer<S> for CompressLayer {
    type Service = Compress<S>;

    fn layer(&self, inner: S) -> Compress<S> {
        Compress::new(inner, self.policy.clone())
    }
}
