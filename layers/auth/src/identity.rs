//! Who asks, as it is left on a request: a verified token without the type of its claims.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use http::Extensions;
use serde_json::Value;

use crate::answer::Answers;
use crate::claims::Claims;
use crate::verified::{Inner, Verified};

/// A verified token, whatever type its claims are read as: what a [`Require`](crate::Require) decides
/// by, and what a cache can tell users apart by.
///
/// [`JwtLayer`](crate::JwtLayer) leaves it on each request whose token it has verified;
/// [`Verified::of`] has the type again. Cloning one is cheap.
#[derive(Clone)]
pub struct Identity {
    token: Arc<dyn Token>,
}

trait Token: Any + Send + Sync {
    fn claims(&self) -> &Claims;
    fn claim(&self, name: &str) -> Option<&Value>;
}

impl<C: Send + Sync + 'static> Token for Inner<C> {
    fn claims(&self) -> &Claims {
        &self.claims
    }

    fn claim(&self, name: &str) -> Option<&Value> {
        Self::claim(self, name)
    }
}

impl Identity {
    /// That of a request or a response to come, if a token was verified for it.
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get::<Guarded>()?.identity.as_ref()
    }

    /// The registered claims.
    pub fn claims(&self) -> &Claims {
        self.token.claims()
    }

    /// `iss`, which is that of an issuer that is trusted.
    pub fn issuer(&self) -> &str {
        self.claims().iss.as_deref().unwrap_or_default()
    }

    /// `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.claims().sub.as_deref()
    }

    /// Any claim, by its name.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.token.claim(name)
    }

    /// The claims as your own type, if the verifier reads them as that.
    pub fn extra<C: 'static>(&self) -> Option<&C> {
        let token: &dyn Any = &*self.token;
        token.downcast_ref::<Inner<C>>().map(|inner| &inner.extra)
    }

    pub(crate) fn verified<C: Send + Sync + 'static>(&self) -> Option<Verified<C>> {
        let token: Arc<dyn Any + Send + Sync> = Arc::clone(&self.token) as _;
        token.downcast().ok().map(Verified::from_inner)
    }

    /// What tells the user of a request from all others: issuer and subject. None if no token was
    /// verified, or it has no subject.
    ///
    /// For `KeyPolicy::identity` of `tower-keep-cache`, in a cache inside of
    /// [`JwtLayer`](crate::JwtLayer): `.identity("user", |head| Identity::subject_key(head.extensions()))`.
    pub fn subject_key(extensions: &Extensions) -> Option<Vec<u8>> {
        let identity = Self::of(extensions)?;
        let subject = identity.subject().filter(|subject| !subject.is_empty())?;
        Some(key(identity.issuer(), subject.as_bytes()))
    }

    /// What tells those with one value of a claim from all others: issuer and value. None if no token
    /// was verified, or it has no such claim.
    ///
    /// As an identity it is right for a claim whose bearers may see each other's responses: a
    /// tenant, where nothing is any one user's.
    pub fn claim_key(extensions: &Extensions, claim: &str) -> Option<Vec<u8>> {
        let identity = Self::of(extensions)?;
        let value = identity.claim(claim).filter(|value| !value.is_null())?;
        Some(key(identity.issuer(), value.to_string().as_bytes()))
    }
}

/// No two pairs have one key: the length says where the issuer ends.
fn key(issuer: &str, value: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + issuer.len() + value.len());
    key.extend_from_slice(&(issuer.len() as u64).to_be_bytes());
    key.extend_from_slice(issuer.as_bytes());
    key.extend_from_slice(value);
    key
}

impl<C: Send + Sync + 'static> From<Verified<C>> for Identity {
    fn from(verified: Verified<C>) -> Self {
        Self { token: verified.into_inner() }
    }
}

impl<C: Send + Sync + 'static> From<&Verified<C>> for Identity {
    fn from(verified: &Verified<C>) -> Self {
        verified.clone().into()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("iss", &self.claims().iss)
            .field("sub", &self.claims().sub)
            .finish_non_exhaustive()
    }
}

/// What the layer leaves on each request that it lets through, with a token or without: so that
/// what asks for one inside knows whether anybody has looked, and answers in the same way. It is the
/// only thing that it leaves there, since each costs an allocation.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    pub(crate) identity: Option<Identity>,
    pub(crate) answers: Arc<Answers>,
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn keys_of_two_issuers_never_meet() {
        assert_ne!(key("https://a", b"b/c"), key("https://a/b", b"/c"));
        assert_ne!(key("ab", b"c"), key("a", b"bc"));
    }
}
