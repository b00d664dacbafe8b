//! tower-keep beside its peers: what the comparisons share.

pub mod ask;
#[cfg(feature = "load")]
pub mod client;
#[cfg(feature = "contenders")]
pub mod contenders;
#[cfg(feature = "load")]
pub mod fleet;
pub mod member;
#[cfg(feature = "report")]
pub mod pace;
#[cfg(feature = "compressed")]
pub mod page;
#[cfg(feature = "balance")]
pub mod picks;
#[cfg(feature = "load")]
pub mod pipeline;
#[cfg(any(feature = "compressed", feature = "load"))]
pub mod products;
#[cfg(feature = "report")]
pub mod progress;
#[cfg(feature = "report")]
pub mod report;
pub mod samples;
#[cfg(any(feature = "compressed", feature = "load"))]
pub mod serve;
#[cfg(feature = "load")]
pub mod site;
#[cfg(feature = "tokens")]
pub mod tokens;
#[cfg(any(feature = "caches", feature = "load"))]
pub mod workloads;
pub mod wrk;

/// Any error: what goes wrong here ends the measurement.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
