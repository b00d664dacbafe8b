//! What a token must say for a request to be let through.

mod layer;
mod service;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::denial::Denial;
use crate::error::BuildError;
use crate::identity::Identity;

pub use layer::RequireLayer;
pub use service::{Required, RequiredFuture};

/// What a token must say for a request to be let through. Who has none is answered 401, and whose is
/// not enough 403 with `insufficient_scope` (RFC 6750 §3.1).
///
/// ```
/// use tower_keep_auth::Require;
///
/// let edit = Require::scope("orders:write").and(Require::role("editor"));
/// let anything = Require::role("admin").or(edit);
/// let own_tenant = Require::when(|identity| identity.claim("tenant").is_some());
/// # let _ = (anything, own_tenant);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Require {
    rule: Rule,
}

#[derive(Clone)]
enum Rule {
    Token,
    Scope(Arc<str>),
    Role(Arc<str>),
    Group(Arc<str>),
    Audience(Arc<str>),
    Issuer(Arc<str>),
    Claim(Arc<str>, Arc<Value>),
    When(Arc<dyn Fn(&Identity) -> bool + Send + Sync>),
    All(Vec<Rule>),
    Any(Vec<Rule>),
}

impl Require {
    /// A token that is right, whatever it says: for single routes inside of a layer that is
    /// [`optional`](crate::JwtLayerBuilder::optional).
    pub fn token() -> Self {
        Self { rule: Rule::Token }
    }

    /// That scope (RFC 6749 §3.3).
    pub fn scope(scope: impl Into<Arc<str>>) -> Self {
        Self { rule: Rule::Scope(scope.into()) }
    }

    /// Each of these scopes.
    pub fn all_scopes<T: Into<Arc<str>>>(scopes: impl IntoIterator<Item = T>) -> Self {
        let scopes = scopes.into_iter().map(|scope| Rule::Scope(scope.into()));
        Self { rule: Rule::All(scopes.collect()) }
    }

    /// One of these scopes. Whose token has none of them is told the first.
    pub fn any_scope<T: Into<Arc<str>>>(scopes: impl IntoIterator<Item = T>) -> Self {
        let scopes = scopes.into_iter().map(|scope| Rule::Scope(scope.into()));
        Self { rule: Rule::Any(scopes.collect()) }
    }

    /// That role, in the claim `roles`.
    pub fn role(role: impl Into<Arc<str>>) -> Self {
        Self { rule: Rule::Role(role.into()) }
    }

    /// One of these roles.
    pub fn any_role<T: Into<Arc<str>>>(roles: impl IntoIterator<Item = T>) -> Self {
        Self { rule: Rule::Any(roles.into_iter().map(|role| Rule::Role(role.into())).collect()) }
    }

    /// That group, in the claim `groups`.
    pub fn group(group: impl Into<Arc<str>>) -> Self {
        Self { rule: Rule::Group(group.into()) }
    }

    /// That audience, among those that the issuer's settings accept.
    pub fn audience(audience: impl Into<Arc<str>>) -> Self {
        Self { rule: Rule::Audience(audience.into()) }
    }

    /// That issuer, among those that are trusted. Where there are several, what one of them calls
    /// `admin` need not be what another does.
    pub fn issuer(issuer: impl Into<Arc<str>>) -> Self {
        Self { rule: Rule::Issuer(issuer.into()) }
    }

    /// A claim with just that value.
    pub fn claim(name: impl Into<Arc<str>>, value: impl Into<Value>) -> Self {
        Self { rule: Rule::Claim(name.into(), Arc::new(value.into())) }
    }

    /// Whatever a function says; [`Identity::extra`] has claims of your own type.
    pub fn when(permits: impl Fn(&Identity) -> bool + Send + Sync + 'static) -> Self {
        Self { rule: Rule::When(Arc::new(permits)) }
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        Self { rule: Rule::All(vec![self.rule, other.rule]) }
    }

