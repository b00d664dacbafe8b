//! What the layer keeps in the store: responses, and the rules that tell their variants apart.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use http::header::{
    AGE, CONNECTION, CONTENT_ENCODING, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tower_keep_store::{BoxError, Codec, Encoded, MAX_HEAD_LEN};

use crate::cache_status::CACHE_STATUS;
use crate::conditional::Validators;
use crate::forms::{Digest, Form, ReadyForms, Remembered};
use crate::part::Part;
use crate::policy::StoredTimes;
use crate::vary::VaryRule;

/// Fields that are about one connection (RFC 9110 §7.6.1, RFC 9111 §3.1), beside those that
/// `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    TE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authentication-info"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// An entry of the cache.
#[allow(clippy::large_enum_variant, reason = "it lies in an `Arc`, and nearly all are responses")]
#[derive(Debug)]
pub(crate) enum Stored {
    /// A response.
    Response(StoredResponse),
    /// What lies at the primary key of a resource whose responses vary.
    Variants(Variants),
    /// The content of a response in another coding.
    Form(Form),
}

/// A response, its head ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct StoredResponse {
    pub(crate) status: StatusCode,
    /// With `Age` and `Cache-Status` in their places, so that a hit need only fill them in.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What of the representation the body is; nothing if it is the whole.
    pub(crate) part: Option<Part>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) validators: Validators,
    pub(crate) times: StoredTimes,
    /// Whether an earlier cache's `Cache-Status` comes before ours.
    pub(crate) earlier_cache: bool,
    /// Whether its content came in some coding.
    pub(crate) is_encoded: bool,
    /// It is never to be compressed.
    pub(crate) plain_only: bool,
    /// Tells this head from all others of this process.
    pub(crate) serial: u64,
    /// Which forms it may have, once somebody has asked.
    pub(crate) offered: Remembered,
    /// That of the body, once a form has been made of it.
    pub(crate) digest: OnceLock<Digest>,
    /// The way to its forms.
    pub(crate) forms: ReadyForms,
}

/// What a field takes beside its text: a bucket and an index of the map.
const FIELD: usize = 112;

/// How the variants of a resource are told apart (RFC 9111 §4.1).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Variants {
    /// Which request fields count.
    pub(crate) rule: VaryRule,
    /// A part of the keys of all variants: without this entry, none of them can be found, so
    /// removing it removes them all.
    pub(crate) id: u64,
    /// What lay in the second tier at the primary key when the fill began that made this rule. A
    /// fill that saw the same has missed no removal.
    pub(crate) after: Vec<u8>,
}

impl Stored {
    /// The response, if it is one.
    pub(crate) fn response(&self) -> Option<&StoredResponse> {
        match self {
            Self::Response(response) => Some(response),
            Self::Variants(_) | Self::Form(_) => None,
        }
    }

    /// The form, if it is one.
    pub(crate) fn form(&self) -> Option<&Form> {
        match self {
            Self::Form(form) => Some(form),
            Self::Variants(_) | Self::Response(_) => None,
        }
    }
}

impl StoredResponse {
    /// `headers` as [`stored_headers`] made them.
    pub(crate) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        body: Bytes,
        trailers: Option<HeaderMap>,
        times: StoredTimes,
    ) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let validators = Validators::from_headers(headers);
        let earlier_cache = headers.get(CACHE_STATUS).is_some_and(|value| !value.is_empty());
        Self {
            status,
            headers: compact(headers),
            body,
            part: None,
            trailers,
            validators,
            times,
            earlier_cache,
            is_encoded: headers.contains_key(CONTENT_ENCODING),
            plain_only: false,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            offered: Remembered::default(),
            digest: OnceLock::new(),
            forms: ReadyForms::default(),
        }
    }

    /// About how many bytes it takes.
    fn weight(&self) -> usize {
        let fields = |headers: &HeaderMap| -> usize {
            headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD).sum()
        };
        size_of::<Self>()
            + self.body.len()
            + fields(&self.headers)
            + self.trailers.as_ref().map_or(0, fields)
    }
}

/// The fields of a response as they are stored: without those of the connection, and with places
/// for `Age` and `Cache-Status`.
pub(crate) fn stored_headers(received: &HeaderMap) -> HeaderMap {
    let mut headers = received.clone();
    remove_hop_by_hop(&mut headers);
    headers.insert(AGE, HeaderValue::from_static("0"));
    if !headers.contains_key(CACHE_STATUS) {
        headers.insert(CACHE_STATUS, HeaderValue::from_static(""));
    }
    headers
}

