//! What a request wants of a cache.

use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_LENGTH, HOST, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_UNMODIFIED_SINCE, PRAGMA, RANGE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tower_keep_compress::AcceptEncoding;

use crate::cache_control::{Directive, each_directive};
use crate::conditional::means_validation;
use crate::field::{MAX_DELTA_SECONDS, Members, is_alike};
use crate::key::HostField;
use crate::range::is_in_bytes;

/// Names a compression dictionary (RFC 9842 §2.2).
static AVAILABLE_DICTIONARY: HeaderName = HeaderName::from_static("available-dictionary");

/// Who sends these wants another method to be carried out than the one that is there.
static METHOD_OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
];

/// Whether a request asks for another method than its own.
pub(crate) fn overrides_method(headers: &HeaderMap) -> bool {
    headers.keys().any(is_override)
}

fn is_override(name: &HeaderName) -> bool {
    METHOD_OVERRIDES.iter().any(|known| is_alike(name, known))
}

/// What a cache does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestClass {
    /// Answer it from the store if possible.
    Lookup(RequestDirectives),
    /// It could be a lookup, but something about it asks for the origin. Nothing is stored.
    Bypass(BypassReason),
    /// Its method may change what is stored: pass it on, and invalidate the target when the answer
    /// is no error (RFC 9111 §4.4).
    Unsafe,
    /// Its method neither reads from a cache nor changes anything: pass it on.
    PassMethod,
}

/// Why a request is not looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BypassReason {
    /// `Cache-Control: no-store`, or one that cannot be read.
    NoStore,
    /// It asks for a part of the representation, in another unit than bytes.
    RangeUnit,
    /// It wants to leave HTTP.
    Upgrade,
    /// A precondition that only the origin can evaluate (RFC 9111 §4.3.2).
    Precondition,
    /// It has content, which the key doesn't cover.
    Content,
}

impl BypassReason {
    /// The same as a `detail` of `Cache-Status`.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::NoStore => "request-no-store",
            Self::RangeUnit => "range-unit",
            Self::Upgrade => "upgrade",
            Self::Precondition => "precondition",
            Self::Content => "request-content",
        }
    }
}

impl RequestClass {
    /// Looks at a request. Of a lookup, `host` becomes what its `Host` says.
    #[inline]
    pub(crate) fn of<'a>(
        method: &Method,
        headers: &'a HeaderMap,
        host: &mut Option<HostField<'a>>,
    ) -> Self {
        match *method {
            Method::GET | Method::HEAD => Self::of_lookup(method, headers, host, false),
            // The other safe methods (RFC 9110 §9.2.1), and CONNECT, whose target is no resource.
            Method::OPTIONS | Method::TRACE | Method::CONNECT => Self::PassMethod,
            // RFC 9111 §4.4: methods whose safety is unknown count as unsafe.
            _ => Self::Unsafe,
        }
    }

    /// Looks at a request whose content is a part of its key, and that is declared to read.
    pub(crate) fn of_content(method: &Method, headers: &HeaderMap) -> Self {
        if overrides_method(headers) {
            return Self::Unsafe;
        }
        let mut conditional = [IF_NONE_MATCH, IF_MODIFIED_SINCE].iter();
        if conditional.any(|name| headers.contains_key(name)) && !means_validation(method) {
            return Self::Bypass(BypassReason::Precondition);
        }
        Self::of_lookup(method, headers, &mut None, true)
    }

    // One walk over all fields is cheaper than a hashed look-up for each of the names.
    fn of_lookup<'a>(
        method: &Method,
        headers: &'a HeaderMap,
        host: &mut Option<HostField<'a>>,
        with_content: bool,
    ) -> Self {
        let mut controlled = false;
        let (mut range, mut conditional, mut codings) = (false, false, Codings::Unsaid);
        let mut dictionary = false;
        let mut pragma = false;
        let mut bypass = None;
        let mut seen = HostField::default();
        for (at, (name, value)) in headers.iter().enumerate() {
            // The length tells nearly all other fields apart, so few names are compared.
            match name.as_str().len() {
                4 if name == HOST => seen.add(value),
                // RFC 9110 §14.2: it means something to GET only.
                5 if name == RANGE && method == Method::GET => {
                    range = true;
                    if !is_in_bytes(value) {
                        bypass = Some(BypassReason::RangeUnit);
                    }
                }
                6 if name == PRAGMA => pragma = true,
                7 if name == UPGRADE => bypass = Some(BypassReason::Upgrade),
                8 if name == IF_MATCH => bypass = Some(BypassReason::Precondition),
                13 if name == CACHE_CONTROL => controlled = true,
                13 if name == IF_NONE_MATCH => conditional = true,
                17 if name == IF_MODIFIED_SINCE => conditional = true,
                15 if name == ACCEPT_ENCODING => codings = codings.and_at(at),
                14 if name == CONTENT_LENGTH && value != "0" && !with_content => {
                    bypass = Some(BypassReason::Content);
                }
                17 if name == TRANSFER_ENCODING && !with_content => {
                    bypass = Some(BypassReason::Content);
                }
                20 if *name == AVAILABLE_DICTIONARY => dictionary = true,
                19 if name == IF_UNMODIFIED_SINCE => bypass = Some(BypassReason::Precondition),
                13 | 17 | 22 if is_override(name) => return Self::Unsafe,
                _ => {}
            }
        }
        *host = Some(seen);
        if let Some(reason) = bypass {
            return Self::Bypass(reason);
        }
        if controlled {
            return RequestDirectives::parse(headers.get_all(CACHE_CONTROL))
                .map(|directives| RequestDirectives {
                    range,
                    conditional,
                    codings,
                    dictionary,
                    ..directives
                })
                .map_or(Self::Bypass(BypassReason::NoStore), Self::Lookup);
        }
        let mut directives = RequestDirectives {
            range,
            conditional,
            codings,
            dictionary,
            ..RequestDirectives::default()
        };
        // RFC 9111 §5.4: heeded only where there is no Cache-Control.
        if pragma && headers.get_all(PRAGMA).iter().any(names_no_cache) {
            directives.set(|it| it.no_cache = true);
        }
        Self::Lookup(directives)
    }
}

