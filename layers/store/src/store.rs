//! The store: its handle, and what is done to all of it.

mod builder;
mod coherence;
mod inner;
mod invalidation;
mod packing;
mod step;
mod sweep;
mod watch;

use std::fmt;
use std::sync::Arc;

pub use self::builder::StoreBuilder;
pub(crate) use self::inner::Inner;
pub use self::watch::Watch;
use crate::backlog::Target;
use crate::codec::{Bincode, Codec};
use crate::error::Error;
use crate::key::{KeyRef, ToKey};
use crate::l1::Memory;
use crate::space::Space;
use crate::stats::Stats;
use crate::tag::{Reach, Strength, Tag};
use crate::time::Timestamp;
use crate::typed::Typed;

/// A tiered store. Cheap to clone: all clones are the same store.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_keep_store::{L1, Store, Ttl};
///
/// let keep = Store::builder().l1(L1::bytes(64 * 1024 * 1024)).build()?;
/// let users = keep.typed::<u64, String>("user");
///
/// let fill = || async { Ok::<_, std::io::Error>("Ada".to_owned()) };
/// let user = users.get_or_try_set(&123, Ttl::secs(60).tags(["users"]), fill).await?;
/// assert_eq!(*user, "Ada");
///
/// keep.invalidate_tag("users").await?;
/// assert!(users.get(&123).await.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Store(Arc<Inner>);

impl Store {
    /// Settings for a new store.
    pub fn builder() -> StoreBuilder {
        StoreBuilder::default()
    }

    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Typed values under `name`, in the default codec ([`Bincode`]).
    ///
    /// Handles of one name share their entries; they must agree on the types.
    pub fn typed<K: ToKey + ?Sized, V>(&self, name: &str) -> Typed<K, V>
    where
        V: serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        self.typed_with(name, Bincode)
    }

    /// Typed values under `name`, in a codec of one's own choice.
    pub fn typed_with<K: ToKey + ?Sized, V: Send + Sync + 'static>(
        &self,
        name: &str,
        codec: impl Codec<V>,
    ) -> Typed<K, V> {
        Typed::new(self.space(name, codec))
    }

    /// The space `name`: the level below [`typed`](Self::typed), for layers.
    pub fn space<V: Send + Sync + 'static>(&self, name: &str, codec: impl Codec<V>) -> Space<V> {
        Space::new(self.clone(), name, codec)
    }

    /// Drops every entry that carries `tag`, in all tiers, on all nodes: none of them, and nothing
    /// that was being fetched when this was called, is served once it has returned
    /// [`Reach::Everywhere`]; on this node, from the moment it is called. The other nodes follow as
    /// soon as the announcement reaches them; one that has lost touch, once it is back, or within
    /// [`max_unsynced`](StoreBuilder::max_unsynced) of having noticed. It costs the same for a million
    /// entries as for one.
    ///
    /// # Errors
    ///
    /// [`Error::Tag`] if `tag` can't be one. A second tier that is out of reach is no error: see
    /// [`Reach::ThisNode`].
    pub async fn invalidate_tag(&self, tag: impl AsRef<str>) -> Result<Reach, Error> {
        Ok(self.invalidate(Tag::new(tag)?, Strength::Hard).await)
    }

    /// Makes every entry that carries `tag` stale: it may be served while it is refreshed, or when
    /// the origin fails, as its [`Ttl`](crate::Ttl) allows.
    ///
    /// # Errors
    ///
    /// As [`invalidate_tag`](Self::invalidate_tag).
    pub async fn expire_tag(&self, tag: impl AsRef<str>) -> Result<Reach, Error> {
        Ok(self.invalidate(Tag::new(tag)?, Strength::Soft).await)
    }

    /// Drops every entry of the store. As cheap as one tag.
    pub async fn clear(&self) -> Reach {
        let reach = self.invalidate(Tag::everything(), Strength::Hard).await;
        if let Some(l1) = &self.0.l1 {
            l1.clear();
        }
        reach
    }

    /// Makes every entry of the store stale.
    pub async fn expire_all(&self) -> Reach {
        self.invalidate(Tag::everything(), Strength::Soft).await
    }

    pub(crate) async fn invalidate(&self, tag: Tag, strength: Strength) -> Reach {
        let inner = &self.0;
        inner.counters.invalidations.add();
        // Here first, whatever becomes of the rest.
        inner.tags.invalidate(&tag, strength);
        inner.spread(Target::Tag(tag), strength, None).await
    }

    pub(crate) async fn remove_key(&self, key: KeyRef<'_>, strength: Strength) -> Reach {
        let inner = &self.0;
        inner.counters.invalidations.add();
        let under_way = inner.remote.as_ref().map(|_| inner.pending.begin(key));
        inner.drop_local(key, strength);
        inner.spread(Target::Key(key.as_bytes().to_vec()), strength, under_way).await
    }

    /// What the store has done so far, and how it stands.
    pub fn stats(&self) -> Stats {
        let Inner { step, backlog, remote, counters, .. } = &*self.0;
        let health = remote.as_ref().map(|remote| remote.health()).unwrap_or_default();
        Stats {
            in_step: step.is_in(),
            in_step_since: step.since(),
            owed: backlog.len() as u64,
            l2_resting: health.resting,
            l2_rests: health.rests,
            ..counters.snapshot()
        }
    }

    /// Entries in the first tier, and about how many bytes they take.
    pub fn l1_size(&self) -> (u64, u64) {
        self.0.l1.as_ref().map_or((0, 0), Memory::size)
    }

    /// Whether this node hears what the others invalidate and the second tier is in use. Always
    /// false without one. A few loads and a look at the clock, no I/O: cheap enough to be asked on every
    /// request.
    pub fn is_synced(&self) -> bool {
        self.0.is_synced()
    }

    /// The most bytes that an entry may take and still be kept: those of the first tier, where there is
    /// no second. A second tier has a bound of its own.
    pub fn max_entry(&self) -> u64 {
        match (&self.inner().remote, &self.inner().l1) {
            (None, Some(l1)) => l1.max_entry(),
            _ => u64::MAX,
        }
    }

    /// The store's clock: the time by which entries age.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("l1", &self.0.l1.is_some())
            .field("l2", &self.0.remote)
            .finish_non_exhaustive()
    }
}
