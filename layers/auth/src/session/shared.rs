//! Sessions that all nodes share, on the second tier of a store.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tower_keep_store::{Bincode, KeyBuf, RemoteError, Seen, Space, Store};

use super::store::{RefreshFuture, RefreshRecord, RefreshStore, RefreshStoreError};
use crate::error::BuildError;
use crate::time::NumericDate;

/// Sessions that all nodes share whose stores have the same second tier (feature `store`).
///
/// They are records there, and nowhere else: without it, nobody can log in or refresh, while tokens
/// that were issued go on being accepted. It must neither evict nor forget: give Redis the policy
/// `noeviction`, and persistence (`appendonly yes`), or a restart ends all sessions. What a failover
/// loses is lost: a session that had just begun has to begin again, and one whose token was used in
/// that moment is taken for one whose token was copied, and ends.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let key = tower_keep_auth::SigningKey::generate(tower_keep_auth::Algorithm::EdDsa)?;
/// use tower_keep_auth::{JwtManager, RevocationList, SharedSessions};
/// use tower_keep_store::{Redis, Store};
///
/// let redis = Redis::builder("redis://sessions:6379").prefix("auth").connect().await?;
/// let store = Store::builder().l2(redis).build()?;
/// let manager = JwtManager::builder("https://id.example.com")
///     .key(key)
///     .audience("orders")
///     .revocations(RevocationList::builder().store(store.clone()).build()?)
///     .build()?;
/// let sessions = manager.sessions(SharedSessions::new(&store)?).build()?;
/// # let _ = sessions;
/// # Ok(())
/// # }
/// ```
pub struct SharedSessions {
    space: Space<Kept>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    bytes: Vec<u8>,
    keep_until: i64,
}

impl SharedSessions {
    /// Sessions in `store`.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the store has no second tier.
    pub fn new(store: &Store) -> Result<Self, BuildError> {
        if !store.is_shared() {
            let text = "the store has no second tier, so there is nowhere to share sessions; add one with `l2`, or take `InMemorySessions`";
            return Err(BuildError::Setting(text));
        }
        Ok(Self { space: store.space("session", Bincode) })
    }

    fn key(&self, session: &str) -> KeyBuf {
        let mut buf = self.space.key_buf();
        buf.push(session.as_bytes());
        buf
    }

    async fn read(&self, key: &KeyBuf) -> Result<(Option<RefreshRecord>, Seen), RefreshStoreError> {
        let (kept, seen) = self.space.read(self.space.key(key)).await.map_err(unavailable)?;
        let record = kept.map(|Kept { bytes, keep_until }| RefreshRecord {
            bytes,
            keep_until: NumericDate::from_millis(keep_until),
        });
        Ok((record, seen))
    }

    /// How long from now a record is to be kept.
    fn span(&self, until: NumericDate) -> Duration {
        let until = u64::try_from(until.as_millis()).unwrap_or_default();
        let left =
            Duration::from_millis(until.saturating_sub(self.space.store().now().as_millis()));
        left.max(Duration::from_secs(1))
    }
}

fn unavailable(error: RemoteError) -> RefreshStoreError {
    RefreshStoreError::Unavailable(error.into())
}

impl RefreshStore for SharedSessions {
    fn load<'a>(&'a self, session: &'a str) -> RefreshFuture<'a, Option<RefreshRecord>> {
        Box::pin(async move { Ok(self.read(&self.key(session)).await?.0) })
    }

    fn swap<'a>(
        &'a self,
        session: &'a str,
        expected: Option<&'a RefreshRecord>,
        record: RefreshRecord,
    ) -> RefreshFuture<'a, bool> {
        Box::pin(async move {
            let key = self.key(session);
            let (there, seen) = self.read(&key).await?;
            if there.map(|it| it.bytes).as_ref() != expected.map(|it| &it.bytes) {
                return Ok(false);
            }
            let keep = self.span(record.keep_until);
            let kept = Kept { bytes: record.bytes, keep_until: record.keep_until.as_millis() };
            let exchanged = self.space.exchange(self.space.key(&key), &seen, &kept, keep).await;
            exchanged.map_err(unavailable)
        })
    }
}

impl fmt::Debug for SharedSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSessions").field("store", self.space.store()).finish_non_exhaustive()
    }
}
