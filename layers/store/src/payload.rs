//! The value in a frame, as it is stored: its bytes as they are, or compressed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{Encoded, MAX_HEAD_LEN};
use crate::compression::{self, Compression};
use crate::frame::BadFrame;

/// The most bytes that a compressed value may have been: what it says of its length is all that is
/// known before memory is set aside for it. Longer values are not compressed.
pub(crate) const MAX_PACKED_LEN: usize = MAX_HEAD_LEN;

/// In which form the bytes are. Stored in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Form {
    /// The head, then the body.
    Raw,
    /// Both of them as one Zstandard frame (RFC 8878).
    Zstd,
}

/// A head and a body, in the form in which they lie in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) form: Form,
    /// How long they are when they aren't compressed.
    pub(crate) head_len: usize,
    pub(crate) body_len: usize,
    /// What is stored, the one part after the other: head and body, or nothing and both compressed.
    pub(crate) stored: [Bytes; 2],
}

impl Payload {
    /// The value as it is.
    pub(crate) fn raw(Encoded { head, body }: Encoded) -> Self {
        Self { form: Form::Raw, head_len: head.len(), body_len: body.len(), stored: [head, body] }
    }

    /// The value compressed, if that makes it so much smaller that it is worth the time of those who
    /// will read it; else as it is. One that can't be made smaller, such as an image, costs about a
    /// twentieth of the time of one that can (0.1 ms for 1 MiB): too little to look at a sample first.
    pub(crate) fn packed(value: Encoded, compression: Compression) -> Self {
        let len = value.head.len().saturating_add(value.body.len());
        if !compression.wants(len) {
            return Self::raw(value);
        }
        let most = len - len / 10;
        let packed = if value.body.is_empty() {
            compression.pack(&value.head, most)
        } else {
            compression.pack(&[&value.head[..], &value.body].concat(), most)
        };
        match packed {
            Some(packed) => Self {
                form: Form::Zstd,
                head_len: value.head.len(),
                body_len: value.body.len(),
                stored: [Bytes::new(), packed.into()],
            },
            None => Self::raw(value),
        }
    }

    /// Those of a frame: `bytes` is all that follows its metadata.
    pub(crate) fn stored(
        form: Form,
        [head_len, body_len]: [usize; 2],
        bytes: Bytes,
    ) -> Result<Self, BadFrame> {
        let len = head_len.checked_add(body_len).ok_or(BadFrame::Length)?;
        let is_sound = match form {
            Form::Raw => len == bytes.len(),
            Form::Zstd => len <= MAX_PACKED_LEN,
        };
        if !is_sound {
            return Err(BadFrame::Length);
        }
        let mut rest = bytes;
        let first = if form == Form::Raw { rest.split_to(head_len) } else { Bytes::new() };
        Ok(Self { form, head_len, body_len, stored: [first, rest] })
    }

    /// How many bytes are stored.
    pub(crate) fn stored_len(&self) -> usize {
        self.stored.iter().map(Bytes::len).sum()
    }

    /// How many bytes the value has.
    pub(crate) fn len(&self) -> usize {
        self.head_len.saturating_add(self.body_len)
    }

    pub(crate) fn is_packed(&self) -> bool {
        self.form != Form::Raw
    }

    /// The value. The body is a copy, unless it was compressed: it may be kept for long, and what lies in
    /// a frame shares the memory into which others were read with it, however much that is.
    pub(crate) fn unpacked(self) -> Result<Encoded, BadFrame> {
        let len = self.len();
        let [head, body] = self.stored;
        match self.form {
            Form::Raw => Ok(Encoded { head, body: Bytes::copy_from_slice(&body) }),
            Form::Zstd => {
                let mut whole = Bytes::from(compression::unpack(&body, len)?);
                let head = whole.split_to(self.head_len.min(whole.len()));
                Ok(Encoded { head, body: whole })
            }
        }
    }
}

