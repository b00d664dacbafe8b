//! The first tier: decoded values in this process.
//!
//! moka is the judge: it weighs, admits and evicts (TinyLFU), and expires. But a lookup in it takes
//! several times as long as all the rest of a hit, mostly for its bookkeeping. So a lock-free index
//! beside it holds the same entries and answers the lookups, and moka is told of a sample of them,
//! which is what its frequency sketch makes of all of them anyway.
//!
//! An entry is in the index before it is in moka, and whatever takes it out of moka (eviction,
//! refusal, expiry, replacement) takes it out of the index: that holds no more than moka does. A
//! removal leaves the index first, so that nothing removed is found.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;
use papaya::HashMap;
use seize::Collector;

use crate::error::Error;
use crate::key::{Key, KeyRef, Prehashed};
use crate::slot::Slot;
use crate::time::Clock;

/// One lookup in so many is reported to moka, on average.
const SAMPLE: u32 = 16;

/// So many glances are worth one lookup.
const GLANCES: u32 = 4;

/// How many entries that were taken out of the index may wait, for each thread, for their memory to
/// be freed. The default would be 32 or more, which is a lot of large bodies.
const RETIRED: usize = 4;

/// moka refuses longer lives than this.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The least that an entry must be allowed to take, or next to nothing would ever be kept.
const LEAST_ENTRY: u64 = 1024;

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
    /// Entries up to `bytes` bytes in all, 8 KiB at the least: keys, values (as their codec weighs
    /// them), and 752 bytes for each entry, which is what its places in the maps were measured to take.
    /// What tags take comes on top: about 200 bytes for each that is in use, however many entries carry
    /// it.
    ///
    /// The bound is passed by up to a sixteenth, and by one entry for each thread, until moka's next
    /// housekeeping.
    pub fn bytes(bytes: u64) -> Self {
        Self { bytes, max_entry: None }
    }

    /// The most bytes that one entry may take, 512 at the least. Default: an eighth of the whole.
    pub fn max_entry(mut self, bytes: u64) -> Self {
        self.max_entry = Some(bytes);
        self
    }
}

type Index = HashMap<Key, Arc<Slot>, Prehashed>;

/// The running first tier.
#[derive(Debug)]
pub(crate) struct Memory {
    judge: Cache<Key, Arc<Slot>, Prehashed>,
    index: Arc<Index>,
    max_entry: u64,
    /// Bytes that were put in since moka was last made to keep house, and how many are too many. It
    /// does so by itself by the number of writes, and hundreds of large entries are a lot.
    unjudged: AtomicU64,
    max_unjudged: u64,
}

impl Memory {
    pub(crate) fn new(config: L1, clock: Clock) -> Result<Self, Error> {
        let max_entry = config.max_entry.unwrap_or(config.bytes / 8);
        if config.bytes == 0 {
            return Err(Error::Config("L1::bytes(0) holds nothing; leave `l1` out instead".into()));
        }
        if max_entry < LEAST_ENTRY {
            let text = "an entry takes 752 bytes beside its key and value: L1::max_entry must be 1 KiB or more, and L1::bytes 8 KiB or more";
            return Err(Error::Config(text.into()));
        }
        if max_entry > config.bytes {
            let text = "L1::max_entry is larger than the whole of L1; raise `bytes` or lower it";
            return Err(Error::Config(text.into()));
        }
        let collector = Collector::new().batch_size(RETIRED);
        let index =
            Arc::new(HashMap::builder().hasher(Prehashed::default()).collector(collector).build());
        let indexed = Arc::clone(&index);
        let judge = Cache::builder()
            .max_capacity(config.bytes)
            .weigher(|_, slot: &Arc<Slot>| slot.weight)
            .expire_after(HardExpiry(clock))
            .eviction_listener(move |key: Arc<Key>, slot, _| {
                // Only this very entry: another may have taken its place.
                let _ = indexed.pin().remove_if(&*key, |_, found| Arc::ptr_eq(found, &slot));
            })
            .build_with_hasher(Prehashed::default());
        Ok(Self {
            judge,
            index,
            max_entry,
            unjudged: AtomicU64::new(0),
            max_unjudged: config.bytes / 16,
        })
    }

    pub(crate) fn get(&self, key: KeyRef<'_>) -> Option<Arc<Slot>> {
        let found = self.index.pin().get(&key).map(Arc::clone);
        if is_sampled() {
            self.judge.get(&key);
        }
        found
    }

