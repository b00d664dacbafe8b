//! Settings of a [`Verifier`], checked when it is built.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::seen::Seen;
use super::{Shared, Verifier};
use crate::error::BuildError;
use crate::issuer::Issuer;
use crate::revocation::Revocations;
use crate::time::Clock;
use crate::token::DEFAULT_MAX_LEN;
use crate::verified::Untyped;

/// Settings of a [`Verifier`].
///
/// | setting | default |
/// | --- | --- |
/// | [`issuer`](Self::issuer) | must be called |
/// | [`typed`](Self::typed) | [`Untyped`] |
/// | [`max_len`](Self::max_len) | 8 KiB |
/// | [`remember`](Self::remember) | 16 MiB |
/// | [`revocations`](Self::revocations) | none |
/// | [`clock`](Self::clock) | the system's |
#[must_use]
pub struct VerifierBuilder<C = Untyped> {
    issuers: Vec<Issuer>,
    max_len: usize,
    remember: u64,
    revocations: Option<Arc<dyn Revocations>>,
    clock: Clock,
    typed: PhantomData<fn() -> C>,
}

impl VerifierBuilder {
    pub(super) fn new() -> Self {
        Self {
            issuers: Vec::new(),
            max_len: DEFAULT_MAX_LEN,
            remember: 16 * 1024 * 1024,
            revocations: None,
            clock: Clock::system(),
            typed: PhantomData,
        }
    }
}

impl<C> VerifierBuilder<C> {
    /// Trusts an issuer. Can be called several times: each token is judged by the keys and rules of
    /// its own `iss`.
    pub fn issuer(mut self, issuer: Issuer) -> Self {
        self.issuers.push(issuer);
        self
    }

    /// Reads the claims as `T` as well, once for each token: [`Verified::extra`]. A token that doesn't
    /// fit is refused. Registered claims are there anyway, in [`Verified::claims`].
    ///
    /// [`Verified::extra`]: crate::Verified::extra
    /// [`Verified::claims`]: crate::Verified::claims
    pub fn typed<T>(self) -> VerifierBuilder<T> {
        let Self { issuers, max_len, remember, revocations, clock, .. } = self;
        VerifierBuilder { issuers, max_len, remember, revocations, clock, typed: PhantomData }
    }

    /// The most bytes that a token may have: 256 bytes to 1 MiB. Default: 8 KiB.
    pub fn max_len(mut self, bytes: usize) -> Self {
        self.max_len = bytes;
        self
    }

    /// The most bytes to remember tokens in that were accepted; 0 remembers none. Default: 16 MiB. A
    /// token is taken to need 512 bytes, and three times the length of its header and claims: one of
    /// 359 bytes as 1,457, of which it needed 1,418 when there were a million of them.
    pub fn remember(mut self, bytes: u64) -> Self {
        self.remember = bytes;
        self
    }

    /// Refuses what was revoked. Tokens must have `iat` then. Default: nobody is asked.
    pub fn revocations(self, revocations: impl Revocations) -> Self {
        self.revocations_of(Some(Arc::new(revocations)))
    }

    pub(crate) fn revocations_of(mut self, revocations: Option<Arc<dyn Revocations>>) -> Self {
        self.revocations = revocations;
        self
    }

    /// The clock that tokens are judged by.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`BuildError`], with what to change.
    pub fn build(self) -> Result<Verifier<C>, BuildError> {
        let Self { issuers, max_len, remember, revocations, clock, .. } = self;
        if issuers.is_empty() {
            return Err(BuildError::NoIssuer);
        }
        if !(256..=1024 * 1024).contains(&max_len) {
            return Err(BuildError::Setting("`max_len` must be 256 bytes to 1 MiB"));
        }
        let seen = match remember {
            0 => None,
            1..=65_535 => {
                let text = "`remember` must be 64 KiB or more, or 0 to remember no token";
                return Err(BuildError::Setting(text));
            }
            bytes => Some(Seen::new(bytes)),
        };
        let mut trusted = HashMap::with_capacity(issuers.len());
        for issuer in issuers {
            let name = issuer.name().to_owned();
            if trusted.insert(Box::from(name.as_str()), issuer.check()?).is_some() {
                return Err(BuildError::DuplicateIssuer(name));
            }
        }
        let shared = Shared { issuers: trusted, seen, revocations, max_len, clock };
        Ok(Verifier { shared: Arc::new(shared) })
    }
}

impl<C> fmt::Debug for VerifierBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifierBuilder")
            .field("issuers", &self.issuers)
            .field("max_len", &self.max_len)
            .field("remember", &self.remember)
            .finish_non_exhaustive()
    }
}
