//! An issuer that is trusted: its keys, and what its tokens must say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::algorithm::{Algorithm, Algorithms};
use crate::claims::Claims;
use crate::error::BuildError;
use crate::key::KeySet;
use crate::refusal::Refusal;
use crate::source::{KeySource, Keys};
use crate::time::NumericDate;

/// More than any two clocks should differ; RFC 7519 §4.1.4 speaks of "no more than a few minutes".
pub(crate) const MAX_LEEWAY: Duration = Duration::from_secs(600);

/// Types of tokens that are access tokens, or say nothing of what they are for.
const DEFAULT_TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// An issuer whose tokens are accepted, by which keys and on which terms.
///
/// | setting | default |
/// | --- | --- |
/// | [`keys`](Self::keys), [`key_source`](Self::key_source) | must be set |
/// | [`audience`](Self::audience), [`any_audience`](Self::any_audience) | must be set |
/// | [`algorithms`](Self::algorithms) | [`Algorithm::ASYMMETRIC`] |
/// | [`leeway`](Self::leeway) | 60 s |
/// | [`require`](Self::require) | `exp` |
/// | [`max_age`](Self::max_age) | none |
/// | [`typ`](Self::typ) | absent, `JWT` or `at+jwt` |
///
/// ```
/// use std::time::Duration;
/// use tower_keep_auth::{Algorithm, Issuer, SigningKey};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = SigningKey::generate(Algorithm::Es256)?;
/// let issuer = Issuer::new("https://id.example.com")
///     .keys(key.verifying_key().clone())
///     .audience("orders")
///     .algorithms([Algorithm::Es256])
///     .require("sub")
///     .max_age(Duration::from_secs(3600));
/// # let _ = issuer;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Issuer {
    name: Box<str>,
    source: Option<Box<dyn KeySource>>,
    audiences: Vec<Box<str>>,
    any_audience: bool,
    algorithms: Algorithms,
    leeway: Duration,
    required: Vec<Arc<str>>,
    expires: bool,
    max_age: Option<Duration>,
    types: Vec<Box<str>>,
    untyped: bool,
}

