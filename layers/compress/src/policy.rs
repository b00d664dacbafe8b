//! Whether a response is compressed, and how.

use std::fmt;
use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, VARY};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, response};

use crate::accept::AcceptEncoding;
#[cfg(feature = "dictionary")]
use crate::dictionary::DictionarySettings;
use crate::encoding::Encoding;
use crate::etag::EntityTags;
use crate::field::has_member;
use crate::level::Levels;
use crate::media_type::{MediaType, Pattern};

pub(crate) type When = dyn Fn(&ResponseHead<'_>) -> bool + Send + Sync;

/// Put into a response's extensions by a handler whose answer must not be compressed, such as one
/// that has a secret beside what the client sent (see [BREACH](crate#secrets-breach)).
///
/// ```
/// use http::Response;
/// use tower_keep_compress::LeaveUncompressed;
///
/// let mut response = Response::new("csrf=8f3a&q=what the client sent");
/// response.extensions_mut().insert(LeaveUncompressed);
/// ```
///
/// A handler of axum returns it beside the content: `(Extension(LeaveUncompressed), Html(page))`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaveUncompressed;

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> ResponseHead<'a> {
    /// That of these parts.
    pub fn of(parts: &'a response::Parts) -> Self {
        Self::new(parts.status, &parts.headers, &parts.extensions)
    }

    /// Made of these.
    pub fn new(status: StatusCode, headers: &'a HeaderMap, extensions: &'a Extensions) -> Self {
        Self { status, headers, extensions }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The fields.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The extensions, as the service inside left them.
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }
}

/// What of a request decides on the compression of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub(crate) accept: AcceptEncoding,
    pub(crate) method: AskedMethod,
    no_transform: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskedMethod {
    Head,
    Connect,
    Other,
}

impl Asked {
    /// That of a request.
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        let method = match *method {
            Method::HEAD => AskedMethod::Head,
            Method::CONNECT => AskedMethod::Connect,
            _ => AskedMethod::Other,
        };
        // RFC 9111 §5.2.1.6
        let no_transform = has_member(headers, &CACHE_CONTROL, "no-transform");
        Self { accept: AcceptEncoding::of(headers), method, no_transform }
    }
}

/// What becomes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is sent in this coding.
    Encode(Encoding),
    /// It is sent as it is.
    Leave(Reason),
}

/// Why a response is sent as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It has no content: 1xx, 204, 205, 304, or the tunnel of a `CONNECT`.
    NoContent,
    /// It is a part (206), or says by `Content-Range` what it is a part of.
    Partial,
    /// It has a `Content-Encoding`.
    AlreadyEncoded,
    /// Its `Cache-Control`, or that of the request, says `no-transform`.
    NoTransform,
    /// Its media type isn't worth it, or isn't known.
    MediaType,
    /// [`LeaveUncompressed`] is in its extensions.
    Marked,
    /// The [predicate](crate::CompressLayerBuilder::when) says no.
    Predicate,
    /// It is shorter than [`min_size`](crate::CompressLayerBuilder::min_size).
    TooSmall,
    /// The client accepts none of our codings, or wants the plain form more.
    NotAccepted,
    /// The client accepts neither our codings nor the plain form.
    NothingAcceptable,
}

impl Decision {
    /// Whether another `Accept-Encoding` can lead to another form, so that `Vary` must say so.
    pub fn varies(self) -> bool {
        matches!(
            self,
            Self::Encode(_)
                | Self::Leave(
                    // Short ones are compressed for those who refuse the plain form.
                    Reason::TooSmall | Reason::NotAccepted | Reason::NothingAcceptable
                )
        )
    }
}

/// The settings that decide on the compression of a response. Cheap to clone.
///
/// A [`CompressLayer`](crate::CompressLayer) has one; so can whoever keeps compressed forms.
///
/// ```
/// use http::{Extensions, HeaderMap, Method, StatusCode};
/// use tower_keep_compress::{Asked, CompressLayer, Decision, Encoding, ResponseHead};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let policy = CompressLayer::builder().encodings([Encoding::Gzip]).build()?.policy().clone();
/// let request = HeaderMap::from_iter([(http::header::ACCEPT_ENCODING, "gzip".parse()?)]);
/// let response = HeaderMap::from_iter([(http::header::CONTENT_TYPE, "text/html".parse()?)]);
/// let extensions = Extensions::new();
/// let head = ResponseHead::new(StatusCode::OK, &response, &extensions);
/// let decision = policy.decide(&Asked::of(&Method::GET, &request), &head, Some(10_000));
/// assert_eq!(decision, Decision::Encode(Encoding::Gzip));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    settings: Arc<Settings>,
}

/// What a builder has checked.
pub(crate) struct Settings {
    pub(crate) encodings: Vec<Encoding>,
    pub(crate) preferred: Vec<(Pattern, Vec<Encoding>)>,
    pub(crate) types: Vec<(Pattern, bool)>,
    pub(crate) min_size: u64,
    pub(crate) event_streams: bool,
    pub(crate) when: Option<Arc<When>>,
    pub(crate) levels: Levels,
    pub(crate) entity_tags: EntityTags,
    pub(crate) flush: bool,
    pub(crate) refuse_unacceptable: bool,
    #[cfg(feature = "dictionary")]
    pub(crate) dictionaries: Option<DictionarySettings>,
}

