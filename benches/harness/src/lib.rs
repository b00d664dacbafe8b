//! tower-keep beside its peers: what the comparisons share.

pub mod member;
#[cfg(feature = "compressed")]
pub mod page;
#[cfg(feature = "balance")]
pub mod picks;
pub mod samples;
#[cfg(feature = "tokens")]
pub mod tokens;
pub mod wrk;
