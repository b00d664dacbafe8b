//! A reverse proxy as a Tower service: requests go to a pool of [`Upstream`]s over connections that
//! are used again, in HTTP/1.1 or HTTP/2, and bodies stream both ways.
//!
//! ```
//! use tower_keep_balance::proxy::Proxy;
//! use tower_keep_balance::{Backend, Pool, Strategy};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::builder()
//!     .strategy(Strategy::LeastConnections)
//!     .backend(Backend::http("http://10.0.0.1:3000")?.weight(10))
//!     .backend(Backend::http("http://10.0.0.2:3000")?.weight(5))
//!     .build()?;
//! let proxy = Proxy::new(pool);
//! # let _ = proxy;
//! # Ok(())
//! # }
//! ```
//!
//! # Two services
//!
//! | service | what it does | when |
//! | --- | --- | --- |
//! | [`Proxy`] | checks the request; `Via` and loops, `Max-Forwards`, fields of one connection, `Forwarded` and `X-Forwarded-*`, `Host`; changes of protocol; makes responses of errors | once a request |
//! | [`Upstream`] | connections, the version of HTTP, `Expect` and interim responses, timeouts | at each attempt |
//!
//! In between, something picks an upstream: by default [`Balanced`], which is
//! [`Retry`](crate::Retry) around [`Balance`](crate::Balance). With [`Proxy::around`], it can be
//! anything else.
//!
//! # What a server should leave in requests
//!
//! In their extensions: a [`Peer`](crate::Peer), for the fields that tell upstreams of it (with axum,
//! the feature `axum` finds it where `into_make_service_with_connect_info::<SocketAddr>()` is served);
//! hyper's own `OnUpgrade`, which is there anyway, for WebSockets; an [`interim::Sink`], for interim
//! responses (1xx), which hyper's server can't send.
//!
//! # Interim responses
//!
//! Those of upstreams (103 Early Hints, 102) reach the client where both sides speak HTTP/1.1. Nobody
//! hears of those of an upstream of HTTP/2, since hyper's client has no way to tell of them, and
//! [clients of HTTP/2](interim) get none. If hints count for more than multiplexing, ask upstreams in
//! [HTTP/1.1](Protocol::Http1).
//!
//! # What is for the server to bound
//!
//! How many connections there are, how long a head is and takes, and how long and how slow the content
//! of a request may be: a client that drips holds a connection to an upstream for as long.
//! `examples/edge` in the repository has all of that, around hyper's server.
//!
//! # What is refused
//!
//! Requests whose end, or whose host, two servers could see differently, so that one could be
//! smuggled in another, with 400; `CONNECT`, unless it is one of WebSockets (RFC 8441), with 405;
//! requests that have been here before, with 508. What is passed on is written anew, with its end marked in one way.

mod balanced;
mod body;
mod builder;
mod connect;
mod connections;
mod content;
mod error;
mod expect;
mod forwarded;
mod future;
mod guard;
pub mod hop;
pub mod interim;
mod max_forwards;
mod pseudonym;
mod respond;
mod service;
#[cfg(feature = "tls")]
mod tls;
mod tunnel;
mod upgrade;
mod upstream;

pub use self::balanced::{Balanced, Balancing, UpstreamFailures};
pub use self::body::UpstreamBody;
pub use self::builder::{Around, HostPolicy, ProxyBuilder};
pub use self::error::{ErrorKind, UpstreamError};
pub use self::forwarded::{Fields, Forwarding};
pub use self::future::ProxyFuture;
pub use self::guard::fault;
pub use self::pseudonym::Pseudonym;
pub use self::respond::{Failure, ProxyBody};
pub use self::service::Proxy;
#[cfg(feature = "tls")]
pub use self::tls::Tls;
pub use self::upgrade::asks_for_upgrade;
pub use self::upstream::{AddressError, Protocol, Upstream, UpstreamBuilder, UpstreamFuture};
pub use ipnet::IpNet;
