//! What the tests of the workspace share.
//!
//! [`RedisServer`] is a Redis or Valkey process that belongs to one test: it can be killed,
//! restarted on its port, and frozen, and nothing of it is left when it is dropped.
//! [`RedisCluster`] and [`RedisSentinel`] are several of them, watching each other. A [`Way`] leads to
//! a server and can be cut, held up and spoilt; a [`Worker`] is the test binary as another process.
//! A test that needs a server starts one; it never skips, and never uses a server it finds.
//! [`NginxServer`] is the same for nginx; [`curl`] is a real client.
//!
//! ```no_run
//! # async fn example() {
//! use tower_keep_testing::{RedisServer, Reply};
//!
//! let mut server = RedisServer::start().await;
//! server.command(&[b"SET", b"key", b"value"]).await;
//! server.kill();
//! server.restart().await;
//! assert_eq!(server.command(&[b"GET", b"key"]).await, Reply::Nil);
//! # }
//! ```
//!
//! [`http`] has a client and a server of HTTP/1.1 that show every byte; the feature `http2` adds servers
//! that refuse, `grpc` services whose messages are texts.
//!
//! Unix only, since a test stops and kills its server with signals.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "only tests call this crate, and a test reports its trouble by panicking"
)]

mod cluster;
mod curl;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod http;
#[cfg(feature = "http2")]
pub mod http2;
mod nginx;
mod process;
mod redis;
mod resp;
mod sentinel;
mod wait;
mod way;
mod worker;

pub use cluster::RedisCluster;
pub use curl::curl;
pub use nginx::NginxServer;
pub use process::monotonic;
pub use redis::RedisServer;
pub use resp::{Conversation, Reply};
pub use sentinel::RedisSentinel;
pub use way::{Traffic, Way};
pub use worker::{Employer, Worker};
