//! What of gRPC over HTTP/2 a balancer must understand: whether a request is one, its status, its
//! deadline, and how long a server wants to be left alone.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap};

/// Status codes, as in `grpc/status.h`.
pub(crate) const DEADLINE_EXCEEDED: u16 = 4;
pub(crate) const RESOURCE_EXHAUSTED: u16 = 8;
pub(crate) const INTERNAL: u16 = 13;
pub(crate) const UNAVAILABLE: u16 = 14;

/// Whether the message is one of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    let Some(rest) = value.as_bytes().strip_prefix(b"application/grpc") else { return false };
    matches!(rest.first(), None | Some(b'+' | b';'))
}

/// The status, in the trailers or, if there is nothing else, in the head.
pub(crate) fn status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// `grpc-timeout`: at most eight digits and a unit.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    // Of no digits, `parse` has failed.
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// What a server says of the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushback {
    After(Duration),
    /// Not to make one.
    Never,
}

/// `grpc-retry-pushback-ms` (gRFC A6). What is negative or not a number means never.
pub(crate) fn pushback(headers: &HeaderMap) -> Option<Pushback> {
    let text = headers.get("grpc-retry-pushback-ms")?.to_str().ok();
    let millis = text.and_then(|text| text.parse().ok());
    Some(millis.map_or(Pushback::Never, |millis| Pushback::After(Duration::from_millis(millis))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, http::HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn knows_grpc_by_its_media_type() {
        for (value, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&with("content-type", value)), is, "{value}");
        }
    }

    #[test]
    fn reads_timeouts_of_the_grammar_and_no_others() {
        for (value, timeout_is) in [
            ("1S", Some(Duration::from_secs(1))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("20m", Some(Duration::from_millis(20))),
            ("5n", Some(Duration::from_nanos(5))),
            ("123456789S", None),
            ("S", None),
            ("-1S", None),
            ("1s", None),
            ("", None),
        ] {
            assert_eq!(timeout(&with("grpc-timeout", value)), timeout_is, "{value}");
        }
    }

    #[test]
    fn a_pushback_that_is_no_time_forbids_to_try_again() {
        let read = |value| pushback(&with("grpc-retry-pushback-ms", value));
        assert_eq!(read("250"), Some(Pushback::After(Duration::from_millis(250))));
        assert_eq!((read("-1"), read("soon")), (Some(Pushback::Never), Some(Pushback::Never)));
        assert_eq!(pushback(&HeaderMap::new()), None);
    }
}