    /// The same of what can be had again at less cost than others: so it is what is let go of first among
    /// those that are asked for as often.
    pub(crate) fn glance(&self, key: KeyRef<'_>) -> Option<Arc<Slot>> {
        let found = self.index.pin().get(&key).map(Arc::clone);
        if is_sampled() && fastrand::u32(..GLANCES) == 0 {
            self.judge.get(&key);
        }
        found
    }

    /// Keeps `slot`, unless it is larger than an entry may be: then nothing is kept at `key`.
    pub(crate) fn insert(&self, key: KeyRef<'_>, slot: Arc<Slot>) -> bool {
        let fits = u64::from(slot.weight) <= self.max_entry;
        if fits {
            let index = self.index.pin();
            // The very entry that is there is not put in its own place: moka would report it as
            // replaced, and so take it out of the index.
            if index.get(&key).is_none_or(|found| !Arc::ptr_eq(found, &slot)) {
                let key = key.to_key();
                let weight = u64::from(slot.weight);
                index.insert(key.clone(), Arc::clone(&slot));
                self.judge.insert(key, slot);
                drop(index);
                self.keep_house(weight);
            }
        } else {
            self.remove(key);
        }
        fits
    }

    /// The most bytes that an entry may take.
    pub(crate) fn max_entry(&self) -> u64 {
        self.max_entry
    }

    fn keep_house(&self, added: u64) {
        let unjudged = self.unjudged.fetch_add(added, Ordering::Relaxed);
        if unjudged.saturating_add(added) > self.max_unjudged {
            self.unjudged.store(0, Ordering::Relaxed);
            self.judge.run_pending_tasks();
        }
    }

    pub(crate) fn remove(&self, key: KeyRef<'_>) {
        self.index.pin().remove(&key);
        self.judge.invalidate(&key);
    }

    /// Removes `slot`, unless another has taken its place.
    pub(crate) fn remove_slot(&self, key: KeyRef<'_>, slot: &Arc<Slot>) {
        let taken = self.index.pin().remove_if(&key, |_, found| Arc::ptr_eq(found, slot)).is_ok();
        if taken {
            self.judge.invalidate(&key);
        }
    }

