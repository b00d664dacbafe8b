//! Which media types are worth compressing.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use crate::field::trim;

/// Types that compress well, beside all of `text/*` and those of [`SUFFIXES`]: from the registry
/// `mime-db` (its flag `compressible`), and what Cloudflare, Caddy and nginx's examples compress.
///
/// In alphabetical order, for the search.
const COMPRESSIBLE: &[&str] = &[
    "application/dart",
    "application/ecmascript",
    "application/eot",
    "application/font-sfnt",
    "application/graphql",
    "application/javascript",
    "application/json",
    "application/json-seq",
    "application/json5",
    "application/jsonl",
    "application/mbox",
    "application/n-quads",
    "application/n-triples",
    "application/ndjson",
    "application/opentype",
    "application/otf",
    "application/postscript",
    "application/protobuf",
    "application/rtf",
    "application/sparql-query",
    "application/sql",
    "application/tar",
    "application/toml",
    "application/trig",
    "application/truetype",
    "application/ttf",
    "application/vnd.dart",
    "application/vnd.google.protobuf",
    "application/vnd.mapbox-vector-tile",
    "application/vnd.ms-fontobject",
    "application/vnd.ms-opentype",
    "application/wasm",
    "application/x-font-opentype",
    "application/x-font-truetype",
    "application/x-font-ttf",
    "application/x-httpd-php",
    "application/x-javascript",
    "application/x-json",
    "application/x-jsonlines",
    "application/x-mpegurl",
    "application/x-ndjson",
    "application/x-ns-proxy-autoconfig",
    "application/x-opentype",
    "application/x-otf",
    "application/x-perl",
    "application/x-protobuf",
    "application/x-sh",
    "application/x-tar",
    "application/x-ttf",
    "application/x-www-form-urlencoded",
    "application/x-yaml",
    "application/xml",
    "application/xml-dtd",
    "application/xml-external-parsed-entity",
    "application/yaml",
    "font/collection",
    "font/eot",
    "font/opentype",
    "font/otf",
    "font/sfnt",
    "font/truetype",
    "font/ttf",
    "image/bmp",
    "image/svg",
    "image/vnd.adobe.photoshop",
    "image/vnd.microsoft.icon",
    "image/vnd.ms-dds",
    "image/x-icon",
    "image/x-ms-bmp",
    "image/x-portable-graymap",
    "image/x-portable-pixmap",
    "message/http",
    "message/rfc822",
    "model/gltf-binary",
    "model/obj",
    "model/stl",
    "model/vnd.usda",
    "multipart/mixed",
    "x-shader/x-fragment",
    "x-shader/x-vertex",
];

/// Suffixes of structured syntaxes (RFC 6838 §4.2.8) that are text.
const SUFFIXES: [&str; 5] = ["+json", "+xml", "+yaml", "+json-seq", "+text"];

/// Server-sent events.
const EVENT_STREAM: &str = "text/event-stream";

/// Protocols that compress the messages in their own frames (gRPC, Connect).
const FRAMED: [&str; 2] = ["application/grpc", "application/connect"];

/// A media type without its parameters, as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MediaType<'a>(&'a [u8]);

impl<'a> MediaType<'a> {
    /// That of a response; `None` if it doesn't say, or says it twice.
    pub(crate) fn of(headers: &'a HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
        let (Some(line), None) = (lines.next(), lines.next()) else { return None };
        let end = line.iter().position(|byte| *byte == b';').unwrap_or(line.len());
        Some(Self(trim(line.get(..end)?)))
    }

    /// Whether it is `text/event-stream`.
    pub(crate) fn is_event_stream(self) -> bool {
        self.0.eq_ignore_ascii_case(EVENT_STREAM.as_bytes())
    }

    /// Whether it is one of a protocol that compresses its messages itself.
    pub(crate) fn is_framed(self) -> bool {
        FRAMED.iter().any(|protocol| {
            let Some((start, rest)) = self.0.split_at_checked(protocol.len()) else { return false };
            start.eq_ignore_ascii_case(protocol.as_bytes())
                && matches!(rest, [] | [b'+' | b'-', ..])
        })
    }

