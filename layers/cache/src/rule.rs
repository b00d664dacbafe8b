//! Rules: what an operator knows of some resources, and their responses don't say.

mod conditions;
mod path;
mod set;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use self::conditions::Conditions;
pub(crate) use self::set::Rules;
use crate::head::RequestHead;
use crate::policy::{StatusTtls, Statuses};

/// What holds for some requests and their responses, where the origin doesn't say, or says too
/// little: given to [`CacheLayerBuilder::rule`](crate::CacheLayerBuilder::rule).
///
/// A rule without conditions is for every request. Conditions of one kind are alternatives, and
/// of every kind that is given one must hold: `path_prefix("/a").path_prefix("/b").host("x")` is
/// for what lies under `/a` or `/b`, at `x`. They are about what is looked up: GET and HEAD, and what
/// a [`BodyKeyLayer`](crate::BodyKeyLayer) says only reads. Other requests drop what is stored of
/// their target whatever a rule says (RFC 9111 §4.4).
///
/// A rule can't make a response shareable: one to a request with `Authorization` or `Cookie`, one
/// that sets cookies, and one that is `private` or `no-store` are treated as without it. What a
/// rule says of responses is decided by the request that caused the fill, for all who get the
/// response.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use http::StatusCode;
/// use tower_keep_cache::{CacheLayer, Rule};
/// use tower_keep_store::{L1, Store};
///
/// let (second, day) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
/// let keep = Store::builder().l1(L1::bytes(64 * 1024 * 1024)).build()?;
/// let cache = CacheLayer::builder(keep)
///     .rule(Rule::new().path_prefix("/admin").bypass())
///     .rule(Rule::new().path_suffix(".css").path_suffix(".js").default_ttl(day).negative_ttl(second))
///     .rule(
///         Rule::new()
///             .path_prefix("/api")
///             .default_ttl(second * 10)
///             .default_ttl_for(StatusCode::FOUND, second * 60)
///             .negative_ttl(second)
///             .max_ttl(second * 300)
///             .stale_if_error(day),
///     )
///     .build()?;
/// # let _ = cache;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "it changes nothing until it is given to a builder"]
pub struct Rule {
    conditions: Conditions,
    bypass: bool,
    default_ttl: Option<Duration>,
    status_ttls: StatusTtls,
    min_ttl: Option<Duration>,
    max_ttl: Option<Duration>,
    stale_while_revalidate: Option<Duration>,
    stale_if_error: Option<Duration>,
}

/// When it applies.
impl Rule {
    /// A rule for every request, which leaves everything as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// For requests with just this path, without a query. Escapes of characters that need none
    /// make no difference (RFC 3986 §6.2.2.2).
    ///
    /// Origins differ in what a path with dot segments (`/a/../b`, `/a/..%2fb`) names. One meets
    /// any condition on paths if the rule [bypasses](Self::bypass), and else none.
    pub fn path(mut self, path: impl AsRef<str>) -> Self {
        self.conditions.paths.push(path::normal(path.as_ref()).into_owned());
        self
    }

    /// For requests with this path, or one below it: `/a` is for `/a` and `/a/b`, not for `/ab`.
    /// With a slash at its end it is for what lies below only. Compared like [`path`](Self::path).
    pub fn path_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.conditions.prefixes.push(path::normal(prefix.as_ref()).into_owned());
        self
    }

    /// For requests whose path ends like this, as in `.css`. Compared like [`path`](Self::path).
    ///
    /// Many origins answer `/account/x.css` with `/account`. That a path looks like that of a
    /// static file is no proof that its response is for everybody.
    pub fn path_suffix(mut self, suffix: impl AsRef<str>) -> Self {
        self.conditions.suffixes.push(path::normal(suffix.as_ref()).into_owned());
        self
    }

    /// For requests to this host, at any port. Case makes no difference (RFC 9110 §4.2.3).
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.conditions.hosts.push(host.into());
        self
    }

    /// For requests with this method. A refresh that a HEAD caused is a GET.
    pub fn method(mut self, method: Method) -> Self {
        self.conditions.methods.push(method);
        self
    }

    /// For requests of which this is true. Unlike other conditions, every one of several must hold.
    ///
    /// It is asked at misses, and where the rule [bypasses](Self::bypass), or one after it does, at
    /// hits too: it should be quick, and answer alike for equal requests.
    pub fn when<F>(mut self, condition: F) -> Self
    where
        F: Fn(&RequestHead<'_>) -> bool + Send + Sync + 'static,
    {
        self.conditions.predicates.push(Arc::new(condition));
        self
    }
}

