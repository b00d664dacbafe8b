//! A token that was verified.

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::Extensions;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny};
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::claims::Claims;
use crate::identity::Identity;
use crate::source::Slot;
use crate::time::NumericDate;

/// No claims of one's own: what a [`Verifier`](crate::Verifier) reads them as unless told otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untyped;

impl<'de> Deserialize<'de> for Untyped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// A token that was verified: its claims. Cloning one is cheap, and a token that is seen again gives
/// the same.
///
/// It says what was true when it was made: it doesn't notice that the token expires while it is held.
pub struct Verified<C = Untyped> {
    inner: Arc<Inner<C>>,
}

/// A payload taken apart, once somebody asks for one of its parts.
type Members = OnceLock<Map<String, Value>>;

pub(crate) struct Inner<C> {
    pub(crate) claims: Claims,
    pub(crate) extra: C,
    /// Header and payload in base64url, as they were signed.
    pub(crate) signed: Box<[u8]>,
    /// The payload, decoded.
    pub(crate) payload: Box<str>,
    pub(crate) members: Members,
    pub(crate) algorithm: Algorithm,
    pub(crate) slot: Arc<Slot>,
    /// When the times in it are right.
    pub(crate) from: NumericDate,
    pub(crate) until: NumericDate,
}

impl<C> Inner<C> {
    pub(crate) fn claim(&self, name: &str) -> Option<&Value> {
        members(&self.members, &self.payload).get(name)
    }
}

impl<C> Verified<C> {
    pub(crate) fn new(inner: Inner<C>) -> Self {
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn from_inner(inner: Arc<Inner<C>>) -> Self {
        Self { inner }
    }

    pub(crate) fn into_inner(self) -> Arc<Inner<C>> {
        self.inner
    }

    /// That of a request or a response to come, if a token was verified for it whose claims were read
    /// as that type.
    pub fn of(extensions: &Extensions) -> Option<Self>
    where
        C: Send + Sync + 'static,
    {
        Identity::of(extensions)?.verified()
    }

    /// The registered claims.
    pub fn claims(&self) -> &Claims {
        &self.inner.claims
    }

    /// The claims as your own type.
    pub fn extra(&self) -> &C {
        &self.inner.extra
    }

    /// `iss`, which is that of an issuer that is trusted.
    pub fn issuer(&self) -> &str {
        self.inner.claims.iss.as_deref().unwrap_or_default()
    }

    /// `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.inner.claims.sub.as_deref()
    }

    /// Any claim, by its name. The payload is taken apart when this is first called.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.inner.claim(name)
    }

    /// The payload as it was signed: a JSON object.
    pub fn payload(&self) -> &str {
        &self.inner.payload
    }

    /// Reads the payload as another type.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if it isn't of that type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.inner.payload)
    }

    /// What it was signed by.
    pub fn algorithm(&self) -> Algorithm {
        self.inner.algorithm
    }

    /// The name of the key that verified it.
    pub fn kid(&self) -> Option<&str> {
        self.inner.slot.key.kid()
    }

    /// From when on it isn't accepted any more, leeway and greatest age counted in; none if it never
    /// expires.
    pub fn accepted_until(&self) -> Option<NumericDate> {
        Some(self.inner.until).filter(|until| until.as_millis() != i64::MAX)
    }

    pub(crate) fn signed(&self) -> &[u8] {
        &self.inner.signed
    }

    pub(crate) fn is_current(&self, now: NumericDate) -> bool {
        self.inner.from <= now && now < self.inner.until && !self.inner.slot.is_retired()
    }
}

/// Whether the claims in `payload` have one of that name that isn't `null`.
pub(crate) fn has(cell: &Members, payload: &str, name: &str) -> bool {
    members(cell, payload).get(name).is_some_and(|value| !value.is_null())
}

fn members<'a>(cell: &'a Members, payload: &str) -> &'a Map<String, Value> {
    // It was read once before, so it is JSON.
    cell.get_or_init(|| serde_json::from_str(payload).unwrap_or_default())
}

impl<C> Clone for Verified<C> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

/// Without the payload, which may tell of somebody what no log should.
impl<C> fmt::Debug for Verified<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("iss", &self.inner.claims.iss)
            .field("sub", &self.inner.claims.sub)
            .field("algorithm", &self.inner.algorithm)
            .field("kid", &self.kid())
            .finish_non_exhaustive()
    }
}
