//! The frame: the one form in which an entry lies in the second tier.
//!
//! ```text
//!  0  magic "tk", version, codec id
//!  4  length of the metadata (u32)      8  length of the head (u32)
//! 12  length of the body (u64)
//! 20  token (u64): unique to this frame
//! 28  lease (u64): until when somebody refreshes it
//! 36  XXH3 (u64) of all other bytes but those of token and lease
//! 44  metadata (bincode), head (the codec's), body (raw)
//! ```
//!
//! Where there is no value, a mark may lie: what tells that there is none, and that what began before
//! it must not be stored.
//!
//! ```text
//!  0  "tx"     2  token (u64)                       a tombstone, as a removal leaves it
//!  0  "tl"     2  token (u64)     10  lease (u64)   somebody fetches the value, or did
//! ```
//!
//! A lease is an instant in microseconds since 1970 by the server's clock, 0 if there is none; its
//! highest bit says that nobody need wait, since what was fetched is for nobody else. Whoever takes
//! it writes a token of its own beside it, in place: so what is to be stored in place of an earlier
//! one is refused. That is why neither counts for the checksum.
//!
//! The metadata say whether head and body are compressed, as one; their lengths are those before.
//!
//! Integers are little-endian. What comes back is untrusted: every length is checked against the
//! bytes that are there before anything is sliced, and nothing is allocated for a length.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::epoch::Epochs;
use crate::payload::{Form, Payload};
use crate::tag::{MAX_TAG_LEN, MAX_TAGS, Tag};
use crate::ttl::Lifetime;

const MAGIC: [u8; 2] = *b"tk";
const TOMBSTONE: [u8; 2] = *b"tx";
const LEASE: [u8; 2] = *b"tl";
const VERSION: u8 = 2;
pub(crate) const HEADER_LEN: usize = 44;
const TOKEN_AT: usize = 20;
const CHECKSUM_AT: usize = 36;
/// What a mark with a lease takes.
const LEASE_MARK_LEN: usize = LEASE.len() + 2 * size_of::<u64>();
/// How much of a frame names it: magic to token. Comparing this much compares frames.
pub(crate) const TOKEN_LEN: usize = 28;
/// Enough for 67 tags of 256 bytes each, and the rest.
const MAX_META_LEN: usize = 32 * 1024;

/// Everything about an entry but its value, as the second tier keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameMeta {
    pub(crate) lifetime: Lifetime,
    pub(crate) softened: bool,
    /// How long its fill took, in milliseconds.
    pub(crate) took: u32,
    pub(crate) tags: Vec<(Tag, Epochs)>,
}

#[derive(Serialize, Deserialize)]
struct WireMeta {
    lifetime: Lifetime,
    softened: bool,
    took: u32,
    tags: Vec<(String, u64, u64)>,
    form: Form,
}

/// What is wrong with bytes that should have been a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFrame {
    /// Not bad at all: a mark, which tells that there is no value.
    #[error("no value")]
    NoValue,
    #[error("not a frame of this store")]
    Foreign,
    #[error("a frame of another version")]
    Version,
    #[error("a frame of another codec")]
    Codec,
    #[error("lengths that do not add up")]
    Length,
    #[error("the checksum does not match")]
    Checksum,
    #[error("metadata that cannot be read")]
    Meta,
    #[error("a compressed value that cannot be read")]
    Compression,
}

/// Puts a frame together. `token` makes it unlike any other frame that ever lay at its key.
pub(crate) fn encode(codec: u8, token: u64, meta: &FrameMeta, payload: &Payload) -> Option<Bytes> {
    let wire = WireMeta {
        lifetime: meta.lifetime,
        softened: meta.softened,
        took: meta.took,
        tags: meta.tags.iter().map(|(t, e)| (t.as_str().to_owned(), e.hard, e.soft)).collect(),
        form: payload.form,
    };
    let meta = bincode::serde::encode_to_vec(wire, bincode::config::standard()).ok()?;
    let mut frame = BytesMut::with_capacity(HEADER_LEN + meta.len() + payload.stored_len());
    frame.put_slice(&MAGIC);
    frame.put_u8(VERSION);
    frame.put_u8(codec);
    frame.put_u32_le(u32::try_from(meta.len()).ok()?);
    frame.put_u32_le(u32::try_from(payload.head_len).ok()?);
    frame.put_u64_le(payload.body_len as u64);
    frame.put_u64_le(token);
    // No lease, and the checksum's place.
    frame.put_u64_le(0);
    frame.put_u64_le(0);
    frame.put_slice(&meta);
    for part in &payload.stored {
        frame.put_slice(part);
    }
    let sum = checksum(&frame).to_le_bytes();
    frame.get_mut(CHECKSUM_AT..HEADER_LEN)?.copy_from_slice(&sum);
    Some(frame.freeze())
}

