//! The `Cache-Control` field of a response: built by handlers, read by the layer.

mod directive;
mod parse;
mod targeted;

use std::fmt::{self, Write as _};
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::field::MAX_DELTA_SECONDS;

pub(crate) use self::directive::{Directive, each_directive};

/// The `Cache-Control` of a response (RFC 9111 §5.2.2).
///
/// ```
/// use std::time::Duration;
/// use tower_keep_cache::CacheControl;
///
/// let cache = CacheControl::public()
///     .max_age(Duration::from_secs(60))
///     .stale_while_revalidate(Duration::from_secs(30));
/// assert_eq!(cache.to_string(), "public, max-age=60, stale-while-revalidate=30");
///
/// let mut response = http::Response::new("hello");
/// response.headers_mut().insert(http::header::CACHE_CONTROL, cache.to_header_value());
/// ```
///
/// With the feature `axum` it is a response part: return `(CacheControl::…, body)` from a handler.
///
/// The field counts whole seconds, so a fraction of one is dropped: a response is never kept longer
/// than asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it changes nothing until it is put on a response"]
#[allow(clippy::struct_excessive_bools, reason = "each is a directive of its own")]
pub struct CacheControl {
    pub(crate) public: bool,
    pub(crate) private: Scope,
    pub(crate) no_store: bool,
    pub(crate) no_cache: Scope,
    pub(crate) max_age: Option<u32>,
    pub(crate) s_maxage: Option<u32>,
    pub(crate) stale_while_revalidate: Option<u32>,
    pub(crate) stale_if_error: Option<u32>,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    pub(crate) no_transform: bool,
    pub(crate) immutable: bool,
    /// Read from a field for this cache alone: `Expires` doesn't count then.
    pub(crate) targeted: bool,
}

/// How much of a response `private` or `no-cache` is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The directive is absent.
    #[default]
    Absent,
    /// Its qualified form: these fields only.
    Fields(Vec<HeaderName>),
    /// The whole response.
    Whole,
}

impl Scope {
    /// Whether the directive is there, qualified or not.
    pub(crate) fn is_present(&self) -> bool {
        *self != Self::Absent
    }
}

impl CacheControl {
    /// `public`: every cache may store the response, even where it otherwise could not, such as the
    /// answer to a request with `Authorization` or `Cookie`. So say it only where the response is
    /// the same for everybody.
    pub fn public() -> Self {
        Self { public: true, ..Self::default() }
    }

    /// `private`: the response is for one user; no shared cache may store it.
    pub fn private() -> Self {
        Self { private: Scope::Whole, ..Self::default() }
    }

    /// `no-store`: no cache may store any part of the response.
    pub fn no_store() -> Self {
        Self { no_store: true, ..Self::default() }
    }

    /// `no-cache`: may be stored, but is used only after the origin has validated it.
    pub fn no_cache() -> Self {
        Self { no_cache: Scope::Whole, ..Self::default() }
    }

    /// Adds `no-cache` to what was said before, as in `private, no-cache`.
    pub fn with_no_cache(self) -> Self {
        Self { no_cache: Scope::Whole, ..self }
    }

    /// `max-age`: fresh for this long.
    pub fn max_age(self, age: Duration) -> Self {
        Self { max_age: Some(seconds(age)), ..self }
    }

    /// `s-maxage`: fresh for this long in shared caches, which must not use it stale.
    ///
    /// Like `public`, it says that the response is the same for everybody.
    pub fn s_maxage(self, age: Duration) -> Self {
        Self { s_maxage: Some(seconds(age)), ..self }
    }

    /// `stale-while-revalidate` (RFC 5861): for this long after it went stale, a cache may use the
    /// response while it fetches a new one.
    pub fn stale_while_revalidate(self, window: Duration) -> Self {
        Self { stale_while_revalidate: Some(seconds(window)), ..self }
    }

    /// `stale-if-error` (RFC 5861): for this long after it went stale, a cache may use the response
    /// when the origin fails.
    pub fn stale_if_error(self, window: Duration) -> Self {
        Self { stale_if_error: Some(seconds(window)), ..self }
    }

    /// `must-revalidate`: never used stale, not even when the origin fails.
    pub fn must_revalidate(self) -> Self {
        Self { must_revalidate: true, ..self }
    }

    /// `proxy-revalidate`: [`must_revalidate`](Self::must_revalidate) for shared caches only.
    pub fn proxy_revalidate(self) -> Self {
        Self { proxy_revalidate: true, ..self }
    }

    /// `immutable` (RFC 8246): will not change while fresh, so a reload need not ask.
    pub fn immutable(self) -> Self {
        Self { immutable: true, ..self }
    }

