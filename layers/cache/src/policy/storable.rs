//! Whether a response may be stored (RFC 9111 §3).

use http::header::{AGE, AUTHORIZATION, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::freshness::{self, Lifetime};
use super::{CacheKind, Credentials, PolicyOptions, SetCookie};
use crate::cache_control::{CacheControl, Scope};
use crate::cache_status::CACHE_STATUS;
use crate::vary::VaryRule;

/// A request, its response, and when they were sent and received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange<'a> {
    /// The method that was asked.
    pub(crate) method: &'a Method,
    /// The fields of the request, its credentials among them.
    pub(crate) request: &'a HeaderMap,
    /// Whether the key tells the user who asked from all others.
    pub(crate) identified: bool,
    /// The status of the response.
    pub(crate) status: StatusCode,
    /// The fields of the response.
    pub(crate) response: &'a HeaderMap,
    /// What the response says in `Vary`.
    pub(crate) vary: &'a VaryRule,
    /// When the request was sent on.
    pub(crate) request_time_ms: u64,
    /// When the head of the response came.
    pub(crate) response_time_ms: u64,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotStored {
    /// Only responses to GET are.
    Method,
    /// A status that is not final, is partial or an answer to a condition, or that
    /// `must-understand` excludes.
    Status,
    /// `no-store`, or a `Cache-Control` that cannot be read.
    NoStore,
    /// `private`, in a shared cache.
    Private,
    /// `Vary: *`, or one beyond bounds.
    VaryAny,
    /// It sets a cookie.
    SetCookie,
    /// The request had `Authorization`, and the response doesn't say that it is for everybody.
    Authorization,
    /// The request had `Cookie`, and the response doesn't say that it is for everybody.
    Cookie,
    /// It doesn't say how long it is fresh.
    NoFreshness,
    /// It is stale already, and nothing could make it usable.
    Stale,
}

impl NotStored {
    /// The same as a `detail` of `Cache-Status`.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::VaryAny => "vary",
            Self::SetCookie => "set-cookie",
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::NoFreshness => "no-freshness",
            Self::Stale => "stale",
        }
    }
}

/// Decides whether the response may be stored, and how long it may be used.
pub(crate) fn storable(
    exchange: &Exchange<'_>,
    options: &PolicyOptions,
) -> Result<Lifetime, NotStored> {
    let Exchange { method, status, response, vary, .. } = *exchange;
    if *method != Method::GET {
        return Err(NotStored::Method);
    }
    let control = CacheControl::for_targets(response, &options.targets);
    // RFC 9111 §3: the status is final, and its meaning is known where that matters: for 206 and
    // 304, which are no whole responses, and for every status if the response asks for it.
    let is_final = (200..600).contains(&status.as_u16());
    let whole = !matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED);
    if !is_final
        || !whole
        || is_forbidden(status)
        || (control.must_understand && !is_understood(status))
    {
        return Err(NotStored::Status);
    }
    // RFC 9111 §5.2.2.3: whoever understands the status ignores no-store beside must-understand.
    if control.no_store && !control.must_understand {
        return Err(NotStored::NoStore);
    }
    if vary.is_any() {
        // RFC 9111 §4.1: it would match no request.
        return Err(NotStored::VaryAny);
    }
    if options.set_cookie == SetCookie::Refuse
        && response.contains_key(SET_COOKIE)
        && !omitted_by(&control, options).any(|name| *name == SET_COOKIE)
    {
        return Err(NotStored::SetCookie);
    }
    if options.kind == CacheKind::Shared {
        shareable(exchange, &control, options.credentials)?;
    }
    freshness::lifetime(exchange, &control, options)
}

/// The fields that are not stored with a response that may be: those that the qualified forms of
/// `private` and `no-cache` name (RFC 9111 §5.2.2.4, §5.2.2.7).
pub(crate) fn omitted(response: &HeaderMap, options: &PolicyOptions) -> Vec<HeaderName> {
    let control = CacheControl::for_targets(response, &options.targets);
    omitted_by(&control, options).cloned().collect()
}