impl Issuer {
    /// The issuer whose tokens have just this `iss`, compared byte by byte.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into().into_boxed_str(),
            source: None,
            audiences: Vec::new(),
            any_audience: false,
            algorithms: Algorithm::ASYMMETRIC.into_iter().collect(),
            leeway: Duration::from_secs(60),
            required: Vec::new(),
            expires: true,
            max_age: None,
            types: DEFAULT_TYPES.map(Box::from).into(),
            untyped: true,
        }
    }

    /// Its keys, given once: a [`Key`](crate::Key), an array of them, or a [`KeySet`].
    pub fn keys(self, keys: impl Into<KeySet>) -> Self {
        self.key_source(Keys::new(keys))
    }

    /// Where its keys come from, if they change: [`Keys`] that are replaced by hand, or another
    /// [`KeySource`].
    pub fn key_source(mut self, source: impl KeySource) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// An audience that this service is part of. A token must be for one of them (RFC 8725 §3.9), or
    /// one that was made for another service would work here. Can be called several times.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into().into_boxed_str());
        self
    }

    /// Accepts tokens for whomever they are, also for nobody. For issuers that make no tokens for
    /// anybody else.
    pub fn any_audience(mut self) -> Self {
        self.any_audience = true;
        self
    }

    /// The only algorithms that are accepted (RFC 8725 §3.1). Default: [`Algorithm::ASYMMETRIC`], as
    /// the keys narrow it further; secrets need their algorithm here.
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// How far the issuer's clock may be off. `exp`, `nbf`, `iat` and the greatest age are all judged
    /// with it. Default: 60 s, what Envoy, Spring Security, Nimbus and `jsonwebtoken` allow, too; at
    /// most 10 minutes. An expired token lives on for as long.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// A claim that must be there and not `null`, by its name. `iss` always is required, and `exp`
    /// too, unless [`never_expires`](Self::never_expires) was called.
    pub fn require(mut self, claim: impl Into<String>) -> Self {
        self.required.push(claim.into().into());
        self
    }

    /// Accepts tokens without `exp`. Such a token can only be ended by replacing the key, by
    /// [`max_age`](Self::max_age), or by revocation.
    pub fn never_expires(mut self) -> Self {
        self.expires = false;
        self
    }

    /// How long ago a token may have been issued, whatever its `exp` says. `iat` is required then,
    /// and must not lie in the future. Default: no such bound.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// The type that tokens must say they are, in `typ` (RFC 8725 §3.11): `at+jwt` for the access
    /// tokens of RFC 9068. Compared without case, and with or without `application/`. Can be called
    /// several times.
    ///
    /// Default: none, `JWT` or `at+jwt`. So tokens of the same issuer that are explicitly for
    /// something else, as logout tokens and proofs of possession are, are not accepted.
    pub fn typ(mut self, typ: impl AsRef<str>) -> Self {
        if self.untyped {
            self.untyped = false;
            self.types.clear();
        }
        self.types.push(media_type(typ.as_ref()).to_ascii_lowercase().into());
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn check(self) -> Result<Trusted, BuildError> {
        let wrong = |what| BuildError::Issuer { issuer: self.name.to_string(), what };
        if self.name.is_empty() {
            return Err(wrong("its name is empty; give the `iss` that its tokens have"));
        }
        if self.audiences.is_empty() && !self.any_audience {
            return Err(wrong(
                "it has no audience; name this service with `audience`, or say `any_audience`",
            ));
        }
        if !self.audiences.is_empty() && self.any_audience {
            return Err(wrong("`audience` and `any_audience` exclude each other; leave out one"));
        }
        if self.algorithms.is_empty() {
            return Err(wrong("no algorithm is allowed; give `algorithms` one or more"));
        }
        if self.leeway > MAX_LEEWAY {
            return Err(wrong("a leeway of more than 10 minutes keeps expired tokens alive"));
        }
        if self.max_age.is_some_and(|age| age.is_zero()) {
            return Err(wrong("`max_age` is zero, so every token would be too old; raise it"));
        }
        if self.required.iter().any(|claim| claim.is_empty()) {
            return Err(wrong("`require` was given an empty name; give it that of a claim"));
        }
        let Some(source) = self.source else {
            return Err(BuildError::Issuer {
                issuer: self.name.into(),
                what: "it has no keys; give it some with `keys` or `key_source`",
            });
        };
        // Keys that can never be used are a mistake, if they are known already: mostly a secret whose
        // algorithm isn't listed.
        let usable = source.keys().live().as_ref().is_none_or(|live| {
            live.slots().is_empty()
                || live.slots().iter().any(|slot| slot.key.algorithms().meets(self.algorithms))
        });
        if !usable {
            return Err(BuildError::Issuer {
                issuer: self.name.into(),
                what: "none of its keys is for one of its algorithms; list theirs with `algorithms`, which a secret always needs",
            });
        }
        Ok(Trusted {
            source,
            audiences: self.audiences.into(),
            algorithms: self.algorithms,
            leeway: self.leeway,
            required: self.required.into(),
            expires: self.expires,
            max_age: self.max_age,
            types: self.types.into(),
            untyped: self.untyped,
        })
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("name", &self.name)
            .field("audiences", &self.audiences)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

/// RFC 7515 §4.1.9: `application/` goes without saying, if there is no other slash.
fn media_type(typ: &str) -> &str {
    match typ.split_at_checked("application/".len()) {
        Some((prefix, rest))
            if prefix.eq_ignore_ascii_case("application/") && !rest.contains('/') =>
        {
            rest
        }
        _ => typ,
    }
}

/// An [`Issuer`] that was checked.
pub(crate) struct Trusted {
    source: Box<dyn KeySource>,
    audiences: Box<[Box<str>]>,
    algorithms: Algorithms,
    leeway: Duration,
    required: Box<[Arc<str>]>,
    expires: bool,
    max_age: Option<Duration>,
    types: Box<[Box<str>]>,
    untyped: bool,
}

impl Trusted {
    pub(crate) fn source(&self) -> &dyn KeySource {
        &*self.source
    }

    pub(crate) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(algorithm)
    }

    pub(crate) fn expects(&self, typ: Option<&str>) -> bool {
        typ.map_or(self.untyped, |typ| {
            let typ = media_type(typ);
            self.types.iter().any(|it| it.eq_ignore_ascii_case(typ))
        })
    }

    /// Judges the claims of a token whose signature is right; `has` tells whether it has a claim that
    /// isn't null.
    pub(crate) fn judge(
        &self,
        claims: &Claims,
        now: NumericDate,
        mut has: impl FnMut(&str) -> bool,
    ) -> Result<(), Refusal> {
        if self.expires && claims.exp.is_none() {
            return Err(Refusal::missing("exp"));
        }
        if self.max_age.is_some() && claims.iat.is_none() {
            return Err(Refusal::missing("iat"));
        }
        if let Some(claim) = self.required.iter().find(|claim| !has(claim)) {
            return Err(Refusal::MissingClaim(Arc::clone(claim)));
        }
        let is_ours = claims.aud.iter().any(|audience| self.audiences.contains(audience));
        if !self.audiences.is_empty() && !is_ours {
            return Err(Refusal::WrongAudience);
        }
        // RFC 7519 §4.1.4: the time must be before `exp`; §4.1.5: `nbf` or after.
        if claims.exp.is_some_and(|exp| now >= exp.saturating_add(self.leeway)) {
            return Err(Refusal::Expired);
        }
        if claims.nbf.is_some_and(|nbf| now < nbf.saturating_sub(self.leeway)) {
            return Err(Refusal::NotYetValid);
        }
        if let (Some(age), Some(iat)) = (self.max_age, claims.iat) {
            if now < iat.saturating_sub(self.leeway) {
                return Err(Refusal::IssuedInFuture);
            }
            if now >= iat.saturating_add(age).saturating_add(self.leeway) {
                return Err(Refusal::TooOld);
            }
        }
        Ok(())
    }

    /// When [`judge`](Self::judge) would find the times of `claims` right: from the first instant on,
    /// until before the second.
    pub(crate) fn window(&self, claims: &Claims) -> (NumericDate, NumericDate) {
        let always = (NumericDate::from_millis(i64::MIN), NumericDate::from_millis(i64::MAX));
        let (mut from, mut until) = always;
        if let Some(exp) = claims.exp {
            until = until.min(exp.saturating_add(self.leeway));
        }
        if let Some(nbf) = claims.nbf {
            from = from.max(nbf.saturating_sub(self.leeway));
        }
        if let (Some(age), Some(iat)) = (self.max_age, claims.iat) {
            from = from.max(iat.saturating_sub(self.leeway));
            until = until.min(iat.saturating_add(age).saturating_add(self.leeway));
        }
        (from, until)
    }
}

impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trusted")
            .field("keys", self.source.keys())
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}
