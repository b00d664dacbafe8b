//! Where sessions are kept.

use std::fmt;
use std::pin::Pin;

use crate::time::NumericDate;

/// The answer of a [`RefreshStore`].
pub type RefreshFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, RefreshStoreError>> + Send + 'a>>;

/// Where sessions are kept: [`InMemorySessions`](crate::InMemorySessions), with the feature
/// `store` `SharedSessions`, on Redis, or a database.
///
/// What makes rotation safe is [`swap`](Self::swap): of two that are called with the same record
/// expected, whatever nodes they come from, one succeeds. A table does it by
/// `UPDATE … WHERE name = $1 AND record = $2`.
pub trait RefreshStore: fmt::Debug + Send + Sync + 'static {
    /// What is kept of `session`. Never something older than what a [`swap`](Self::swap) has
    /// returned for.
    fn load<'a>(&'a self, session: &'a str) -> RefreshFuture<'a, Option<RefreshRecord>>;

    /// Keeps `record`, if what is kept has just the bytes of `expected`, or if there is nothing and
    /// nothing was expected: in one step. Whether it did.
    fn swap<'a>(
        &'a self,
        session: &'a str,
        expected: Option<&'a RefreshRecord>,
        record: RefreshRecord,
    ) -> RefreshFuture<'a, bool>;
}

/// What is kept of a session. There is no refresh token in it, nor what one could be made of; but the
/// grant, in clear.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshRecord {
    /// At most 16 KiB of JSON.
    pub bytes: Vec<u8>,
    /// It means nothing from then on, and may be forgotten.
    pub keep_until: NumericDate,
}

/// Without the grant.
impl fmt::Debug for RefreshRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshRecord")
            .field("len", &self.bytes.len())
            .field("keep_until", &self.keep_until)
            .finish_non_exhaustive()
    }
}

/// Why a [`RefreshStore`] has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshStoreError {
    /// It keeps as many sessions as it may.
    #[error("no more sessions can be kept")]
    Full,
    /// It can't be asked. What was asked of it may have been done.
    #[error("the store of sessions can't be asked")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is kept is none of ours.
    #[error("what is kept of the session can't be read")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
}