fn names_no_cache(pragma: &HeaderValue) -> bool {
    Members::new(pragma.as_bytes()).any(|member| member.eq_ignore_ascii_case(b"no-cache"))
}

/// Where a request says which codings its client reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Codings {
    #[default]
    Unsaid,
    /// In this line of all, and in no other.
    At(usize),
    InSeveral,
}

impl Codings {
    fn and_at(self, line: usize) -> Self {
        if self == Self::Unsaid { Self::At(line) } else { Self::InSeveral }
    }

    /// What the request with these fields says.
    #[inline]
    pub(crate) fn read(self, headers: &HeaderMap) -> AcceptEncoding {
        match self {
            Self::Unsaid => AcceptEncoding::default(),
            // Unless the fields have been changed since.
            Self::At(line) => match headers.iter().nth(line) {
                Some((name, value)) if name == ACCEPT_ENCODING => {
                    AcceptEncoding::of_line(value.as_bytes())
                }
                _ => AcceptEncoding::of(headers),
            },
            Self::InSeveral => AcceptEncoding::of(headers),
        }
    }
}

/// The directives of a request (RFC 9111 §5.2.1), spans in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub(crate) struct RequestDirectives {
    /// Whether there is any directive at all; most requests have none.
    pub(crate) any: bool,
    /// No directive, but it decides as much: the request asks for parts only, in bytes.
    pub(crate) range: bool,
    /// Nor this: the client has something, and asks whether it is what is here now.
    pub(crate) conditional: bool,
    /// Nor this: the client says which codings it reads.
    pub(crate) codings: Codings,
    /// Nor this: the client has a compression dictionary.
    pub(crate) dictionary: bool,
    /// It wants what the origin sent, as it is. It says nothing of whether that may be reused.
    pub(crate) no_transform: bool,
    /// Use nothing that has not been validated for this request.
    pub(crate) no_cache: bool,
    /// Don't ask the origin: answer from the store, or with 504 (RFC 9111 §5.2.1.7).
    pub(crate) only_if_cached: bool,
    /// Nothing older.
    pub(crate) max_age: Option<u32>,
    /// Nothing that goes stale sooner.
    pub(crate) min_fresh: Option<u32>,
    /// Something stale is fine, when it has not been so for longer.
    pub(crate) max_stale: Option<u32>,
}

