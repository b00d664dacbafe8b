//! Why keys could not be fetched.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::error::KeyError;

/// Any error, as the crates around Tower pass them on.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// Why the keys of an issuer could not be fetched. Those that are known stay in use.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The issuer could not be asked: no connection, no TLS with it, or what a client of one's own
    /// says.
    #[error("the issuer can't be asked: {}", Chain(&**.0))]
    Client(#[source] Arc<dyn Error + Send + Sync>),
    /// There was no answer in time.
    #[error("no whole answer within {0:?}")]
    Timeout(Duration),
    /// The answer broke off.
    #[error("the answer broke off: {}", Chain(&**.0))]
    Body(#[source] Arc<dyn Error + Send + Sync>),
    /// The answer's status isn't 200.
    #[error("the answer's status is {0}, and not 200")]
    Status(StatusCode),
    /// The answer leads elsewhere. It isn't followed: keys are trusted because of where they come
    /// from.
    #[error("the answer, {0}, leads to another URL; give that one, if it is the issuer's")]
    Redirect(StatusCode),
    /// The answer has more bytes than `max_size` allows.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// The answer has a `Content-Encoding`, though none was asked for.
    #[error("the answer is compressed, though that was not asked for")]
    Encoded,
    /// The answer is no set of keys.
    #[error("the answer is no set of keys: {0}")]
    Keys(KeyError),
    /// The answer is no metadata of an issuer (OpenID Connect Discovery §4.2, RFC 8414 §3.2).
    #[error("the answer is no metadata of an issuer: {0}")]
    Metadata(&'static str),
    /// The metadata is another issuer's (OpenID Connect Discovery §4.3, RFC 8414 §3.3), so the keys
    /// would be, too.
    #[error(
        "the metadata is of another issuer than was asked for; they must be the same to the letter"
    )]
    IssuerMismatch,
    /// The client panicked.
    #[error("the client panicked")]
    Panic,
}

impl FetchError {
    pub(super) fn client(error: impl Into<BoxError>) -> Self {
        Self::Client(Arc::from(error.into()))
    }

    /// A short name, for labels of metrics: one of a fixed set.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Client(_) => "client",
            Self::Timeout(_) => "timeout",
            Self::Body(_) => "body",
            Self::Status(_) => "status",
            Self::Redirect(_) => "redirect",
            Self::TooLarge(_) => "too_large",
            Self::Encoded => "encoded",
            Self::Keys(_) => "keys",
            Self::Metadata(_) => "metadata",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::Panic => "panic",
        }
    }

    /// Whether the next moment may bring something else.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Client(_) | Self::Timeout(_) | Self::Body(_) => true,
            Self::Status(status) => status.is_server_error(),
            _ => false,
        }
    }
}

/// An error and what it says is behind it.
struct Chain<'a>(&'a (dyn Error + Send + Sync));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