    /// One of both, or both.
    pub fn or(self, other: Self) -> Self {
        Self { rule: Rule::Any(vec![self.rule, other.rule]) }
    }

    /// Whether a token says it.
    pub fn permits(&self, identity: &Identity) -> bool {
        self.rule.permits(identity)
    }

    /// Why not, if not.
    pub(crate) fn judge(&self, identity: Option<&Identity>) -> Result<(), Denial> {
        match identity {
            None => Err(Denial::NoToken { scope: self.scopes() }),
            Some(identity) if self.permits(identity) => Ok(()),
            Some(_) => Err(Denial::Insufficient { scope: self.scopes() }),
        }
    }

    /// The scopes that are enough, as far as it is scopes that count.
    fn scopes(&self) -> Option<Arc<str>> {
        let mut scopes = Vec::new();
        self.rule.scopes(&mut scopes);
        (!scopes.is_empty()).then(|| scopes.join(" ").into())
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        self.rule.check()
    }
}

impl Rule {
    fn permits(&self, identity: &Identity) -> bool {
        let claims = identity.claims();
        match self {
            Self::Token => true,
            Self::Scope(scope) => claims.has_scope(scope),
            Self::Role(role) => claims.has_role(role),
            Self::Group(group) => claims.has_group(group),
            Self::Audience(audience) => claims.aud.iter().any(|it| **it == **audience),
            Self::Issuer(issuer) => *identity.issuer() == **issuer,
            Self::Claim(name, value) => identity.claim(name) == Some(value),
            Self::When(permits) => permits(identity),
            Self::All(rules) => rules.iter().all(|rule| rule.permits(identity)),
            Self::Any(rules) => rules.iter().any(|rule| rule.permits(identity)),
        }
    }

    fn scopes<'a>(&'a self, into: &mut Vec<&'a str>) {
        match self {
            Self::Scope(scope) if !into.contains(&&**scope) => into.push(scope),
            Self::All(rules) => rules.iter().for_each(|rule| rule.scopes(into)),
            Self::Any(rules) => {
                if let Some(first) = rules.first() {
                    first.scopes(into);
                }
            }
            _ => {}
        }
    }

    fn check(&self) -> Result<(), BuildError> {
        match self {
            Self::Scope(scope) => {
                // RFC 6749 §3.3.
                let fits = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
                if scope.is_empty() || !scope.bytes().all(fits) {
                    return Err(BuildError::Setting(
                        "a scope must be visible ASCII characters without quotes and backslashes, \
                         and a space is between two of them: give each one by itself",
                    ));
                }
            }
            Self::Role(name)
            | Self::Group(name)
            | Self::Audience(name)
            | Self::Issuer(name)
            | Self::Claim(name, _)
                if name.is_empty() =>
            {
                return Err(BuildError::Setting(
                    "`Require` was given an empty name, which no token has",
                ));
            }
            Self::All(rules) | Self::Any(rules) => {
                if rules.is_empty() {
                    return Err(BuildError::Setting(
                        "`Require` was given an empty list; `Require::token` asks for any token",
                    ));
                }
                rules.iter().try_for_each(Self::check)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl fmt::Debug for Require {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rule.fmt(f)
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token => f.write_str("Token"),
            Self::Scope(name) => f.debug_tuple("Scope").field(name).finish(),
            Self::Role(name) => f.debug_tuple("Role").field(name).finish(),
            Self::Group(name) => f.debug_tuple("Group").field(name).finish(),
            Self::Audience(name) => f.debug_tuple("Audience").field(name).finish(),
            Self::Issuer(name) => f.debug_tuple("Issuer").field(name).finish(),
            Self::Claim(name, value) => f.debug_tuple("Claim").field(name).field(value).finish(),
            Self::When(_) => f.debug_tuple("When").finish_non_exhaustive(),
            Self::All(rules) => f.debug_tuple("All").field(rules).finish(),
            Self::Any(rules) => f.debug_tuple("Any").field(rules).finish(),
        }
    }
}