fn omitted_by<'a>(
    control: &'a CacheControl,
    options: &PolicyOptions,
) -> impl Iterator<Item = &'a HeaderName> {
    let shared = options.kind == CacheKind::Shared;
    let private = shared.then_some(&control.private);
    let scopes = private.into_iter().chain([&control.no_cache]);
    let names = scopes.flat_map(|scope| match scope {
        Scope::Fields(names) => names.as_slice(),
        Scope::Absent | Scope::Whole => &[],
    });
    // These two are the cache's own on the way out.
    names.filter(|name| **name != AGE && **name != CACHE_STATUS)
}

/// Whether the response may go to others than the one who asked.
fn shareable(
    exchange: &Exchange<'_>,
    control: &CacheControl,
    credentials: Credentials,
) -> Result<(), NotStored> {
    let Exchange { request, vary, .. } = exchange;
    // RFC 9111 §5.2.2.7
    if control.private == Scope::Whole {
        return Err(NotStored::Private);
    }
    // What only the same user gets is shared with nobody.
    if control.public || control.s_maxage.is_some() || exchange.identified {
        return Ok(());
    }
    let cautious = credentials == Credentials::Cautious;
    // RFC 9111 §3.5 would take must-revalidate too. That says nothing about who else may see the
    // response, only what happens when it is stale, and it is mostly written with just that in
    // mind; so it doesn't suffice unless asked for.
    if request.contains_key(AUTHORIZATION) && (cautious || !control.must_revalidate) {
        return Err(NotStored::Authorization);
    }
    // The RFC has no such rule for cookies, but they say who somebody is no less. With `Vary:
    // Cookie` the key tells the users apart.
    if cautious && request.contains_key(COOKIE) && !vary.names(&COOKIE) {
        return Err(NotStored::Cookie);
    }
    Ok(())
}

/// Whether the definition of a status forbids storing it, whatever the response says: RFC 6585 §3 to
/// §6 do for what is about one request or client, and not about the resource.
pub(super) fn is_forbidden(status: StatusCode) -> bool {
    matches!(status.as_u16(), 428 | 429 | 431 | 511)
}

