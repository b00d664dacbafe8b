//! The registered claims (RFC 7519 §4.1, RFC 8693 §4, RFC 9068 §2.2), typed.

mod granted;
mod read;

use crate::time::NumericDate;

pub(crate) use read::of_payload;

/// The registered claims of a token.
///
/// A claim of the wrong type makes the token refused, required or not; so does `null`. [`roles`]
/// and [`groups`] alone, which no RFC gives one form, are empty when they can't be read: nobody is
/// granted anything by what isn't understood.
///
/// [`roles`]: Self::roles
/// [`groups`]: Self::groups
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claims {
    /// `iss`: who issued the token.
    pub iss: Option<Box<str>>,
    /// `sub`: whom it is about.
    pub sub: Option<Box<str>>,
    /// `aud`: whom it is for; a single one is a list of one.
    pub aud: Vec<Box<str>>,
    /// `exp`: not to be accepted from then on.
    pub exp: Option<NumericDate>,
    /// `nbf`: not to be accepted before.
    pub nbf: Option<NumericDate>,
    /// `iat`: when it was issued.
    pub iat: Option<NumericDate>,
    /// `jti`: its own identifier.
    pub jti: Option<Box<str>>,
    /// `client_id`: the OAuth client that asked for it.
    pub client_id: Option<Box<str>>,
    /// `sid`: the session that it is of (OIDC Front-Channel Logout §3).
    pub sid: Option<Box<str>>,
    /// `scope`, a string of words, and `scp`, the same or a list: all of both.
    pub scopes: Vec<Box<str>>,
    /// `roles`: a string or a list of strings, or of SCIM's objects with a `value` (RFC 9068
    /// §2.2.3.1).
    pub roles: Vec<Box<str>>,
    /// `groups`: like `roles`.
    pub groups: Vec<Box<str>>,
}

impl Claims {
    /// Whether the token has that scope, compared with case (RFC 6749 §3.3).
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|it| **it == *scope)
    }

    /// Whether its subject has that role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|it| **it == *role)
    }

    /// Whether its subject is in that group.
    pub fn has_group(&self, group: &str) -> bool {
        self.groups.iter().any(|it| **it == *group)
    }
}
