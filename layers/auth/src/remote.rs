//! Keys that are fetched from their issuer.

mod builder;
mod client;
mod discovery;
mod error;
mod exchange;
mod fetcher;
mod freshness;
mod keeper;
mod state;

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::health::KeyHealth;
use crate::source::{KeySource, Keys, LookAgain, Wanted};

pub use builder::RemoteKeysBuilder;
pub use client::{HttpsClient, HttpsClientBody, HttpsClientError};
pub use error::FetchError;
pub use state::FetchStats;

use builder::From;
use discovery::Convention;
use fetcher::Place;
use state::{Progress, State};

/// The keys that an issuer publishes: a [`KeySource`]. Its clones are the same one.
///
/// A task fetches them before they are due again, as the issuer's `Cache-Control` or `Expires` says,
/// within bounds. Tokens whose key is known never wait for that.
///
/// - **A new key** is found when a token first names it: that token waits while the set is fetched, once
///   for all who wait, and at most once in [`look_interval`](RemoteKeysBuilder::look_interval). A
///   token is refused with [`UnknownKey`](crate::Refusal::UnknownKey) only if the issuer was asked after
///   the token had come, and has no such key. If it could not be asked, or not in time, that is
///   [`KeysUnavailable`](crate::Refusal::KeysUnavailable), by which nobody throws a good token away.
/// - **A key that leaves** the issuer's set is accepted for no longer than the set is good: at most as
///   long as [`refresh_between`](RemoteKeysBuilder::refresh_between) says. What was verified by it and
///   is remembered goes at the same instant.
/// - **An outage** of the issuer, of any length, changes nothing for keys that are known, unless
///   [`max_stale`](RemoteKeysBuilder::max_stale) bounds it. An answer that can't be used counts as one:
///   another status than 200, a redirect, too many bytes, what is no set. A set without any key that
///   can be used is an answer, though: the issuer has taken its keys out.
/// - **Starting** doesn't need the issuer. Until there are keys, tokens wait for the first fetch, and
///   are refused with `KeysUnavailable` if it fails. [`ready`](Self::ready) waits instead.
///
/// ```no_run
/// use tower_keep_auth::{Issuer, RemoteKeys, Verifier};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = RemoteKeys::openid("https://id.example.com").build()?;
/// keys.ready().await?;
/// let verifier = Verifier::builder()
///     .issuer(Issuer::new("https://id.example.com").key_source(keys.clone()).audience("orders"))
///     .build()?;
/// # let _ = verifier;
/// println!("{:?}", keys.stats());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RemoteKeys {
    inner: Arc<Inner>,
}

struct Inner {
    place: Place,
    state: Arc<State>,
    progress: watch::Receiver<Progress>,
    task: AbortHandle,
}

impl RemoteKeys {
    /// The set of keys at `url`: what is called `jwks_uri`.
    pub fn jwks(url: impl Into<String>) -> RemoteKeysBuilder {
        RemoteKeysBuilder::new(From::Url(url.into()))
    }

    /// The set of keys that `issuer` names in its metadata, at `/.well-known/openid-configuration`
    /// after its own path (OpenID Connect Discovery 1.0 §4). The metadata must name the very issuer,
    /// to the letter. It is read again as often as its `Cache-Control` or `Expires` says, within the
    /// bounds for keys, and when the keys can't be fetched.
    pub fn openid(issuer: impl Into<String>) -> RemoteKeysBuilder {
        RemoteKeysBuilder::new(From::Issuer(issuer.into(), Convention::OpenId))
    }

    /// As [`openid`](Self::openid), at `/.well-known/oauth-authorization-server` before the issuer's own
    /// path (RFC 8414 §3).
    pub fn oauth(issuer: impl Into<String>) -> RemoteKeysBuilder {
        RemoteKeysBuilder::new(From::Issuer(issuer.into(), Convention::OAuth))
    }

    /// Waits until the keys are known.
    ///
    /// # Errors
    ///
    /// Why they can't be fetched, once a refresh has failed. The next one comes all the same, so this
    /// can be called again.
    pub async fn ready(&self) -> Result<(), FetchError> {
        let Inner { state, progress, .. } = &*self.inner;
        let mut progress = progress.clone();
        let done = progress.borrow_and_update().done;
        let is_known = || state.keys.len().is_some();
        let is_over = |now: &Progress| is_known() || (now.done > done && now.error.is_some());
        // The task can't end before this source does.
        let now = progress.wait_for(is_over).await.ok();
        let error = now.and_then(|now| now.error.clone());
        if is_known() { Ok(()) } else { error.map_or(Ok(()), Err) }
    }

    /// Why the keys can't be fetched, while that is so.
    pub fn error(&self) -> Option<FetchError> {
        self.inner.progress.borrow().error.clone()
    }

    /// What has happened so far.
    pub fn stats(&self) -> FetchStats {
        self.inner.state.stats(&self.inner.progress.borrow())
    }
}

impl KeySource for RemoteKeys {
    fn keys(&self) -> &Keys {
        &self.inner.state.keys
    }

    fn look_again(&self, wanted: Wanted<'_>) -> Option<LookAgain> {
        self.inner.state.look(self.inner.progress.clone(), wanted)
    }

    fn health(&self) -> KeyHealth {
        self.inner.state.health(&self.inner.progress.borrow())
    }
}

/// The last clone takes the task with it.
impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys")
            .field("place", &self.inner.place)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
