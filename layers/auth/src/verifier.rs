//! Verifies tokens: the whole way from bytes to claims.

mod builder;
mod find;
mod future;
mod seen;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;

use crate::claims;
use crate::header::Header;
use crate::health::KeyHealth;
use crate::issuer::Trusted;
use crate::refusal::Refusal;
use crate::revocation::{Check, Checking, Revocable, Revocations, Standing};
use crate::source::{LookAgain, Wanted};
use crate::time::Clock;
use crate::token::Compact;
use crate::verified::{self, Inner, Untyped, Verified};

pub use builder::VerifierBuilder;
pub use future::Verify;

use seen::{Known, Seen, Sought};

/// Verifies tokens of the issuers that it trusts. Cloning one is cheap, and the clones share what
/// they remember.
///
/// A token that was accepted is remembered: when it is seen again, only its times and its key are
/// checked. Neither what is remembered nor the keys are behind a lock that anybody holds for long.
///
/// ```
/// use serde::Deserialize;
/// use tower_keep_auth::{Algorithm, Issuer, Key, Verifier};
///
/// #[derive(Deserialize)]
/// struct Tenant {
///     tenant: String,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = Key::hmac(Algorithm::Hs256, b"32 random bytes, not these ones.")?;
/// let verifier = Verifier::builder()
///     .issuer(
///         Issuer::new("https://id.example.com")
///             .keys(key)
///             .algorithms([Algorithm::Hs256])
///             .audience("orders"),
///     )
///     .typed::<Tenant>()
///     .build()?;
/// match verifier.verify_now("not.a.token") {
///     Ok(verified) => println!("{:?} of {}", verified.subject(), verified.extra().tenant),
///     Err(refusal) => println!("{refusal}"),
/// }
/// # Ok(())
/// # }
/// ```
pub struct Verifier<C = Untyped> {
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    issuers: HashMap<Box<str>, Trusted>,
    seen: Option<Seen<C>>,
    revocations: Option<Arc<dyn Revocations>>,
    max_len: usize,
    clock: Clock,
}

impl Verifier {
    /// Settings of a verifier.
    pub fn builder() -> VerifierBuilder {
        VerifierBuilder::new()
    }
}

impl<C: DeserializeOwned + Send + Sync + 'static> Verifier<C> {
    /// Verifies `token`. If its key isn't known and the issuer's source can look for it, this waits
    /// for that, once; and if it must be asked whether the token was revoked, for the answer. Else it is
    /// ready at once.
    pub fn verify(&self, token: &(impl AsRef<[u8]> + ?Sized)) -> Verify<C> {
        let token = token.as_ref();
        match self.run(token, |issuer, wanted| issuer.source().look_again(wanted)) {
            Step::Done(result) => Verify::done(result),
            Step::LookAgain(looking) => Verify::looking(looking, self.clone(), token),
            Step::Check(pending) => Verify::checking(pending, self.clone()),
        }
    }

    /// Verifies `token` by what is known now. The key's source isn't told if there is none that fits.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] that came first, in this order: form, issuer, type, algorithm, key, signature,
    /// claims, revocation. [`Refusal::RevocationUnknown`] if others must be asked for that.
    pub fn verify_now(&self, token: &(impl AsRef<[u8]> + ?Sized)) -> Result<Verified<C>, Refusal> {
        match self.run(token.as_ref(), |_, _| None) {
            Step::Done(result) => result,
            Step::LookAgain(_) => Err(Refusal::UnknownKey),
            Step::Check(_) => Err(Refusal::RevocationUnknown),
        }
    }

    /// How the keys of each issuer are, in no order.
    pub fn health(&self) -> impl Iterator<Item = (&str, KeyHealth)> {
        let issuers = self.shared.issuers.iter();
        issuers.map(|(name, issuer)| (&**name, issuer.source().health()))
    }

    fn run(
        &self,
        token: &[u8],
        look_again: impl FnOnce(&Trusted, Wanted<'_>) -> Option<LookAgain>,
    ) -> Step<C> {
        let Shared { seen, max_len, clock, .. } = &*self.shared;
        if token.len() > *max_len {
            return Step::Done(Err(Refusal::TooLong));
        }
        let sought = seen.as_ref().and_then(|_| Sought::new(token));
        let digest = sought.map(|sought| sought.digest);
        if let Some((seen, sought)) = seen.as_ref().zip(sought)
            && let Some(Known { verified, standing }) = seen.get(&sought)
        {
            let now = clock.now();
            if verified.is_current(now) {
                if standing.is_none_or(|standing| standing.holds(now)) {
                    return Step::Done(Ok(verified));
                }
                return self.shared.check(verified, digest);
            }
            // It has expired, or its key is gone, or the clock was set back. If another one has come
            // in its place meanwhile, that costs time and nothing else.
            seen.remove(&sought.digest);
        }
        match self.shared.judge(token, look_again) {
            Ok(verified) => self.shared.check(verified, digest),
            Err(Attempt { look_again: Some(looking), .. }) => Step::LookAgain(looking),
            Err(Attempt { refusal, look_again: None }) => Step::Done(Err(refusal)),
        }
    }
}