/// What it says. What it leaves open is as the layer's own settings have it.
impl Rule {
    /// Such requests pass as if this layer weren't there: nothing is looked up or stored, and
    /// `Cache-Status` says `fwd=bypass; detail=rule`.
    ///
    /// It excludes everything else that a rule says of responses.
    pub fn bypass(mut self) -> Self {
        self.bypass = true;
        self
    }

    /// How long a response is fresh that doesn't say, if its status is heuristically cacheable
    /// (RFC 9110 §15.1: 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501) or it is `public`. For
    /// errors, a [`negative_ttl`](Self::negative_ttl) is mostly wanted beside it.
    ///
    /// It says so by `max-age`, `s-maxage`, `Expires`, or that it is not to be used without asking
    /// (`no-cache`); where there is a [targeted field](crate::CacheLayerBuilder::targets), by that
    /// alone. A [heuristic](crate::CacheLayerBuilder::heuristic) comes first.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// As [`default_ttl`](Self::default_ttl), for these statuses, whether or not they are
    /// heuristically cacheable: more than RFC 9111 §4.2.2 has caches do by themselves. One status
    /// counts for more than its class, and both for more than `default_ttl`.
    ///
    /// A failure of the origin (500, 502, 503, 504) takes the place of nothing that may still be
    /// used: while something stale can stand in, that does, and the failure is not stored.
    pub fn default_ttl_for(mut self, statuses: impl Into<Statuses>, ttl: Duration) -> Self {
        self.status_ttls.add(statuses.into(), ttl);
        self
    }

    /// [`default_ttl_for`](Self::default_ttl_for) 404, 410 and 5xx: for so long, nobody asks again
    /// for what isn't there or can't be had. Any unsafe method on the target ends it.
    pub fn negative_ttl(self, ttl: Duration) -> Self {
        self.default_ttl_for(StatusCode::NOT_FOUND, ttl)
            .default_ttl_for(StatusCode::GONE, ttl)
            .default_ttl_for(Statuses::SERVER_ERROR, ttl)
    }

    /// The shortest that a response is fresh which says how long it is (`max-age=0` and an
    /// `Expires` in the past among them), counted from when it was received.
    ///
    /// This goes beyond RFC 9111 §4.2, which leaves the time to the origin. So it doesn't hold for
    /// what the origin wants kept to the letter: `no-cache`, `must-revalidate` and, in a shared
    /// cache, `proxy-revalidate` and `s-maxage`, which implies it (§5.2.2.2, §5.2.2.8,
    /// §5.2.2.10). Nor for errors (4xx, 5xx), which would outlive their cause.
    pub fn min_ttl(mut self, ttl: Duration) -> Self {
        self.min_ttl = Some(ttl);
        self
    }

    /// The longest that a response is fresh, whatever it says, counted from when it was received.
    pub fn max_ttl(mut self, ttl: Duration) -> Self {
        self.max_ttl = Some(ttl);
        self
    }

    /// The `stale-while-revalidate` (RFC 5861 §3) of responses that neither say nor forbid it; zero
    /// for none.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = Some(window);
        self
    }

    /// The `stale-if-error` (RFC 5861 §4) of responses that neither say nor forbid it; zero for
    /// none.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = Some(window);
        self
    }
}
