//! tower-keep beside its peers: what the comparisons share.

pub mod picks;
pub mod samples;
