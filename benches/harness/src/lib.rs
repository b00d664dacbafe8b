//! tower-keep beside its peers: what the comparisons share.

#[cfg(feature = "caches")]
pub mod contenders;
pub mod member;
#[cfg(feature = "compressed")]
pub mod page;
#[cfg(feature = "balance")]
pub mod picks;
#[cfg(feature = "caches")]
pub mod progress;
#[cfg(feature = "caches")]
pub mod report;
pub mod samples;
#[cfg(feature = "tokens")]
pub mod tokens;
#[cfg(feature = "caches")]
pub mod workloads;
pub mod wrk;

/// Any error: what goes wrong here ends the measurement.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