    /// Removes the entries at the keys that `is_gone` names. Takes as long as there are entries: not
    /// for where others wait.
    pub(crate) fn remove_all(&self, is_gone: impl Fn(KeyRef<'_>) -> bool) {
        for (key, slot) in &self.index.pin() {
            if is_gone(key.as_ref()) {
                self.remove_slot(key.as_ref(), slot);
            }
        }
    }

    pub(crate) fn clear(&self) {
        self.index.pin().clear();
        self.judge.invalidate_all();
    }

    /// Entries, and about how many bytes they take: moka counts behind.
    pub(crate) fn size(&self) -> (u64, u64) {
        self.judge.run_pending_tasks();
        (self.index.len() as u64, self.judge.weighted_size())
    }
}

/// How many lookups lie between two that are reported is left to chance. If it were always the same,
/// what is looked up at every second place, such as a form after its response, would be reported every
/// time, or never.
fn is_sampled() -> bool {
    thread_local! {
        static LEFT: Cell<u32> = const { Cell::new(0) };
    }
    LEFT.with(|left| {
        if let Some(less) = left.get().checked_sub(1) {
            left.set(less);
            false
        } else {
            left.set(fastrand::u32(..2 * SAMPLE - 1));
            true
        }
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tag_table::Stamps;
    use crate::ttl::Ttl;
    use proptest::prelude::*;

    #[test]
    fn the_bound_holds_between_two_housekeepings() {
        let clock = Clock::system();
        let memory = memory(8 << 20, clock);
        for i in 0..500u32 {
            memory.insert(KeyRef::new(&i.to_be_bytes()), slot(clock, i, 1_000_000));
            assert!(memory.index.len() <= 10, "{} entries of 1 MB in 8 MiB", memory.index.len());
        }
    }

    #[test]
    fn what_could_never_hold_an_entry_is_refused() {
        let refused = |config| Memory::new(config, Clock::system()).unwrap_err().to_string();
        assert!(refused(L1::bytes(0)).contains("leave `l1` out"));
        assert!(refused(L1::bytes(8191)).contains("8 KiB"));
        assert!(refused(L1::bytes(1 << 20).max_entry(1023)).contains("1 KiB"));
        assert!(refused(L1::bytes(1 << 20).max_entry(2 << 20)).contains("raise"));
        assert!(Memory::new(L1::bytes(8192), Clock::system()).is_ok());
    }

    fn memory(bytes: u64, clock: Clock) -> Memory {
        Memory::new(L1::bytes(bytes).max_entry(bytes), clock).unwrap()
    }

    fn slot(clock: Clock, number: u32, bytes: usize) -> Arc<Slot> {
        let lifetime = Ttl::secs(60).lifetime(clock.now(), 0, 0.0);
        Arc::new(Slot::new(Arc::new(number), lifetime, false, Stamps::new(), 0, bytes, clock.now()))
    }

    /// What moka holds and what the index holds, once moka has caught up.
    fn both(memory: &Memory) -> (u64, u64) {
        memory.judge.run_pending_tasks();
        (memory.judge.entry_count(), memory.index.len() as u64)
    }

    #[test]
    fn what_moka_evicts_or_refuses_leaves_the_index() {
        let clock = Clock::system();
        let memory = memory(100_000, clock);
        for i in 0..10_000u32 {
            memory.insert(KeyRef::new(&i.to_be_bytes()), slot(clock, i, 296));
        }
        let (judged, indexed) = both(&memory);
        assert_eq!(judged, indexed);
        assert!(indexed <= 100, "{indexed} entries of 1,000 bytes in 100,000");
        assert!(indexed > 50, "{indexed}");
    }

    #[test]
    fn an_entry_inserted_twice_is_there() {
        let clock = Clock::system();
        let memory = memory(100_000, clock);
        let (key, slot) = (KeyRef::new(b"key"), slot(clock, 0, 296));
        for _ in 0..3 {
            memory.insert(key, Arc::clone(&slot));
            assert_eq!(both(&memory), (1, 1));
        }
    }

    #[test]
    fn what_is_read_often_stays() {
        let clock = Clock::system();
        let memory = memory(100_000, clock);
        let hot = KeyRef::new(b"hot");
        memory.insert(hot, slot(clock, 0, 296));
        for i in 0..5_000u32 {
            memory.insert(KeyRef::new(&i.to_be_bytes()), slot(clock, i, 296));
            for _ in 0..4 * SAMPLE {
                assert!(memory.get(hot).is_some(), "after {i}");
            }
        }
    }

    #[test]
    fn what_is_read_in_turn_stays_as_well() {
        let clock = Clock::system();
        let memory = memory(100_000, clock);
        let hot = [KeyRef::new(b"response"), KeyRef::new(b"form")];
        for key in hot {
            memory.insert(key, slot(clock, 0, 296));
        }
        for i in 0..5_000u32 {
            memory.insert(KeyRef::new(&i.to_be_bytes()), slot(clock, i, 296));
            for _ in 0..4 * SAMPLE {
                assert!(hot.map(|key| memory.get(key).is_some()) == [true; 2], "after {i}");
            }
        }
    }

    #[test]
    fn several_threads_leave_both_in_step() {
        let clock = Clock::system();
        let memory = memory(50_000, clock);
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let memory = &memory;
                scope.spawn(move || {
                    for i in 0..3_000u32 {
                        let key = (i % 64).to_be_bytes();
                        match (i + thread) % 5 {
                            0 => memory.remove(KeyRef::new(&key)),
                            1 => drop(memory.get(KeyRef::new(&key))),
                            _ => assert!(memory.insert(KeyRef::new(&key), slot(clock, i, 296))),
                        }
                    }
                });
            }
        });
        let (judged, indexed) = both(&memory);
        assert!(
            indexed <= judged,
            "the index holds nothing that moka doesn't: {indexed} and {judged}"
        );
        for i in 0..64u32 {
            memory.remove(KeyRef::new(&i.to_be_bytes()));
        }
        assert_eq!(both(&memory), (0, 0));
    }

    proptest! {
        #[test]
        fn answers_as_a_map_would_when_nothing_is_evicted(steps: Vec<(u8, Option<u32>)>) {
            let clock = Clock::system();
            let memory = memory(100_000_000, clock);
            let mut model = std::collections::HashMap::new();
            for (key, number) in steps {
                let bytes = [key];
                let at = KeyRef::new(&bytes);
                if let Some(number) = number {
                    let slot = slot(clock, number, 1);
                    memory.insert(at, Arc::clone(&slot));
                    model.insert(key, slot);
                } else {
                    memory.remove(at);
                    model.remove(&key);
                }
                let found = memory.get(at);
                prop_assert_eq!(found.is_some(), model.contains_key(&key));
                if let (Some(found), Some(expected)) = (found, model.get(&key)) {
                    prop_assert!(Arc::ptr_eq(&found, expected));
                }
            }
        }
    }
}
