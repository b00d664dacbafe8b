//! Why a token was refused.

use std::fmt;
use std::sync::Arc;

use crate::source::Looked;

/// A part of a token in the compact serialization (RFC 7515 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The first: the JOSE header.
    Header,
    /// The second: the payload, which is the set of claims.
    Claims,
    /// The third: the signature.
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Signature => "signature",
        })
    }
}

/// Why a token was refused: one reason each, for logs and metrics.
///
/// It is not meant for clients. Which of the checks failed helps an attacker more than anybody else,
/// so tell them that the token is invalid (`invalid_token`, RFC 6750 §3.1) or expired, and no more.
/// Nothing in here is taken from the token itself, so it can be logged as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is longer than `VerifierBuilder::max_len` allows.
    #[error("the token is too long")]
    TooLong,
    /// It hasn't three parts, as a signed token in the compact serialization has.
    #[error("the token has not three parts")]
    NotThreeParts,
    /// It is encrypted (JWE): five parts, or a header with `enc`.
    #[error("the token is encrypted")]
    Encrypted,
    /// A part isn't base64url without padding (RFC 7515 §2), or not the only way to write its bytes.
    #[error("the {0} is not base64url without padding")]
    Base64(Part),
    /// A part isn't a JSON object in UTF-8.
    #[error("the {0} is not a JSON object")]
    Json(Part),
    /// A part nests its values too deeply.
    #[error("the {0} nests too deeply")]
    TooDeep(Part),
    /// A part has two members of one name, at any depth (RFC 7515 §4, RFC 7519 §4).
    #[error("the {0} has two members of one name")]
    DuplicateMember(Part),
    /// The header has `crit`, and so an extension that must be understood (RFC 7515 §4.1.11); none is.
    #[error("the header has a critical extension")]
    CriticalExtension,
    /// The header has `b64`: a payload that isn't encoded (RFC 7797).
    #[error("the header has b64")]
    UnencodedPayload,
    /// The header has `zip`: a payload that is compressed.
    #[error("the header has zip")]
    Compressed,
    /// A parameter of the header is of the wrong type, or too long.
    #[error("{0} in the header is of the wrong type or too long")]
    InvalidHeader(&'static str),
    /// The header has no `alg`.
    #[error("the header has no alg")]
    MissingAlgorithm,
    /// `alg` is `none`, in whatever case.
    #[error("the token is not signed: alg is none")]
    Unsigned,
    /// `alg` is no [`Algorithm`](crate::Algorithm).
    #[error("alg is unknown")]
    UnknownAlgorithm,
    /// `alg` isn't one of those that the issuer may use.
    #[error("alg is not allowed for the issuer")]
    AlgorithmNotAllowed,
    /// `typ` isn't one of those that are expected (RFC 8725 §3.11).
    #[error("typ is not one that is expected")]
    WrongType,
    /// No issuer of that name is trusted.
    #[error("the issuer is not trusted")]
    UnknownIssuer,
    /// The issuer's keys are not known: never fetched, or too long ago; or the token's key may be a new
    /// one and the issuer can't be asked. The token may be good.
    #[error("the keys of the issuer are not known")]
    KeysUnavailable,
    /// The issuer has no key that `kid` names, or none at all for `alg`.
    #[error("no key is known by which the token could be verified")]
    UnknownKey,
    /// The key that `kid` names isn't for `alg`.
    #[error("the key that kid names is not for alg")]
    KeyMismatch,
    /// More keys could have signed it than are tried: tokens without `kid`, or many keys of one name.
    #[error("too many keys fit the token")]
    AmbiguousKey,
    /// The signature isn't the key's.
    #[error("the signature is wrong")]
    WrongSignature,
    /// A claim is of the wrong type, or a time out of range (beyond the year 9999, not a number).
    #[error("claim {0} is of the wrong type or out of range")]
    InvalidClaim(&'static str),
    /// A claim that is required is absent.
    #[error("claim {0} is missing")]
    MissingClaim(Arc<str>),
    /// The token is for another audience (`aud`).
    #[error("the token is for another audience")]
    WrongAudience,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is still to come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `iat` lies in the future, and so says nothing about the token's age.
    #[error("the token was issued in the future")]
    IssuedInFuture,
    /// It was issued longer ago than `Issuer::max_age` allows.
    #[error("the token is too old")]
    TooOld,
    /// It was revoked: it, its session, its subject, or whatever else it is of.
    #[error("the token was revoked")]
    Revoked,
    /// It was issued before a moment in which revocations may have been lost, so it may have been revoked.
    /// Its holder has to get a new one.
    #[error("the token may have been revoked")]
    RevocationLost,
    /// Whether it was revoked can't be told now: what knows it can't be asked. Nothing may be wrong with
    /// the token.
    #[error("it can't be told whether the token was revoked")]
    RevocationUnknown,
    /// Its claims don't fit the type that they are to be read as.
    #[error("the claims do not fit their type")]
    ClaimsMismatch,
}

impl Refusal {
    pub(crate) fn missing(claim: &str) -> Self {
        Self::MissingClaim(Arc::from(claim))
    }

    /// The reason, once its source has looked for the key. Who hears that a token is invalid throws
    /// it away, so that is said only if it is known.
    pub(crate) fn after(self, looked: Looked) -> Self {
        match (looked, self) {
            (Looked::Failed, Self::UnknownKey | Self::WrongSignature) => Self::KeysUnavailable,
            (_, refusal) => refusal,
        }
    }

    /// A short name, for labels of metrics: one of a fixed set.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::NotThreeParts => "not_three_parts",
            Self::Encrypted => "encrypted",
            Self::Base64(_) => "base64",
            Self::Json(_) => "json",
            Self::TooDeep(_) => "too_deep",
            Self::DuplicateMember(_) => "duplicate_member",
            Self::CriticalExtension => "critical_extension",
            Self::UnencodedPayload => "unencoded_payload",
            Self::Compressed => "compressed",
            Self::InvalidHeader(_) => "invalid_header",
            Self::MissingAlgorithm => "missing_algorithm",
            Self::Unsigned => "unsigned",
            Self::UnknownAlgorithm => "unknown_algorithm",
            Self::AlgorithmNotAllowed => "algorithm_not_allowed",
            Self::WrongType => "wrong_type",
            Self::UnknownIssuer => "unknown_issuer",
            Self::KeysUnavailable => "keys_unavailable",
            Self::UnknownKey => "unknown_key",
            Self::KeyMismatch => "key_mismatch",
            Self::AmbiguousKey => "ambiguous_key",
            Self::WrongSignature => "wrong_signature",
            Self::InvalidClaim(_) => "invalid_claim",
            Self::MissingClaim(_) => "missing_claim",
            Self::WrongAudience => "wrong_audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IssuedInFuture => "issued_in_future",
            Self::TooOld => "too_old",
            Self::Revoked => "revoked",
            Self::RevocationLost => "revocation_lost",
            Self::RevocationUnknown => "revocation_unknown",
            Self::ClaimsMismatch => "claims_mismatch",
        }
    }
}
