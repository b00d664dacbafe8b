//! JSON Web Tokens: verified once, remembered until they expire or their key leaves.
//!
//! A [`Verifier`] trusts one or more [`Issuer`]s, each with keys, audiences and rules of its own. A
//! [`JwtLayer`] lets requests through whose token the verifier accepts, with its claims in their
//! extensions, and answers all others itself; a [`RequireLayer`] asks for more on single routes. What
//! is accepted is [`Verified`]: the registered [`Claims`], and your own as a type of yours. What is
//! refused has a [`Refusal`], one reason each. A [`JwtManager`] issues tokens of one's own, and [`Sessions`]
//! renew them by refresh tokens. What must not be used any more is on a [`RevocationList`].
//!
//! ```
//! # #[cfg(feature = "axum")]
//! # mod example {
//! use axum::Router;
//! use axum::routing::{get, post};
//! use serde::Deserialize;
//! use tower_keep_auth::{BuildError, Issuer, JwtLayer, Keys, Require, RequireLayer, Verified, Verifier};
//!
//! #[derive(Deserialize)]
//! struct Account {
//!     tenant: u64,
//! }
//!
//! async fn orders(account: Verified<Account>) -> String {
//!     format!("{:?} of {}", account.subject(), account.extra().tenant)
//! }
//!
//! /// `keys` are those that the issuer has now; `keys.replace(…)` swaps them while tokens are verified.
//! pub fn app(keys: Keys) -> Result<Router, BuildError> {
//!     let verifier = Verifier::builder()
//!         .issuer(Issuer::new("https://id.example.com").key_source(keys).audience("orders"))
//!         .typed::<Account>()
//!         .build()?;
//!     Ok(Router::new()
//!         .route("/orders", post(async || "taken"))
//!         .route_layer(RequireLayer::new(Require::scope("orders:write"))?)
//!         .route("/orders/mine", get(orders))
//!         .layer(JwtLayer::builder(verifier).realm("orders").build()?))
//! }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # #[cfg(feature = "axum")]
//! # let _ = example::app(tower_keep_auth::Keys::unavailable())?;
//! # Ok(())
//! # }
//! ```
//!
//! The same layers go around a server of tonic: `Server::builder().layer(auth).layer(require)`, with
//! [`RequireLayer::method`] for each method, and the feature `tonic` gives requests `AuthRequest`.
//!
//! # Where to put it
//!
//! Inside of CORS, since browsers ask without a token whether they may send one, and of what must see
//! refusals, too: access logs, metrics, limits.
//!
//! With `CacheLayer` of `tower-keep-cache`, in either order, nobody gets another's response:
//!
//! - Outside of the cache, each request is verified, hits too. The cache sees the token in
//!   `Authorization` wherever it came from, and so stores nothing but what says `public` or `s-maxage`,
//!   unless it tells users apart:
//!   `KeyPolicy::new().identity("user", |head| Identity::subject_key(head.extensions()))`, or
//!   [`Identity::claim_key`] with the name of a claim where all of a tenant may see the same. Where a
//!   token is [optional](JwtLayerBuilder::optional), do that, or have handlers whose response depends
//!   on it say `Vary: Authorization`, or users may get what nobody in particular got.
//! - Inside of the cache, responses have `Vary: Authorization` (and `Cookie`, where a cookie may hold the
//!   token), so what is stored is for those alone who send the same. A hit isn't verified, so a token
//!   lives on in it until the response is stale.
//!
//! Responses to a token in the query are `private, no-store` with `Vary: *`, and refusals `no-store`.
//!
//! # What is answered
//!
//! | | HTTP | `error` (RFC 6750) | gRPC |
//! | --- | --- | --- | --- |
//! | no token | 401 | none | `UNAUTHENTICATED` |
//! | a token that is refused | 401 | `invalid_token` | `UNAUTHENTICATED` |
//! | two tokens, or none where one was meant | 400 | `invalid_request` | `INVALID_ARGUMENT` |
//! | a token that is not enough | 403 | `insufficient_scope` | `PERMISSION_DENIED` |
//! | keys not known | 503, `Retry-After` | none | `UNAVAILABLE` |
//! | something required, and no [`JwtLayer`] outside | 500 | none | `INTERNAL` |
//!
//! A call of gRPC or gRPC-Web is a POST of its media type. Whatever else a request says that it is, it is
//! answered by HTTP, so that who asks on behalf of others by GET, as nginx does by `auth_request`, takes
//! no refusal for a yes.
//!
//! Which of its checks failed, the client isn't told; [`Stats`], events of `tracing`, and the [`Denial`]
//! in the extensions of the response say it.
//!
//! # What happens to a token
//!
//! 1. Its length is checked, 8 KiB at most. If these very bytes were accepted before, they still are
//!    while their times are right and their key is in its set; that is all.
//! 2. The three parts are decoded: base64url without padding, in the one way that each can be
//!    written. Header and claims are JSON objects, no deeper than 16 levels, and no object in them has
//!    two members of one name.
//! 3. `iss` says whose keys and rules apply, and nothing more.
//! 4. `typ` and `alg` must be among those that the issuer may use.
//! 5. `kid` is compared with the names of the keys. A key is for the algorithms that it was read for;
//!    what it can't be used for, no token can make it do. `jwk`, `jku`, `x5u` and `x5c` in a header
//!    are never looked at, and `crit`, `b64` and `zip` make a token refused.
//! 6. The signature is checked, by four keys at the most.
//! 7. Only then do the claims count: those that are required, `aud`, `exp`, `nbf`, `iat`.
//! 8. If the verifier was given [`Revocations`], they must not know it. That is part of 1., too.
//!
//! # Where keys come from
//!
//! | keys | source | what changes them |
//! | --- | --- | --- |
//! | given once | [`Issuer::keys`] | nothing |
//! | swapped by hand | [`Keys`] | [`Keys::replace`] |
//! | in a file: PEM, DER, a JWK or a set | `FileKeys` | the file's content, within a second |
//! | published by the issuer: a JWKS URL, OpenID Connect Discovery, RFC 8414 | `RemoteKeys` | the issuer, by refreshes, and at once where a token names a new key |
//! | anywhere else | a [`KeySource`] of your own | it |
//!
//! Whatever the source, verifying takes no lock, a token whose key is known waits for nobody, and what
//! was verified by a key that leaves is forgotten in that instant. [`Verifier::health`] tells how the
//! keys of each issuer are.
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `axum` | [`Verified`] and [`Identity`] as arguments of handlers; `JwtManager::jwks_route`: the published keys as a route |
//! | `tonic` | `AuthRequest`: the same of tonic's requests |
//! | `store` | a [`RevocationList`] and `SharedSessions` for all nodes, on `tower-keep-store` |
//! | `file` | `FileKeys`: keys in a file that is watched |
//! | `jwks` | `RemoteKeys`: keys that are fetched, by a JWKS URL or by discovery, through a Tower service; by default over rustls |
//!
//! # Cryptography
//!
//! None of it is in this crate. Signatures, digests and randomness are those of
//! [ring](https://docs.rs/ring), which is in most trees already because rustls uses it, and whose keys
//! need no global provider to be installed first. `jsonwebtoken` would have been the other choice: it
//! signs and verifies by aws-lc, a second library of that size to compile, or by crates of which
//! `rsa` has an open advisory (RUSTSEC-2023-0071), and makes a boxed verifier for each token. The cost
//! is that ring has no P-521, secp256k1 and Ed448, and so ES512, ES256K and Ed448 are missing here.
//! DER is read by RustCrypto's `pkcs1` and `spki`.
#![doc = ""]
#![doc = include_str!("../docs/rfcs.md")]
#![doc = ""]
#![doc = include_str!("../docs/revocation.md")]

