//! Issues tokens, and verifies those that it issued.

mod builder;
mod document;
mod grant;
mod ring;
#[cfg(feature = "axum")]
mod route;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::error::IssueError;
use crate::issuer::MAX_LEEWAY;
use crate::key::SigningKey;
use crate::refusal::Refusal;
use crate::revocation::Revocations;
use crate::session::{RefreshStore, SessionsBuilder};
use crate::source::{Change, Keys};
use crate::time::{Clock, NumericDate};
use crate::token::encode;
use crate::verified::{Untyped, Verified};
use crate::verifier::Verifier;

pub use builder::JwtManagerBuilder;
pub(crate) use grant::KeptGrant;
pub use grant::{Grant, Issued};

use ring::Ring;

/// Issues tokens, verifies them, and publishes the keys by which others do. Cloning one is cheap.
///
/// One key signs at a time. [`rotate`](Self::rotate) brings another without a gap: it is published
/// first and signs once all who verify have had the time to learn it; the old one still verifies
/// until the last of its tokens has expired.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tower_keep_auth::{Algorithm, Grant, JwtManager, SigningKey};
///
/// #[derive(Serialize, Deserialize)]
/// struct Account {
///     tenant: u64,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = JwtManager::builder("https://id.example.com")
///     .key(SigningKey::generate(Algorithm::EdDsa)?)
///     .audience("orders")
///     .typed::<Account>()
///     .build()?;
/// let issued =
///     manager.issue(Grant::new("user:1").scope("orders:write").claims(&Account { tenant: 7 }))?;
/// let verified = manager.verify(&issued.token)?;
/// assert!(verified.claims().has_scope("orders:write"));
/// assert_eq!(verified.extra().tenant, 7);
/// # Ok(())
/// # }
/// ```
pub struct JwtManager<C = Untyped> {
    shared: Arc<Shared>,
    verifier: Verifier<C>,
}

struct Shared {
    issuer: Box<str>,
    audiences: Vec<Box<str>>,
    typ: Box<str>,
    ttl: Duration,
    max_ttl: Duration,
    /// How long a key is published before it signs.
    lead: Duration,
    leeway: Duration,
    revocations: Option<Arc<dyn Revocations>>,
    precise: bool,
    clock: Clock,
    keys: Keys,
    /// Held for moments, and never while something is signed.
    ring: Mutex<Ring>,
}

impl JwtManager {
    /// Settings of a manager whose tokens have this `iss`: an `https` URL as a rule (RFC 8414 §2).
    pub fn builder(issuer: impl Into<String>) -> JwtManagerBuilder {
        JwtManagerBuilder::new(issuer.into())
    }
}