impl RequestDirectives {
    /// Reads the lines of `Cache-Control`; `None` when they say `no-store` (of what would be fetched),
    /// or cannot be read.
    pub(crate) fn parse<'a>(lines: impl IntoIterator<Item = &'a HeaderValue>) -> Option<Self> {
        let mut read = Self::default();
        let mut no_store = false;
        each_directive(lines, |directive| match directive.name() {
            b"no-store" => no_store = true,
            _ => read.add(directive),
        })
        .ok()?;
        // What is only looked up is not stored anyway.
        (!no_store || read.only_if_cached).then_some(read)
    }

    // As in responses, the strictest reading of what is malformed or repeated holds.
    fn add(&mut self, directive: &Directive<'_>) {
        let seconds = directive.seconds();
        match directive.name() {
            b"no-cache" => self.set(|it| it.no_cache = true),
            b"no-transform" => self.no_transform = true,
            b"only-if-cached" => self.set(|it| it.only_if_cached = true),
            b"max-age" => {
                let limit = seconds.unwrap_or(0);
                self.set(|it| it.max_age = Some(it.max_age.map_or(limit, |age| age.min(limit))));
            }
            b"min-fresh" => {
                let limit = seconds.unwrap_or(MAX_DELTA_SECONDS);
                self.set(|it| it.min_fresh = it.min_fresh.max(Some(limit)));
            }
            b"max-stale" => {
                // RFC 9111 §5.2.1.2: without an argument, a stale response of any age will do.
                let limit =
                    if directive.is_bare() { MAX_DELTA_SECONDS } else { seconds.unwrap_or(0) };
                self.set(|it| {
                    it.max_stale = Some(it.max_stale.map_or(limit, |age| age.min(limit)));
                });
            }
            _ => {}
        }
    }

    fn set(&mut self, change: impl FnOnce(&mut Self)) {
        self.any = true;
        change(self);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn class(method: Method, fields: &[(&str, &str)]) -> RequestClass {
        let mut request = Request::builder().method(method);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        RequestClass::of(&parts.method, &parts.headers, &mut None)
    }

    fn directives(value: &str) -> RequestDirectives {
        match class(Method::GET, &[("cache-control", value)]) {
            RequestClass::Lookup(directives) => directives,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_method_decides_first() {
        let none = RequestClass::Lookup(RequestDirectives::default());
        assert_eq!(class(Method::GET, &[("accept", "*/*")]), none);
        assert_eq!(class(Method::HEAD, &[]), none);
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert_eq!(class(method, &[("range", "bytes=0-1")]), RequestClass::Unsafe);
        }
        assert_eq!(class(Method::from_bytes(b"BREW").unwrap(), &[]), RequestClass::Unsafe);
        for method in [Method::OPTIONS, Method::TRACE, Method::CONNECT] {
            assert_eq!(class(method, &[]), RequestClass::PassMethod);
        }
    }

    #[test]
    fn some_requests_are_for_the_origin() {
        use BypassReason::{Content, NoStore, Precondition, RangeUnit, Upgrade};
        for (name, value, reason) in [
            ("range", "items=0-1", RangeUnit),
            ("upgrade", "websocket", Upgrade),
            ("if-match", "\"a\"", Precondition),
            ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT", Precondition),
            ("content-length", "1", Content),
            ("transfer-encoding", "chunked", Content),
            ("cache-control", "max-age=0, no-store", NoStore),
            ("cache-control", "x=\"open", NoStore),
        ] {
            assert_eq!(class(Method::GET, &[(name, value)]), RequestClass::Bypass(reason));
        }
        let empty = class(Method::GET, &[("content-length", "0")]);
        assert_eq!(empty, RequestClass::Lookup(RequestDirectives::default()));
    }

    #[test]
    fn a_method_that_is_overridden_is_taken_for_unsafe() {
        for name in &METHOD_OVERRIDES {
            assert!(matches!(name.as_str().len(), 13 | 17 | 22), "{name}");
            // As some servers read it, too.
            for name in [name.as_str().to_owned(), name.as_str().replace('-', "_")] {
                for method in [Method::GET, Method::HEAD] {
                    assert_eq!(class(method, &[(&name, "DELETE")]), RequestClass::Unsafe, "{name}");
                }
                let of = crate::policy::freshness::tests::headers(&[(&name, "DELETE")]);
                assert!(overrides_method(&of), "{name}");
            }
        }
        let other = class(Method::GET, &[("x-http-methods", "DELETE")]);
        assert_eq!(other, RequestClass::Lookup(RequestDirectives::default()));
    }

    #[test]
    fn requests_keyed_by_their_content_are_lookups_with_content() {
        let of = |method: &str, fields: &[(&str, &str)]| {
            let headers = crate::policy::freshness::tests::headers(fields);
            RequestClass::of_content(&Method::from_bytes(method.as_bytes()).unwrap(), &headers)
        };
        let none = RequestClass::Lookup(RequestDirectives::default());
        for field in [("content-length", "7"), ("transfer-encoding", "chunked"), ("range", "x=1")] {
            assert_eq!(of("POST", &[field]), none);
        }
        let precondition = RequestClass::Bypass(BypassReason::Precondition);
        assert_eq!(of("POST", &[("if-none-match", "*")]), precondition);
        let conditional = RequestDirectives { conditional: true, ..RequestDirectives::default() };
        let lookup = RequestClass::Lookup(conditional);
        assert_eq!(of("QUERY", &[("if-none-match", "*")]), lookup);
        assert_eq!(of("QUERY", &[("if-match", "*")]), precondition);
        assert_eq!(of("POST", &[("x-http-method-override", "PUT")]), RequestClass::Unsafe);
    }

    #[test]
    fn directives_are_read_strictly() {
        let read = directives("max-age=60, max-age=5, min-fresh=1, min-fresh=9, max-stale");
        assert_eq!((read.max_age, read.min_fresh), (Some(5), Some(9)));
        assert_eq!(read.max_stale, Some(MAX_DELTA_SECONDS));
        assert!(read.any && !read.no_cache);

        let read = directives("max-age=x, min-fresh=x, max-stale=x, max-stale=5, only-if-cached");
        assert_eq!((read.max_age, read.max_stale), (Some(0), Some(0)));
        assert_eq!(read.min_fresh, Some(MAX_DELTA_SECONDS));
        assert!(read.only_if_cached);

        assert!(directives("no-store, only-if-cached").only_if_cached);

        assert_eq!(directives("foo=bar"), RequestDirectives::default());
        let read = directives("No-Transform");
        assert!(read.no_transform && !read.any);
    }

    #[test]
    fn codings_are_read_where_they_were_found() {
        for lines in [&[][..], &["br"], &["br", "gzip;q=0.5"]] {
            let mut headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-"))]);
            for line in lines {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(line));
            }
            headers.insert(PRAGMA, HeaderValue::from_static("x"));
            let RequestClass::Lookup(directives) =
                RequestClass::of(&Method::GET, &headers, &mut None)
            else {
                panic!("{headers:?}");
            };
            assert_eq!(directives.codings.read(&headers), AcceptEncoding::of(&headers));
            headers.remove(RANGE);
            assert_eq!(directives.codings.read(&headers), AcceptEncoding::of(&headers));
        }
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        let with = |fields: &[_]| match class(Method::GET, fields) {
            RequestClass::Lookup(directives) => directives.no_cache,
            other => panic!("{other:?}"),
        };
        assert!(with(&[("pragma", "x, No-Cache")]));
        assert!(!with(&[("pragma", "no-cache"), ("cache-control", "max-age=1")]));
    }

    proptest! {
        #[test]
        fn any_request_is_classified(
            fields in proptest::collection::vec((0..8usize, any::<Vec<u8>>()), 0..6)
        ) {
            let names = [
                RANGE, PRAGMA, UPGRADE, IF_MATCH, CACHE_CONTROL, CONTENT_LENGTH, TRANSFER_ENCODING,
                HeaderName::from_static("x-other"),
            ];
            let headers = fields.into_iter().filter_map(|(name, value)| {
                Some((names[name].clone(), HeaderValue::from_bytes(&value).ok()?))
            });
            RequestClass::of(&Method::GET, &headers.collect(), &mut None);
        }
    }
}
