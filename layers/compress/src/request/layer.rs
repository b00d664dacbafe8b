//! The layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::builder::{DecompressLayerBuilder, Settings};
use super::service::Decompress;

/// Decodes the content of requests that are sent in a content coding, within
/// [limits](crate::Limits).
///
/// The inner service reads plain bytes, as they arrive, and sees neither `Content-Encoding` nor the
/// length and the digests of what was sent. A client is told what it did wrong:
///
/// | status | when |
/// | --- | --- |
/// | 413 | the content swells beyond the limits |
/// | 415, with `Accept-Encoding` | it is in another coding, or in more than three (RFC 9110 §15.5.16) |
/// | 400 | it is corrupt or truncated, or something follows it |
///
/// 413 and 400 become clear while the inner service reads, whose body fails then with a
/// [`DecodeError`](crate::DecodeError). They take the place of its answer, or its error, unless that is
/// a success, or came before.
///
/// It is opt-in, since it lets a client make a server work for more bytes than it sent. Put it inside
/// of authentication, and limits on the content as sent outside of it.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_keep_compress::{DecompressLayer, Limits};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let decompress = DecompressLayer::builder().limits(Limits::default().max_len(1024 * 1024)).build()?;
/// let layers = ServiceBuilder::new().layer(decompress);
/// # let _ = layers;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DecompressLayer {
    settings: Arc<Settings>,
}

impl DecompressLayer {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings }
    }

    /// Settings for a layer.
    pub fn builder() -> DecompressLayerBuilder {
        DecompressLayerBuilder::new()
    }
}

impl<S> Layer<S> for DecompressLayer {
    type Service = Decompress<S>;

    fn layer(&self, inner: S) -> Decompress<S> {
        Decompress::new(inner, Arc::clone(&self.settings))
    }
}
