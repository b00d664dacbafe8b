//! Why a request was refused, and what its sender is told of it.

use std::sync::Arc;

use http::StatusCode;

use crate::refusal::Refusal;

/// Codes of gRPC, as in `grpc/status.h`.
const PERMISSION_DENIED: u16 = 7;
const INTERNAL: u16 = 13;
const UNAVAILABLE: u16 = 14;
const UNAUTHENTICATED: u16 = 16;
const INVALID_ARGUMENT: u16 = 3;

/// Why a request was refused: in the extensions of each response that a layer of this crate gives
/// itself, for those who log or count, and given to
/// [`JwtLayerBuilder::render`](crate::JwtLayerBuilder::render).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// It has no token, and needs one.
    NoToken {
        /// The scopes that are needed, separated by spaces, where that is known.
        scope: Option<Arc<str>>,
    },
    /// Its token is sent in a way that can't be right, or in several ways at once (RFC 6750 §2).
    Malformed(&'static str),
    /// Its token was refused.
    Invalid(Refusal),
    /// Whether its token is right can't be told now; nothing may be wrong with it.
    Unavailable(Refusal),
    /// Its token is right and not enough.
    Insufficient {
        /// The scopes that are needed, separated by spaces; none if it isn't scopes that are missing.
        scope: Option<Arc<str>>,
    },
    /// Something was required of it where no [`JwtLayer`](crate::JwtLayer) is outside, or one that
    /// reads claims as another type. That is a mistake in the server.
    Unguarded,
}

impl Denial {
    pub(crate) fn of(refusal: Refusal) -> Self {
        match refusal {
            Refusal::KeysUnavailable | Refusal::RevocationUnknown => Self::Unavailable(refusal),
            _ => Self::Invalid(refusal),
        }
    }

    /// The status of HTTP.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoToken { .. } | Self::Invalid(_) => StatusCode::UNAUTHORIZED,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Insufficient { .. } => StatusCode::FORBIDDEN,
            Self::Unguarded => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The status code of gRPC.
    pub fn grpc_code(&self) -> u16 {
        match self {
            Self::NoToken { .. } | Self::Invalid(_) => UNAUTHENTICATED,
            Self::Malformed(_) => INVALID_ARGUMENT,
            Self::Unavailable(_) => UNAVAILABLE,
            Self::Insufficient { .. } => PERMISSION_DENIED,
            Self::Unguarded => INTERNAL,
        }
    }

    /// The error code of RFC 6750 §3.1. None where it has none to give: to a request without
    /// credentials, and for what isn't about the token.
    pub fn error(&self) -> Option<&'static str> {
        match self {
            Self::NoToken { .. } | Self::Unavailable(_) | Self::Unguarded => None,
            Self::Malformed(_) => Some("invalid_request"),
            Self::Invalid(_) => Some("invalid_token"),
            Self::Insufficient { .. } => Some("insufficient_scope"),
        }
    }

    /// What its sender may know. Which of the checks failed helps an attacker more than anybody else,
    /// so of a token that was refused, only whether it has expired.
    pub fn description(&self) -> &'static str {
        match self {
            Self::NoToken { .. } => "a token is needed",
            Self::Malformed(what) => what,
            Self::Invalid(Refusal::Expired) => "the token has expired",
            Self::Invalid(_) => "the token is invalid",
            Self::Unavailable(_) => "tokens can't be verified at the moment",
            Self::Insufficient { .. } => "the token doesn't permit this",
            Self::Unguarded => "the server has a fault",
        }
    }

    /// The scopes that are needed, separated by spaces, where that is known.
    pub fn scope(&self) -> Option<&str> {
        match self {
            Self::NoToken { scope } | Self::Insufficient { scope } => scope.as_deref(),
            _ => None,
        }
    }

    /// A short name, for labels of metrics: one of a fixed set.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoToken { .. } => "no_token",
            Self::Malformed(_) => "malformed_request",
            Self::Invalid(refusal) | Self::Unavailable(refusal) => refusal.as_str(),
            Self::Insufficient { .. } => "insufficient",
            Self::Unguarded => "unguarded",
        }
    }
}
