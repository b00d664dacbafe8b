//! Ranges of a stored response (RFC 9110 §14): a part, several, or none that is there.
//!
//! What makes no sense, or smells of an attack, is answered with the whole, as §14.2 permits.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, EXPIRES, IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::conditional::remove_digests;
use crate::field::{Members, trim};
use crate::part::Part;
use crate::stored::StoredResponse;

/// How many ranges one request may ask for. RFC 9110 §14.2 advises to ignore what looks like an
/// attack, such as many small ones.
const MAX_RANGES: usize = 16;

/// Whether a `Range` field is one that can be answered here; another unit is the origin's affair.
pub(crate) fn is_in_bytes(range: &HeaderValue) -> bool {
    unit(range).is_some()
}

/// What follows `bytes=`. The name of the unit has no case (RFC 9110 §14.1).
fn unit(range: &HeaderValue) -> Option<&[u8]> {
    let (unit, set) = range.as_bytes().split_at_checked(6)?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(set)
}

/// What a request gets of a stored response.
#[derive(Debug, PartialEq, Eq)]
enum Selection {
    /// All of it: nothing else was asked for, or nothing that makes sense.
    Whole,
    /// At least one part, each within the content, and not empty.
    Parts(Vec<Range<usize>>),
    /// Nothing that is there.
    Unsatisfiable,
}

/// The head and the content of the answer to a request that asks for ranges of a stored 200
/// response, or of one of which a part is stored; `None` if it gets the whole, or what isn't there.
pub(crate) fn partial(
    request: &HeaderMap,
    stored: &StoredResponse,
) -> Option<(StatusCode, HeaderMap, Bytes)> {
    let body = &stored.body;
    let part = stored.part.unwrap_or(Part { first: 0, of: body.len() });
    match wanted(request, stored, part.of)? {
        Selection::Whole => None,
        Selection::Unsatisfiable => {
            // RFC 9110 §15.5.17
            let mut headers = stored.headers.clone();
            remove_digests(&mut headers);
            // They are about the representation, not about this answer: a cache that takes it for
            // fresh would give it to those who ask for what is there.
            for name in [CONTENT_LENGTH, CONTENT_TYPE, CACHE_CONTROL, EXPIRES] {
                headers.remove(name);
            }
            headers.insert(CONTENT_RANGE, text(&format!("bytes */{}", part.of))?);
            Some((StatusCode::RANGE_NOT_SATISFIABLE, headers, Bytes::new()))
        }
        Selection::Parts(ranges) => {
            let slices = ranges.iter().map(|range| {
                let (from, to) = part.within(body.len(), range.start, range.end)?;
                Some((content_range(range, part.of), body.slice(from..to)))
            });
            let mut slices: Vec<(String, Bytes)> = slices.collect::<Option<_>>()?;
            let mut headers = stored.headers.clone();
            remove_digests(&mut headers);
            let content = if slices.len() == 1 {
                let (range, slice) = slices.pop()?;
                headers.insert(CONTENT_RANGE, text(&range)?);
                slice
            } else {
                let boundary = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
                let of = headers.remove(CONTENT_TYPE);
                // The parts have it.
                headers.remove(CONTENT_RANGE);
                let kind = format!("multipart/byteranges; boundary={boundary}");
                headers.insert(CONTENT_TYPE, text(&kind)?);
                multipart(&slices, of.as_ref(), &boundary)
            };
            headers.insert(CONTENT_LENGTH, content.len().into());
            Some((StatusCode::PARTIAL_CONTENT, headers, content))
        }
    }
}

/// Whether a stored part has all that a request asks for.
pub(crate) fn covers(stored: &StoredResponse, method: &Method, request: &HeaderMap) -> bool {
    let Some(part) = stored.part else { return true };
    let selection = (*method == Method::GET).then(|| wanted(request, stored, part.of)).flatten();
    match selection {
        None | Some(Selection::Whole) => false,
        Some(Selection::Unsatisfiable) => true,
        Some(Selection::Parts(ranges)) => {
            let len = stored.body.len();
            ranges.iter().all(|range| part.within(len, range.start, range.end).is_some())
        }
    }
}

/// What a request asks for of a representation of `len` bytes; `None` if that is no part.
fn wanted(request: &HeaderMap, stored: &StoredResponse, len: usize) -> Option<Selection> {
    let range = request.get(RANGE)?;
    if request.get_all(RANGE).iter().nth(1).is_some() || len == 0 {
        return None;
    }
    // RFC 9110 §13.1.5: if the client's part is of another representation, it gets the whole.
    let validator = request.get(IF_RANGE);
    if validator.is_some_and(|validator| !stored.validators.match_strongly(validator)) {
        return None;
    }
    Some(select(range, len))
}

fn text(value: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(value).ok()
}

fn content_range(part: &Range<usize>, whole: usize) -> String {
    format!("bytes {}-{}/{whole}", part.start, part.end - 1)
}

