//! Why a session wasn't begun or refreshed.

use super::RefreshStoreError;
use crate::error::{IssueError, KeyError};
use crate::revocation::RevokeError;

/// Why a session wasn't begun or refreshed.
///
/// To a client, all of [`is_invalid_grant`](Self::is_invalid_grant) is the same: `invalid_grant`
/// (RFC 6749 §5.2), and it has to log in again. What else there is, is not its fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// It is no refresh token, or none that was issued here, or its session is long forgotten.
    #[error("the refresh token is unknown")]
    Unknown,
    /// It, or its session, has expired.
    #[error("the refresh token has expired")]
    Expired,
    /// Its session was ended: its holder logged out, or somebody used an old refresh token.
    #[error("the session was ended")]
    Ended,
    /// It was used before, so somebody has a copy. Its session has just been ended for it.
    #[error("the refresh token was used before; its session is ended")]
    Reused,
    /// It was issued to another client (RFC 6749 §10.4).
    #[error("the refresh token is another client's")]
    WrongClient,
    /// Its subject, its client or something else that it is of was revoked since the session began; or
    /// may have been, and nobody knows any more.
    #[error("what the refresh token stands for was revoked")]
    Revoked,
    /// Whether it was can't be told now. It can be tried again.
    #[error("it can't be told whether the session was revoked")]
    RevocationUnknown,
    /// The session is ended, but its access tokens could not be revoked, and live on until they expire.
    #[error("the session is ended, and its access tokens live on")]
    NotRevoked(#[source] RevokeError),
    /// Others changed the session all the while. It can be tried again.
    #[error("the session changes all the while")]
    Contended,
    /// The grant can't be issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The store keeps it not, or can't be asked. It can be tried again.
    #[error(transparent)]
    Store(#[from] RefreshStoreError),
}

impl RefreshError {
    /// Whether the client is to be told `invalid_grant`, and to log in again.
    pub fn is_invalid_grant(&self) -> bool {
        match self {
            Self::Unknown
            | Self::Expired
            | Self::Ended
            | Self::Reused
            | Self::WrongClient
            | Self::Revoked => true,
            Self::Contended
            | Self::RevocationUnknown
            | Self::NotRevoked(_)
            | Self::Issue(_)
            | Self::Store(_) => false,
        }
    }
}

impl From<KeyError> for RefreshError {
    fn from(error: KeyError) -> Self {
        Self::Issue(error.into())
    }
}
