//! Weighted pools of backends, picked from without a lock.
//!
//! A [`Pool`] holds targets of any kind: addresses, services, connection pools of a database. It
//! picks one by its [`Strategy`], weights, priorities and limits, and can be changed at any time: a
//! target that is replaced or removed gets nothing new, and finishes what it has.
//!
//! ```
//! use tower_keep_balance::{Backend, Pool, Strategy};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::builder()
//!     .strategy(Strategy::RoundRobin)
//!     .backend(Backend::new("big", "http://10.0.0.1:3000").weight(2))
//!     .backend(Backend::new("small", "http://10.0.0.2:3000"))
//!     .build()?;
//! let picks: Vec<_> = (0..3).map(|_| pool.pick()).collect::<Result<_, _>>()?;
//! let names: Vec<_> = picks.iter().map(|pick| pick.name()).collect();
//! assert_eq!(names, ["big", "small", "big"]);
//! # Ok(())
//! # }
//! ```
//!
//! # Health
//!
//! Three things find out whether a backend can serve, and each can be had alone:
//!
//! - [`HealthCheck`] asks it at intervals: over TCP, HTTP or gRPC, or by a closure;
//! - [`OutlierDetection`] goes by how requests end ([`Pick::finish`]), which costs nothing more;
//! - [`Pool::set_healthy`] is for what knows it by other means: a registry, an operator.
//!
//! One that isn't healthy gets nothing while another is ([`WhenNoneHealthy`] says what to do when
//! none is). One that comes back, or is new, may be given its share little by little:
//! [`SlowStart`]. [`Pool::status`], [`Pool::stats`] and [`Pool::changes`] show all of it.
//!
//! ```
//! # #[cfg(feature = "probe-http")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use tower_keep_balance::{Backend, HealthCheck, OutlierDetection, Pool, SlowStart};
//!
//! let pool = Pool::builder()
//!     .backend(Backend::new("a", "http://10.0.0.1:3000"))
//!     .backend(Backend::new("b", "http://10.0.0.2:3000"))
//!     .health_check(HealthCheck::http("/health").interval(Duration::from_secs(5)))
//!     .outlier_detection(OutlierDetection::new())
//!     .slow_start(SlowStart::within(Duration::from_secs(30)))
//!     .build()?;
//! # let _ = pool;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "probe-http"))]
//! # fn main() {}
//! ```
//!
//! # Requests
//!
//! [`Balance`] is the Tower service that gives each request to a backend of a pool of services, and
//! [`BalanceLayer`] its layer; for HTTP and gRPC, `Retry` around it tries again where that is safe.
//! `proxy::Proxy` is a whole reverse proxy of these, over connections of its own.
//!
//! # Discovery
//!
//! [`registry`] is about backends that come and go by themselves: instances that announce
//! themselves, a DNS name, a file that is watched. [`Pool::follow`] makes them the backends.
//!
//! # Features
//!
//! | feature | what it adds | default |
//! | --- | --- | --- |
//! | `http` | HTTP and gRPC: `Balance::http`, `Retry`, affinity by fields and by the client's address | yes |
//! | `hyper` | to `Retry`: errors of hyper and h2 tell which requests no backend has worked on | |
//! | `tonic` | to `Retry`: the same for errors of tonic's channels | |
//! | `axum` | the peer's address from axum's `ConnectInfo` | |
//! | `probe-tcp` | `HealthCheck::tcp`, `health::Address`, `health::Connect` | |
//! | `probe-http` | `HealthCheck::http`: hyper's client; implies `probe-tcp` | |
//! | `probe-grpc` | `HealthCheck::grpc`: `grpc.health.v1` over HTTP/2, without a gRPC stack; implies `probe-http` | |
//! | `registry-dns` | `registry::Dns`: hickory's resolver | |
//! | `registry-file` | `registry::File`: JSON | |
//! | `registry-redis` | `registry::Redis`: Redis or Valkey, through fred | |
//! | `registry-redis-tls` | `rediss://` addresses, through rustls; implies `registry-redis` | |
//! | `proxy` | `proxy`: a reverse proxy over a pool of HTTP upstreams; implies `hyper` and `probe-http` | |
//! | `tls` | TLS to upstreams, through rustls; implies `proxy` | |

mod affinity;
#[cfg(feature = "http")]
mod answer;
#[cfg(feature = "http")]
mod arrived;
mod attempt;
mod backend;
mod backoff;
#[cfg(feature = "http")]
mod body;
mod classify;
mod discover;
mod error;
#[cfg(feature = "http")]
mod failures;
mod future;
#[cfg(feature = "http")]
mod grpc;
pub mod health;
mod in_use;
mod lanes;
mod layer;
mod member;
mod outlier;
#[cfg(feature = "http")]
mod over_http;
#[cfg(feature = "http")]
mod peer;
mod pick;
mod pool;
#[cfg(feature = "proxy")]
pub mod proxy;
mod queue;
pub mod registry;
#[cfg(feature = "http")]
pub mod retry;
mod room;
#[cfg(feature = "http")]
mod served_by;
mod service;
mod slow_start;
mod span;
mod status;
mod strategy;
mod table;
mod track;
#[cfg(feature = "http")]
mod trusted;

#[cfg(feature = "http")]
pub use affinity::client::{ByClient, Field};
#[cfg(feature = "http")]
pub use affinity::fields::{ByCookie, ByHeader, ByUri};
pub use affinity::{Affinity, Or, hash_bytes};
#[cfg(feature = "http")]
pub use answer::Refusal;
pub use attempt::Attempt;
pub use backend::Backend;
#[cfg(feature = "http")]
pub use body::BalanceBody;
pub use classify::{Classify, ErrorsFail, Verdict};
pub use discover::{follow_discover, follow_discover_with};
pub use error::{BalanceError, BuildError, PickError};
#[cfg(feature = "http")]
pub use failures::{ByHead, ClassifyEnd, HttpFailures};
pub use future::BalanceFuture;
pub use health::HealthCheck;
pub use layer::BalanceLayer;
pub use member::BackendId;
pub use outlier::{Ejection, OutlierDetection};
#[cfg(feature = "http")]
pub use over_http::Http;
#[cfg(feature = "http")]
pub use peer::Peer;
pub use pick::{Outcome, Pick, Wish};
pub use pool::{Pool, PoolBuilder, Removed, WhenNoneHealthy};
pub use queue::Queue;
#[cfg(feature = "http")]
pub use retry::{Retry, RetryLayer};
#[cfg(feature = "http")]
pub use served_by::ServedBy;
pub use service::Balance;
pub use slow_start::SlowStart;
pub use status::{Change, Changes, State, Stats, Status};
pub use strategy::{Hash, PeakEwma, Strategy};
pub use track::{Plain, Track};
