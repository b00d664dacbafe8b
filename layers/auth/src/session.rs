//! Sessions: access tokens that are renewed by refresh tokens (RFC 6749 §6).

mod builder;
mod error;
mod memory;
mod record;
mod refresh;
#[cfg(feature = "store")]
mod shared;
mod store;
mod token;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::manager::{Grant, Issued, JwtManager};
use crate::revocation::Target;
use crate::time::NumericDate;
use crate::verified::Untyped;

pub use builder::SessionsBuilder;
pub use error::RefreshError;
pub use memory::InMemorySessions;
#[cfg(feature = "store")]
pub use shared::SharedSessions;
pub use store::{RefreshFuture, RefreshRecord, RefreshStore, RefreshStoreError};

use record::Record;
use token::Secret;

/// How often a session is read again because another call changed it meanwhile.
const ATTEMPTS: usize = 8;

/// Sessions of a [`JwtManager`]: tokens that live for minutes, and refresh tokens by which their
/// holder gets new ones. Cloning one is cheap.
///
/// A refresh token is used once (rotation, RFC 9700 §4.14.2): each [`refresh`](Self::refresh) gives
/// the next one. One that comes a second time was copied by somebody, and nobody can tell by whom:
/// the session ends, for thief and owner alike. Only a client that asks again within a
/// [`grace`](SessionsBuilder::grace), since it lost the answer, gets that same answer again.
///
/// Refresh tokens are opaque: 256 random bits or as good, beside the name of the session. What is
/// kept of one is a digest. The access tokens of a session have its name as `sid`; if the manager has
/// [`revocations`](crate::JwtManagerBuilder::revocations), they are revoked when it ends, and what is
/// revoked can't be refreshed.
///
/// ```
/// use tower_keep_auth::{Algorithm, Grant, InMemorySessions, JwtManager, RefreshError, SigningKey};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = JwtManager::builder("https://id.example.com")
///     .key(SigningKey::generate(Algorithm::EdDsa)?)
///     .audience("orders")
///     .build()?;
/// let sessions = manager.sessions(InMemorySessions::default()).build()?;
///
/// let tokens = sessions.begin(Grant::new("user:1").client("web")).await?;
/// let next = sessions.refresh(&tokens.refresh, Some("web")).await?;
/// assert_ne!(next.refresh, tokens.refresh);
///
/// sessions.end(&next.refresh).await?;
/// let error = sessions.refresh(&next.refresh, Some("web")).await.unwrap_err();
/// assert!(matches!(error, RefreshError::Ended));
/// # Ok(())
/// # }
/// ```
pub struct Sessions<C = Untyped> {
    manager: JwtManager<C>,
    store: Arc<dyn RefreshStore>,
    terms: Terms,
}

#[derive(Clone, Copy, Debug)]
struct Terms {
    idle: Duration,
    life: Duration,
    grace: Duration,
}

/// What the holder of a session is given: a token to use, and one to get the next pair by.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tokens {
    /// The access token.
    pub access: Issued,
    /// The refresh token.
    pub refresh: String,
    /// The session's name: the `sid` of its access tokens.
    pub session: String,
    /// When the refresh token expires.
    pub refresh_expires_at: NumericDate,
}

/// Without the tokens.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("access", &self.access)
            .field("session", &self.session)
            .field("refresh_expires_at", &self.refresh_expires_at)
            .finish_non_exhaustive()
    }
}

impl<C> Sessions<C> {
    /// Begins a session: somebody has logged in. Each of its access tokens says what `grant` does.
    ///
    /// # Errors
    ///
    /// [`RefreshError`] if the grant can't be issued, or the session can't be kept.
    pub async fn begin(&self, grant: Grant) -> Result<Tokens, RefreshError> {
        let session = crate::key::random_name().map_err(crate::IssueError::from)?;
        let now = self.manager.now();
        let access = self.manager.issue(grant.clone().session(&session))?;
        let secret = Secret::random()?;
        let record = Record::new(grant.keep()?, &secret, now, self.terms)?;
        if !self.store.swap(&session, None, record.to_kept()?).await? {
            // A name of 128 random bits that is in use: somebody's randomness isn't.
            return Err(RefreshError::Contended);
        }
        let refresh = secret.token(&session, &record.mark);
        Ok(Tokens { access, refresh, session, refresh_expires_at: record.until })
    }

    /// Ends the session that a refresh token is of: its holder logs out (RFC 7009). Whether there was
    /// one; a token that means nothing is no error (§2.2).
    ///
    /// # Errors
    ///
    /// [`RefreshError`] if the store can't be asked.
    pub async fn end(&self, refresh: &str) -> Result<bool, RefreshError> {
        let Some((session, secret, mark)) = token::parse(refresh) else { return Ok(false) };
        match self.load(session).await? {
            Some((_, record)) if record.issued(&secret, &mark) => self.end_session(session).await,
            _ => Ok(false),
        }
    }

    /// Ends a session by its name: the `sid` of its access tokens. Whether there was one.
    ///
    /// # Errors
    ///
    /// [`RefreshError`] if the store can't be asked.
    pub async fn end_session(&self, session: &str) -> Result<bool, RefreshError> {
        if !token::is_session(session) {
            return Ok(false);
        }
        let mut loaded = self.load(session).await?;
        if loaded.is_none() {
            return Ok(false);
        }
        // First, since this may be cancelled: a session that is ended has no access tokens left, and
        // one that is revoked can't be refreshed.
        let revoked = self.revoke(session).await;
        for _ in 0..ATTEMPTS {
            let Some((kept, mut record)) = loaded else { return revoked.map(|()| false) };
            let was_live = !record.ended && self.manager.now() < record.until;
            record.ended = true;
            if self.store.swap(session, Some(&kept), record.to_kept()?).await? {
                return revoked.map(|()| was_live);
            }
            loaded = self.load(session).await?;
        }
        Err(RefreshError::Contended)
    }

    /// Revokes the access tokens of a session, if anything is.
    async fn revoke(&self, session: &str) -> Result<(), RefreshError> {
        if let Some(revocations) = self.manager.revocations() {
            // Who can log in can do so often, and must not fill the list for a day by logging out.
            let target = Target::session(self.manager.issuer(), session);
            let target = target.living(self.manager.longest_life());
            revocations.revoke(target).await.map_err(RefreshError::NotRevoked)?;
        }
        Ok(())
    }

    async fn load(&self, session: &str) -> Result<Option<(RefreshRecord, Record)>, RefreshError> {
        let Some(kept) = self.store.load(session).await? else { return Ok(None) };
        let record = Record::from_kept(&kept)?;
        Ok(Some((kept, record)))
    }
}

impl<C> Clone for Sessions<C> {
    fn clone(&self) -> Self {
        Self { manager: self.manager.clone(), store: Arc::clone(&self.store), terms: self.terms }
    }
}

impl<C> fmt::Debug for Sessions<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("manager", &self.manager)
            .field("store", &self.store)
            .field("terms", &self.terms)
            .finish()
    }
}
