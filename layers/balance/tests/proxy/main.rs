//! The proxy over real sockets, in front of real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic, and so may what helps it"
)]

mod connections;
mod failures;
mod fields;
mod grpc;
mod readiness;
mod smuggling;
mod streaming;
mod support;
mod tls;
mod upgrades;