/// Takes a frame apart. What is stored in it shares its memory.
pub(crate) fn decode(codec: u8, frame: &Bytes) -> Result<(FrameMeta, Payload), BadFrame> {
    if is_mark(frame) {
        return Err(BadFrame::NoValue);
    }
    let mut header = Header(frame.get(..HEADER_LEN).ok_or(BadFrame::Foreign)?);
    if header.take()? != MAGIC {
        return Err(BadFrame::Foreign);
    }
    let [version, found] = header.take()?;
    if version != VERSION {
        return Err(BadFrame::Version);
    }
    if found != codec {
        return Err(BadFrame::Codec);
    }
    let meta_len = u32::from_le_bytes(header.take()?) as usize;
    let head_len = u32::from_le_bytes(header.take()?) as usize;
    let body_len =
        usize::try_from(u64::from_le_bytes(header.take()?)).map_err(|_| BadFrame::Length)?;
    let [_token, _lease, sum] =
        [header.take()?, header.take()?, header.take()?].map(u64::from_le_bytes);
    if meta_len > MAX_META_LEN || meta_len > frame.len() - HEADER_LEN {
        return Err(BadFrame::Length);
    }
    if checksum(frame) != sum {
        return Err(BadFrame::Checksum);
    }
    let meta_end = HEADER_LEN + meta_len;
    let (meta, form) = decode_meta(&frame[HEADER_LEN..meta_end]).ok_or(BadFrame::Meta)?;
    let payload = Payload::stored(form, [head_len, body_len], frame.slice(meta_end..))?;
    Ok((meta, payload))
}

/// What lies at a key after a removal, for as long as a fill from before it may still be running.
pub(crate) fn tombstone(token: u64) -> Bytes {
    [&TOMBSTONE[..], &token.to_le_bytes()].concat().into()
}

fn is_mark(frame: &[u8]) -> bool {
    let is_tombstone = frame.starts_with(&TOMBSTONE) && frame.len() == TOMBSTONE.len() + 8;
    is_tombstone || is_lease(frame)
}

fn is_lease(frame: &[u8]) -> bool {
    frame.starts_with(&LEASE) && frame.len() == LEASE_MARK_LEN
}

/// The same frame, marked stale; nothing if there is no value to mark. A compressed value stays as it
/// is.
pub(crate) fn soften(token: u64, frame: &Bytes) -> Result<Option<(FrameMeta, Bytes)>, BadFrame> {
    let codec = *frame.get(3).ok_or(BadFrame::Foreign)?;
    let (mut meta, payload) = match decode(codec, frame) {
        Err(BadFrame::NoValue) => return Ok(None),
        decoded => decoded?,
    };
    meta.softened = true;
    Ok(encode(codec, token, &meta, &payload).map(|frame| (meta, frame)))
}

/// The part of stored bytes that tells one frame from another; all of them if they are shorter, but
/// of a lease nothing that changes while somebody has it.
pub(crate) fn token(frame: &Bytes) -> Bytes {
    let len = if is_lease(frame) { LEASE_MARK_LEN - size_of::<u64>() } else { TOKEN_LEN };
    frame.slice(..len.min(frame.len()))
}

fn decode_meta(bytes: &[u8]) -> Option<(FrameMeta, Form)> {
    let config = bincode::config::standard().with_limit::<{ 4 * MAX_META_LEN }>();
    let (wire, read): (WireMeta, usize) = bincode::serde::decode_from_slice(bytes, config).ok()?;
    // Three tags more than a user may set: the store's own, and that of a part of the space.
    if read != bytes.len() || wire.tags.len() > MAX_TAGS + 3 {
        return None;
    }
    let tags = wire.tags.into_iter().map(|(name, hard, soft)| {
        (name.len() <= MAX_TAG_LEN)
            .then(|| Tag::received(&name))
            .flatten()
            .map(|t| (t, Epochs { hard, soft, touched: hard }))
    });
    let (lifetime, softened, took) = (wire.lifetime, wire.softened, wire.took);
    Some((FrameMeta { lifetime, softened, took, tags: tags.collect::<Option<_>>()? }, wire.form))
}

fn checksum(frame: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(frame.get(..TOKEN_AT).unwrap_or_default());
    hash.update(frame.get(HEADER_LEN..).unwrap_or_default());
    hash.digest()
}

/// What is left of the fixed header.
struct Header<'a>(&'a [u8]);

