// The README's examples need these features; docs.rs has them all.
#![cfg_attr(all(feature = "axum", feature = "cache", feature = "proxy"), doc = include_str!("../README.md"))]
//!
//! # The facade
//!
//! This crate re-exports the layers, each behind a feature, and has no code of its own. Every layer
//! is also a crate that can be used alone.
//!
//! | feature | what it adds | default |
//! | --- | --- | --- |
//! | (always) | [`store`]: the tiered store, embedded | |
//! | `cache` | `cache`: HTTP caching, `CacheLayer` | yes |
//! | `balance` | `balance`: pools of backends, health checks, `Balance`, `Retry` | |
//! | `proxy` | `balance::proxy`: a reverse proxy over a pool; implies `balance` | |
//! | `proxy-tls` | TLS from the proxy to its upstreams, through rustls; implies `proxy` | |
//! | `auth` | `auth`: JSON Web Tokens, `JwtLayer`, `Verifier`, `JwtManager`, `Sessions`, `RevocationList` | |
//! | `compress` | `compress`: compressed responses, decoded requests; compressed forms beside stored responses (with `cache`); br, gzip and deflate | |
//! | `compress-dictionary` | differences from what a client has (RFC 9842): `compress::Dictionaries`; implies `compress` | |
//! | `auth-file`, `auth-jwks` | keys in a file that is watched; keys that are fetched, by a URL or by discovery; each implies `auth` | |
//! | `axum` | `CacheControl` and `CacheTags` as parts of an axum response (with `cache`); clients' addresses from its `ConnectInfo` (with `balance`); verified tokens as arguments of handlers (with `auth`) | |
//! | `tonic` | errors of tonic's channels tell `Retry` that nothing was sent (with `balance`); verified tokens of its requests (with `auth`) | |
//! | `registry-dns`, `registry-file`, `registry-redis` | discovery of backends: `balance::registry`; each implies `balance` | |
//! | `redis` | the second tier on Redis or Valkey | |
//! | `tls` | `rediss://` addresses, through rustls; implies `redis` | |
//! | `postcard`, `json` | codecs of typed values, beside the default bincode | |
//! | `zstd` | compression of large values in the second tier; a content coding (with `compress`) | |
//! | `full` | all of them | |

/// The tiered store: all of `tower-keep-store`.
pub use tower_keep_store as store;

/// HTTP caching over the store: all of `tower-keep-cache`.
#[cfg(feature = "cache")]
pub use tower_keep_cache as cache;

/// Pools of backends, balancing, retries and the proxy: all of `tower-keep-balance`.
#[cfg(feature = "balance")]
pub use tower_keep_balance as balance;

/// JSON Web Tokens: all of `tower-keep-auth`.
#[cfg(feature = "auth")]
pub use tower_keep_auth as auth;

/// Compression of responses, and decompression of requests: all of `tower-keep-compress`.
#[cfg(feature = "compress")]
pub use tower_keep_compress as compress;

/// What a service needs most: `use tower_keep::prelude::*;`.
pub mod prelude {
    #[cfg(feature = "auth")]
    pub use tower_keep_auth::{JwtLayer, Require};
    #[cfg(feature = "proxy")]
    pub use tower_keep_balance::proxy::Proxy;
    #[cfg(feature = "balance")]
    pub use tower_keep_balance::{Backend, HealthCheck, Pool, Strategy};
    #[cfg(feature = "cache")]
    pub use tower_keep_cache::{CacheControl, CacheLayer, CacheTags};
    #[cfg(feature = "compress")]
    pub use tower_keep_compress::{CompressLayer, DecompressLayer};
    #[cfg(feature = "redis")]
    pub use tower_keep_store::Redis;
    pub use tower_keep_store::{L1, Store, Ttl, Typed};
}