impl Policy {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings) }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What becomes of a response with this head and so many bytes; `None` is a length that isn't
    /// known yet, which is taken for a long one.
    ///
    /// The order is that of [`Reason`]: what can't be changed comes first, what the client wants
    /// last.
    pub fn decide(&self, asked: &Asked, head: &ResponseHead<'_>, len: Option<u64>) -> Decision {
        let settings = &*self.settings;
        let reason = match settings.excluded(asked, head) {
            Some(reason) => reason,
            None => match asked.accept.choose(self.offered(head.headers).iter().copied()) {
                // A short one gains nothing; but it is better than what the client refuses.
                Some(_)
                    if len.is_some_and(|len| len < settings.min_size)
                        && asked.accept.accepts_identity() =>
                {
                    Reason::TooSmall
                }
                Some(encoding) => return Decision::Encode(encoding),
                None if asked.accept.accepts_identity() => Reason::NotAccepted,
                None => Reason::NothingAcceptable,
            },
        };
        Decision::Leave(reason)
    }

    /// The codings for a response with these fields, the preferred first.
    pub(crate) fn offered(&self, response: &HeaderMap) -> &[Encoding] {
        let preferred = &self.settings.preferred;
        let own = (!preferred.is_empty())
            .then(|| MediaType::of(response))
            .flatten()
            .and_then(|kind| preferred.iter().find(|(pattern, _)| pattern.matches(kind)));
        own.map_or(&self.settings.encodings, |(_, encodings)| encodings)
    }

    /// Whether one of the codings that are used is accepted.
    pub(crate) fn may_encode(&self, accept: &AcceptEncoding) -> bool {
        let own = self.settings.preferred.iter().flat_map(|(_, encodings)| encodings);
        let mut used = self.settings.encodings.iter().chain(own);
        used.any(|encoding| accept.weight(*encoding).accepts())
    }

    /// The level for bodies that are compressed while a client waits.
    pub fn level(&self, encoding: Encoding) -> i32 {
        self.settings.levels.of(encoding)
    }
}

impl Settings {
    /// Why a response is left alone whatever the client accepts.
    fn excluded(&self, asked: &Asked, head: &ResponseHead<'_>) -> Option<Reason> {
        let status = head.status;
        if asked.method == AskedMethod::Connect && status.is_success() {
            return Some(Reason::NoContent);
        }
        let reason = self.excluded_by_head(head);
        let is_said_before =
            matches!(reason, Some(Reason::NoContent | Reason::Partial | Reason::AlreadyEncoded));
        // RFC 9111 §5.2.1.6
        if asked.no_transform && !is_said_before {
            return Some(Reason::NoTransform);
        }
        reason
    }

    /// Why a response is left alone whoever asks for it.
    pub(crate) fn excluded_by_head(&self, head: &ResponseHead<'_>) -> Option<Reason> {
        let ResponseHead { status, headers, .. } = *head;
        let without_content = status.is_informational()
            || matches!(
                status,
                StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
            );
        if without_content {
            return Some(Reason::NoContent);
        }
        // RFC 9110 §14.4: the range is one of the form that it was cut from.
        if status == StatusCode::PARTIAL_CONTENT || headers.contains_key(CONTENT_RANGE) {
            return Some(Reason::Partial);
        }
        self.excluded_whole(head)
    }

    /// The same of the whole that a part is of.
    pub(crate) fn excluded_whole(&self, head: &ResponseHead<'_>) -> Option<Reason> {
        let headers = head.headers;
        if headers.contains_key(CONTENT_ENCODING) {
            return Some(Reason::AlreadyEncoded);
        }
        // RFC 9111 §5.2.2.6
        if has_member(headers, &CACHE_CONTROL, "no-transform") {
            return Some(Reason::NoTransform);
        }
        if !MediaType::of(headers).is_some_and(|kind| self.compresses(kind)) {
            return Some(Reason::MediaType);
        }
        self.left(head)
    }

    /// Whether a response is left alone because somebody says so.
    pub(crate) fn left(&self, head: &ResponseHead<'_>) -> Option<Reason> {
        if head.extensions.get::<LeaveUncompressed>().is_some() {
            return Some(Reason::Marked);
        }
        let allowed = self.when.as_ref().is_none_or(|when| when(head));
        (!allowed).then_some(Reason::Predicate)
    }

    fn compresses(&self, kind: MediaType<'_>) -> bool {
        if kind.is_framed() {
            return false;
        }
        if kind.is_event_stream() {
            return self.event_streams;
        }
        // The latest word on a type counts.
        let own = self.types.iter().rev().find(|(pattern, _)| pattern.matches(kind));
        own.map_or_else(|| kind.is_compressible(), |(_, compresses)| *compresses)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("encodings", &self.encodings)
            .field("min_size", &self.min_size)
            .field("levels", &self.levels)
            .field("entity_tags", &self.entity_tags)
            .finish_non_exhaustive()
    }
}

/// Says in `Vary` that the response depends on `Accept-Encoding`.
pub(crate) fn add_vary(response: &mut HeaderMap) {
    add_vary_by(response, &ACCEPT_ENCODING);
}

/// Says in `Vary` that the response depends on a field of the request.
pub(crate) fn add_vary_by(response: &mut HeaderMap, field: &HeaderName) {
    let said = |name| has_member(response, &VARY, name);
    if !said(field.as_str()) && !said("*") {
        response.append(VARY, HeaderValue::from_name(field.clone()));
    }
}

#[cfg(test)]
#[cfg(feature = "gzip")]
mod tests;
