//! Tests of the decoders.

use proptest::prelude::*;

use super::*;
use crate::encoder::encode_all;

fn encode(content: &[u8], encodings: &[Encoding]) -> Vec<u8> {
    encodings
        .iter()
        .fold(content.to_vec(), |content, encoding| encode_all(&content, *encoding, 3).unwrap())
}

fn decode(encoded: &[u8], encodings: &[Encoding]) -> Result<Vec<u8>, DecodeError> {
    decode_all(encoded, encodings, Limits::default())
}

/// Reads a body that comes in pieces of these lengths, over and over.
fn decode_in_pieces(
    encoded: &[u8],
    encodings: &[Encoding],
    pieces: &[usize],
) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = Decoder::new(encodings, Limits::default())?;
    let (mut rest, mut pieces) = (encoded, pieces.iter().cycle());
    let (mut decoded, mut room) = (Vec::new(), [0; 333]);
    loop {
        match decoder.pull(&mut room)? {
            Decoded::Data(len) => decoded.extend_from_slice(&room[..len]),
            Decoded::NeedsInput if rest.is_empty() => decoder.end(),
            Decoded::NeedsInput => {
                let (piece, more) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
                decoder.take(Bytes::copy_from_slice(piece));
                rest = more;
            }
            Decoded::Ended => return Ok(decoded),
        }
    }
}

#[test]
fn what_is_cut_off_is_truncated() {
    let content = "All work and no play makes Jack a dull boy. ".repeat(50);
    for encoding in Encoding::enabled() {
        let encoded = encode(content.as_bytes(), &[encoding]);
        for len in 1..encoded.len() {
            let error = decode(&encoded[..len], &[encoding]).unwrap_err();
            assert_eq!(error, DecodeError::Truncated(encoding), "{len} of {}", encoded.len());
        }
    }
}

#[test]
fn no_content_is_no_content_in_every_coding() {
    for encoding in Encoding::enabled() {
        assert_eq!(decode(b"", &[encoding, encoding]), Ok(Vec::new()));
        assert_eq!(decode(&encode(b"", &[encoding]), &[encoding]), Ok(Vec::new()));
    }
}

#[test]
fn garbage_is_refused_at_the_beginning_and_at_the_end() {
    for encoding in Encoding::enabled() {
        assert!(decode(&[0xff; 64], &[encoding]).is_err(), "{encoding}");
        let mut encoded = encode(b"content", &[encoding]);
        encoded.extend_from_slice(b"garbage");
        let expected = match encoding {
            Encoding::Gzip | Encoding::Zstd => DecodeError::Corrupt(encoding),
            other => DecodeError::Trailing(other),
        };
        assert_eq!(decode(&encoded, &[encoding]), Err(expected), "{encoding}");
    }
}

#[test]
fn members_of_gzip_and_frames_of_zstd_follow_each_other() {
    for encoding in [Encoding::Gzip, Encoding::Zstd].into_iter().filter(|one| one.is_enabled()) {
        let encoded = [encode(b"one", &[encoding]), encode(b"two", &[encoding])].concat();
        assert_eq!(decode(&encoded, &[encoding]).unwrap(), b"onetwo");
        assert_eq!(decode_in_pieces(&encoded, &[encoding], &[1]).unwrap(), b"onetwo");
    }
}

#[cfg(feature = "deflate")]
#[test]
fn a_bare_deflate_stream_is_read_as_well() {
    let mut bare = Vec::with_capacity(100);
    let mut compress = flate2::Compress::new(flate2::Compression::new(6), false);
    let content = b"What some take for deflate";
    compress.compress_vec(content, &mut bare, flate2::FlushCompress::Finish).unwrap();
    for pieces in [1, 2, 100] {
        assert_eq!(decode_in_pieces(&bare, &[Encoding::Deflate], &[pieces]).unwrap(), content);
    }
}

#[cfg(feature = "gzip")]
#[test]
fn a_wrong_checksum_is_corrupt() {
    let mut encoded = encode(b"content", &[Encoding::Gzip]);
    let at = encoded.len() - 8;
    encoded[at] ^= 1;
    assert_eq!(decode(&encoded, &[Encoding::Gzip]), Err(DecodeError::Corrupt(Encoding::Gzip)));
}

