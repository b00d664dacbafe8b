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
use crate::issuer::Trusted;
use crate::refusal::Refusal;
use crate::source::{LookAgain, Wanted};
use crate::time::Clock;
use crate::token::Compact;
use crate::verified::{self, Inner, Untyped, Verified};

pub use builder::VerifierBuilder;
pub use future::Verify;

use seen::{Seen, Sought};

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
    /// for that, once; else it is ready at once.
    pub fn verify(&self, token: &(impl AsRef<[u8]> + ?Sized)) -> Verify<C> {
        let token = token.as_ref();
        match self.attempt(token) {
            Ok(verified) => Verify::done(Ok(verified)),
            Err(Attempt { refusal, look_again: None }) => Verify::done(Err(refusal)),
            Err(Attempt { look_again: Some(looking), .. }) => {
                Verify::looking(looking, self.clone(), token)
            }
        }
    }

    /// Verifies `token` by the keys that are known now. The key's source isn't told if there is none
    /// that fits.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] that came first, in this order: form, issuer, type, algorithm, key, signature,
    /// claims.
    pub fn verify_now(&self, token: &(impl AsRef<[u8]> + ?Sized)) -> Result<Verified<C>, Refusal> {
        self.run(token.as_ref(), |_, _| None).map_err(|attempt| attempt.refusal)
    }

    fn attempt(&self, token: &[u8]) -> Result<Verified<C>, Attempt> {
        self.run(token, |issuer, wanted| issuer.source().look_again(wanted))
    }

    fn run(
        &self,
        token: &[u8],
        look_again: impl FnOnce(&Trusted, Wanted<'_>) -> Option<LookAgain>,
    ) -> Result<Verified<C>, Attempt> {
        let Shared { seen, max_len, clock, .. } = &*self.shared;
        if token.len() > *max_len {
            return Err(Refusal::TooLong.into());
        }
        let Some((seen, sought)) = seen.as_ref().zip(Sought::new(token)) else {
            return self.shared.judge(token, look_again);
        };
        if let Some(verified) = seen.get(&sought) {
            if verified.is_current(clock.now()) {
                return Ok(verified);
            }
            // It has expired, or its key is gone, or the clock was set back. If another one has come
            // in its place meanwhile, that costs time and nothing else.
            seen.remove(&sought);
        }
        let verified = self.shared.judge(token, look_again)?;
        seen.insert(&sought, verified.clone());
        Ok(verified)
    }
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