    /// Whether it is in the list of those that compress well.
    pub(crate) fn is_compressible(self) -> bool {
        if self.starts_with("text/") {
            return !self.is_event_stream();
        }
        SUFFIXES.iter().any(|suffix| self.ends_with(suffix))
            || COMPRESSIBLE.binary_search_by(|known| self.order_after(known)).is_ok()
    }

    fn starts_with(self, prefix: &str) -> bool {
        let start = self.0.get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    }

    fn ends_with(self, suffix: &str) -> bool {
        let at = self.0.len().checked_sub(suffix.len());
        let end = at.and_then(|at| self.0.get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
    }

    /// How a known type, in lower case, is ordered against this one.
    fn order_after(self, known: &str) -> std::cmp::Ordering {
        known.bytes().cmp(self.0.iter().map(u8::to_ascii_lowercase))
    }
}

/// A pattern for media types: `text/html`, `font/*` or `*/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(String);

impl Pattern {
    /// Reads one; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, subtype) = text.split_once('/')?;
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
        };
        let fits = (is_name(kind) && (subtype == "*" || is_name(subtype))) || text == "*/*";
        fits.then(|| Self(text.to_ascii_lowercase()))
    }

    /// Whether a type is one of these.
    pub(crate) fn matches(&self, media_type: MediaType<'_>) -> bool {
        match self.0.strip_suffix('*') {
            Some("*/") => true,
            Some(kind) => media_type.starts_with(kind),
            None => media_type.0.eq_ignore_ascii_case(self.0.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_compressible(value: &str) -> bool {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
        MediaType::of(&headers).unwrap().is_compressible()
    }

    #[test]
    fn the_list_is_in_order_and_in_lower_case() {
        assert!(COMPRESSIBLE.is_sorted());
        assert!(COMPRESSIBLE.iter().all(|known| !known.bytes().any(|b| b.is_ascii_uppercase())));
    }

    #[test]
    fn text_in_every_guise_is_compressible() {
        for text in [
            "text/html; charset=utf-8",
            "TEXT/CSS",
            "application/json",
            "Application/JSON ;charset=utf-8",
            "application/problem+json",
            "image/svg+xml",
            "application/atom+xml;type=feed",
            "application/wasm",
            "font/ttf",
            "image/x-icon",
            "application/x-ndjson",
        ] {
            assert!(is_compressible(text), "{text}");
        }
    }

    #[test]
    fn what_is_compressed_or_streamed_by_its_own_rules_is_not() {
        for other in [
            "text/event-stream",
            "text/event-stream; charset=utf-8",
            "image/png",
            "image/jpeg",
            "video/mp4",
            "audio/mpeg",
            "font/woff2",
            "application/zip",
            "application/gzip",
            "application/pdf",
            "application/octet-stream",
            "application/zstd",
            "application/jsonx",
            "json",
            "",
        ] {
            assert!(!is_compressible(other), "{other}");
        }
    }

    #[test]
    fn protocols_with_frames_are_known() {
        let is_framed = |value: &str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
            MediaType::of(&headers).unwrap().is_framed()
        };
        for framed in [
            "application/grpc",
            "application/grpc+json",
            "application/grpc-web-text+proto; x=y",
            "APPLICATION/GRPC",
            "application/connect+json",
        ] {
            assert!(is_framed(framed), "{framed}");
        }
        assert!(!is_framed("application/json") && !is_framed("application/grpcx"));
    }

    #[test]
    fn patterns_match_a_type_a_kind_or_all() {
        let matches = |pattern: &str, value: &'static str| {
            Pattern::parse(pattern).unwrap().matches(MediaType(value.as_bytes()))
        };
        assert!(matches("text/html", "Text/HTML") && !matches("text/html", "text/htm"));
        assert!(matches("Text/*", "text/x") && !matches("text/*", "textual/x"));
        assert!(matches("*/*", "anything"));
        for wrong in ["text", "*/html", "text/", "/html", "text/html; charset=utf-8", "te*/x", ""] {
            assert_eq!(Pattern::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn two_types_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(CONTENT_TYPE, HeaderValue::from_static("text/html"));
        headers.append(CONTENT_TYPE, HeaderValue::from_static("image/png"));
        assert!(MediaType::of(&headers).is_none());
    }
}