#[test]
fn limits_hold_at_every_stage() {
    let zeros = vec![0; 4 << 20];
    for encoding in Encoding::enabled() {
        let once = encode(&zeros, &[encoding]);
        let limits = Limits::none().max_len((4 << 20) - 1);
        assert_eq!(
            decode_all(&once, &[encoding], limits),
            Err(DecodeError::TooLong((4 << 20) - 1))
        );
        assert_eq!(decode_all(&once, &[encoding], limits.max_len(4 << 20)).unwrap(), zeros);
        let limits = Limits::none().max_ratio(100);
        assert_eq!(decode_all(&once, &[encoding], limits), Err(DecodeError::TooDense(100)));
        let twice = encode(&zeros, &[encoding, encoding]);
        assert!(decode_all(&twice, &[encoding, encoding], limits).unwrap_err().is_limit());
    }
}

#[test]
fn short_bodies_may_be_dense() {
    for encoding in Encoding::enabled() {
        let zeros = vec![0; usize::try_from(Limits::RATIO_APPLIES_ABOVE).unwrap()];
        let encoded = encode(&zeros, &[encoding]);
        assert!(zeros.len() / encoded.len() > 200);
        assert_eq!(decode(&encoded, &[encoding]).unwrap(), zeros);
    }
}

#[cfg(feature = "br")]
#[test]
fn large_windows_of_brotli_are_refused() {
    // RFC 7932 §9.1 has windows of up to 24 bits; this asks for one of 30.
    assert_eq!(
        decode(&[0x11, 0x1e, 0, 0, 0], &[Encoding::Brotli]),
        Err(DecodeError::Corrupt(Encoding::Brotli))
    );
}

#[cfg(feature = "zstd")]
#[test]
fn windows_of_zstd_beyond_8_mib_are_refused() {
    use ::zstd::stream::raw::{CParameter, Encoder, Operation, OutBuffer};
    for (window, fine) in [(23, true), (24, false)] {
        let mut encoder = Encoder::new(1).unwrap();
        encoder.set_parameter(CParameter::WindowLog(window)).unwrap();
        let mut encoded = [0; 1024];
        let status = encoder.run_on_buffers(b"content", &mut encoded).unwrap();
        let mut end = OutBuffer::around(&mut encoded[status.bytes_written..]);
        assert_eq!(encoder.finish(&mut end, true).unwrap(), 0);
        let len = status.bytes_written + end.pos();
        assert_eq!(decode(&encoded[..len], &[Encoding::Zstd]).is_ok(), fine, "{window}");
    }
}

#[test]
fn codings_are_read_in_order() {
    let of = |value: &str| {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, value.parse().unwrap())]);
        content_encodings(&headers)
    };
    let first = Encoding::enabled().next().unwrap();
    assert_eq!(of(&format!("identity, {first} ,{first}")), Ok(vec![first, first]));
    assert_eq!(of(""), Ok(vec![]));
    assert_eq!(of("compress"), Err(DecodeError::Unsupported("compress".into())));
    assert!(of(&[first.name(); 4].join(",")).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes: Vec<u8>,
        encodings in prop::collection::vec(prop::sample::select(Encoding::enabled().collect::<Vec<_>>()), 1..3),
        pieces in prop::collection::vec(1usize..50, 1..4),
    ) {
        let whole = decode(&bytes, &encodings);
        prop_assert_eq!(whole.ok(), decode_in_pieces(&bytes, &encodings, &pieces).ok());
    }

    #[test]
    fn what_is_spoilt_never_panics(
        content in "[ab]{0,300}",
        at: prop::sample::Index,
        with: u8,
        encoding in prop::sample::select(Encoding::enabled().collect::<Vec<_>>()),
    ) {
        let mut encoded = encode(content.as_bytes(), &[encoding]);
        let at = at.index(encoded.len());
        encoded[at] = with;
        drop(decode(&encoded, &[encoding]));
    }

    #[test]
    fn the_plain_form_comes_back_however_it_is_cut(
        content in prop::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..3000),
        encodings in prop::collection::vec(prop::sample::select(Encoding::enabled().collect::<Vec<_>>()), 1..4),
        pieces in prop::collection::vec(1usize..500, 1..4),
    ) {
        let encoded = encode(&content, &encodings);
        prop_assert_eq!(decode(&encoded, &encodings).unwrap(), content.clone());
        prop_assert_eq!(decode_in_pieces(&encoded, &encodings, &pieces).unwrap(), content);
    }
}
