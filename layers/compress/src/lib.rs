//! Compression of HTTP responses, and decompression of requests, as Tower layers.
//!
//! [`CompressLayer`] wraps any `Service<Request<_>, Response = Response<_>>`: axum, hyper, a proxy.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use std::convert::Infallible;
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Empty, Full};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_keep_compress::CompressLayer;
//!
//! let service = ServiceBuilder::new().layer(CompressLayer::builder().build()?).service(service_fn(
//!     |_: Request<Empty<Bytes>>| async {
//!         let page = Full::<Bytes>::from("<p>All work and no play.</p>".repeat(100));
//!         let response = Response::builder().header("content-type", "text/html").body(page);
//!         Ok::<_, Infallible>(response.expect("it is well-formed"))
//!     },
//! ));
//!
//! let request = Request::get("/").header("accept-encoding", "gzip, br").body(Empty::new())?;
//! let response = service.oneshot(request).await?;
//! assert_eq!(response.headers()["content-encoding"], "br");
//! assert_eq!(response.headers()["vary"], "accept-encoding");
//! assert!(response.into_body().collect().await?.to_bytes().len() < 100);
//! # Ok(())
//! # }
//! ```
#![doc = include_str!("../docs/guide.md")]

mod accept;
mod body;
mod builder;
mod decode_body;
mod decoder;
#[cfg(feature = "dictionary")]
mod dictionary;
mod encoder;
mod encoding;
mod error;
mod etag;
pub mod field;
mod fields;
mod form;
mod forms;
mod frame;
mod future;
mod layer;
mod level;
mod media_type;
mod policy;
mod request;
mod service;

pub use accept::{AcceptEncoding, Member, Weight, members as accept_members};
pub use body::CompressBody;
pub use builder::CompressLayerBuilder;
pub use decode_body::DecodeBody;
pub use decoder::{Limits, content_encodings, decode_all};
#[cfg(feature = "dictionary")]
pub use dictionary::{
    AskedDictionary, Delta, Dictionaries, DictionariesBuilder, Dictionary, DictionaryCoding,
    encode_delta,
};
pub use encoder::encode_all;
pub use encoding::Encoding;
pub use error::{BoxError, ConfigError, DecodeError, EncodeError};
pub use etag::EntityTags;
pub use forms::{Conditions, Offer};
pub use frame::poll_bytes;
pub use future::CompressFuture;
pub use layer::CompressLayer;
pub use level::Levels;
pub use policy::{Asked, Decision, LeaveUncompressed, Policy, Reason, ResponseHead};
pub use request::{Decompress, DecompressFuture, DecompressLayer, DecompressLayerBuilder};
pub use service::Compress;