impl<C> JwtManager<C> {
    /// Issues a token: `grant` says whom it is for. `iss`, `aud`, `iat`, `nbf`, `exp` and a random
    /// `jti` are added.
    ///
    /// # Errors
    ///
    /// [`IssueError`] if the grant asks for a longer life than allowed, or has claims that can't be
    /// its own; or if the system has no randomness to give.
    pub fn issue(&self, grant: Grant) -> Result<Issued, IssueError> {
        let shared = &*self.shared;
        let ttl = grant.ttl.unwrap_or(shared.ttl);
        if ttl > shared.max_ttl {
            return Err(IssueError::TtlTooLong);
        }
        // Whole seconds, as they are written.
        let exactly = shared.clock.now();
        let now = NumericDate::from_secs(exactly.as_secs());
        let expires_at = NumericDate::from_secs(now.saturating_add(ttl).as_secs());
        let id = crate::key::random_name()?;
        let (mut claims, audiences) = grant.into_claims()?;
        let audiences = audiences.as_ref().unwrap_or(&shared.audiences);
        claims.insert("iss".into(), json!(shared.issuer));
        match audiences.as_slice() {
            [] => {}
            [one] => drop(claims.insert("aud".into(), json!(one))),
            several => drop(claims.insert("aud".into(), json!(several))),
        }
        let issued_at = if shared.precise { json!(exactly.to_secs_f64()) } else { json!(now) };
        claims.insert("iat".into(), issued_at);
        claims.insert("nbf".into(), json!(now));
        claims.insert("exp".into(), json!(expires_at));
        claims.insert("jti".into(), json!(id));
        let key = shared.turn(|ring| ring.active().clone());
        let mut header = Map::new();
        header.insert("alg".into(), json!(key.algorithm().as_str()));
        header.insert("typ".into(), json!(shared.typ));
        if let Some(kid) = key.kid() {
            header.insert("kid".into(), json!(kid));
        }
        let (header, claims) = (Value::Object(header), Value::Object(claims));
        let signed = format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        );
        let signature = key.sign(signed.as_bytes())?;
        Ok(Issued { token: format!("{signed}.{}", encode(&signature)), id, expires_at })
    }

    /// Publishes `key` at once, and signs by it once [`JwtManagerBuilder::publish_ahead`] has passed.
    /// The key that signs until then verifies its tokens until the last has expired.
    ///
    /// Several nodes that sign must be given the same key; where each has a key of its own, each must
    /// be told of the others' by [`trust`](JwtManagerBuilder::trust).
    ///
    /// # Errors
    ///
    /// [`IssueError::KeyName`] if the key has no name, or that of another one.
    pub fn rotate(&self, key: SigningKey) -> Result<Change, IssueError> {
        let shared = &*self.shared;
        let from = shared.clock.now().saturating_add(shared.lead);
        shared.turn(|ring| ring.bring(key, from))?;
        Ok(shared.turn(|ring| shared.keys.replace(ring.verifying())))
    }

    /// Takes a key out at once, for when it was stolen: all tokens that it signed are refused here
    /// from now on, and elsewhere once the published keys are fetched again. The key that signs can't
    /// be taken out while there is no other; [`rotate`](Self::rotate) first, and then the new one
    /// signs at once. Whether there was such a key.
    pub fn revoke_key(&self, kid: &str) -> bool {
        let shared = &*self.shared;
        shared.turn(|ring| {
            let revoked = ring.revoke(kid);
            shared.keys.replace(ring.verifying());
            revoked
        })
    }

    /// The public keys as a JWK Set (RFC 7517 §5), for `jwks_uri`. A secret is never in it.
    pub fn jwks(&self) -> String {
        document::of(&self.shared.turn(|ring| ring.verifying()))
    }

    /// How long others may keep [`jwks`](Self::jwks): half as long as a key is published ahead, so
    /// that nobody meets a key that they don't know.
    pub fn jwks_max_age(&self) -> Duration {
        self.shared.lead / 2
    }

    /// Settings of sessions, whose tokens this manager issues and which are kept in `store`.
    pub fn sessions(&self, store: impl RefreshStore) -> SessionsBuilder<C> {
        SessionsBuilder::new(self.clone(), Arc::new(store))
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    pub(crate) fn revocations(&self) -> Option<&dyn Revocations> {
        self.shared.revocations.as_deref()
    }

    /// How long a token may be accepted after it was issued, by whoever allows for clocks that differ.
    pub(crate) fn longest_life(&self) -> Duration {
        self.shared.max_ttl.saturating_add(MAX_LEEWAY)
    }

    pub(crate) fn now(&self) -> NumericDate {
        self.shared.clock.now()
    }

    /// What verifies this manager's tokens, for a layer.
    pub fn verifier(&self) -> &Verifier<C> {
        &self.verifier
    }
}

impl<C: DeserializeOwned + Send + Sync + 'static> JwtManager<C> {
    /// Verifies a token that this manager issued, or another one with the same keys, by what is known
    /// now. Where revocations are shared with other nodes, the [`verifier`](Self::verifier) has to wait
    /// for them now and then.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] that came first.
    pub fn verify(&self, token: &(impl AsRef<[u8]> + ?Sized)) -> Result<Verified<C>, Refusal> {
        self.verifier.verify_now(token)
    }
}

impl Shared {
    /// Does something with the keys as they are now due.
    fn turn<T>(&self, with: impl FnOnce(&mut Ring) -> T) -> T {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        // The last token of a key that is replaced may be made in this very moment.
        let life = self.max_ttl.saturating_add(self.leeway).saturating_add(Duration::from_secs(1));
        if ring.settle(self.clock.now(), life) {
            self.keys.replace(ring.verifying());
        }
        with(&mut ring)
    }
}

impl<C> Clone for JwtManager<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), verifier: self.verifier.clone() }
    }
}

impl<C> fmt::Debug for JwtManager<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtManager")
            .field("issuer", &self.shared.issuer)
            .field("keys", &self.shared.keys)
            .finish_non_exhaustive()
    }
}
