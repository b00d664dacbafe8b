//! What can go wrong, and what of it a caller sees.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// A boxed error, as the Tower ecosystem passes them around.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a store, or its second tier, could not be built or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot work; the text says what to change.
    #[error("store configuration: {0}")]
    Config(String),
    /// A tag that cannot be used: empty, longer than 256 bytes, reserved, or with control characters.
    #[error("tag {0:?} is not usable: {1}")]
    Tag(String, &'static str),
    /// A key of so many bytes, its space included: more than [`MAX_KEY_LEN`](crate::MAX_KEY_LEN).
    #[error("a key of {0} bytes is too long to be stored under")]
    KeyTooLong(usize),
    /// The second tier could not be reached.
    #[error("second tier: {0}")]
    Remote(#[from] RemoteError),
}

/// Why an operation of the second tier failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// It took longer than the configured deadline.
    #[error("no answer within the deadline")]
    Deadline,
    /// There is no connection, or the circuit breaker is open.
    #[error("not connected")]
    Unavailable,
    /// The server answered, but not with what was asked for.
    #[error("unexpected answer: {0}")]
    Protocol(String),
    /// The client reported an error.
    #[error(transparent)]
    Client(BoxError),
}

/// Why `get_or_try_set` has no value for its caller.
///
/// It is shared by all who waited for the same fill, therefore [`Clone`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FillError {
    /// The fill returned this error. [`FillError::downcast_ref`] finds its type again.
    Failed(Arc<dyn StdError + Send + Sync>),
    /// The fill panicked.
    Panicked,
    /// The fill took longer than the hard timeout, and nothing stale could be served.
    TimedOut,
    /// The fill said [`Fill::not_modified`](crate::Fill::not_modified), but there was no earlier
    /// value.
    NothingToKeep,
    /// The fill of several keys returned nothing for this one.
    Missing,
}

impl FillError {
    /// What a fill failed with. What another fill failed with is passed on as it is.
    pub(crate) fn of(error: BoxError) -> Self {
        match error.downcast() {
            Ok(own) => *own,
            Err(error) => Self::Failed(error.into()),
        }
    }

    /// The fill's own error, if it is an `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => error.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for FillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "the fill failed: {error}"),
            Self::Panicked => f.write_str("the fill panicked"),
            Self::TimedOut => f.write_str("the fill took longer than its hard timeout"),
            Self::NothingToKeep => {
                f.write_str("the fill said \"not modified\" of a value that is not stored")
            }
            Self::Missing => f.write_str("the fill returned nothing for this key"),
        }
    }
}

impl StdError for FillError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            _ => None,
        }
    }
}