/// How far a verification got without waiting.
enum Step<C> {
    Done(Result<Verified<C>, Refusal>),
    LookAgain(LookAgain),
    Check(Pending<C>),
}

/// A token in which nothing is wrong, unless it was revoked.
struct Pending<C> {
    checking: Checking,
    verified: Verified<C>,
    digest: Option<[u8; 32]>,
}

/// An attempt that failed, and what may be waited for before another one.
struct Attempt {
    refusal: Refusal,
    look_again: Option<LookAgain>,
}

impl From<Refusal> for Attempt {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, look_again: None }
    }
}

impl<C> Shared<C> {
    /// Accepts a token in which nothing else is wrong, unless it was revoked.
    fn check(&self, verified: Verified<C>, digest: Option<[u8; 32]>) -> Step<C> {
        let Some(revocations) = &self.revocations else {
            self.remember(digest, &verified, None);
            return Step::Done(Ok(verified));
        };
        let others = |name: &str| verified.claim(name);
        match revocations.check(&Revocable::token(verified.claims(), &others)) {
            Check::Done(standing) => Step::Done(self.settle(verified, digest, standing)),
            Check::Waits(checking) => Step::Check(Pending { checking, verified, digest }),
        }
    }

    fn settle(
        &self,
        verified: Verified<C>,
        digest: Option<[u8; 32]>,
        standing: Result<Standing, Refusal>,
    ) -> Result<Verified<C>, Refusal> {
        match standing {
            Ok(standing) => {
                self.remember(digest, &verified, Some(standing));
                Ok(verified)
            }
            Err(refusal) => {
                if let Some((seen, digest)) = self.seen.as_ref().zip(digest) {
                    seen.remove(&digest);
                }
                Err(refusal)
            }
        }
    }

    fn remember(
        &self,
        digest: Option<[u8; 32]>,
        verified: &Verified<C>,
        standing: Option<Standing>,
    ) {
        if let Some((seen, digest)) = self.seen.as_ref().zip(digest) {
            seen.insert(digest, Known { verified: verified.clone(), standing });
        }
    }
}

impl<C: DeserializeOwned> Shared<C> {
    fn judge(
        &self,
        token: &[u8],
        look_again: impl FnOnce(&Trusted, Wanted<'_>) -> Option<LookAgain>,
    ) -> Result<Verified<C>, Attempt> {
        let token = Compact::split(token, self.max_len)?;
        let header = token.header()?;
        let header = Header::read(&header)?;
        let payload = token.claims()?;
        let signature = token.signature()?;
        let claims = claims::of_payload(&payload)?;
        // Nothing of it is believed yet: the name only says whose keys to try.
        let name = claims.iss.as_deref().ok_or_else(|| Refusal::missing("iss"))?;
        let issuer = self.issuers.get(name).ok_or(Refusal::UnknownIssuer)?;
        if !issuer.expects(header.typ.as_deref()) {
            return Err(Refusal::WrongType.into());
        }
        if !issuer.allows(header.algorithm) {
            return Err(Refusal::AlgorithmNotAllowed.into());
        }
        let kid = header.kid.as_deref();
        let keys = issuer.source().keys();
        let slot = find::signer(keys, &header, token.signed(), &signature).map_err(|refusal| {
            let look_again = find::may_be_elsewhere(&refusal, kid)
                .then(|| look_again(issuer, Wanted::new(kid, header.algorithm)))
                .flatten();
            Attempt { refusal, look_again }
        })?;
        let members = OnceLock::new();
        issuer
            .judge(&claims, self.clock.now(), |claim| verified::has(&members, &payload, claim))?;
        let extra = serde_json::from_str(&payload).map_err(|_| Refusal::ClaimsMismatch)?;
        let (from, until) = issuer.window(&claims);
        let (payload, algorithm) = (payload.into(), header.algorithm);
        let signed = token.signed().into();
        let inner = Inner { claims, extra, signed, payload, members, algorithm, slot, from, until };
        let verified = Verified::new(inner);
        Ok(verified)
    }
}

impl<C> Clone for Verifier<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<C> fmt::Debug for Verifier<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("issuers", &self.shared.issuers).finish_non_exhaustive()
    }
}
