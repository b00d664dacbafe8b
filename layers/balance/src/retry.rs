//! Another attempt, where the first one failed and it is safe to try again.
//!
//! [`Retry`] stands around a [`Balance`](crate::Balance), which it tells by an
//! [`Attempt`](crate::Attempt) in the request's extensions which backends to avoid:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tower::ServiceBuilder;
//! use tower_keep_balance::{Backend, BalanceLayer, Pool, RetryLayer};
//! # use http::{Request, Response};
//! # use tower_keep_balance::retry::ReplayBody;
//! # type Body = http_body_util::Full<bytes::Bytes>;
//! # let client = tower::service_fn(async |_: Request<ReplayBody<Body>>| {
//! #     Ok::<_, std::io::Error>(Response::new(Body::default()))
//! # });
//!
//! let pool = Pool::builder().backend(Backend::new("a", client)).build()?;
//! let service = ServiceBuilder::new()
//!     .layer(RetryLayer::builder().deadline(Duration::from_secs(10)).build()?)
//!     .layer(BalanceLayer::http())
//!     .service(pool);
//! # let _ = tower::ServiceExt::<Request<Body>>::oneshot(service, Request::new(Body::default()));
//! # Ok(())
//! # }
//! ```
//!
//! A request's body comes to the inner service as a [`ReplayBody`]. Clients that take any body take
//! it as it is; those that want their own get it by `map_request` between the two layers, such as
//! tonic's channels:
//!
//! ```
//! # use http::Request;
//! # use tonic::body::Body;
//! # use tonic::transport::Endpoint;
//! # use tower::ServiceBuilder;
//! # use tower_keep_balance::retry::ReplayBody;
//! # use tower_keep_balance::{Backend, BalanceLayer, Pool, RetryLayer};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let channel = Endpoint::from_static("http://10.0.0.1:3000").connect_lazy();
//! let pool = Pool::builder().backend(Backend::new("a", channel)).build()?;
//! let reads = |head: &http::request::Parts| head.uri.path().starts_with("/shop.Catalog/");
//! let service = ServiceBuilder::new()
//!     .layer(RetryLayer::builder().retry_if(reads).build()?)
//!     .map_request(|request: Request<ReplayBody<Body>>| request.map(Body::new))
//!     .layer(BalanceLayer::http())
//!     .service(pool);
//! let client = tonic::client::Grpc::new(service);
//! # let _ = client;
//! # Ok(())
//! # }
//! ```
//!
//! # What is tried again
//!
//! | what happened | which requests | attempts, budget, wait |
//! | --- | --- | --- |
//! | nothing was sent: no connection, never ready | all | free, at once, until each backend was tried; then as below |
//! | refused unprocessed: `REFUSED_STREAM`, `GOAWAY` (RFC 9113, section 8.7) | all | counted |
//! | an error, a time limit, `502`, `503`, `504`, `UNAVAILABLE` | idempotent ones (RFC 9110, section 9.2.2), and those that the settings name | counted |
//!
//! What is free puts no load on anybody, so it needs no budget. Nothing is tried again once the
//! head of a response has been passed on, or when what was sent of the body can't be sent again.

mod budget;
mod fate;
mod future;
mod hedge;
mod judge;
mod kept;
mod replay;
mod service;
mod settings;

pub use budget::Budget;
#[cfg(feature = "proxy")]
pub(crate) use fate::by_cause;
pub use fate::{ByBoxedCause, ByCause, ErrorFate, Fate};
pub use future::RetryFuture;
pub use hedge::Hedge;
pub use replay::ReplayBody;
pub use service::{Retry, RetryLayer};
pub use settings::RetryBuilder;

pub use crate::backoff::Backoff;
