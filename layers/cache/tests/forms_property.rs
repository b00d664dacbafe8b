//! Whatever is asked of a cache that keeps forms, what comes can be read, and is what the origin sent:
//! for every type, size, coding, level, range and condition.
#![cfg(all(feature = "br", feature = "deflate", feature = "gzip", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/forms.rs"]
mod kept;
#[path = "support/origin.rs"]
mod origin;

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tower::Layer;
use tower_keep_cache::{Cache, CompressedForms};
use tower_keep_compress::{
    AcceptEncoding, CompressLayer, Encoding, Levels, Limits, content_encodings, decode_all,
    encode_all,
};

use kept::field;
use origin::*;

const DATE: &str = "Mon, 02 Nov 2020 10:00:00 GMT";

/// What the origin has.
#[derive(Clone, Debug)]
struct Resource {
    kind: &'static str,
    content: Vec<u8>,
    /// In which it sends it.
    coding: Option<Encoding>,
    etag: Option<&'static str>,
    dated: bool,
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec("[a-e ]{1,9}", 0..2000).prop_map(|words| words.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..3000),
        (0usize..60_000).prop_map(|len| vec![b'0'; len]),
    ]
}

fn resource() -> impl Strategy<Value = Resource> {
    let kind = select(vec!["text/html", "application/json", "image/svg+xml", "image/png"]);
    let coding = prop_oneof![3 => Just(None), 1 => select(&Encoding::ALL[..]).prop_map(Some)];
    let etag = select(vec![Some("\"v1\""), Some("\"v1\""), Some("W/\"v1\""), None]);
    (kind, content(), coding, etag, any::<bool>()).prop_map(
        |(kind, content, coding, etag, dated)| Resource { kind, content, coding, etag, dated },
    )
}

/// What a client asks.
#[derive(Clone, Debug)]
struct Ask {
    method: &'static str,
    accept: &'static str,
    ranges: Vec<(Index, Index)>,
    suffix: Option<Index>,
    if_range: Option<Index>,
    if_none_match: Option<Index>,
}

fn ask() -> impl Strategy<Value = Ask> {
    let accept = select(vec![
        "",
        "gzip",
        "br",
        "zstd",
        "deflate",
        "gzip, deflate, br, zstd",
        "br;q=0.5, gzip",
        "*",
        "*;q=0",
        "identity;q=0, br",
        "gzip;q=0, *",
        "identity",
        "br;q=7, gzip;q=0.001",
    ]);
    let ranges = prop_oneof![
        2 => Just(Vec::new()),
        2 => prop::collection::vec(any::<(Index, Index)>(), 1),
        1 => prop::collection::vec(any::<(Index, Index)>(), 2..4),
    ];
    let maybe = || prop_oneof![2 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (select(vec!["GET", "GET", "GET", "HEAD"]), accept, ranges, maybe(), maybe(), maybe()).prop_map(
        |(method, accept, ranges, suffix, if_range, if_none_match)| Ask {
            method,
            accept,
            ranges,
            suffix,
            if_range,
            if_none_match,
        },
    )
}

/// Validators that clients have from here, or from elsewhere.
const VALIDATORS: [&str; 8] = [
    "\"v1\"",
    "W/\"v1\"",
    "\"v1--br\"",
    "\"v1--gzip\"",
    "\"v1--zstd\"",
    "W/\"v1--br\"",
    "\"v2--br\"",
    DATE,
];

impl Ask {
    fn range(&self, len: usize) -> Option<String> {
        let ranges = self.ranges.iter().map(|(first, more)| {
            // Some are beyond the end.
            let first = first.index(len + 3);
            format!("{first}-{}", first + more.index(len + 1))
        });
        let suffix = self.suffix.filter(|_| !self.ranges.is_empty());
        let suffix = suffix.map(|suffix| format!("-{}", suffix.index(len + 3)));
        let ranges: Vec<_> = ranges.chain(suffix).collect();
        (!ranges.is_empty()).then(|| format!("bytes={}", ranges.join(",")))
    }

    fn fields(&self, len: usize) -> Vec<(&'static str, String)> {
        let of = |index: &Index| VALIDATORS[index.index(VALIDATORS.len())].to_owned();
        let mut fields = vec![("accept-encoding", self.accept.to_owned())];
        fields.extend(self.range(len).map(|range| ("range", range)));
        fields.extend(self.if_range.as_ref().map(|index| ("if-range", of(index))));
        let tag = self.if_none_match.as_ref().map(of).filter(|tag| tag != DATE);
        fields.extend(tag.map(|tag| ("if-none-match", tag)));
        fields
    }
}

/// The parts of a `multipart/byteranges`, and where they are from.
fn parts(got: &Got) -> Vec<(Range<usize>, Vec<u8>)> {
    let kind = field(got, "content-type").unwrap();
    let Some(boundary) = kind.strip_prefix("multipart/byteranges; boundary=") else {
        return vec![(content_range(field(got, "content-range").unwrap()), got.body.to_vec())];
    };
    let mut rest = &got.body[..];
    let mut found = Vec::new();
    let delimiter = format!("--{boundary}\r\n");
    while let Some(part) = rest.strip_prefix(delimiter.as_bytes()) {
        let end = part.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&part[..end]).unwrap();
        let range = head.lines().find_map(|line| line.strip_prefix("content-range: ")).unwrap();
        let range = content_range(range);
        let (data, after) = part[end + 4..].split_at(range.len());
        found.push((range, data.to_vec()));
        rest = after.strip_prefix(b"\r\n").unwrap();
    }
    assert_eq!(rest, format!("--{boundary}--\r\n").as_bytes());
    found
}

