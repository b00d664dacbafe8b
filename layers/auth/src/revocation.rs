//! Tokens that are refused before they expire.

mod bucket;
mod builder;
mod list;
#[cfg(feature = "store")]
mod shared;
#[cfg(not(feature = "store"))]
#[path = "revocation/alone.rs"]
mod shared;
mod target;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::claims::Claims;
use crate::refusal::Refusal;
use crate::time::NumericDate;

pub use builder::{Lost, RevocationListBuilder};
pub use list::RevocationList;
pub use target::Target;

/// What knows which tokens were revoked: [`RevocationList`], or something of your own.
///
/// A verifier asks it once for each token, after everything else was found right, and once more when
/// the [`Standing`] that it gave doesn't hold any longer.
pub trait Revocations: fmt::Debug + Send + Sync + 'static {
    /// Whether what `token` describes was revoked.
    fn check(&self, token: &Revocable<'_>) -> Check;

    /// Revokes `target`: all that was issued to it until now.
    fn revoke(&self, target: Target) -> Revoking;

    /// For how long it remembers what is revoked, where that isn't a single token or session.
    fn memory(&self) -> Duration;
}

/// The future of [`Revocations::revoke`].
pub type Revoking = Pin<Box<dyn Future<Output = Result<Reach, RevokeError>> + Send>>;

/// A [`Check`] that takes its time.
pub type Checking = Pin<Box<dyn Future<Output = Result<Standing, Refusal>> + Send>>;

/// What came of a check.
pub enum Check {
    /// It is decided.
    Done(Result<Standing, Refusal>),
    /// It has to be waited for.
    Waits(Checking),
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(result) => f.debug_tuple("Done").field(result).finish(),
            Self::Waits(_) => f.debug_tuple("Waits").finish(),
        }
    }
}

/// How far a revocation got before its call returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is in force on this node, it is kept, and all nodes that can hear of it have been told.
    Everywhere,
    /// It is in force on this node. The others are told as soon as they can be.
    ThisNode,
}

/// Why nothing was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// As many revocations are in force as may be. The issuer's key could be changed instead.
    #[error("no more revocations can be kept until some have run out")]
    Full,
}

/// What a token, or a session, says of itself: that by which it may have been revoked.
#[derive(Clone, Copy)]
pub struct Revocable<'a> {
    claims: &'a Claims,
    others: &'a dyn Fn(&str) -> Option<&'a Value>,
    is_session: bool,
}

impl<'a> Revocable<'a> {
    pub(crate) fn token(claims: &'a Claims, others: &'a dyn Fn(&str) -> Option<&'a Value>) -> Self {
        Self { claims, others, is_session: false }
    }

    pub(crate) fn session(
        claims: &'a Claims,
        others: &'a dyn Fn(&str) -> Option<&'a Value>,
    ) -> Self {
        Self { claims, others, is_session: true }
    }

    /// The registered claims. Those of a session have its beginning as `iat`.
    pub fn claims(&self) -> &'a Claims {
        self.claims
    }

    /// Any claim, by its name.
    pub fn claim(&self, name: &str) -> Option<&'a Value> {
        (self.others)(name)
    }

    /// Whether it is a session that is to be refreshed, rather than a token.
    pub fn is_session(&self) -> bool {
        self.is_session
    }
}

impl fmt::Debug for Revocable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocable")
            .field("jti", &self.claims.jti)
            .field("is_session", &self.is_session)
            .finish_non_exhaustive()
    }
}

/// That something wasn't revoked, for as long as nothing changes.
#[derive(Clone)]
pub struct Standing(Option<Arc<dyn Stands>>);

/// What a [`Standing`] is made of.
pub trait Stands: Send + Sync + 'static {
    /// Whether nothing has changed at `now`. Asked with each request, so it must be cheap.
    fn stands(&self, now: NumericDate) -> bool;
}

impl Standing {
    /// For as long as `stands` says so.
    pub fn new(stands: impl Stands) -> Self {
        Self(Some(Arc::new(stands)))
    }

    /// For this once.
    pub fn once() -> Self {
        Self(None)
    }

    pub(crate) fn holds(&self, now: NumericDate) -> bool {
        self.0.as_ref().is_some_and(|stands| stands.stands(now))
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").field("once", &self.0.is_none()).finish_non_exhaustive()
    }
}
