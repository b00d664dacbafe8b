//! Why a layer cannot be built, and why a body cannot be read.

use crate::encoding::Encoding;

/// An error that can be of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A setting that can't work; the text says what to change.
#[derive(Clone, Debug, thiserror::Error)]
#[error("compress configuration: {0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// An encoder that failed. It means that memory is used up, that a body has another length than it
/// said, or that the coding's feature is not enabled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The feature of the coding is not enabled.
    #[error("the feature for {0} is not enabled")]
    NotEnabled(Encoding),
    /// The level is none of [`Encoding::levels`].
    #[error("{encoding} has no level {level}")]
    Level {
        /// The coding.
        encoding: Encoding,
        /// What was asked for.
        level: i32,
    },
    /// The body is shorter or longer than it said, or than its `Content-Length` did. Encoded, it has
    /// another length, and no client could tell.
    #[error("the body was to have {announced} bytes, and has another length")]
    Length {
        /// How many bytes it was to have.
        announced: u64,
    },
    /// The encoder says so.
    #[error("{encoding} can't be written: {reason}")]
    Failed {
        /// The coding.
        encoding: Encoding,
        /// What the encoder says.
        reason: String,
    },
}

/// An encoded body that can't be read, or won't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The coding is none of those that are allowed, or there are too many, one upon the other.
    #[error("the content coding {0:?} is not supported")]
    Unsupported(String),
    /// It isn't what the coding prescribes, or a checksum is wrong.
    #[error("the {0} data is corrupt")]
    Corrupt(Encoding),
    /// It ended too early.
    #[error("the {0} data is truncated")]
    Truncated(Encoding),
    /// Something follows the end of the encoded data.
    #[error("something follows the {0} data")]
    Trailing(Encoding),
    /// It is longer than [`Limits::max_len`](crate::Limits::max_len).
    #[error("the decoded body is longer than {0} bytes")]
    TooLong(u64),
    /// It swells more than [`Limits::max_ratio`](crate::Limits::max_ratio).
    #[error("the decoded body is more than {0} times as long as what was sent")]
    TooDense(u64),
}

impl DecodeError {
    /// Whether it is too large, in contrast to wrong.
    pub const fn is_limit(&self) -> bool {
        matches!(self, Self::TooLong(_) | Self::TooDense(_))
    }
}