fn content_range(value: &str) -> Range<usize> {
    let (span, _) = value.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
    let (first, last) = span.split_once('-').unwrap();
    first.parse().unwrap()..last.parse::<usize>().unwrap() + 1
}

/// What is wrong with an answer is a panic.
fn check(resource: &Resource, sent: &Bytes, ask: &Ask, got: &Got) {
    let fields = ask.fields(sent.len());
    let request: HeaderMap = fields
        .iter()
        .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()))
        .collect();
    let accept = AcceptEncoding::of(&request);
    let encodings = content_encodings(&got.headers).unwrap();
    // What merely passes is as the origin made it.
    let by_us = encodings.first() != resource.coding.as_ref();
    if by_us {
        assert!(encodings.iter().all(|one| accept.weight(*one).accepts()), "not asked for");
    } else if got.is_hit() && got.status == 200 && accept.accepts_identity() {
        assert!(encodings.iter().all(|one| accept.weight(*one).accepts()), "can't be read");
    }
    let etag = field(got, "etag");
    match got.status {
        200 if ask.method == "HEAD" => assert!(got.body.is_empty()),
        200 => {
            let plain = decode_all(&got.body, &encodings, Limits::none()).unwrap();
            assert!(plain == resource.content, "another content");
            if let Some(len) = field(got, "content-length") {
                assert_eq!(len, got.body.len().to_string());
            }
        }
        206 => {
            assert_eq!(ask.method, "GET");
            // The representation that the part is of.
            let whole = match &encodings[..] {
                [] => &resource.content[..],
                _ => &sent[..],
            };
            for (range, data) in parts(got) {
                assert!(data == whole[range], "another part");
            }
            match request.get("if-range").map(|value| value.to_str().unwrap()) {
                None => {}
                Some(DATE) => {
                    assert!(resource.dated);
                    assert!(
                        resource.kind == "image/png"
                            || resource.coding.is_some()
                            || Encoding::ALL.iter().all(|one| !accept.weight(*one).accepts()),
                        "the client may have a part of another form"
                    );
                }
                Some(tag) => assert_eq!(Some(tag), etag, "a part of another form"),
            }
        }
        304 => {
            let asked = request["if-none-match"].to_str().unwrap();
            let weakly = |tag: &str| tag.trim_start_matches("W/").to_owned();
            let told = etag.unwrap();
            // A weak tag is that of all forms.
            let known = if told.starts_with("W/") {
                asked.replace("--br", "").replace("--gzip", "").replace("--zstd", "")
            } else {
                asked.to_owned()
            };
            assert_eq!(weakly(told), weakly(&known), "what the client hasn't got: {asked}");
        }
        416 => assert!(field(got, "content-range").unwrap().starts_with("bytes */")),
        other => panic!("{other}"),
    }
    // All forms are told of in all answers of which there are several.
    if encodings.first().is_some_and(|_| by_us) {
        assert_eq!(field(got, "vary"), Some("accept-encoding"));
    }
}

fn cache(resource: &Resource, sent: &Bytes, levels: (Levels, Levels)) -> Cache<Origin> {
    let mut fields = vec![("cache-control", "max-age=600"), ("content-type", resource.kind)];
    fields.extend(resource.etag.map(|etag| ("etag", etag)));
    fields.extend(resource.dated.then_some(("last-modified", DATE)));
    fields.extend(resource.coding.map(|coding| ("content-encoding", coding.name())));
    let sent = sent.clone();
    let origin = Origin::new(move |_, request| {
        let is_head = request.method() == http::Method::HEAD;
        let response = answer(&fields, if is_head { Bytes::new() } else { sent.clone() });
        async move { response }
    });
    let (fast, dense) = levels;
    let compress = CompressLayer::builder().levels(fast).build().unwrap();
    let forms = CompressedForms::from(&compress).dense_levels(dense);
    cached_with(&origin, |builder| builder.compress(forms)).0
}

fn levels() -> impl Strategy<Value = (Levels, Levels)> {
    (1i32..=9, 0i32..=5, 1i32..=9, 1i32..=15).prop_map(|(zstd, br, gzip, dense)| {
        let fast = Levels::dynamic()
            .with(Encoding::Zstd, zstd)
            .with(Encoding::Brotli, br)
            .with(Encoding::Gzip, gzip)
            .with(Encoding::Deflate, gzip);
        let dense = Levels::stored()
            .with(Encoding::Zstd, dense)
            .with(Encoding::Brotli, dense.min(8))
            .with(Encoding::Gzip, dense.min(9))
            .with(Encoding::Deflate, dense.min(9));
        (fast, dense)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_read_is_what_was_sent(
        resource in resource(),
        levels in levels(),
        asks in prop::collection::vec(ask(), 1..16),
        is_layered: bool,
    ) {
        let encode = |coding| encode_all(&resource.content, coding, 3).unwrap();
        let sent: Bytes =
            resource.coding.map_or_else(|| resource.content.clone(), encode).into();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cache = cache(&resource, &sent, levels);
            let layer = CompressLayer::builder().build().unwrap();
            for ask in &asks {
                let fields = ask.fields(sent.len());
                let fields: Vec<_> =
                    fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let request = request(ask.method, "http://example.com/a", &fields);
                let got = if is_layered {
                    use http_body_util::BodyExt;
                    use tower::ServiceExt;
                    let service = layer.layer(cache.clone());
                    let (head, body) = service.oneshot(request).await.unwrap().into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let (status, trailers) = (head.status.as_u16(), None);
                    Got { status, headers: head.headers, body, trailers }
                } else {
                    send(&cache, request).await
                };
                check(&resource, &sent, ask, &got);
                // Forms get their time, or don't.
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        });
    }
}
