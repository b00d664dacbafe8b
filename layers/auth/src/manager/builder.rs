//! Settings of a [`JwtManager`], checked when it is built.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::ring::Ring;
use super::{JwtManager, Shared};
use crate::algorithm::Algorithm;
use crate::error::BuildError;
use crate::issuer::Issuer;
use crate::key::{Key, SigningKey};
use crate::revocation::Revocations;
use crate::source::Keys;
use crate::time::Clock;
use crate::verified::Untyped;
use crate::verifier::Verifier;

/// What is longer would be refused by who reads it.
const MAX_TTL: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Settings of a [`JwtManager`].
///
/// | setting | default |
/// | --- | --- |
/// | [`key`](Self::key) | must be set |
/// | [`audience`](Self::audience) | must be set |
/// | [`trust`](Self::trust) | none |
/// | [`ttl`](Self::ttl) | 15 minutes |
/// | [`max_ttl`](Self::max_ttl) | `ttl` |
/// | [`typ`](Self::typ) | `JWT` |
/// | [`publish_ahead`](Self::publish_ahead) | 10 minutes |
/// | [`leeway`](Self::leeway) | 60 s |
/// | [`typed`](Self::typed) | [`Untyped`] |
/// | [`revocations`](Self::revocations) | none |
/// | [`precise`](Self::precise) | no |
/// | [`clock`](Self::clock) | the system's |
#[derive(Debug)]
#[must_use]
pub struct JwtManagerBuilder<C = Untyped> {
    issuer: String,
    key: Option<SigningKey>,
    trusted: Vec<Key>,
    audiences: Vec<Box<str>>,
    ttl: Duration,
    max_ttl: Option<Duration>,
    typ: Box<str>,
    lead: Duration,
    leeway: Duration,
    revocations: Option<Arc<dyn Revocations>>,
    precise: bool,
    clock: Clock,
    typed: PhantomData<fn() -> C>,
}

impl JwtManagerBuilder {
    pub(super) fn new(issuer: String) -> Self {
        Self {
            issuer,
            key: None,
            trusted: Vec::new(),
            audiences: Vec::new(),
            ttl: Duration::from_secs(15 * 60),
            max_ttl: None,
            typ: "JWT".into(),
            lead: Duration::from_secs(10 * 60),
            leeway: Duration::from_secs(60),
            revocations: None,
            precise: false,
            clock: Clock::system(),
            typed: PhantomData,
        }
    }
}

impl<C> JwtManagerBuilder<C> {
    /// The key that signs.
    pub fn key(mut self, key: SigningKey) -> Self {
        self.key = Some(key);
        self
    }

    /// A key that verifies and is published, and doesn't sign: the one that will after the next
    /// restart, the one that did before the last, another node's. Can be called several times.
    pub fn trust(mut self, key: Key) -> Self {
        self.trusted.push(key);
        self
    }

    /// An audience of all tokens, unless their grant names others. It is what this manager accepts
    /// itself. Can be called several times.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into().into_boxed_str());
        self
    }

    /// How long a token is good for, unless its grant says otherwise. Default: 15 minutes, since a
    /// token can't be taken back without asking somebody with each request.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The longest life that a grant may ask for; keys that signed are kept for as long. Default:
    /// [`ttl`](Self::ttl).
    pub fn max_ttl(mut self, ttl: Duration) -> Self {
        self.max_ttl = Some(ttl);
        self
    }

    /// What tokens say they are, in `typ`, and what is accepted: `at+jwt` for access tokens with all
    /// the claims of RFC 9068. Default: `JWT`.
    pub fn typ(mut self, typ: impl Into<String>) -> Self {
        self.typ = typ.into().into_boxed_str();
        self
    }

    /// How long a new key is published before it signs. Others should fetch the keys at least as
    /// often as that. Default: 10 minutes.
    pub fn publish_ahead(mut self, lead: Duration) -> Self {
        self.lead = lead;
        self
    }

    /// How far clocks may be off, for tokens that are verified here. Default: 60 s.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Reads the claims as `T` as well: [`Verified::extra`](crate::Verified::extra).
    pub fn typed<T>(self) -> JwtManagerBuilder<T> {
        let Self { issuer, key, trusted, audiences, ttl, max_ttl, typ, lead, leeway, .. } = self;
        let Self { revocations, precise, clock, .. } = self;
        JwtManagerBuilder {
            issuer,
            key,
            trusted,
            audiences,
            ttl,
            max_ttl,
            typ,
            lead,
            leeway,
            revocations,
            precise,
            clock,
            typed: PhantomData,
        }
    }

    /// Refuses tokens and sessions of this manager that were revoked. Verify by
    /// [`verifier`](JwtManager::verifier) then, which waits where somebody must be asked.
    pub fn revocations(mut self, revocations: impl Revocations) -> Self {
        self.revocations = Some(Arc::new(revocations));
        self
    }

    /// Writes `iat` to the millisecond (RFC 7519 §2 allows fractions, and some who read tokens don't).
    /// So what is issued right after a revocation can be told from what was issued right before: for
    /// who changes a password, logs out everywhere and goes on, all within a second.
    pub fn precise(mut self) -> Self {
        self.precise = true;
        self
    }

    /// The clock by which tokens are issued and judged.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`BuildError`], with what to change.
    pub fn build(self) -> Result<JwtManager<C>, BuildError> {
        let max_ttl = self.max_ttl.unwrap_or(self.ttl);
        let Some(key) = self.key else {
            return Err(BuildError::Setting("a manager signs by a key; give it one with `key`"));
        };
        if self.ttl < Duration::from_secs(1) || max_ttl < self.ttl {
            let text = "`ttl` must be a second or more, and `max_ttl` no less than `ttl`";
            return Err(BuildError::Setting(text));
        }
        if max_ttl > MAX_TTL {
            let text = "tokens live for 100 years at most; lower `ttl` or `max_ttl`";
            return Err(BuildError::Setting(text));
        }
        if key.kid().is_none() && !self.trusted.is_empty() {
            let text = "with several keys, each needs a name; give it one with `with_kid`";
            return Err(BuildError::Setting(text));
        }
        let ring = Ring::new(key, self.trusted);
        let keys = Keys::new(ring.verifying());
        // Each key narrows it to what it is for.
        let symmetric = [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512];
        let mut issuer = Issuer::new(self.issuer.clone())
            .key_source(keys.clone())
            .algorithms(Algorithm::ASYMMETRIC.into_iter().chain(symmetric))
            .leeway(self.leeway)
            .typ(&*self.typ)
            .require("sub")
            .require("iat")
            .require("jti");
        for audience in &self.audiences {
            issuer = issuer.audience(&**audience);
        }
        let verifier = Verifier::builder()
            .issuer(issuer)
            .revocations_of(self.revocations.clone())
            .clock(self.clock.clone())
            .typed()
            .build()?;
        let shared = Shared {
            issuer: self.issuer.into(),
            audiences: self.audiences,
            typ: self.typ,
            ttl: self.ttl,
            max_ttl,
            lead: self.lead,
            leeway: self.leeway,
            revocations: self.revocations,
            precise: self.precise,
            clock: self.clock,
            keys,
            ring: Mutex::new(ring),
        };
        Ok(JwtManager { shared: Arc::new(shared), verifier })
    }
}
