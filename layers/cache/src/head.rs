//! The head of a request, as the conditions and functions see it that settings are given.

use http::header::HOST;
use http::request::Parts;
use http::{Extensions, HeaderMap, Method, Request, Uri};

use crate::key::sent_uri;

/// The head of a request, as it came to the cache: what the condition of a
/// [`Rule`](crate::Rule::when) decides by, or a part of a [`KeyPolicy`](crate::KeyPolicy::part) is made
/// of.
///
/// ```
/// use tower_keep_cache::{RequestHead, Rule};
///
/// let previews = |head: &RequestHead<'_>| head.headers().contains_key("x-preview");
/// let rule = Rule::new().when(previews).bypass();
/// # let _ = rule;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> RequestHead<'a> {
    pub(crate) fn of<B>(request: &'a Request<B>) -> Self {
        Self::new(request.method(), request.uri(), request.headers(), request.extensions())
    }

    pub(crate) fn of_parts(parts: &'a Parts) -> Self {
        Self::new(&parts.method, &parts.uri, &parts.headers, &parts.extensions)
    }

    fn new(
        method: &'a Method,
        uri: &'a Uri,
        headers: &'a HeaderMap,
        extensions: &'a Extensions,
    ) -> Self {
        Self { method, uri: sent_uri(extensions).unwrap_or(uri), headers, extensions }
    }

    /// The method.
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// The target. Where a nested router of axum has shortened its path (feature `axum`), the whole
    /// one that the client sent.
    pub fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The path of the target, its escapes as they were sent.
    pub fn path(&self) -> &'a str {
        self.uri.path()
    }

    /// The host of the target, or else of the field `Host`, without a port (RFC 9110 §7.2).
    pub fn host(&self) -> Option<&'a str> {
        self.uri.host().or_else(|| {
            let host = self.headers.get(HOST)?.to_str().ok()?;
            Some(match host.rsplit_once(':') {
                // Inside of brackets, colons are those of an address.
                Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
                _ => host,
            })
        })
    }

    /// The fields.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// What layers outside of the cache have put on the request: the claims of a verified token, for
    /// example.
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_without_a_port_wherever_it_stands() {
        let host = |uri: &str, field: &str| {
            let request = Request::get(uri).header(HOST, field).body(()).unwrap();
            RequestHead::of(&request).host().map(str::to_owned)
        };
        for (uri, field, expected) in [
            ("http://a.example:80/", "ignored", "a.example"),
            ("/", "a.example:8080", "a.example"),
            ("/", "a.example", "a.example"),
            ("/", "[::1]:80", "[::1]"),
            ("/", "[::1]", "[::1]"),
        ] {
            assert_eq!(host(uri, field).as_deref(), Some(expected), "{uri} {field}");
        }
        assert_eq!(RequestHead::of(&Request::get("/").body(()).unwrap()).host(), None);
    }

    #[cfg(feature = "axum")]
    #[test]
    fn the_path_is_the_one_that_the_client_sent() {
        let mut request = Request::get("/b").body(()).unwrap();
        let sent = axum::extract::OriginalUri(Uri::from_static("/a/b"));
        request.extensions_mut().insert(sent);
        assert_eq!(RequestHead::of(&request).path(), "/a/b");
    }
}
