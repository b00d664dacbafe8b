//! Refresh tokens: how they are made, written and recognised.
//!
//! ```text
//! name of the session "." base64url( secret of 32 bytes, seal of 16 bytes )
//! ```
//!
//! The seal tells a token of the session that is old from one that somebody made up: everybody who
//! sees an access token knows the session's name, and must not be able to end it with that. What is
//! kept doesn't help to make a token: the digest of a secret, and the key of the seals.
//!
//! The next secret is made of the last one and of a number that is drawn when that is used. Who
//! presents the last one once more can be given the very same again, though it is kept nowhere.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SystemRandom, generate};

use crate::error::KeyError;
use crate::token::encode;

/// The name of a session: 16 bytes in base64url.
const NAME_LEN: usize = 22;

const SECRET_LEN: usize = 32;
const SEAL_LEN: usize = 16;

/// What seals the tokens of one session.
pub(super) type Mark = [u8; 32];

/// What a secret is made of beside the last one.
pub(super) type Nonce = [u8; 16];

/// What makes a refresh token one. Whoever has it has the session.
pub(super) struct Secret([u8; SECRET_LEN]);

pub(super) struct Seal([u8; SEAL_LEN]);

impl Secret {
    pub(super) fn random() -> Result<Self, KeyError> {
        random().map(Self)
    }

    /// The one that follows.
    pub(super) fn next(&self, nonce: &Nonce) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut next = [0; SECRET_LEN];
        next.copy_from_slice(hmac::sign(&key, nonce).as_ref());
        Self(next)
    }

    /// What is kept of it. No salt and no slow digest: there is nothing to be guessed.
    pub(super) fn digest(&self) -> [u8; 32] {
        crate::key::sha256(&[&self.0])
    }

    pub(super) fn token(&self, session: &str, mark: &Mark) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, mark);
        let seal = hmac::sign(&key, &self.0);
        let seal = seal.as_ref().get(..SEAL_LEN).unwrap_or_default();
        format!("{session}.{}", encode(&[&self.0, seal].concat()))
    }

    /// Whether `seal` was made for it with `mark`.
    pub(super) fn is_sealed(&self, seal: &Seal, mark: &Mark) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, mark);
        let right = hmac::sign(&key, &self.0);
        // Taken as a key again, so that ring compares them, which takes the same time for all.
        let again =
            hmac::Key::new(hmac::HMAC_SHA256, right.as_ref().get(..SEAL_LEN).unwrap_or(&[]));
        let given = hmac::Key::new(hmac::HMAC_SHA256, &seal.0);
        hmac::verify(&again, b"", hmac::sign(&given, b"").as_ref()).is_ok()
    }
}

/// The session that a token is of, its secret and its seal; nothing if it is no token. There is one
/// way to write each.
pub(super) fn parse(token: &str) -> Option<(&str, Secret, Seal)> {
    let (session, rest) = token.split_once('.')?;
    if !is_session(session) || rest.len() != (SECRET_LEN + SEAL_LEN) / 3 * 4 {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(rest).ok()?;
    let (secret, seal) = bytes.split_first_chunk()?;
    Some((session, Secret(*secret), Seal(seal.try_into().ok()?)))
}

/// Whether it can be the name of a session. Nothing else is ever asked of a store.
pub(super) fn is_session(name: &str) -> bool {
    name.len() == NAME_LEN && URL_SAFE_NO_PAD.decode(name).is_ok()
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], KeyError>
where
    [u8; N]: ring::rand::RandomlyConstructable,
{
    Ok(generate::<[u8; N]>(&SystemRandom::new()).map_err(|_| KeyError::NoRandomness)?.expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "AAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let (secret, mark) = (Secret([7; 32]), [1; 32]);
        let token = secret.token(SESSION, &mark);
        assert_eq!(token.len(), 87);
        let (session, read, seal) = parse(&token).unwrap();
        assert_eq!((session, read.digest()), (SESSION, secret.digest()));
        assert!(read.is_sealed(&seal, &mark));
        assert!(!read.is_sealed(&seal, &[2; 32]), "another session's");
        assert!(!Secret([8; 32]).is_sealed(&seal, &mark), "another secret's");
        let mut wrong = seal.0;
        wrong[15] ^= 1;
        assert!(!read.is_sealed(&Seal(wrong), &mark));
    }

    #[test]
    fn the_next_secret_depends_on_the_last_and_on_the_number() {
        let next = |last, nonce| Secret([last; 32]).next(&[nonce; 16]).digest();
        assert_eq!(next(1, 1), next(1, 1));
        assert_ne!(next(1, 1), next(2, 1));
        assert_ne!(next(1, 1), next(1, 2));
        assert_ne!(next(1, 1), Secret([1; 32]).digest());
    }

    #[test]
    fn nothing_else_is_a_token() {
        let good = Secret([7; 32]).token(SESSION, &[1; 32]);
        assert!(parse(&good).is_some());
        for bad in [
            "",
            ".",
            SESSION,
            &good[1..],
            &good[..86],
            &format!("{good}A"),
            &format!("{good}="),
            &good.replace('.', "_"),
            &format!("../{}", &good[3..]),
            // The last sextet of a name has bits that no byte takes.
            &format!("AAAAAAAAAAAAAAAAAAAAAB{}", &good[22..]),
            &format!("{}\u{e9}", &good[..85]),
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
