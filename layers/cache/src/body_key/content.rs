//! What the layer leaves on a request for the cache.

use std::fmt;

use http::{Extensions, Request};
use sha2::{Digest as _, Sha256};

/// What is known of the content of a request, in its extensions.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// The request reads, and this is what it asks with.
    Known(ContentDigest),
    /// The request reads, but its content isn't known, for this reason: it can't be looked up.
    Unknown(&'static str),
    /// The request wasn't declared to read. But others of the same resource may be.
    Undeclared,
}

impl Content {
    /// What is left on the request.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<&Self> {
        request.extensions().get()
    }

    /// What the request asks with, if it reads.
    pub(crate) fn known(&self) -> Option<&ContentDigest> {
        match self {
            Self::Known(digest) => Some(digest),
            Self::Unknown(_) | Self::Undeclared => None,
        }
    }

    pub(super) fn leave(self, extensions: &mut Extensions) {
        extensions.insert(self);
    }
}

/// The SHA-256 of a body, in hexadecimal digits.
///
/// Nothing less will do: whoever could make two bodies with one digest could have the answer to the
/// one stored for the other. That rules out fast hashes, the keyed ones too, as the nodes that share
/// a second tier would have to share the secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ContentDigest([u8; 64]);

impl ContentDigest {
    pub(crate) fn of(body: &[u8]) -> Self {
        let mut hex = [0; 64];
        let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
        for (byte, pair) in Sha256::digest(body).iter().zip(hex.chunks_exact_mut(2)) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        Self(hex)
    }

    pub(crate) fn as_hex(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_in_hexadecimal_digits() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(ContentDigest::of(b"").as_hex(), empty.as_bytes());
        assert_ne!(ContentDigest::of(b"a"), ContentDigest::of(b"b"));
    }
}