impl Header<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadFrame> {
        let (field, rest) = self.0.split_first_chunk().ok_or(BadFrame::Length)?;
        self.0 = rest;
        Ok(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Encoded;
    use crate::time::Timestamp;
    use proptest::prelude::*;

    fn meta() -> FrameMeta {
        let [stored_at, fresh_until, refresh_until, keep_until] =
            [1, 2, 3, 4].map(Timestamp::from_millis);
        FrameMeta {
            lifetime: Lifetime { stored_at, fresh_until, refresh_until, keep_until },
            softened: false,
            took: 5,
            tags: vec![
                (Tag::everything(), Epochs::all(9)),
                (Tag::new("a").unwrap(), Epochs { hard: 1, soft: 2, touched: 1 }),
            ],
        }
    }

    #[test]
    fn there_is_room_for_all_tags_that_an_entry_may_have() {
        let long = |n: usize| Tag::new(format!("{n:0>MAX_TAG_LEN$}")).unwrap();
        let own = |space: &str| [Tag::everything(), Tag::space(space), Tag::part(space, u128::MAX)];
        for space in ["http".to_owned(), "x".repeat(1000)] {
            let tags = own(&space).into_iter().chain((0..MAX_TAGS).map(long));
            let meta =
                FrameMeta { tags: tags.map(|tag| (tag, Epochs::all(1))).collect(), ..meta() };
            let frame = encode(1, 77, &meta, &Payload::raw(Encoded::default())).unwrap();
            assert_eq!(decode(1, &frame).unwrap().0, meta);
        }
    }

    fn frame(head: &[u8], body: &[u8]) -> Bytes {
        let value =
            Encoded { head: Bytes::copy_from_slice(head), body: Bytes::copy_from_slice(body) };
        encode(1, 77, &meta(), &Payload::raw(value)).unwrap()
    }

    proptest! {
        #[test]
        fn returns_what_it_was_given(head: Vec<u8>, body: Vec<u8>) {
            let (found, payload) = decode(1, &frame(&head, &body)).unwrap();
            let value = payload.unpacked().unwrap();
            prop_assert_eq!(found, meta());
            prop_assert_eq!((&value.head[..], &value.body[..]), (&head[..], &body[..]));
        }

        #[test]
        fn every_flipped_bit_is_noticed(body: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let good = frame(b"head", &body);
            let mut bytes = good.to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let found = decode(1, &bytes.into());
            if (TOKEN_AT..CHECKSUM_AT).contains(&at) {
                prop_assert_eq!(found, decode(1, &good), "they are about who may write, not the value");
            } else {
                prop_assert!(found.is_err());
            }
        }

        #[test]
        fn a_mark_is_no_value_and_is_told_by_its_token_alone(token: u64, lease: u64, other: u64) {
            let mark = |lease: u64| -> Bytes {
                [&LEASE[..], &token.to_le_bytes(), &lease.to_le_bytes()].concat().into()
            };
            prop_assert_eq!(decode(1, &mark(lease)).unwrap_err(), BadFrame::NoValue);
            prop_assert_eq!(super::token(&mark(lease)), super::token(&mark(other)));
            prop_assert_eq!(decode(1, &tombstone(token)).unwrap_err(), BadFrame::NoValue);
            prop_assert_ne!(super::token(&mark(lease)), super::token(&tombstone(token)));
        }

        #[test]
        fn no_mark_of_another_length_is_one(rest: Vec<u8>) {
            for magic in [TOMBSTONE, LEASE] {
                let bytes: Bytes = [&magic[..], &rest].concat().into();
                let is_one = bytes.len() == if magic == LEASE { 18 } else { 10 };
                prop_assert_eq!(decode(1, &bytes) == Err(BadFrame::NoValue), is_one);
            }
        }

        #[test]
        fn every_truncation_and_extension_is_noticed(body: Vec<u8>, keep: prop::sample::Index, more: u8) {
            let whole = frame(b"head", &body);
            prop_assert!(decode(1, &whole.slice(..keep.index(whole.len()))).is_err());
            let longer: Vec<u8> = whole.iter().copied().chain([more]).collect();
            prop_assert!(decode(1, &longer.into()).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = decode(1, &bytes.into());
        }

        #[test]
        fn no_header_panics(rest: Vec<u8>) {
            let bytes: Vec<u8> = [b't', b'k', VERSION, 1].into_iter().chain(rest).collect();
            let _ = decode(1, &bytes.into());
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let good = frame(b"h", b"b");
        let with = |at: usize, byte: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            decode(1, &bytes.into()).unwrap_err()
        };
        assert_eq!(with(0, b'x'), BadFrame::Foreign);
        assert_eq!(with(2, VERSION + 1), BadFrame::Version);
        assert_eq!(with(3, 2), BadFrame::Codec);
        assert_eq!(with(6, 1), BadFrame::Length);
        assert_eq!(with(48, 0xff), BadFrame::Checksum);
        assert_eq!(decode(1, &Bytes::new()).unwrap_err(), BadFrame::Foreign);
    }

    #[test]
    fn the_token_tells_frames_apart() {
        let value = Payload::raw(Encoded::default());
        let [a, b] = [1, 2].map(|token| encode(1, token, &meta(), &value).unwrap());
        assert_ne!(token(&a), token(&b));
    }
}
