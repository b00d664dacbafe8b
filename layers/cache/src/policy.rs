//! What RFC 9111 permits: which requests look up, which responses are stored and for how long, and
//! when a stored one may be used again.
//!
//! Everything here is a function of its arguments. Instants are milliseconds since the Unix epoch.

mod defaults;
#[cfg(test)]
mod differential;
mod freshness;
mod request;
mod reuse;
mod storable;

use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};

pub(crate) use self::defaults::StatusTtls;
pub use self::defaults::Statuses;
pub(crate) use self::freshness::Lifetime;
pub(crate) use self::request::{BypassReason, RequestClass, RequestDirectives, overrides_method};
pub(crate) use self::reuse::{Reuse, StoredTimes, is_failure, reuse, usable_on_error};
pub(crate) use self::storable::{Exchange, NotStored, omitted, storable};

/// For whom a cache keeps responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheKind {
    /// For many users: nothing that belongs to one of them is stored (RFC 9111 §3).
    #[default]
    Shared,
    /// For one user, as in a client. Never use it for a server: it gives everybody the responses of
    /// the first who asked.
    Private,
}

/// What a response must say to be shared though its request said whose it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// To a request with `Authorization` or `Cookie`: `public` or `s-maxage`; to one with `Cookie`,
    /// `Vary: Cookie` will do, too. This asks for more than RFC 9111 does, since one mistake of an
    /// origin shows everybody what is one user's.
    #[default]
    Cautious,
    /// What RFC 9111 §3.5 asks: to a request with `Authorization`, `public`, `s-maxage` or
    /// `must-revalidate`; to one with `Cookie`, nothing. For origins that mean what their
    /// `Cache-Control` says, also where every client sends some cookie of no importance.
    Rfc9111,
}

/// What to do with a response that sets a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetCookie {
    /// It is not stored: a cookie is mostly somebody's.
    #[default]
    Refuse,
    /// It is stored without its `Set-Cookie` fields; only the one who caused the fill gets them.
    Strip,
    /// It is stored as it is, and everybody gets the cookie, which RFC 9111 §7.3 leaves to the
    /// origin. Only for origins that set no cookie on what they declare to be cacheable unless it is
    /// for all.
    Store,
}

/// How long a response is fresh when it doesn't say (RFC 9111 §4.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heuristic {
    /// Not at all: only responses that say how long they are fresh are stored.
    #[default]
    Off,
    /// For a share of the time since its `Last-Modified`.
    Fraction {
        /// The share; the RFC mentions 10 as typical.
        percent: u8,
        /// The longest time that comes of it.
        cap: Duration,
    },
}

/// The settings on which decisions depend.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyOptions {
    /// The fields to listen to rather than to `Cache-Control`, the first of which counts.
    pub(crate) targets: Vec<HeaderName>,
    /// For whom responses are kept.
    pub(crate) kind: CacheKind,
    /// What a response must say to be shared though its request has credentials.
    pub(crate) credentials: Credentials,
    /// What to do with `Set-Cookie`.
    pub(crate) set_cookie: SetCookie,
    /// How to guess a lifetime from `Last-Modified`.
    pub(crate) heuristic: Heuristic,
    /// The lifetime when neither the response nor the heuristic says one.
    pub(crate) default_ttl: Option<Duration>,
    /// The same by status, heuristically cacheable or not; it counts for more.
    pub(crate) status_ttls: StatusTtls,
    /// The shortest that a response stays fresh here which says how long, counted from when it was
    /// received, unless it is an error or must be validated once stale.
    pub(crate) min_ttl: Option<Duration>,
    /// The longest that a response stays fresh here, counted from when it was received.
    pub(crate) max_ttl: Option<Duration>,
    /// The `stale-while-revalidate` of responses that don't say one, nor forbid it.
    pub(crate) stale_while_revalidate: Duration,
    /// The `stale-if-error` of responses that don't say one, nor forbid it.
    pub(crate) stale_if_error: Duration,
}

impl PolicyOptions {
    /// Whether a request says whose it is, so that its response may not be for others.
    pub(crate) fn is_personal(&self, request: &HeaderMap) -> bool {
        let by_cookie = self.credentials == Credentials::Cautious && request.contains_key(COOKIE);
        self.kind == CacheKind::Shared && (by_cookie || request.contains_key(AUTHORIZATION))
    }
}
