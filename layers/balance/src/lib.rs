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
//! # Features
//!
//! | feature | what it brings |
//! | --- | --- |
//! | `probe-tcp` | `HealthCheck::tcp`, `Address`, `Connect` |
//! | `probe-http` | `HealthCheck::http`: hyper's client |
//! | `probe-grpc` | `HealthCheck::grpc`: `grpc.health.v1` over HTTP/2, without a gRPC stack |

mod backend;
mod error;
mod health;
mod member;
mod outlier;
mod pick;
mod pool;
mod slow_start;
mod status;
mod strategy;
mod table;

pub use backend::Backend;
pub use error::{BuildError, PickError};
#[cfg(feature = "probe-tcp")]
pub use health::address::Address;
#[cfg(feature = "probe-tcp")]
pub use health::connect::{Connect, Plain};
#[cfg(feature = "probe-grpc")]
pub use health::grpc::Grpc;
#[cfg(feature = "probe-http")]
pub use health::http::Http;
pub use health::probe::{Probe, ProbeError};
#[cfg(feature = "probe-tcp")]
pub use health::tcp::Tcp;
pub use health::{HealthCheck, Initially};
pub use member::BackendId;
pub use outlier::{Ejection, OutlierDetection};
pub use pick::{Outcome, Pick, Wish};
pub use pool::{Pool, PoolBuilder, Removed, WhenNoneHealthy};
pub use slow_start::SlowStart;
pub use status::{Change, Changes, State, Stats, Status};
pub use strategy::{Hash, PeakEwma, Strategy};