    /// `no-transform`: intermediaries must not change the body, by compressing it for example.
    pub fn no_transform(self) -> Self {
        Self { no_transform: true, ..self }
    }

    /// `must-understand`: stored only by caches that know what the status code asks of them.
    ///
    /// Such caches then ignore `no-store`, which keeps the others away:
    /// `CacheControl::no_store().must_understand()`.
    pub fn must_understand(self) -> Self {
        Self { must_understand: true, ..self }
    }

    /// The value of the field.
    pub fn to_header_value(&self) -> HeaderValue {
        // Directives are ASCII, so this cannot fail; if it did, keeping nothing is the safe answer.
        HeaderValue::try_from(self.to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("no-store"))
    }
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).map_or(MAX_DELTA_SECONDS, |secs| secs.min(MAX_DELTA_SECONDS))
}

impl fmt::Display for CacheControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = List { f, divider: "" };
        list.flag("public", self.public)?;
        list.scope("private", &self.private)?;
        list.flag("no-store", self.no_store)?;
        list.scope("no-cache", &self.no_cache)?;
        list.seconds("max-age", self.max_age)?;
        list.seconds("s-maxage", self.s_maxage)?;
        list.seconds("stale-while-revalidate", self.stale_while_revalidate)?;
        list.seconds("stale-if-error", self.stale_if_error)?;
        list.flag("must-revalidate", self.must_revalidate)?;
        list.flag("proxy-revalidate", self.proxy_revalidate)?;
        list.flag("must-understand", self.must_understand)?;
        list.flag("no-transform", self.no_transform)?;
        list.flag("immutable", self.immutable)
    }
}

struct List<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    divider: &'static str,
}

impl List<'_, '_> {
    fn name(&mut self, name: &str) -> fmt::Result {
        self.f.write_str(std::mem::replace(&mut self.divider, ", "))?;
        self.f.write_str(name)
    }

    fn flag(&mut self, name: &str, present: bool) -> fmt::Result {
        if present { self.name(name) } else { Ok(()) }
    }

    fn seconds(&mut self, name: &str, seconds: Option<u32>) -> fmt::Result {
        let Some(seconds) = seconds else { return Ok(()) };
        self.name(name)?;
        write!(self.f, "={seconds}")
    }

    fn scope(&mut self, name: &str, scope: &Scope) -> fmt::Result {
        self.flag(name, scope.is_present())?;
        let Scope::Fields(fields) = scope else { return Ok(()) };
        // Always the quoted form, even of one field (RFC 9111 §5.2.2.4).
        self.f.write_str("=\"")?;
        let mut divider = "";
        for field in fields {
            write!(self.f, "{divider}{field}")?;
            divider = ", ";
        }
        self.f.write_char('"')
    }
}

#[cfg(feature = "axum")]
mod axum {
    use std::convert::Infallible;

    use axum_core::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
    use http::header::CACHE_CONTROL;

    use super::CacheControl;

    /// Sets the field, in place of one that was there before.
    impl IntoResponseParts for CacheControl {
        type Error = Infallible;

        fn into_response_parts(self, mut res: ResponseParts) -> Result<ResponseParts, Infallible> {
            res.headers_mut().insert(CACHE_CONTROL, self.to_header_value());
            Ok(res)
        }
    }

    impl IntoResponse for CacheControl {
        fn into_response(self) -> Response {
            (self, ()).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_writes_each_directive() {
        let minute = Duration::from_secs(60);
        let all = CacheControl::private()
            .with_no_cache()
            .max_age(minute)
            .s_maxage(minute)
            .stale_while_revalidate(minute)
            .stale_if_error(minute)
            .must_revalidate()
            .proxy_revalidate()
            .must_understand()
            .no_transform()
            .immutable();
        assert_eq!(
            all.to_header_value(),
            "private, no-cache, max-age=60, s-maxage=60, stale-while-revalidate=60, \
             stale-if-error=60, must-revalidate, proxy-revalidate, must-understand, no-transform, \
             immutable"
        );
        assert_eq!(CacheControl::no_store().to_string(), "no-store");
    }

    #[test]
    fn spans_are_whole_seconds_within_bounds() {
        let short = CacheControl::public().max_age(Duration::from_millis(1999));
        assert_eq!(short.to_string(), "public, max-age=1");
        let long = CacheControl::no_cache().max_age(Duration::MAX);
        assert_eq!(long.to_string(), "no-cache, max-age=2147483648");
    }

    #[cfg(feature = "axum")]
    #[test]
    fn it_is_a_response_part() {
        use axum_core::response::IntoResponse as _;
        let response = (CacheControl::no_store(), "body").into_response();
        assert_eq!(response.headers()["cache-control"], "no-store");
    }
}