/// Removes the fields that are about a connection (RFC 9111 §3.1).
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Values that many responses have. Each hit copies all values, and to copy one of these, and to drop it,
/// counts no references.
const USUAL_VALUES: [&str; 24] = [
    "",
    "0",
    "*",
    "accept-encoding",
    "Accept-Encoding",
    "application/javascript",
    "application/json",
    "application/json; charset=utf-8",
    "bytes",
    "image/jpeg",
    "image/png",
    "image/svg+xml",
    "image/webp",
    "nosniff",
    "origin",
    "Origin",
    "public",
    "text/css",
    "text/css; charset=utf-8",
    "text/html",
    "text/html; charset=utf-8",
    "text/javascript",
    "text/plain",
    "text/plain; charset=utf-8",
];

/// The same fields, those first that each hit fills in. Their values are constants or in one allocation
/// of their own: as received, they may be views into the connection's read buffer, and would keep all
/// of it alive.
fn compact(headers: &HeaderMap) -> HeaderMap {
    let is_filled_in = |name: &HeaderName| *name == AGE || *name == CACHE_STATUS;
    let filled_in = [AGE, CACHE_STATUS];
    let first = filled_in
        .iter()
        .flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)));
    let others = headers.iter().filter(|(name, _)| !is_filled_in(name));
    let fields: Vec<(&HeaderName, &HeaderValue, Option<&str>)> = first
        .chain(others)
        .map(|(name, value)| (name, value, USUAL_VALUES.into_iter().find(|usual| value == *usual)))
        .collect();
    let own = || fields.iter().filter(|(_, _, usual)| usual.is_none()).map(|(_, value, _)| value);
    let mut buffer = BytesMut::with_capacity(own().map(|value| value.len()).sum());
    for value in own() {
        buffer.extend_from_slice(value.as_bytes());
    }
    let mut left = buffer.freeze();
    let mut compacted = HeaderMap::with_capacity(headers.keys_len());
    for (name, value, usual) in fields {
        let copy = match usual {
            Some(usual) => Ok(HeaderValue::from_static(usual)),
            None => HeaderValue::from_maybe_shared(left.split_to(value.len())),
        };
        // What was a valid value still is.
        if let Ok(mut copy) = copy {
            copy.set_sensitive(value.is_sensitive());
            compacted.append(name.clone(), copy);
        }
    }
    compacted
}

/// How entries lie in the second tier: the head in bincode, the body as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredCodec {
    /// Whether there are compressed forms, so that a response has another head for when it is sent plain,
    /// and remembers where they are.
    pub(crate) has_forms: bool,
}

#[derive(Serialize, Deserialize)]
enum WireHead<'a> {
    #[serde(borrow)]
    Response(WireResponse<'a>),
    Variants(Variants),
    Form(WireForm),
}

#[derive(Serialize, Deserialize)]
struct WireForm {
    letter: u8,
    of: Digest,
    is_dense: bool,
    /// Whether there is no content, for it would not be smaller.
    is_none: bool,
}

#[derive(Serialize, Deserialize)]
struct WireResponse<'a> {
    status: u16,
    #[serde(borrow)]
    headers: Fields<'a>,
    #[serde(borrow)]
    trailers: Option<Fields<'a>>,
    times: StoredTimes,
    part: Option<Part>,
    plain_only: bool,
}

type Fields<'a> = Vec<(&'a str, &'a [u8])>;

fn to_fields(headers: &HeaderMap) -> Fields<'_> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

/// The most fields that a stored head, or its trailers, may have: a map of many more panics.
const MAX_FIELDS: usize = 1024;

fn from_fields(fields: Fields<'_>) -> Result<HeaderMap, BoxError> {
    if fields.len() > MAX_FIELDS {
        return Err("a head with too many fields".into());
    }
    let mut headers = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        headers.try_append(name.parse::<HeaderName>()?, HeaderValue::from_bytes(value)?)?;
    }
    Ok(headers)
}

impl Codec<Stored> for StoredCodec {
    // 33 was that of heads that said nothing of forms.
    fn id(&self) -> u8 {
        34
    }

    fn encode(&self, value: &Stored) -> Result<Encoded, BoxError> {
        let (head, body) = match value {
            Stored::Response(response) => {
                let head = WireHead::Response(WireResponse {
                    status: response.status.as_u16(),
                    headers: to_fields(&response.headers),
                    trailers: response.trailers.as_ref().map(to_fields),
                    times: response.times,
                    part: response.part,
                    plain_only: response.plain_only,
                });
                (head, response.body.clone())
            }
            Stored::Form(Form { letter, of, is_dense, content, .. }) => {
                let (letter, of, is_dense) = (*letter, *of, *is_dense);
                let head = WireForm { letter, of, is_dense, is_none: content.is_none() };
                (WireHead::Form(head), content.clone().unwrap_or_default())
            }
            Stored::Variants(variants) => (WireHead::Variants(variants.clone()), Bytes::new()),
        };
        let head = bincode::serde::encode_to_vec(head, bincode::config::standard())?;
        Ok(Encoded { head: head.into(), body })
    }

