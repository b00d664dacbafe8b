//! The proxy over real sockets, in front of real servers.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic, so may what helps it, and it may say what it measured"
)]

mod affinity;
mod balancing;
mod checks;
mod connections;
mod failures;
mod fields;
mod grpc;
mod hostile;
mod nginx;
mod readiness;
mod servers;
mod sharing;
mod smuggling;
mod streaming;
mod support;
mod tls;
mod upgrades;
