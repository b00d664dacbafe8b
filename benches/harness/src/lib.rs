//! tower-keep beside its peers: what the comparisons share.

#[cfg(feature = "balance")]
pub mod picks;
pub mod samples;
#[cfg(feature = "tokens")]
pub mod tokens;
