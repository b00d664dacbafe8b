//! Requests whose content is encoded.

mod builder;
mod future;
mod layer;
mod service;
mod verdict;

pub use self::builder::DecompressLayerBuilder;
pub use self::future::DecompressFuture;
pub use self::layer::DecompressLayer;
pub use self::service::Decompress;
pub(crate) use self::verdict::Verdict;
