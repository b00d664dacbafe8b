//! The first tier: decoded values in this process, in moka.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;

use crate::error::Error;
use crate::key::{Key, KeyRef, Prehashed};
use crate::slot::Slot;
use crate::time::Clock;

/// moka refuses longer lives than this.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How large the first tier is.
///
/// ```
/// use tower_keep_store::L1;
///
/// let l1 = L1::bytes(64 * 1024 * 1024).max_entry(1024 * 1024);
/// # let _ = l1;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct L1 {
    bytes: u64,
    max_entry: Option<u64>,
}

impl L1 {
    /// Entries up to `bytes` bytes in all: keys, values (as their codec weighs them), and about
    /// 256 bytes for each entry.
    pub fn bytes(bytes: u64) -> Self {
        Self { bytes, max_entry: None }
    }

    /// The most bytes that one entry may take. Default: an eighth of the whole.
    pub fn max_entry(mut self, bytes: u64) -> Self {
        self.max_entry = Some(bytes);
        self
    }
}

/// The running first tier.
#[derive(Debug)]
pub(crate) struct Memory {
    cache: Cache<Key, Arc<Slot>, Prehashed>,
    max_entry: u64,
}

impl Memory {
    pub(crate) fn new(config: L1, clock: Clock) -> Result<Self, Error> {
        let max_entry = config.max_entry.unwrap_or(config.bytes / 8);
        if config.bytes == 0 {
            return Err(Error::Config("L1::bytes(0) holds nothing; leave `l1` out instead".into()));
        }
        if max_entry > config.bytes {
            let text = "L1::max_entry is larger than the whole of L1; raise `bytes` or lower it";
            return Err(Error::Config(text.into()));
        }
        let cache = Cache::builder()
            .max_capacity(config.bytes)
            .weigher(|_, slot: &Arc<Slot>| slot.weight)
            .expire_after(HardExpiry(clock))
            .build_with_hasher(Prehashed::default());
        Ok(Self { cache, max_entry })
    }

    pub(crate) fn get(&self, key: KeyRef<'_>) -> Option<Arc<Slot>> {
        self.cache.get(&key)
    }

    /// Keeps `slot`, unless it is larger than an entry may be: then nothing is kept at `key`.
    pub(crate) fn insert(&self, key: KeyRef<'_>, slot: Arc<Slot>) -> bool {
        let fits = u64::from(slot.weight) <= self.max_entry;
        if fits {
            self.cache.insert(key.to_key(), slot);
        } else {
            self.remove(key);
        }
        fits
    }

    pub(crate) fn remove(&self, key: KeyRef<'_>) {
        self.cache.invalidate(&key);
    }

    pub(crate) fn clear(&self) {
        self.cache.invalidate_all();
    }

    /// Entries and their bytes, about: moka counts behind.
    pub(crate) fn size(&self) -> (u64, u64) {
        self.cache.run_pending_tasks();
        (self.cache.entry_count(), self.cache.weighted_size())
    }
}

/// Lets moka reclaim entries at their hard expiry. Whether one may be served is never left to it:
/// the slot is asked.
struct HardExpiry(Clock);

impl HardExpiry {
    fn left(&self, slot: &Slot) -> Duration {
        slot.lifetime.kept_for(self.0.now()).min(LONGEST)
    }
}

impl Expiry<Key, Arc<Slot>> for HardExpiry {
    fn expire_after_create(&self, _: &Key, slot: &Arc<Slot>, _: Instant) -> Option<Duration> {
        Some(self.left(slot))
    }

    fn expire_after_update(
        &self,
        _: &Key,
        slot: &Arc<Slot>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.left(slot))
    }
}
