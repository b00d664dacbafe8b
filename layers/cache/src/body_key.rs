//! Requests that are told apart by their content: a layer outside of the cache that reads it.

mod body;
mod builder;
mod content;
mod future;
mod layer;
mod read;
mod service;

pub use self::body::ReplayBody;
pub use self::builder::BodyKeyLayerBuilder;
pub(crate) use self::content::{Content, ContentDigest};
pub use self::future::BodyKeyFuture;
pub use self::layer::BodyKeyLayer;
pub use self::service::BodyKey;
