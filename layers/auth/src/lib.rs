//! JSON Web Tokens: verified once, remembered until they expire or their key leaves.
//!
//! A [`Verifier`] trusts one or more [`Issuer`]s, each with keys, audiences and rules of its own. What
//! it accepts is [`Verified`]: the registered [`Claims`], and your own as a type of yours. What it
//! refuses has a [`Refusal`], one reason each. A [`JwtManager`] issues tokens of one's own, and
//! [`Sessions`] renew them by refresh tokens. What must not be used any more is on a
//! [`RevocationList`].
//!
//! ```
//! use std::time::Duration;
//! use serde::Deserialize;
//! use tower_keep_auth::{Algorithm, Issuer, Key, KeySet, Keys, Refusal, Verifier};
//!
//! #[derive(Deserialize)]
//! struct Account {
//!     tenant: u64,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The keys that the issuer has now; `keys.replace(…)` swaps them while tokens are verified.
//! let keys = Keys::new(KeySet::from_jwks(
//!     r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
//! )?);
//! let verifier = Verifier::builder()
//!     .issuer(Issuer::new("https://id.example.com").key_source(keys).audience("orders"))
//!     .typed::<Account>()
//!     .build()?;
//!
//! let unsigned = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIn0.";
//! assert_eq!(verifier.verify_now(unsigned).unwrap_err(), Refusal::Unsigned);
//! # Ok(())
//! # }
//! ```
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
//! | `axum` | `JwtManager::jwks_route`: the published keys as a route |
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
mod claims;
mod error;
#[cfg(feature = "file")]
mod file;
mod header;
mod health;
mod issuer;
mod json;
mod key;
mod manager;
mod refusal;
#[cfg(feature = "jwks")]
mod remote;
mod revocation;
mod session;
mod source;
mod time;
mod token;
mod verified;
mod verifier;

pub use algorithm::Algorithm;
pub use claims::Claims;
pub use error::{BuildError, IssueError, KeyError};
#[cfg(feature = "file")]
pub use file::{FileError, FileKeys, FileKeysBuilder};
pub use health::KeyHealth;
pub use issuer::Issuer;
pub use key::{Key, KeySet, SigningKey, Skipped};
pub use manager::{Grant, Issued, JwtManager, JwtManagerBuilder};
pub use refusal::{Part, Refusal};
#[cfg(feature = "jwks")]
pub use remote::{
    FetchError, FetchStats, HttpsClient, HttpsClientBody, HttpsClientError, RemoteKeys,
    RemoteKeysBuilder,
};
pub use revocation::{
    Check, Checking, Lost, Reach, Revocable, RevocationList, RevocationListBuilder, Revocations,
    RevokeError, Revoking, Standing, Stands, Target,
};
#[cfg(feature = "store")]
pub use session::SharedSessions;
pub use session::{
    InMemorySessions, RefreshError, RefreshFuture, RefreshRecord, RefreshStore, RefreshStoreError,
    Sessions, SessionsBuilder, Tokens,
};
pub use source::{Change, KeySource, Keys, LookAgain, Looked, Wanted};
pub use time::{Clock, NumericDate};
pub use verified::{Untyped, Verified};
pub use verifier::{Verifier, VerifierBuilder, Verify};
