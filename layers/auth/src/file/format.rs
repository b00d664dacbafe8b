//! Reads the keys in a file's content.

use crate::algorithm::Algorithm;
use crate::error::KeyError;
use crate::key::{Key, KeySet};

/// How many keys without a name are tried for one token, and no more are taken.
const MOST_IN_PEM: usize = 4;

/// The most bytes that a file may have: as many as a set.
pub(super) const MAX_LEN: u64 = 256 * 1024;

#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Jwks,
    SecretJwks,
    Jwk,
    Pem(Algorithm),
    Der(Algorithm),
}

impl Format {
    /// The keys in `content`; a key of a file that has just one, and of no set, is called `kid`.
    pub(super) fn read(self, content: &[u8], kid: Option<&str>) -> Result<KeySet, KeyError> {
        let mut keys = match self {
            Self::Jwks => return KeySet::from_jwks(content),
            Self::SecretJwks => return KeySet::from_secret_jwks(content),
            Self::Jwk => vec![Key::from_jwk(content)?],
            Self::Pem(algorithm) => pem(algorithm, content)?,
            Self::Der(algorithm) => vec![Key::from_der(algorithm, content)?],
        };
        if let Some(kid) = kid {
            if keys.len() > 1 {
                return Err(KeyError::Unreadable(
                    "the file has several keys, and `kid` is the name of one; leave it out, or give a set",
                ));
            }
            keys = keys.into_iter().map(|key| key.with_kid(kid)).collect();
        }
        Ok(keys.into_iter().collect())
    }

    /// Whether its keys can be given a name.
    pub(super) fn is_of_one(self) -> bool {
        !matches!(self, Self::Jwks | Self::SecretJwks)
    }
}

/// One key, or several after each other. What was written in part has fewer ends than beginnings.
fn pem(algorithm: Algorithm, content: &[u8]) -> Result<Vec<Key>, KeyError> {
    let text = std::str::from_utf8(content)
        .map_err(|_| KeyError::Unreadable("this is not PEM, which is text; is it DER?"))?;
    let begun = text.matches("-----BEGIN ").count();
    if begun < 2 {
        return Ok(vec![Key::from_pem(algorithm, content)?]);
    }
    if begun > MOST_IN_PEM {
        return Err(KeyError::Unreadable(
            "the PEM has more than four keys; give a set with names instead",
        ));
    }
    let objects = pem::parse_many(text)
        .map_err(|_| KeyError::Unreadable("this is not PEM: `-----BEGIN … KEY-----` and base64"))?;
    if objects.len() < begun {
        return Err(KeyError::Unreadable("the PEM breaks off"));
    }
    // Each by itself, so that what is no public key is told of as ever.
    objects.iter().map(|object| Key::from_pem(algorithm, pem::encode(object))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = include_str!("../../tests/keys/ed25519-public.pem");

    fn pem(content: &str) -> Result<usize, String> {
        let set = Format::Pem(Algorithm::EdDsa).read(content.as_bytes(), None);
        set.map(|set| set.keys().len()).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_as_many_keys_as_are_tried_for_a_token() {
        for count in 1..=4 {
            assert_eq!(pem(&ED25519.repeat(count)), Ok(count));
        }
        assert!(pem(&ED25519.repeat(5)).unwrap_err().contains("four"));
    }

    #[test]
    fn refuses_each_part_of_what_is_still_being_written() {
        let whole = ED25519.repeat(2);
        let whole = whole.trim_end();
        for end in
            (0..whole.len()).filter(|end| *end < ED25519.len() - 1 || *end > ED25519.len() + 10)
        {
            assert!(pem(&whole[..end]).is_err(), "{end} of {}", whole.len());
        }
    }

    #[test]
    fn names_one_key_and_not_several() {
        let read =
            |count| Format::Pem(Algorithm::EdDsa).read(ED25519.repeat(count).as_bytes(), Some("a"));
        assert_eq!(read(1).unwrap().keys().next().unwrap().kid(), Some("a"));
        assert!(read(2).unwrap_err().to_string().contains("several"));
    }
}
