//! How a source of keys is doing, for health checks and metrics.

use std::time::Duration;

use crate::source::Keys;

/// How the keys of an issuer are: see [`Verifier::health`](crate::Verifier::health).
///
/// Tokens are verified as long as there are [`keys`](Self::keys), so a service whose issuer is away is
/// as good as before; a `failure` that lasts is for somebody to look at, and not a reason to be taken
/// out of service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyHealth {
    /// How many keys there are; none if they aren't known.
    pub keys: Option<usize>,
    /// How long ago the issuer last said that these are its keys; none if it never did, or if they
    /// were given by hand.
    pub age: Option<Duration>,
    /// Whether they should have been fetched again by now, and could not be.
    pub stale: bool,
    /// Why the last attempt to fetch or read them failed, if it did: one of a fixed set of names, for
    /// labels of metrics.
    pub failure: Option<&'static str>,
}

impl KeyHealth {
    /// What can be told of a cell alone.
    pub fn of(keys: &Keys) -> Self {
        Self { keys: keys.len(), age: None, stale: false, failure: None }
    }

    /// Whether tokens can be verified.
    pub fn is_usable(&self) -> bool {
        self.keys.is_some_and(|keys| keys > 0)
    }
}
