//! Conditional requests: those of clients, answered from what is stored, and the cache's own, which
//! validate it (RFC 9110 §13, RFC 9111 §4.3).

use http::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, DATE,
    ETAG, EXPIRES, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED, RANGE, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::cache_status::CACHE_STATUS;
use crate::field::{Members, http_date, trim};
use crate::policy::SetCookie;
use crate::stored::remove_hop_by_hop;

/// What a client, or the origin, can be asked about a stored response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    etag: Option<HeaderValue>,
    /// The field, and what it says in seconds since the Unix epoch.
    last_modified: Option<(HeaderValue, u64)>,
    /// When it was generated, in seconds since the Unix epoch. No validator, but it stands in for
    /// `Last-Modified` where a client asks by date.
    date: Option<u64>,
}

impl Validators {
    /// Those of a response. What cannot be read validates nothing.
    pub(crate) fn from_headers(response: &HeaderMap) -> Self {
        let etag = response.get(ETAG).filter(|etag| is_entity_tag(etag.as_bytes())).cloned();
        let last_modified =
            response.get(LAST_MODIFIED).and_then(|date| Some((date.clone(), http_date(date)?)));
        let date = response.get(DATE).and_then(http_date);
        Self { etag, last_modified, date }
    }

    /// Whether there is nothing to ask about.
    pub(crate) fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// Those that count for what comes from the origin just now: unless it says when it was modified,
    /// that isn't known (RFC 9110 §13.1.3).
    pub(crate) fn of_origin(self) -> Self {
        Self { date: None, ..self }
    }

    /// The entity tag, if it is one that no other version has, not even in a byte.
    pub(crate) fn strong_etag(&self) -> Option<&HeaderValue> {
        self.etag.as_ref().filter(|etag| !is_weak(etag))
    }

    /// Makes a request conditional on them (RFC 9111 §4.3.1).
    pub(crate) fn apply(&self, request: &mut HeaderMap) {
        if let Some(etag) = &self.etag {
            request.insert(IF_NONE_MATCH, etag.clone());
        }
        if let Some((date, _)) = &self.last_modified {
            request.insert(IF_MODIFIED_SINCE, date.clone());
        }
    }

    /// Whether the validator of an `If-Range` is that of this very representation (RFC 9110
    /// §13.1.5): an entity tag that isn't weak, or a date that can't be that of two versions.
    pub(crate) fn match_strongly(&self, validator: &HeaderValue) -> bool {
        if is_entity_tag(validator.as_bytes()) {
            return !is_weak(validator) && self.etag.as_ref() == Some(validator);
        }
        match (http_date(validator), &self.last_modified, self.date) {
            // RFC 9110 §8.8.2.2: strong if it was a second old or more.
            (Some(asked), Some((_, modified)), Some(date)) => {
                asked == *modified && date > *modified
            }
            _ => false,
        }
    }
}

fn is_weak(etag: &HeaderValue) -> bool {
    etag.as_bytes().starts_with(b"W/")
}

/// Whether a 304 is about the response that has these validators (RFC 9111 §4.3.4): a strong entity
/// tag in it must be the same, and else what both have. If it isn't, it must not update it.
pub(crate) fn selects(validation: &HeaderMap, stored: &Validators) -> bool {
    let received = Validators::from_headers(validation);
    match (&received.etag, &stored.etag) {
        (Some(etag), Some(stored)) => return opaque(etag.as_bytes()) == opaque(stored.as_bytes()),
        (Some(etag), None) if !is_weak(etag) => return false,
        _ => {}
    }
    match (&received.last_modified, &stored.last_modified) {
        (Some((_, received)), Some((_, stored))) => received == stored,
        _ => true,
    }
}

/// Whether what a response to HEAD says is true of the stored response to GET (RFC 9111 §4.3.5): each
/// validator that it has, and the length, are the same.
pub(crate) fn describes(head: &HeaderMap, stored: &Validators, len: usize) -> bool {
    let received = Validators::from_headers(head);
    let same_etag = received.etag.is_none() || received.etag == stored.etag;
    let same_date = received.last_modified.as_ref().is_none_or(|(_, received)| {
        stored.last_modified.as_ref().is_some_and(|(_, stored)| received == stored)
    });
    let same_length = head
        .get(CONTENT_LENGTH)
        .is_none_or(|length| length.to_str().is_ok_and(|text| text.parse() == Ok(len)));
    same_etag && same_date && same_length
}

