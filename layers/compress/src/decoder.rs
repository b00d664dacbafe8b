//! One face for the decoders of all codings, one upon the other, within limits.

#[cfg(feature = "br")]
mod brotli;
#[cfg(any(feature = "gzip", feature = "deflate"))]
mod flate;
mod stage;
#[cfg(feature = "zstd")]
mod zstd;

use std::fmt;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue};

use self::stage::{Pulled, Stage};
use crate::encoding::Encoding;
use crate::error::DecodeError;
use crate::field::Members;

/// How many bytes are decoded in one go.
pub(crate) const SLICE: usize = 16 * 1024;

/// How many codings a body may have, one upon the other. Each takes memory, and nobody uses two.
const MAX_CODINGS: usize = 3;

/// What a decoder has done in one go.
#[derive(Clone, Copy, Debug)]
struct Progress {
    read: usize,
    written: usize,
    /// Whether the encoded form has ended; what follows is not part of it.
    ended: bool,
}

/// The decoder of one coding.
trait Codec: Send + Sync {
    /// Reads from `input`, and writes into `room`, as far as both go. `None` if the input is corrupt.
    fn run(&mut self, input: &[u8], room: &mut [u8]) -> Option<Progress>;
}

/// How far a body may swell.
///
/// ```
/// use tower_keep_compress::Limits;
///
/// let limits = Limits::default().max_len(1024 * 1024).max_ratio(50);
/// # let _ = limits;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Limits {
    pub(crate) max_len: u64,
    pub(crate) max_ratio: u64,
}

impl Limits {
    /// Below so many decoded bytes, 1 MiB, the ratio isn't looked at: it does no harm there, and short
    /// bodies of one repeated byte have a high one.
    pub const RATIO_APPLIES_ABOVE: u64 = 1024 * 1024;

    /// None: for what comes from a trusted place.
    pub const fn none() -> Self {
        Self { max_len: u64::MAX, max_ratio: u64::MAX }
    }

    /// The most bytes that a decoded body may have. Default: 16 MiB.
    pub const fn max_len(mut self, bytes: u64) -> Self {
        self.max_len = bytes;
        self
    }

    /// How many times as long as what was sent the decoded body may be, where it is longer than
    /// [`RATIO_APPLIES_ABOVE`](Self::RATIO_APPLIES_ABOVE). Default: 100. Text gets 3 to 20 times as
    /// long; the most that gzip can do is about 1030, and zstd and Brotli know no bound.
    pub const fn max_ratio(mut self, times: u64) -> Self {
        self.max_ratio = times;
        self
    }

    /// Refuses what is beyond, `decoded` bytes of `encoded` ones.
    fn check(self, decoded: u64, encoded: u64) -> Result<(), DecodeError> {
        if decoded > self.max_len {
            return Err(DecodeError::TooLong(self.max_len));
        }
        if decoded > Self::RATIO_APPLIES_ABOVE && decoded > encoded.saturating_mul(self.max_ratio) {
            return Err(DecodeError::TooDense(self.max_ratio));
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_len: 16 * 1024 * 1024, max_ratio: 100 }
    }
}

/// The codings of a message, in the order in which they were applied; `identity` isn't counted.
///
/// ```
/// use http::{HeaderMap, header::CONTENT_ENCODING};
/// use tower_keep_compress::{Encoding, content_encodings};
///
/// # #[cfg(all(feature = "gzip", feature = "br"))] {
/// let headers = HeaderMap::from_iter([(CONTENT_ENCODING, "gzip, br".parse().unwrap())]);
/// assert_eq!(content_encodings(&headers).unwrap(), [Encoding::Gzip, Encoding::Brotli]);
/// # }
/// ```
///
/// # Errors
///
/// [`DecodeError::Unsupported`], if one isn't known, its feature isn't enabled, or there are more than
/// three.
pub fn content_encodings(headers: &HeaderMap) -> Result<Vec<Encoding>, DecodeError> {
    let lines = headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
    let mut encodings = Vec::new();
    for name in lines.flat_map(Members::new).filter(|name| !name.eq_ignore_ascii_case(b"identity"))
    {
        let known = Encoding::from_name(name).filter(|known| known.is_enabled());
        match known {
            Some(known) if encodings.len() < MAX_CODINGS => encodings.push(known),
            _ => return Err(DecodeError::Unsupported(String::from_utf8_lossy(name).into_owned())),
        }
    }
    Ok(encodings)
}

