//! What of a request decides on dictionaries.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, COOKIE, ETAG,
    HOST, LAST_MODIFIED, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use sfv::{BareItem, Item, Parser};
use tokio::time::Instant;

use super::clean;
use super::pattern::Pattern;
use super::store::{Name, name};
use super::uses::{MAX_HOST, Use};
use super::{AVAILABLE_DICTIONARY, Dictionaries, Dictionary, USE_AS_DICTIONARY};
use crate::etag::{self, EntityTags};
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
    /// If the response allows this origin, for requests with credentials where it was one.
    By(Option<HeaderValue>, bool),
}

/// A response that may become a dictionary.
#[derive(Debug)]
pub(crate) struct Found {
    pub(super) host: String,
    pub(super) pattern: Pattern,
    pub(super) lifetime: Duration,
    /// How long it is, if it says so. It is not too long then.
    pub(super) len: Option<usize>,
    /// Where it came from, and its version: by which it is known without its content.
    pub(super) resource: Name,
    pub(super) validator: Option<Name>,
}

impl Found {
    pub(super) fn to_use(&self) -> Use {
        Use::new(self.host.clone(), self.pattern.clone(), Instant::now() + self.lifetime)
    }
}

impl AskedDictionary {
    /// That of a request; `None` if it doesn't say to which host it is, or if that can be none.
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
        if host.len() > MAX_HOST {
            return None;
        }
        let host = host.to_ascii_lowercase();
        let available =
            available(headers).and_then(|hash| dictionaries.get(&host, hash, uri.path()));
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
    /// something of the kind, or isn't for everybody. Whether it was said.
    pub(crate) fn mark(
        &self,
        status: StatusCode,
        response: &mut HeaderMap,
        pattern: &HeaderValue,
    ) -> bool {
        let is_clean = status == StatusCode::OK
            && matches!(self.method, Method::GET | Method::HEAD)
            && clean::lifetime(response, self.with_credentials).is_some()
            && self.readable.is_readable(response);
        let is_new = is_clean && !response.contains_key(USE_AS_DICTIONARY);
        if is_new {
            response.insert(USE_AS_DICTIONARY, pattern.clone());
        }
        is_new
    }

    /// The response with this head, if it can be a dictionary once all of it was seen in its plain form.
    /// `len` is how long it says that it is.
    pub(crate) fn found(
        &self,
        head: &ResponseHead<'_>,
        len: Option<u64>,
        tags: EntityTags,
    ) -> Option<Found> {
        let response = head.headers();
        if !response.contains_key(USE_AS_DICTIONARY)
            || !matches!(self.method, Method::GET | Method::HEAD)
            || head.status() != StatusCode::OK
            || !self.readable.is_readable(response)
        {
            return None;
        }
        Some(Found {
            host: self.host.clone(),
            pattern: clean::pattern(response)?,
            lifetime: clean::lifetime(response, self.with_credentials)?,
            len: len.and_then(|len| len.try_into().ok()),
            resource: self.resource(),
            validator: validator(response, tags),
        })
    }

    /// Whether the client gets content.
    pub(crate) fn is_get(&self) -> bool {
        self.method == Method::GET
    }

    /// The client goes on to keep what it has, by a 304 with these fields.
    pub(crate) fn renew(
        &self,
        not_modified: &HeaderMap,
        dictionaries: &Dictionaries,
        tags: EntityTags,
    ) {
        if self.is_get()
            && let Some(validator) = validator(not_modified, tags)
        {
            dictionaries.renew(&self.host, &self.resource(), validator, |before| {
                clean::renewal(not_modified, self.with_credentials, before)
            });
        }
    }

    fn resource(&self) -> Name {
        let target = self.uri.path_and_query().map_or("/", |target| target.as_str());
        name([self.host.as_bytes(), target.as_bytes()])
    }
}

/// What names the version of a response, in whatever coding that is.
fn validator(response: &HeaderMap, tags: EntityTags) -> Option<Name> {
    if let Some(tag) = response.get(ETAG) {
        return Some(name([&*etag::unmarked(tag.as_bytes(), tags)]));
    }
    Some(name([response.get(LAST_MODIFIED)?.as_bytes()]))
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
        if !is(SEC_FETCH_MODE, "cors") {
            return Self::No;
        }
        let with_credentials = headers.contains_key(COOKIE) || headers.contains_key(AUTHORIZATION);
        Self::By(headers.get(ORIGIN).cloned(), with_credentials)
    }

    fn is_readable(&self, response: &HeaderMap) -> bool {
        match self {
            Self::Yes => true,
            Self::No => false,
            // Fetch §4.10, the CORS check: `*` stands for requests without credentials alone.
            Self::By(origin, with_credentials) => {
                let allows = |name, value: &str| response.get(name).is_some_and(|it| it == value);
                let is_any = !with_credentials && allows(ACCESS_CONTROL_ALLOW_ORIGIN, "*");
                let is_this = response.get(ACCESS_CONTROL_ALLOW_ORIGIN) == origin.as_ref()
                    && (!with_credentials || allows(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"));
                origin.is_some() && (is_any || is_this)
            }
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

    #[test]
    fn with_credentials_a_page_reads_only_what_says_so() {
        let readable = |request: (&'static str, &str), response: &[(&'static str, &str)]| {
            let (mode, from) = (("sec-fetch-mode", "cors"), ("origin", "https://a"));
            Readable::of(&fields(&[mode, from, request])).is_readable(&fields(response))
        };
        let allows = |origin| ("access-control-allow-origin", origin);
        let credentials = ("access-control-allow-credentials", "true");
        for with in [("cookie", "a=b"), ("authorization", "Basic eA==")] {
            assert!(!readable(with, &[allows("*")]));
            assert!(!readable(with, &[allows("*"), credentials]));
            assert!(!readable(with, &[allows("https://a")]));
            assert!(!readable(with, &[allows("https://b"), credentials]));
            assert!(readable(with, &[allows("https://a"), credentials]));
        }
        assert!(readable(("x", "y"), &[allows("https://a")]));
    }
}