/// Whether a GET or HEAD request is answered with 304, given what is stored (RFC 9110 §13.2.2).
pub(crate) fn not_modified(request: &HeaderMap, stored: &Validators) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        // RFC 9110 §13.1.3: beside If-None-Match, If-Modified-Since is not looked at.
        return request
            .get_all(IF_NONE_MATCH)
            .iter()
            .any(|line| matches_any(line.as_bytes(), stored.etag.as_ref()));
    }
    // RFC 9110 §13.1.3: of several dates, none.
    let mut lines = request.get_all(IF_MODIFIED_SINCE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Some(since) = http_date(line) else { return false };
    // RFC 9111 §4.3.2: without Last-Modified, Date.
    let modified = stored.last_modified.as_ref().map(|(_, modified)| *modified).or(stored.date);
    modified.is_some_and(|modified| modified <= since)
}

fn matches_any(list: &[u8], etag: Option<&HeaderValue>) -> bool {
    if trim(list) == b"*" {
        // RFC 9110 §13.1.2: true of any current representation.
        return true;
    }
    let Some(etag) = etag else { return false };
    Members::of_entity_tags(list)
        .any(|member| is_entity_tag(member) && opaque(member) == opaque(etag.as_bytes()))
}

/// An entity tag without its weakness: GET compares weakly (RFC 9110 §8.8.3.2).
fn opaque(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

/// RFC 9110 §8.8.3
fn is_entity_tag(bytes: &[u8]) -> bool {
    let quoted = opaque(bytes).strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    quoted.is_some_and(|inner| {
        inner.iter().all(|&byte| byte == b'!' || (byte >= 0x23 && byte != 0x7f))
    })
}

/// Removes the conditions of a client, and the part it asks for. What it is about to share must not
/// depend on them.
pub(crate) fn strip_conditionals(request: &mut HeaderMap) {
    for name in [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE] {
        request.remove(name);
    }
}

/// The fields of a 304 for a stored response: those that RFC 9110 §15.4.5 requires, and the place
/// for `Cache-Status`.
pub(crate) fn not_modified_headers(stored: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in
        [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, VARY, LAST_MODIFIED, CACHE_STATUS]
    {
        for value in stored.get_all(&name) {
            headers.append(&name, value.clone());
        }
    }
    headers
}

/// Fields of a 304 that are not taken over (RFC 9111 §3.2): they describe the very bytes of the
/// stored content, which a 304 can't change. Nor are, by default, cookies, which are for the client
/// whose request happened to validate, not for all after it.
const NOT_TAKEN_OVER: [HeaderName; 6] =
    [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_MD5, CONTENT_DIGEST, CONTENT_RANGE, ETAG];

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// Removes the fields that tell a digest of the content of one message (RFC 9530 §2), which is that of
/// no other part of the representation.
pub(crate) fn remove_digests(headers: &mut HeaderMap) {
    headers.remove(CONTENT_MD5);
    headers.remove(CONTENT_DIGEST);
}

/// Brings the fields of a stored response up to date with those of the 304 that validated it
/// (RFC 9111 §3.2, §4.3.4), its cookies among them if those are stored.
pub(crate) fn freshen(stored: &mut HeaderMap, received: &HeaderMap, set_cookie: SetCookie) {
    let is_taken_over = |name: &HeaderName| match *name {
        SET_COOKIE => set_cookie == SetCookie::Store,
        _ => !NOT_TAKEN_OVER.contains(name),
    };
    let mut received = received.clone();
    remove_hop_by_hop(&mut received);
    // They speak of the former answer: an old Date would make the validated response look old.
    // Without one, the time at which the 304 came counts (RFC 9110 §6.6.1).
    stored.remove(AGE);
    stored.remove(DATE);
    for name in received.keys().filter(|name| is_taken_over(name)) {
        stored.remove(name);
        for value in received.get_all(name) {
            stored.append(name, value.clone());
        }
    }
}

/// Whether a precondition on a request with this method asks if what is stored is still good. To other
/// methods it is a condition for doing what they ask (RFC 9110 §13.1.2).
pub(crate) fn means_validation(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD) || method.as_str() == "QUERY"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
            })
            .collect()
    }

    const MONDAY: &str = "Mon, 02 Nov 2026 10:00:00 GMT";
    const TUESDAY: &str = "Tue, 03 Nov 2026 10:00:00 GMT";

    fn asks(request: &[(&str, &str)], response: &[(&str, &str)]) -> bool {
        not_modified(&headers(request), &Validators::from_headers(&headers(response)))
    }

    #[test]
    fn entity_tags_are_compared_weakly_over_all_members() {
        let stored = [("etag", "\"a,b\"")];
        for same in ["\"a,b\"", "W/\"a,b\"", "\"x\", \"a,b\"", "*", " * "] {
            assert!(asks(&[("if-none-match", same)], &stored), "{same}");
        }
        for other in ["\"a\"", "a,b", "\"A,B\"", "", "\"a,b", "w/\"a,b\""] {
            assert!(!asks(&[("if-none-match", other)], &stored), "{other}");
        }
        assert!(asks(&[("if-none-match", "\"a\"")], &[("etag", "W/\"a\"")]));
        assert!(!asks(&[("if-none-match", "\"a\"")], &[]));
    }

    #[test]
    fn dates_count_only_without_entity_tags() {
        let stored = [("etag", "\"a\""), ("last-modified", MONDAY)];
        assert!(asks(&[("if-modified-since", MONDAY)], &stored));
        assert!(asks(&[("if-modified-since", TUESDAY)], &stored));
        assert!(!asks(&[("if-modified-since", MONDAY)], &[("last-modified", TUESDAY)]));
        assert!(asks(&[("if-modified-since", TUESDAY)], &[("date", MONDAY)]));
        assert!(!asks(&[("if-modified-since", MONDAY)], &[("date", TUESDAY)]));
        assert!(!asks(&[("if-modified-since", MONDAY)], &[]));
        assert!(!asks(&[("if-modified-since", "yesterday")], &stored));
        assert!(!asks(&[("if-modified-since", TUESDAY), ("if-none-match", "\"b\"")], &stored));
    }

    #[test]
    fn only_strong_validators_vouch_for_a_part() {
        let matches = |stored: &[(&str, &str)], validator: &str| {
            Validators::from_headers(&headers(stored)).match_strongly(&validator.parse().unwrap())
        };
        let tagged = [("etag", "\"a\""), ("last-modified", MONDAY), ("date", TUESDAY)];
        assert!(matches(&tagged, "\"a\"") && matches(&tagged, MONDAY));
        assert!(!matches(&tagged, "\"b\"") && !matches(&tagged, "W/\"a\""));
        assert!(!matches(&tagged, TUESDAY) && !matches(&tagged, "a"));
        assert!(!matches(&[("etag", "W/\"a\"")], "W/\"a\""));
        assert!(!matches(&[("last-modified", MONDAY), ("date", MONDAY)], MONDAY));
        assert!(!matches(&[("last-modified", MONDAY)], MONDAY));
    }

    #[test]
    fn the_caches_conditions_replace_the_clients() {
        let mut request =
            headers(&[("if-none-match", "\"client\""), ("if-range", "\"x\""), ("accept", "*/*")]);
        strip_conditionals(&mut request);
        Validators::from_headers(&headers(&[("etag", "\"a\""), ("last-modified", MONDAY)]))
            .apply(&mut request);
        assert_eq!(
            request,
            headers(&[
                ("accept", "*/*"),
                ("if-none-match", "\"a\""),
                ("if-modified-since", MONDAY)
            ])
        );
    }

    #[test]
    fn a_304_renews_fields_but_not_those_of_the_content() {
        let mut stored = headers(&[
            ("cache-control", "max-age=1"),
            ("content-type", "text/plain"),
            ("x-old", "1"),
            ("date", MONDAY),
            ("age", "0"),
        ]);
        let received = headers(&[
            ("cache-control", "max-age=9"),
            ("content-type", "text/html"),
            ("etag", "\"other\""),
            ("set-cookie", "id=1"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("x-new", "2"),
        ]);
        freshen(&mut stored, &received, SetCookie::Strip);
        let expected = [
            ("cache-control", "max-age=9"),
            ("content-type", "text/html"),
            ("x-old", "1"),
            ("x-new", "2"),
        ];
        assert_eq!(stored, headers(&expected));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(condition: Vec<u8>, etag: Vec<u8>) {
            let mut request = HeaderMap::new();
            let mut response = HeaderMap::new();
            if let (Ok(condition), Ok(etag)) = (HeaderValue::from_bytes(&condition), HeaderValue::from_bytes(&etag)) {
                request.insert(IF_NONE_MATCH, condition.clone());
                response.insert(ETAG, etag);
                not_modified(&request, &Validators::from_headers(&response));
                request.remove(IF_NONE_MATCH);
                request.insert(IF_MODIFIED_SINCE, condition);
                not_modified(&request, &Validators::from_headers(&response));
            }
        }
    }
}
