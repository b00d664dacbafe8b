//! What of a request decides on dictionaries.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, COOKIE, ETAG, HOST, LAST_MODIFIED, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use sfv::{BareItem, Item, Parser};
use tokio::time::Instant;

use super::clean;
use super::pattern::Pattern;
use super::{AVAILABLE_DICTIONARY, Dictionaries, Dictionary, USE_AS_DICTIONARY};
use crate::policy::ResponseHead;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// What a request says of dictionaries: which one its client has, and whether its response may become
/// one.
#[derive(Clone, Debug)]
pub struct AskedDictionary {
    method: Method,
    uri: Uri,
    /// In lower case.
    host: String,
    with_credentials: bool,
    readable: Readable,
    available: Option<Arc<Dictionary>>,
}

/// Whether whoever made the request can read the response (RFC 9842 §9.3.2), and so learns nothing
/// from its length.
#[derive(Clone, Debug)]
enum Readable {
    Yes,
    No,
    /// If the response allows this origin.
    By(Option<HeaderValue>),
}

/// A response that may become a dictionary.
#[derive(Debug)]
pub(crate) struct Found {
    pub(super) host: String,
    pub(super) pattern: Pattern,
    pub(super) until: Instant,
    /// By which it is known without its content: where it came from, and its version.
    pub(super) version: Option<(String, HeaderValue)>,
}

impl AskedDictionary {
    /// That of a request; `None` if it doesn't say to which host it is.
    pub fn of(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        dictionaries: &Dictionaries,
    ) -> Option<Self> {
        let host = match uri.authority() {
            Some(authority) => authority.as_str(),
            None => headers.get(HOST)?.to_str().ok()?,
        };
        let host = host.to_ascii_lowercase();
        let available = available(headers)
            .and_then(|hash| dictionaries.get(&host, hash))
            .filter(|dictionary| dictionary.pattern.matches(uri.path()));
        Some(Self {
            method: method.clone(),
            uri: uri.clone(),
            host,
            with_credentials: headers.contains_key(AUTHORIZATION) || headers.contains_key(COOKIE),
            readable: Readable::of(headers),
            available,
        })
    }

    /// The dictionary that the client has and that is ours, if a response with these fields may be told
    /// by it.
    pub fn available(&self, response: &HeaderMap) -> Option<&Arc<Dictionary>> {
        self.available.as_ref().filter(|_| self.readable.is_readable(response))
    }

    /// The path of the request.
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    /// Says in a response that it is a dictionary for requests that match `pattern`, unless it says
    /// something of the kind, or isn't for everybody.
    pub(crate) fn mark(&self, status: StatusCode, response: &mut HeaderMap, pattern: &HeaderValue) {
        let is_clean = status == StatusCode::OK
            && matches!(self.method, Method::GET | Method::HEAD)
            && clean::lifetime(response, self.with_credentials).is_some()
            && self.readable.is_readable(response);
        if is_clean && !response.contains_key(USE_AS_DICTIONARY) {
            response.insert(USE_AS_DICTIONARY, pattern.clone());
        }
    }

    /// Whether the response with this head becomes a dictionary, once all of it was seen.
    pub(crate) fn found(&self, head: &ResponseHead<'_>) -> Option<Found> {
        let response = head.headers();
        if !response.contains_key(USE_AS_DICTIONARY)
            || self.method != Method::GET
            || head.status() != StatusCode::OK
            || response.contains_key(http::header::CONTENT_ENCODING)
            || !self.readable.is_readable(response)
        {
            return None;
        }
        let pattern = clean::pattern(response)?;
        let lifetime = clean::lifetime(response, self.with_credentials)?;
        let version = response.get(ETAG).or_else(|| response.get(LAST_MODIFIED));
        let target = self.uri.path_and_query().map_or("/", |target| target.as_str());
        Some(Found {
            host: self.host.clone(),
            pattern,
            until: Instant::now() + lifetime,
            version: version.map(|version| (format!("{}{target}", self.host), version.clone())),
        })
    }
}

/// The hash that a request names (RFC 9842 §2.2).
pub(crate) fn available(headers: &HeaderMap) -> Option<[u8; 32]> {
    let mut lines = headers.get_all(AVAILABLE_DICTIONARY).iter();
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let item: Item = Parser::new(line.as_bytes()).parse().ok()?;
    let BareItem::ByteSequence(hash) = item.bare_item else { return None };
    hash.try_into().ok()
}

impl Readable {
    fn of(headers: &HeaderMap) -> Self {
        let is = |name, value: &str| headers.get(name).is_some_and(|it: &HeaderValue| it == value);
        if is(SEC_FETCH_SITE, "same-origin")
            || !headers.contains_key(SEC_FETCH_MODE)
            || is(SEC_FETCH_MODE, "navigate")
            || is(SEC_FETCH_MODE, "same-origin")
        {
            return Self::Yes;
        }
        if is(SEC_FETCH_MODE, "cors") { Self::By(headers.get(ORIGIN).cloned()) } else { Self::No }
    }

    fn is_readable(&self, response: &HeaderMap) -> bool {
        match self {
            Self::Yes => true,
            Self::No => false,
            Self::By(origin) => match (origin, response.get(ACCESS_CONTROL_ALLOW_ORIGIN)) {
                (Some(origin), Some(allowed)) => allowed == "*" || allowed == origin,
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clean::tests::fields;
    use super::*;

    #[test]
    fn a_hash_is_a_byte_sequence_of_32_bytes() {
        let of = |line| available(&fields(&[("available-dictionary", line)]));
        assert!(of(":pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=:").is_some());
        for none in ["", ":pZGm:", "pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=", "\"x\"", ":é:"]
        {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn only_what_the_page_may_read_is_compared() {
        let readable = |request: &[(&'static str, &str)], allowed: Option<&str>| {
            let response: Vec<_> =
                allowed.map(|it| ("access-control-allow-origin", it)).into_iter().collect();
            Readable::of(&fields(request)).is_readable(&fields(&response))
        };
        let mode = |mode| ("sec-fetch-mode", mode);
        let (cross, from) = (("sec-fetch-site", "cross-site"), ("origin", "https://a"));
        assert!(readable(&[], None));
        assert!(readable(&[("sec-fetch-site", "same-origin"), mode("no-cors")], None));
        assert!(readable(&[cross, mode("navigate")], None));
        assert!(readable(&[cross, mode("cors"), from], Some("*")));
        assert!(readable(&[cross, mode("cors"), from], Some("https://a")));
        assert!(!readable(&[cross, mode("cors"), from], Some("https://b")));
        assert!(!readable(&[cross, mode("cors"), from], None));
        assert!(!readable(&[cross, mode("cors")], Some("*")));
        assert!(!readable(&[cross, mode("no-cors"), from], Some("*")));
    }
}