    fn decode(&self, encoded: Encoded) -> Result<Stored, BoxError> {
        let config = bincode::config::standard().with_limit::<MAX_HEAD_LEN>();
        let (head, read) = bincode::serde::borrow_decode_from_slice(&encoded.head, config)?;
        if read != encoded.head.len() {
            return Err("bytes are left over after the head".into());
        }
        match head {
            WireHead::Variants(variants) => Ok(Stored::Variants(variants)),
            WireHead::Form(WireForm { letter, of, is_dense, is_none }) => {
                let content = (!is_none).then_some(encoded.body);
                Ok(Stored::Form(Form::new(letter, of, is_dense, content)))
            }
            WireHead::Response(head) => {
                let status = StatusCode::from_u16(head.status)?;
                let headers = &stored_headers(&from_fields(head.headers)?);
                let trailers = head.trailers.map(from_fields).transpose()?;
                let (body, times) = (encoded.body, head.times);
                let response = StoredResponse::new(status, headers, body, trailers, times);
                let plain_only = head.plain_only;
                Ok(Stored::Response(StoredResponse { part: head.part, plain_only, ..response }))
            }
        }
    }

    fn weigh(&self, value: &Stored, _: &Encoded) -> usize {
        match value {
            Stored::Response(response) if self.has_forms => {
                response.weight() + FIELD * (response.headers.len() + 1) + ReadyForms::WEIGHT
            }
            Stored::Response(response) => response.weight(),
            Stored::Variants(_) => size_of::<Stored>(),
            Stored::Form(form) => form.weight(),
        }
    }

    fn weighs_encoded(&self) -> bool {
        false
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODEC: StoredCodec = StoredCodec { has_forms: false };

    pub(crate) fn times() -> StoredTimes {
        StoredTimes {
            response_time_ms: 1,
            age_at_receipt_ms: 2,
            fresh_until_ms: 3,
            stale_at_receipt_ms: 8,
            swr_until_ms: 4,
            sie_until_ms: 5,
            must_revalidate: true,
            immutable: true,
        }
    }

    proptest! {
        #[test]
        fn a_response_comes_back_as_it_was(
            status in 100u16..1000,
            values in prop::collection::vec("[ -~]{0,20}", 0..6),
            body: Vec<u8>,
            trailer in prop::option::of("[a-z]{1,8}"),
            part in prop::option::of((any::<usize>(), any::<usize>())),
        ) {
            let part = part.map(|(first, of)| Part { first, of });
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-multi", value.trim().parse().unwrap());
            }
            let trailers = trailer.map(|value| HeaderMap::from_iter([("grpc-status".parse().unwrap(), value.parse().unwrap())]));
            let status = StatusCode::from_u16(status).unwrap();
            let response = StoredResponse::new(status, &stored_headers(&headers), body.into(), trailers, times());
            let response = StoredResponse { part, ..response };
            let value = Stored::Response(response.clone());
            let Stored::Response(found) = CODEC.decode(CODEC.encode(&value).unwrap()).unwrap() else {
                panic!("not a response");
            };
            prop_assert_eq!(found.headers, response.headers);
            prop_assert_eq!((found.status, found.body, found.trailers), (response.status, response.body, response.trailers));
            prop_assert_eq!((found.times, found.part), (response.times, response.part));
        }

        #[test]
        fn no_head_panics(head: Vec<u8>, body: Vec<u8>) {
            let _ = CODEC.decode(Encoded { head: head.into(), body: body.into() });
        }
    }

    #[test]
    fn a_head_with_too_many_fields_is_an_error() {
        for count in [MAX_FIELDS + 1, 24_576, 30_000] {
            let headers = vec![("a", &b""[..]); count];
            let head = WireHead::Response(WireResponse {
                status: 200,
                headers,
                trailers: None,
                times: times(),
                part: None,
                plain_only: false,
            });
            let head = bincode::serde::encode_to_vec(head, bincode::config::standard()).unwrap();
            assert!(CODEC.decode(Encoded { head: head.into(), body: Bytes::new() }).is_err());
        }
    }

    #[test]
    fn fields_of_the_connection_are_not_stored() {
        let received = HeaderMap::from_iter(
            [
                ("connection", "x-hop, close"),
                ("x-hop", "1"),
                ("keep-alive", "timeout=5"),
                ("age", "9"),
                ("etag", "\"a\""),
            ]
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())),
        );
        let stored = stored_headers(&received);
        let mut names: Vec<_> = stored.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["age", "cache-status", "etag"]);
        assert_eq!(stored[AGE], "0");
    }
}