#[cfg(all(test, feature = "zstd"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{self, FrameMeta};
    use crate::ttl::Ttl;

    fn meta() -> FrameMeta {
        let lifetime = Ttl::secs(60).lifetime(crate::time::Timestamp::from_millis(1), 0, 0.0);
        FrameMeta { lifetime, softened: false, took: 0, tags: Vec::new() }
    }

    fn packed(head: &[u8], body: &[u8]) -> Payload {
        let [head, body] = [head, body].map(Bytes::copy_from_slice);
        Payload::packed(Encoded { head, body }, Compression::zstd().min_size(256))
    }

    fn bytes(part: impl Strategy<Value = u8>, most: usize) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(part, 0..most)
    }

    /// Sent through a frame.
    #[expect(clippy::unwrap_used, reason = "a test may panic")]
    fn sent(payload: &Payload) -> Result<Payload, BadFrame> {
        let frame = frame::encode(1, 77, &meta(), payload).unwrap();
        frame::decode(1, &frame).map(|(_, payload)| payload)
    }

    proptest! {
        #[test]
        fn values_of_all_kinds_come_back(
            head in bytes(0u8..4, 600),
            body in prop_oneof![bytes(0u8..4, 4000), bytes(any::<u8>(), 4000)],
        ) {
            let payload = packed(&head, &body);
            let found = sent(&payload).unwrap();
            prop_assert_eq!(&found, &payload);
            prop_assert!(found.stored_len() <= found.len());
            let value = found.unpacked().unwrap();
            prop_assert_eq!((&value.head[..], &value.body[..]), (&head[..], &body[..]));
        }

        #[test]
        fn no_compressed_bytes_panic(rest: Vec<u8>, sound: bool, head_len in 0usize..5000, body_len in 0usize..5000) {
            let mut stored = if sound { packed(&[7; 2000], b"").stored[1].to_vec() } else { Vec::new() };
            stored.extend(rest);
            let stored = [Bytes::new(), Bytes::from(stored)];
            let _ = Payload { form: Form::Zstd, head_len, body_len, stored }.unpacked();
        }

        #[test]
        fn a_compressed_value_that_was_cut_is_refused(keep: prop::sample::Index) {
            let mut payload = packed(&[7; 2000], &[8; 2000]);
            payload.stored[1].truncate(keep.index(payload.stored[1].len()));
            prop_assert!(payload.unpacked().is_err());
        }
    }

    #[test]
    fn small_values_and_those_that_gain_little_stay_as_they_are() {
        assert!(packed(&[7; 256], b"").is_packed());
        assert!(packed(&[7; 128], &[8; 128]).is_packed(), "both together are large enough");
        assert!(!packed(&[7; 255], b"").is_packed());
        let mut noise = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = std::iter::repeat_with(|| noise.u8(..)).take(10_000).collect();
        assert!(!packed(&noise, b"").is_packed());
        assert!(!packed(&noise, &[0; 1000]).is_packed(), "less than a tenth is saved");
        assert!(packed(&noise, &[0; 2000]).is_packed());
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let good = packed(&[7; 1000], &[8; 1000]);
        let [head_len, body_len] = [good.head_len, good.body_len];
        for (head_len, body_len) in
            [(head_len + 1, body_len), (head_len, body_len - 1), (0, 0), (MAX_PACKED_LEN, 0)]
        {
            let lie = Payload { head_len, body_len, ..good.clone() };
            assert!(sent(&lie).unwrap().unpacked().is_err(), "{head_len} and {body_len}");
        }
        for body_len in [MAX_PACKED_LEN, usize::MAX] {
            let lie = Payload { body_len, ..good.clone() };
            assert_eq!(sent(&lie).unwrap_err(), BadFrame::Length, "before any memory is set aside");
        }
    }

    #[test]
    fn a_value_that_unfolds_to_more_than_it_says_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
        assert!(bomb.len() < 10_000);
        let stored = [Bytes::new(), bomb.into()];
        let payload = Payload { form: Form::Zstd, head_len: 1000, body_len: 0, stored };
        assert_eq!(sent(&payload).unwrap().unpacked().unwrap_err(), BadFrame::Compression);
    }

    #[test]
    fn marking_a_value_stale_leaves_it_compressed_as_it_was() {
        let payload = packed(&[7; 1000], &[8; 1000]);
        let frame = frame::encode(1, 77, &meta(), &payload).unwrap();
        let (_, softened) = frame::soften(78, &frame).unwrap().unwrap();
        let (meta, found) = frame::decode(1, &softened).unwrap();
        assert!(meta.softened);
        assert_eq!(found, payload);
    }
}

#[cfg(all(test, not(feature = "zstd")))]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_compressed_is_refused_without_the_feature() {
        let stored = Bytes::from_static(b"compressed");
        let payload = Payload::stored(Form::Zstd, [500, 500], stored).unwrap();
        assert_eq!(payload.unpacked().unwrap_err(), BadFrame::Compression);
    }
}