/// Slices with what they are of (RFC 9110 §14.6).
fn multipart(
    slices: &[(String, Bytes)],
    content_type: Option<&HeaderValue>,
    boundary: &str,
) -> Bytes {
    let mut out = BytesMut::new();
    for (range, slice) in slices {
        // Writing to a buffer in memory cannot fail.
        let _ = write!(out, "--{boundary}\r\n");
        if let Some(of) = content_type {
            out.extend_from_slice(b"content-type: ");
            out.extend_from_slice(of.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        let _ = write!(out, "content-range: {range}\r\n\r\n");
        out.extend_from_slice(slice);
        out.extend_from_slice(b"\r\n");
    }
    let _ = write!(out, "--{boundary}--\r\n");
    out.freeze()
}

/// RFC 9110 §14.1.2 and §14.2
fn select(range: &HeaderValue, len: usize) -> Selection {
    let Some(set) = unit(range) else { return Selection::Whole };
    let mut parts = Vec::new();
    for (count, spec) in Members::new(set).enumerate() {
        // One that can't be read makes the whole field invalid.
        let Some(part) = parse(spec, len) else { return Selection::Whole };
        if count >= MAX_RANGES {
            return Selection::Whole;
        }
        if !part.is_empty() {
            parts.push(part);
        }
    }
    // More than all there is: they overlap.
    let asked: usize = parts.iter().map(Range::len).fold(0, usize::saturating_add);
    if asked > len {
        return Selection::Whole;
    }
    if parts.is_empty() { Selection::Unsatisfiable } else { Selection::Parts(parts) }
}

/// One range, as far as it is within `len`: empty if it isn't at all.
fn parse(spec: &[u8], len: usize) -> Option<Range<usize>> {
    let dash = spec.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (trim(&spec[..dash]), trim(&spec[dash + 1..]));
    match (number(first), number(last)) {
        // The last so many bytes.
        (None, Some(suffix)) if first.is_empty() => Some(len - suffix.min(len)..len),
        (Some(first), None) if last.is_empty() => Some(first.min(len)..len),
        (Some(first), Some(last)) if first <= last => {
            Some(first.min(len)..last.saturating_add(1).min(len))
        }
        _ => None,
    }
}

/// Digits; more of them than fit mean a number beyond any length.
pub(crate) fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().try_fold(0_usize, |value, digit| {
        value.checked_mul(10)?.checked_add(usize::from(digit - b'0'))
    });
    Some(value.unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::StoredTimes;

    fn of_ten(range: &str) -> Selection {
        select(&range.parse().unwrap(), 10)
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let one = |part: Range<usize>| Selection::Parts(vec![part]);
        assert_eq!(of_ten("bytes=0-0"), one(0..1));
        assert_eq!(of_ten("bytes=2-5"), one(2..6));
        assert_eq!(of_ten("BYTES=7-"), one(7..10));
        assert_eq!(of_ten("bytes=-3"), one(7..10));
        assert_eq!(of_ten("bytes=-30"), one(0..10));
        assert_eq!(of_ten("bytes=8-99999999999999999999999"), one(8..10));
        assert_eq!(of_ten("bytes= 0-1 , 3-4, 20-30"), Selection::Parts(vec![0..2, 3..5]));
        for nothing in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(of_ten(nothing), Selection::Unsatisfiable, "{nothing}");
        }
        for nonsense in
            ["bytes=5-2", "bytes=a-b", "bytes=-", "bytes=1", "bytes=0-1,x", "items=0-1", "bytes"]
        {
            assert_eq!(of_ten(nonsense), Selection::Whole, "{nonsense}");
        }
        let overlapping = ["0-9"; 3].join(",");
        assert_eq!(of_ten(&format!("bytes={overlapping}")), Selection::Whole);
        let many = ["0-0"; MAX_RANGES + 1].join(",");
        assert_eq!(select(&format!("bytes={many}").parse().unwrap(), 1000), Selection::Whole);
    }

    fn stored(body: Bytes) -> StoredResponse {
        StoredResponse::new(StatusCode::OK, &HeaderMap::new(), body, None, StoredTimes::default())
    }

    #[test]
    fn a_part_covers_what_lies_in_it() {
        let part = StoredResponse {
            part: Some(Part { first: 2, of: 10 }),
            ..stored(Bytes::from_static(b"cdef"))
        };
        let of = |range: &str| HeaderMap::from_iter([(RANGE, range.parse().unwrap())]);
        for (range, expected) in [
            ("bytes=2-5", "cdef"),
            ("bytes=3-3", "d"),
            ("bytes=-8", ""),
            ("bytes=1-3", ""),
            ("bytes=4-", ""),
        ] {
            let covered = covers(&part, &Method::GET, &of(range));
            assert_eq!(covered, !expected.is_empty(), "{range}");
            let content = partial(&of(range), &part).map(|(_, _, content)| content);
            assert_eq!(content.unwrap_or_default(), expected, "{range}");
        }
        assert!(!covers(&part, &Method::HEAD, &of("bytes=2-5")));
        assert!(!covers(&part, &Method::GET, &HeaderMap::new()), "the whole isn't there");
        assert!(covers(&part, &Method::GET, &of("bytes=10-")), "nor is what is beyond it");
    }

    proptest! {
        #[test]
        fn parts_are_within_the_content(
            range in "bytes=[0-9, -]{0,30}",
            len in 0usize..40,
        ) {
            if let Selection::Parts(parts) = select(&range.parse().unwrap(), len) {
                prop_assert!(!parts.is_empty() && parts.len() <= MAX_RANGES);
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= len));
                prop_assert!(parts.iter().map(Range::len).sum::<usize>() <= len);
            }
        }

        #[test]
        fn a_part_is_that_part(len in 1usize..200, first: prop::sample::Index, last: prop::sample::Index) {
            let (first, last) = (first.index(len), last.index(len));
            prop_assume!(first <= last);
            let body: Bytes = (0..len).map(|at| u8::try_from(at).unwrap()).collect();
            let mut request = HeaderMap::new();
            request.insert(RANGE, format!("bytes={first}-{last}").parse().unwrap());
            let (status, headers, content) = partial(&request, &stored(body.clone())).unwrap();
            prop_assert_eq!(status, StatusCode::PARTIAL_CONTENT);
            prop_assert_eq!(&content[..], &body[first..=last]);
            prop_assert_eq!(&headers[CONTENT_RANGE], &format!("bytes {first}-{last}/{len}"));
        }
    }
}