/// Whether this cache does what RFC 9110 §15 says about caching a status; the two that ask for more
/// (206 and 304) are never stored.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::freshness::tests::{exchange, headers};

    fn decide(
        request: &[(&str, &str)],
        response: &[(&str, &str)],
        options: &PolicyOptions,
    ) -> Option<NotStored> {
        let (request, response) = (headers(request), headers(response));
        let vary = VaryRule::of(&response);
        storable(&exchange(&request, &response, &vary), options).err()
    }

    fn refused(request: &[(&str, &str)], response: &[(&str, &str)]) -> Option<NotStored> {
        decide(request, response, &PolicyOptions::default())
    }

    fn refused_control(control: &str) -> Option<NotStored> {
        refused(&[], &[("cache-control", control)])
    }

    #[test]
    fn directives_forbid() {
        assert_eq!(refused_control("max-age=60"), None);
        assert_eq!(refused_control("max-age=60, no-store"), Some(NotStored::NoStore));
        assert_eq!(refused_control("max-age=60, private"), Some(NotStored::Private));
        assert_eq!(refused_control("public, max-age=60, private=\"x\""), None, "but for the field");
        assert_eq!(refused_control("max-age=60, must-understand, no-store"), None);
    }

    #[test]
    fn only_whole_final_responses_to_get() {
        let (request, response) = (headers(&[]), headers(&[("cache-control", "max-age=60")]));
        let vary = VaryRule::of(&response);
        let base = exchange(&request, &response, &vary);
        let with = |status| {
            let status = StatusCode::from_u16(status).unwrap();
            storable(&Exchange { status, ..base }, &PolicyOptions::default()).err()
        };
        for status in [101, 103, 206, 304, 428, 429, 431, 511, 600, 999] {
            assert_eq!(with(status), Some(NotStored::Status), "{status}");
        }
        for status in [200, 299, 302, 404, 418, 503] {
            assert_eq!(with(status), None, "{status}");
        }
        let head = Exchange { method: &Method::HEAD, ..base };
        assert_eq!(storable(&head, &PolicyOptions::default()).err(), Some(NotStored::Method));
        // RFC 9110 §14.4: a Content-Range means nothing in a 200.
        let odd = [("cache-control", "max-age=60"), ("content-range", "bytes 0-1/2")];
        assert_eq!(refused(&[], &odd), None);

        let picky = headers(&[("cache-control", "max-age=60, must-understand")]);
        let teapot = Exchange { status: StatusCode::IM_A_TEAPOT, response: &picky, ..base };
        assert_eq!(storable(&teapot, &PolicyOptions::default()).err(), Some(NotStored::Status));
    }

    #[test]
    fn identity_in_the_request_needs_consent_in_the_response() {
        let basic: &[_] = &[("authorization", "Basic eA==")];
        let cookie: &[_] = &[("cookie", "id=1")];
        for (control, stored) in [
            ("max-age=60", false),
            ("max-age=60, must-revalidate", false),
            ("max-age=60, public=x", false),
            ("max-age=60, public", true),
            ("s-maxage=60", true),
        ] {
            let response = [("cache-control", control)];
            assert_eq!(refused(basic, &response).is_none(), stored, "{control}");
            assert_eq!(refused(cookie, &response).is_none(), stored, "{control}");
        }
        let varied: &[_] = &[("cache-control", "max-age=60"), ("vary", "cookie, authorization")];
        assert_eq!(refused(cookie, varied), None);
        assert_eq!(refused(basic, varied), Some(NotStored::Authorization));
        for (control, refusal) in
            [("max-age=60", None), ("max-age=60, private", Some(NotStored::Private))]
        {
            let (request, response) = (headers(basic), headers(&[("cache-control", control)]));
            let vary = VaryRule::of(&response);
            let told_apart = Exchange { identified: true, ..exchange(&request, &response, &vary) };
            assert_eq!(storable(&told_apart, &PolicyOptions::default()).err(), refusal);
        }
        let private = PolicyOptions { kind: CacheKind::Private, ..Default::default() };
        assert_eq!(decide(basic, &[("cache-control", "private, max-age=60")], &private), None);
    }

    #[test]
    fn the_rfc_asks_for_less_of_credentials() {
        let options = PolicyOptions { credentials: Credentials::Rfc9111, ..Default::default() };
        let basic: &[_] = &[("authorization", "Basic eA==")];
        for (control, stored) in [
            ("max-age=60", false),
            ("max-age=60, must-revalidate", true),
            ("max-age=60, proxy-revalidate", false),
            ("max-age=60, public", true),
            ("s-maxage=60", true),
            ("private, max-age=60, must-revalidate", false),
        ] {
            let decided = decide(basic, &[("cache-control", control)], &options);
            assert_eq!(decided.is_none(), stored, "{control}");
        }
        let cookie = [("cookie", "id=1")];
        assert_eq!(decide(&cookie, &[("cache-control", "max-age=60")], &options), None);
    }

    #[test]
    fn fields_that_are_named_are_left_out() {
        let response = [
            ("cache-control", "max-age=60, private=\"x-user, Set-Cookie\", no-cache=\"x-now\""),
            ("set-cookie", "id=1"),
        ];
        assert_eq!(refused(&[], &response), None, "the cookie is not stored");
        let names = |options: &PolicyOptions| -> Vec<String> {
            let names = omitted(&headers(&response), options);
            names.iter().map(ToString::to_string).collect()
        };
        assert_eq!(names(&PolicyOptions::default()), ["x-user", "set-cookie", "x-now"]);
        let private = PolicyOptions { kind: CacheKind::Private, ..Default::default() };
        assert_eq!(names(&private), ["x-now"]);
        assert_eq!(decide(&[], &response, &private), Some(NotStored::SetCookie));
    }

    #[test]
    fn cookies_and_any_variation() {
        let response = [("cache-control", "public, max-age=60"), ("set-cookie", "id=1")];
        assert_eq!(refused(&[], &response), Some(NotStored::SetCookie));
        let strip = PolicyOptions { set_cookie: SetCookie::Strip, ..Default::default() };
        assert_eq!(decide(&[], &response, &strip), None);
        let any = [("cache-control", "max-age=60"), ("vary", "accept, *")];
        assert_eq!(refused(&[], &any), Some(NotStored::VaryAny));
    }
}
