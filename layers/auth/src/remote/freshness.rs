//! How long an answer says that it can be used (RFC 9111 §4.2.1).

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, HeaderName, RETRY_AFTER};

/// How long the answer is fresh from now on; none if it doesn't say.
///
/// Caches on the way are taken at their word about its `Age`, so that theirs and ours don't add up.
pub(super) fn lifetime(fields: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let mut max_age = None;
    for directive in fields.get_all(CACHE_CONTROL).iter().filter_map(|it| it.to_str().ok()) {
        for directive in directive.split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" => return Some(Duration::ZERO),
                "max-age" if max_age.is_none() => max_age = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
    }
    // One that can't be read is stale (RFC 9111 §4.2.1).
    let age = text(fields, &AGE).and_then(seconds).unwrap_or_default();
    if let Some(max_age) = max_age {
        return Some(seconds(max_age).unwrap_or_default().saturating_sub(age));
    }
    let expires = text(fields, &EXPIRES)?;
    let Ok(expires) = httpdate::parse_http_date(expires) else { return Some(Duration::ZERO) };
    let date = text(fields, &DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    let fresh = expires.duration_since(date.unwrap_or(now)).unwrap_or_default();
    Some(fresh.saturating_sub(age))
}

/// How long the issuer asks to be left alone (RFC 9110 §10.2.3).
pub(super) fn retry_after(fields: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = text(fields, &RETRY_AFTER)?;
    seconds(value).or_else(|| httpdate::parse_http_date(value).ok()?.duration_since(now).ok())
}

fn text<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    fields.get(name)?.to_str().ok().map(str::trim)
}

/// RFC 9111 §1.2.2: more than can be held is as much as can be.
fn seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn of(lines: &[(HeaderName, &'static str)]) -> Option<u64> {
        let now = httpdate::parse_http_date("Fri, 15 Jan 2027 08:00:00 GMT").unwrap();
        lifetime(&fields(lines), now).map(|lifetime| lifetime.as_secs())
    }

    #[test]
    fn is_what_max_age_says_less_what_has_passed() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(CACHE_CONTROL, "public")]), None);
        assert_eq!(of(&[(CACHE_CONTROL, "public, Max-Age=600")]), Some(600));
        assert_eq!(of(&[(CACHE_CONTROL, "max-age=\"600\"")]), Some(600));
        assert_eq!(of(&[(CACHE_CONTROL, "max-age=600"), (AGE, "60")]), Some(540));
        assert_eq!(of(&[(CACHE_CONTROL, "max-age=600"), (AGE, "700")]), Some(0));
        assert_eq!(of(&[(CACHE_CONTROL, "max-age=soon")]), Some(0));
        assert_eq!(of(&[(CACHE_CONTROL, "max-age=99999999999999999999")]), Some(u32::MAX.into()));
        assert_eq!(of(&[(CACHE_CONTROL, "max-age=600"), (CACHE_CONTROL, "no-store")]), Some(0));
        assert_eq!(of(&[(CACHE_CONTROL, "no-cache")]), Some(0));
    }

    #[test]
    fn is_what_expires_says_where_max_age_says_nothing() {
        let expires = (EXPIRES, "Fri, 15 Jan 2027 08:10:00 GMT");
        assert_eq!(of(std::slice::from_ref(&expires)), Some(600));
        let date = (DATE, "Fri, 15 Jan 2027 08:09:00 GMT");
        assert_eq!(of(&[expires.clone(), date]), Some(60));
        assert_eq!(of(&[expires.clone(), (AGE, "100")]), Some(500));
        assert_eq!(of(&[(EXPIRES, "0")]), Some(0));
        assert_eq!(of(&[(EXPIRES, "Fri, 15 Jan 2027 07:00:00 GMT")]), Some(0));
        assert_eq!(of(&[expires, (CACHE_CONTROL, "max-age=5")]), Some(5));
    }

    #[test]
    fn retries_after_seconds_or_at_a_date() {
        let now = httpdate::parse_http_date("Fri, 15 Jan 2027 08:00:00 GMT").unwrap();
        let after = |value| retry_after(&fields(&[(RETRY_AFTER, value)]), now);
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("Fri, 15 Jan 2027 08:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(after("soon"), None);
    }
}
