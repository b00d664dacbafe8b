//! What can go wrong while keys are read and verifiers are built.

use crate::algorithm::Algorithm;

/// A key that can't be used, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A secret is shorter than the digest (RFC 7518 §3.2), so it would be the easier thing to guess.
    #[error(
        "{algorithm} needs a secret of {needed} random bytes or more, and this one has {given}"
    )]
    SecretTooShort {
        /// What it was to be used for.
        algorithm: Algorithm,
        /// Bytes that it has.
        given: usize,
        /// Bytes that it must have.
        needed: usize,
    },
    /// An RSA key is of another size than RFC 7518 §3.3 and ring allow.
    #[error("an RSA key must have 2048 to 8192 bits, and this one has {0}; make one of 3072")]
    RsaSize(usize),
    /// The key isn't of the type or on the curve that its algorithm needs.
    #[error("the key is not of the type and curve that {0} needs")]
    WrongType(Algorithm),
    /// A secret can't be read from PEM or DER, nor a public key made of one.
    #[error("{0} is for secrets, which Key::hmac and SigningKey::hmac take")]
    Symmetric(Algorithm),
    /// HMAC was wanted and the algorithm is another.
    #[error("{0} is not for secrets; give Key::from_pem a public key")]
    Asymmetric(Algorithm),
    /// The key isn't on its curve, or is one for which anybody could sign.
    #[error("the key is no valid point on its curve; it was damaged, or made to deceive")]
    InvalidPoint,
    /// The system has no randomness to give.
    #[error("the system has no randomness to give")]
    NoRandomness,
    /// What was given can't be read.
    #[error("{0}")]
    Unreadable(&'static str),
    /// A JWK or a set of them says something that isn't supported, or not what it is used for.
    #[error("the JWK can't be used: {0}")]
    Jwk(&'static str),
}

/// Why a manager issued no token, or took no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// A grant asks for a longer life than any token may have.
    #[error("the token would live longer than `max_ttl` allows")]
    TtlTooLong,
    /// Claims of one's own are no JSON object.
    #[error("claims must be a struct or a map with names")]
    Claims,
    /// Claims of one's own have the name of one that the manager sets.
    #[error("claim {0} is set by the manager; leave it out of your own")]
    Reserved(&'static str),
    /// A grant has too much in it for a session to keep.
    #[error("the grant of a session may have 16 KiB; its tokens would be refused anyway")]
    TooLarge,
    /// A new key has no name, or that of another key.
    #[error("a key that is added needs a name that no other has; give it one with `with_kid`")]
    KeyName,
    /// The key can't sign.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Settings of a verifier or a manager that can't work, and what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No issuer is trusted, so every token would be refused.
    #[error("no issuer is trusted; add one with VerifierBuilder::issuer")]
    NoIssuer,
    /// Two issuers have one name.
    #[error("issuer {0:?} was added twice; an issuer has one set of keys and rules")]
    DuplicateIssuer(String),
    /// An issuer can't be used as it is set.
    #[error("issuer {issuer:?}: {what}")]
    Issuer {
        /// Its name.
        issuer: String,
        /// What is wrong, and the fix.
        what: &'static str,
    },
    /// A setting is out of its range.
    #[error("{0}")]
    Setting(&'static str),
    /// A key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file of keys can't be used.
    #[cfg(feature = "file")]
    #[error(transparent)]
    File(#[from] crate::file::FileError),
    /// Keys can't be fetched from there.
    #[cfg(feature = "jwks")]
    #[error("{url:?}: {what}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong, and the fix.
        what: &'static str,
    },
}
