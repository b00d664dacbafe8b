//! The compact serialization of a signed token (RFC 7515 §7.1), read strictly and within bounds.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::refusal::{Part, Refusal};

/// How long a token may be unless set otherwise: what fits in a request's head with room to spare.
pub(crate) const DEFAULT_MAX_LEN: usize = 8 * 1024;

/// The parts of a token, found and not yet decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compact<'t> {
    header: &'t [u8],
    claims: &'t [u8],
    signature: &'t [u8],
    /// Both first parts with the dot between them: what the signature is over.
    signed: &'t [u8],
}

impl<'t> Compact<'t> {
    pub(crate) fn split(token: &'t [u8], max_len: usize) -> Result<Self, Refusal> {
        if token.len() > max_len {
            return Err(Refusal::TooLong);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(claims), Some(signature)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::NotThreeParts);
        };
        match parts.count() {
            0 => {}
            // RFC 7516 §9: five parts, that's an encrypted one.
            2 => return Err(Refusal::Encrypted),
            _ => return Err(Refusal::NotThreeParts),
        }
        let signed = token.get(..header.len() + 1 + claims.len()).unwrap_or_default();
        Ok(Self { header, claims, signature, signed })
    }

    pub(crate) fn signed(&self) -> &'t [u8] {
        self.signed
    }

    pub(crate) fn header(&self) -> Result<String, Refusal> {
        text(self.header, Part::Header)
    }

    pub(crate) fn claims(&self) -> Result<String, Refusal> {
        text(self.claims, Part::Claims)
    }

    pub(crate) fn signature(&self) -> Result<Vec<u8>, Refusal> {
        bytes(self.signature, Part::Signature)
    }
}

/// The engine refuses padding, other alphabets, white space, and bits that no byte has: so there is
/// one way to write a token, and nobody makes another of it that counts as the same.
fn bytes(part: &[u8], which: Part) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Base64(which))
}

/// Writes bytes as parts of tokens, members of keys and names have them.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn text(part: &[u8], which: Part) -> Result<String, Refusal> {
    String::from_utf8(bytes(part, which)?).map_err(|_| Refusal::Json(which))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(token: &str) -> Result<Compact<'_>, Refusal> {
        Compact::split(token.as_bytes(), 64)
    }

    #[test]
    fn finds_the_parts_and_what_is_signed() {
        let token = split("e30.e30.AAA").unwrap();
        assert_eq!(token.header().unwrap(), "{}");
        assert_eq!(token.claims().unwrap(), "{}");
        assert_eq!(token.signature().unwrap(), [0, 0]);
        assert_eq!(token.signed(), b"e30.e30");
    }

    #[test]
    fn refuses_any_other_number_of_parts() {
        for token in ["", "e30", "e30.e30", "e30.e30.e30.e30", "a.b.c.d.e.f", "......"] {
            assert_eq!(split(token).unwrap_err(), Refusal::NotThreeParts, "{token}");
        }
        assert_eq!(split("a.b.c.d.e").unwrap_err(), Refusal::Encrypted);
        assert_eq!(split(&"a".repeat(65)).unwrap_err(), Refusal::TooLong);
    }

    #[test]
    fn decodes_only_the_one_right_way_to_write_bytes() {
        // `e30` is `{}`; the last sextet of `e31` has a bit that no byte takes.
        for part in ["e30=", "e3 0", "e30\n", "e31", "e", "e3+0", "e3/0", "\u{e9}30"] {
            let token = format!("{part}.e30.e30");
            let refusal = split(&token).unwrap().header().unwrap_err();
            assert_eq!(refusal, Refusal::Base64(Part::Header), "{part}");
        }
        assert_eq!(split("_w.e30.").unwrap().header(), Err(Refusal::Json(Part::Header)));
    }
}
