//! Parts of a representation (206): kept, and put together (RFC 9110 §15.3.7, RFC 9111 §3.3, §3.4).
//!
//! One contiguous part of a resource is kept. Another that overlaps or adjoins it, of the same
//! version by a strong validator, makes it longer; one that doesn't takes its place. When the whole
//! is asked for, only what is missing is fetched, if that is one range.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_RANGE;
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::range::number;

/// Where in a representation its part begins, and how long the whole is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) first: usize,
    pub(crate) of: usize,
}

/// What a 206 with one part says that its content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) part: Part,
    pub(crate) len: usize,
}

impl Received {
    /// Reads `Content-Range` (RFC 9110 §14.4). `None` if it isn't just one, in bytes, of a whole whose
    /// length is known: nothing can be done with such a part but pass it on.
    pub(crate) fn of(response: &HeaderMap) -> Option<Self> {
        let mut lines = response.get_all(CONTENT_RANGE).iter();
        let (line, None) = (lines.next()?.as_bytes(), lines.next()) else { return None };
        let (unit, range) = line.split_at_checked(6)?;
        if !unit.eq_ignore_ascii_case(b"bytes ") {
            return None;
        }
        let mut sides = range.split(|byte| *byte == b'/');
        let (Some(span), Some(of), None) = (sides.next(), sides.next(), sides.next()) else {
            return None;
        };
        let mut ends = span.split(|byte| *byte == b'-');
        let (Some(first), Some(last), None) = (ends.next(), ends.next(), ends.next()) else {
            return None;
        };
        let (first, last, of) = (number(first)?, number(last)?, number(of)?);
        // A number too large to be read is none.
        let valid = first <= last && last < of && of < usize::MAX;
        valid.then(|| Self { part: Part { first, of }, len: last - first + 1 })
    }
}

impl Part {
    /// The first and last byte of what is missing, seen from a part of `len` bytes, if that is one
    /// range.
    pub(crate) fn missing(self, len: usize) -> Option<(usize, usize)> {
        let end = self.first.checked_add(len)?;
        match (self.first, end) {
            (0, end) if end < self.of => Some((end, self.of - 1)),
            (first, end) if first > 0 && end == self.of => Some((0, first - 1)),
            _ => None,
        }
    }

    /// What of `first..end` of the whole lies in a part of `len` bytes: a range of its own bytes.
    pub(crate) fn within(self, len: usize, first: usize, end: usize) -> Option<(usize, usize)> {
        let from = first.checked_sub(self.first)?;
        let to = end.checked_sub(self.first)?;
        (from <= to && to <= len).then_some((from, to))
    }
}

/// Two parts of the same version as one, if no gap is between them, and what they make is at most
/// `limit` bytes long.
pub(crate) fn join(a: (Part, &Bytes), b: (Part, &Bytes), limit: usize) -> Option<(Part, Bytes)> {
    let (head, tail) = if a.0.first <= b.0.first { (a, b) } else { (b, a) };
    let ((begin, head), (next, tail)) = (head, tail);
    if begin.of != next.of {
        return None;
    }
    let end = begin.first.checked_add(head.len())?;
    // Where in the tail begins what the head hasn't got.
    let known = end.checked_sub(next.first)?;
    let more = tail.get(known.min(tail.len())..)?;
    if head.len().checked_add(more.len())? > limit {
        return None;
    }
    let mut whole = BytesMut::with_capacity(head.len() + more.len());
    whole.extend_from_slice(head);
    whole.extend_from_slice(more);
    Some((begin, whole.freeze()))
}

/// The value of a `Range` that asks for these bytes.
pub(crate) fn range_value((first, last): (usize, usize)) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("bytes={first}-{last}")).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Option<(usize, usize, usize)> {
        let headers = HeaderMap::from_iter([(CONTENT_RANGE, line.parse().unwrap())]);
        Received::of(&headers).map(|read| (read.part.first, read.len, read.part.of))
    }

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(read("bytes 0-4/10"), Some((0, 5, 10)));
        assert_eq!(read("Bytes 9-9/10"), Some((9, 1, 10)));
        for wrong in [
            "bytes 0-10/10",
            "bytes 5-4/10",
            "bytes 0-4/*",
            "bytes */10",
            "items 0-4/10",
            "bytes=0-4/10",
            "bytes 0-4",
            "bytes 0-4/10/10",
            "bytes -4/10",
            "bytes 0-4-5/10",
            "bytes 0-99999999999999999999999/99999999999999999999999",
            "",
            "bytes",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let mut two = HeaderMap::new();
        two.append(CONTENT_RANGE, "bytes 0-4/10".parse().unwrap());
        two.append(CONTENT_RANGE, "bytes 0-5/10".parse().unwrap());
        assert_eq!(Received::of(&two), None);
    }

    #[test]
    fn one_range_may_be_missing() {
        let missing = |first, len| Part { first, of: 10 }.missing(len);
        assert_eq!(missing(0, 4), Some((4, 9)));
        assert_eq!(missing(6, 4), Some((0, 5)));
        assert_eq!(missing(2, 4), None, "on both sides");
        assert_eq!(missing(0, 10), None, "nothing");
    }

    proptest! {
        #[test]
        fn no_line_panics(line: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                Received::of(&HeaderMap::from_iter([(CONTENT_RANGE, value)]));
            }
        }

        #[test]
        fn parts_that_touch_are_one(
            a in (0usize..20, 0usize..20), b in (0usize..20, 0usize..20), limit in 0usize..40,
        ) {
            let whole: Bytes = (0u8..40).collect();
            let of = |(first, len): (usize, usize)| (Part { first, of: 40 }, whole.slice(first..first + len));
            let ((pa, ba), (pb, bb)) = (of(a), of(b));
            let joined = join((pa, &ba), (pb, &bb), limit);
            let (first, end) = (a.0.min(b.0), (a.0 + a.1).max(b.0 + b.1));
            let touch = a.0 <= b.0 + b.1 && b.0 <= a.0 + a.1;
            let expected = touch && end - first <= limit;
            prop_assert_eq!(joined.is_some(), expected);
            if let Some((part, bytes)) = joined {
                prop_assert_eq!(part, Part { first, of: 40 });
                prop_assert_eq!(bytes, whole.slice(first..end));
            }
        }
    }
}