/// Decodes one body.
pub(crate) struct Decoder {
    /// The last is the one whose output is the body.
    stages: Vec<Stage>,
    limits: Limits,
    /// How many bytes have come.
    received: u64,
}

/// What comes of a decoder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// These many bytes, at the beginning of the room; it may be none.
    Data(usize),
    /// More input is needed, or the word that there is none.
    NeedsInput,
    /// That was all.
    Ended,
}

impl Decoder {
    /// One for a body with these codings, in the order in which they were applied.
    pub(crate) fn new(encodings: &[Encoding], limits: Limits) -> Result<Self, DecodeError> {
        if encodings.len() > MAX_CODINGS {
            return Err(DecodeError::Unsupported("of so many codings".to_owned()));
        }
        let stages = encodings.iter().rev().map(|encoding| Stage::new(*encoding));
        Ok(Self { stages: stages.collect::<Result<_, _>>()?, limits, received: 0 })
    }

    /// Takes input, when [`Decoded::NeedsInput`] asked for it.
    pub(crate) fn take(&mut self, input: Bytes) {
        self.received = self.received.saturating_add(input.len() as u64);
        if let Some(first) = self.stages.first_mut() {
            first.take(input);
        }
    }

    /// There is no more input.
    pub(crate) fn end(&mut self) {
        if let Some(first) = self.stages.first_mut() {
            first.end();
        }
    }

    /// How many members, or frames, have begun in the midst of the data since this was last asked: each
    /// takes time, also one of nothing.
    pub(crate) fn take_begun(&mut self) -> usize {
        self.stages.iter_mut().map(Stage::take_begun).sum()
    }

    /// The next bytes of the body, as far as there is room.
    pub(crate) fn pull(&mut self, room: &mut [u8]) -> Result<Decoded, DecodeError> {
        let pulled = stage::pull(&mut self.stages, room, &mut |decoded| {
            self.limits.check(decoded, self.received)
        })?;
        Ok(match pulled {
            Pulled::Data(len) => Decoded::Data(len),
            Pulled::NeedsInput => Decoded::NeedsInput,
            Pulled::Ended => Decoded::Ended,
        })
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("stages", &self.stages)
            .field("limits", &self.limits)
            .field("received", &self.received)
            .finish()
    }
}

/// The plain form of `encoded`, to which these codings were applied in this order.
///
/// # Errors
///
/// If it is corrupt or truncated, if something follows it, if the feature of a coding isn't enabled,
/// or if it is beyond the limits: then no more than [`max_len`](Limits::max_len) was taken.
pub fn decode_all(
    encoded: &[u8],
    encodings: &[Encoding],
    limits: Limits,
) -> Result<Vec<u8>, DecodeError> {
    if encodings.is_empty() {
        return Ok(encoded.to_vec());
    }
    let mut decoder = Decoder::new(encodings, limits)?;
    let mut input = encoded;
    let mut decoded = Vec::new();
    let mut room = vec![0; SLICE];
    loop {
        match decoder.pull(&mut room)? {
            Decoded::Data(len) => decoded.extend_from_slice(room.get(..len).unwrap_or_default()),
            Decoded::NeedsInput if input.is_empty() => decoder.end(),
            Decoded::NeedsInput => {
                let (next, rest) = input.split_at(input.len().min(SLICE));
                decoder.take(Bytes::copy_from_slice(next));
                input = rest;
            }
            Decoded::Ended => return Ok(decoded),
        }
    }
}

#[cfg(test)]
mod tests;