mod algorithm;
mod answer;
mod body;
mod challenge;
mod claims;
mod denial;
mod error;
#[cfg(feature = "axum")]
mod extract;
#[cfg(feature = "file")]
mod file;
mod future;
mod gate;
mod grpc;
mod header;
mod health;
mod identity;
mod issuer;
mod json;
mod key;
mod layer;
mod locate;
mod manager;
#[cfg(feature = "tonic")]
mod on_tonic;
mod refusal;
#[cfg(feature = "jwks")]
mod remote;
mod require;
mod revocation;
mod service;
mod session;
mod source;
mod stats;
mod time;
mod token;
mod verified;
mod verifier;

pub use algorithm::Algorithm;
pub use body::AuthBody;
pub use claims::Claims;
pub use denial::Denial;
pub use error::{BuildError, IssueError, KeyError};
#[cfg(feature = "axum")]
pub use extract::Denied;
#[cfg(feature = "file")]
pub use file::{FileError, FileKeys, FileKeysBuilder};
pub use future::JwtFuture;
pub use health::KeyHealth;
pub use identity::Identity;
pub use issuer::Issuer;
pub use key::{Key, KeySet, SigningKey, Skipped};
pub use layer::{JwtLayer, JwtLayerBuilder};
pub use manager::{Grant, Issued, JwtManager, JwtManagerBuilder};
#[cfg(feature = "tonic")]
pub use on_tonic::AuthRequest;
pub use refusal::{Part, Refusal};
#[cfg(feature = "jwks")]
pub use remote::{
    FetchError, FetchStats, HttpsClient, HttpsClientBody, HttpsClientError, RemoteKeys,
    RemoteKeysBuilder,
};
pub use require::{Require, RequireLayer, Required, RequiredFuture};
pub use revocation::{
    Check, Checking, Lost, Reach, Revocable, RevocationList, RevocationListBuilder, Revocations,
    RevokeError, Revoking, Standing, Stands, Target,
};
pub use service::Jwt;
#[cfg(feature = "store")]
pub use session::SharedSessions;
pub use session::{
    InMemorySessions, RefreshError, RefreshFuture, RefreshRecord, RefreshStore, RefreshStoreError,
    Sessions, SessionsBuilder, Tokens,
};
pub use source::{Change, KeySource, Keys, LookAgain, Looked, Wanted};
pub use stats::Stats;
pub use time::{Clock, NumericDate};
pub use verified::{Untyped, Verified};
pub use verifier::{Verifier, VerifierBuilder, Verify};
