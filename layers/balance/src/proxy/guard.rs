//! Refuses requests whose end or host two servers could see differently (RFC 9112 §11.2).
//!
//! Most of them never come so far: hyper refuses them, or takes the framing away with which they
//! came. This is for what it lets through, and for those who use another server.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{Method, Request, Version};

/// What is wrong with the framing, the target or the host of a request, if anything is: servers could
/// see another end or another host in it (RFC 9112 §11.2). [`Proxy`](super::Proxy) refuses such ones.
///
/// Where [`receive`](super::hop::receive) is called in front of it, this has to be asked before, since
/// that removes the framing.
pub fn fault<B>(request: &Request<B>) -> Option<&'static str> {
    let (uri, headers) = (request.uri(), request.headers());
    if let Some(coding) = headers.get(TRANSFER_ENCODING) {
        let is_alone = headers.get_all(TRANSFER_ENCODING).iter().count() == 1;
        if !is_alone || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Some("Its Transfer-Encoding is not chunked alone.");
        }
        if headers.contains_key(CONTENT_LENGTH) {
            return Some("It has a Content-Length and a Transfer-Encoding.");
        }
        if request.version() != Version::HTTP_11 {
            return Some("Its version of HTTP has no Transfer-Encoding.");
        }
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let digits = length.as_bytes();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) || lengths.next().is_some() {
            return Some("Its Content-Length is not one number.");
        }
    }
    if uri.scheme().is_some_and(|scheme| ![Scheme::HTTP, Scheme::HTTPS].contains(scheme)) {
        return Some("Its target is not of HTTP.");
    }
    // RFC 9112 §3.2.3: a host alone is the target of CONNECT, and of nothing else.
    if uri.scheme().is_none() && uri.authority().is_some() && request.method() != Method::CONNECT {
        return Some("Its target is a host alone.");
    }
    // RFC 9112 §3.2.4, RFC 9113 §8.3.1
    if uri.path() == "*" && request.method() != Method::OPTIONS {
        return Some("Its target is the server as a whole.");
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    // RFC 9112 §3.2
    if hosts.next().is_some() {
        return Some("It has more than one Host.");
    }
    if host.is_none() && uri.authority().is_none() && request.version() == Version::HTTP_11 {
        return Some("It has no Host.");
    }
    let host = match host.map(http::HeaderValue::as_bytes) {
        None | Some(b"") => None,
        Some(host) => match Authority::try_from(host) {
            Ok(host) => Some(host),
            Err(_) => return Some("Its Host is none."),
        },
    };
    // RFC 9110 §4.2.4
    let mut hosts = host.iter().chain(uri.authority());
    if hosts.clone().any(|host| host.as_str().contains('@')) {
        return Some("Its host comes with credentials.");
    }
    if hosts.any(|host| !has_sound_port(host)) {
        return Some("Its port is no number.");
    }
    // RFC 9113 §8.3.1. In HTTP/1.1, the target's host is what counts (RFC 9112 §3.2.2).
    if request.version() == Version::HTTP_2
        && let (Some(host), Some(authority)) = (&host, uri.authority())
        && host != authority
    {
        return Some("It names two hosts.");
    }
    None
}

/// Whether what stands behind the host is a port, or nothing (RFC 3986 §3.2.3 lets it be empty).
fn has_sound_port(authority: &Authority) -> bool {
    match authority.as_str().strip_prefix(authority.host()) {
        None | Some("" | ":") => true,
        Some(_) => authority.port_u16().is_some(),
    }
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;

    fn fault_of(version: Version, uri: &str, fields: &[(&str, &str)]) -> Option<&'static str> {
        let mut request = Request::builder().version(version).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        fault(&request.body(()).unwrap())
    }

    #[test]
    fn a_request_with_one_end_and_one_host_passes() {
        let http11 = |uri, fields| fault_of(Version::HTTP_11, uri, fields);
        assert_eq!(http11("/", &[("host", "a"), ("content-length", "5")]), None);
        assert_eq!(http11("/", &[("host", "[::1]:80"), ("transfer-encoding", "Chunked")]), None);
        assert_eq!(http11("/", &[("host", "")]), None);
        assert_eq!(http11("/", &[("host", "a:")]), None);
        assert_eq!(http11("http://a/", &[("host", "b")]), None);
        assert_eq!(fault_of(Version::HTTP_10, "/", &[]), None);
        assert_eq!(fault_of(Version::HTTP_2, "https://A/", &[("host", "a")]), None);
    }

    #[test]
    fn each_fault_is_found() {
        type Case<'a> = (Version, &'a str, &'a [(&'a str, &'a str)]);
        let (http11, http2) = (Version::HTTP_11, Version::HTTP_2);
        let cases: &[Case<'_>] = &[
            (
                http11,
                "/",
                &[("host", "a"), ("content-length", "5"), ("transfer-encoding", "chunked")],
            ),
            (http11, "/", &[("host", "a"), ("transfer-encoding", "gzip, chunked")]),
            (http11, "/", &[("host", "a"), ("transfer-encoding", "xchunked")]),
            (http11, "/", &[("host", "a"), ("transfer-encoding", "chunked, chunked")]),
            (
                http11,
                "/",
                &[
                    ("host", "a"),
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
            ),
            (http2, "http://a/", &[("transfer-encoding", "chunked")]),
            (http11, "/", &[("host", "a"), ("content-length", "5"), ("content-length", "5")]),
            (http11, "/", &[("host", "a"), ("content-length", "5, 5")]),
            (http11, "/", &[("host", "a"), ("content-length", "+5")]),
            (http11, "/", &[("host", "a"), ("content-length", "")]),
            (http11, "/", &[("host", "a"), ("host", "a")]),
            (http11, "/", &[("host", "a b")]),
            (http11, "/", &[("host", "a/b")]),
            (http11, "/", &[("host", "u@a")]),
            (http11, "/", &[]),
            (http11, "/", &[("host", "a:80:90")]),
            (http11, "/", &[("host", "a:http")]),
            (http11, "/", &[("host", "a:99999")]),
            (http11, "a:80", &[("host", "a")]),
            (http11, "*", &[("host", "a")]),
            (Version::HTTP_3, "http://a/", &[("transfer-encoding", "chunked")]),
            (http11, "ftp://a/", &[("host", "a")]),
            (http11, "http://u:p@a/", &[("host", "a")]),
            (http2, "http://a/", &[("host", "b")]),
        ];
        for (version, uri, fields) in cases {
            assert!(fault_of(*version, uri, fields).is_some(), "{uri} {fields:?}");
        }
    }
}
