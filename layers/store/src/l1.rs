//! The first tier: decoded values in this process.
//!
//! Two maps hold the same entries. A lock-free index answers the lookups. A judge says what stays: it
//! weighs, and evicts by CLOCK-Pro (Jiang, Chen, Zhang: "CLOCK-Pro: An Effective Improvement of the
//! CLOCK Replacement", 2005), of which `quick_cache` is an implementation. All that such a judge wants to
//! know of an entry is whether it was read since it looked last, and not how often. So a lookup tells it
//! once in each of its turns, of which there are a few in the time in which everything is replaced; all
//! the other lookups find that it has been told.
//!
//! An entry is in the index before the judge gets it, and whatever it evicts, refuses or replaces leaves
//! the index: that holds no more than the judge does. A removal leaves the index first, so that nothing
//! removed is found. What has expired is no hit, and makes room when that is needed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use papaya::HashMap;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use seize::Collector;

use crate::error::Error;
use crate::key::{Key, KeyBuf, KeyRef, Prehashed};
use crate::slot::Slot;

/// How often the judge is told of an entry that is read all the time, while everything is replaced once.
const TURNS: u64 = 8;

/// And only in one of so many turns, if it is one that others can do without.
const GLANCES: u32 = 4;

/// How many entries that were taken out of the index may wait, for each thread, for their memory to
/// be freed. The default would be 32 or more, which is a lot of large bodies.
const RETIRED: usize = 4;

/// The least that an entry must be allowed to take, or next to nothing would ever be kept.
const LEAST_ENTRY: u64 = 1024;

/// How many bytes the judge expects an entry to take. It remembers as many keys of those that it evicted as
/// there would be entries of that size, by 64 bytes each: one that comes again so soon stays longer. With
/// half as many, a stream as sites have it was measured to have up to 5 % fewer hits.
const USUAL_ENTRY: u64 = 1024;

/// The most parts that the judge is divided into, each with a lock and a share of the bytes of its own.
const MAX_PARTS: u64 = 64;

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
    /// them), and 440 bytes for each entry, which is what its places in the maps were measured to take.
    /// What tags take comes on top: about 200 bytes for each that is in use, however many entries carry
    /// it. And so does what is remembered of keys whose entries had to go: up to a sixteenth of `bytes`.
    ///
    /// What has expired is no hit any more, and goes when room is needed, before what is still asked for.
    pub fn bytes(bytes: u64) -> Self {
        Self { bytes, max_entry: None }
    }

    /// The most bytes that one entry may take, 512 at the least. Default: an eighth of the whole.
    ///
    /// The whole is divided into parts in which the largest entry still fits, each with a lock that those
    /// wait for who put something in: so where many cores write, a smaller one helps.
    pub fn max_entry(mut self, bytes: u64) -> Self {
        self.max_entry = Some(bytes);
        self
    }
}

type Index = HashMap<Key, Arc<Slot>, Prehashed>;

type Judge = Cache<Key, Arc<Slot>, ByWeight, Prehashed, Evictions>;

#[derive(Clone)]
struct ByWeight;

impl Weighter<Key, Arc<Slot>> for ByWeight {
    fn weight(&self, _: &Key, slot: &Arc<Slot>) -> u64 {
        slot.weight.into()
    }
}

/// Hands out what is evicted, once the judge's lock is free again.
#[derive(Clone)]
struct Evictions;

impl Lifecycle<Key, Arc<Slot>> for Evictions {
    type RequestState = Vec<(Key, Arc<Slot>)>;

    fn on_evict(&self, evicted: &mut Self::RequestState, key: Key, slot: Arc<Slot>) {
        evicted.push((key, slot));
    }
}

/// The running first tier.
pub(crate) struct Memory {
    judge: Judge,
    index: Index,
    max_entry: u64,
    /// The judge's turn, how many bytes were put in during it, and how many make one.
    turn: AtomicU32,
    put: AtomicU64,
    turns_after: u64,
}

impl Memory {
    pub(crate) fn new(config: L1) -> Result<Self, Error> {
        let max_entry = config.max_entry.unwrap_or(config.bytes / 8);
        if config.bytes == 0 {
            return Err(Error::Config("L1::bytes(0) holds nothing; leave `l1` out instead".into()));
        }
        if max_entry < LEAST_ENTRY {
            let text = "an entry takes 440 bytes beside its key and value: L1::max_entry must be 1 KiB or more, and L1::bytes 8 KiB or more";
            return Err(Error::Config(text.into()));
        }
        if max_entry > config.bytes {
            let text = "L1::max_entry is larger than the whole of L1; raise `bytes` or lower it";
            return Err(Error::Config(text.into()));
        }
        let collector = Collector::new().batch_size(RETIRED);
        let index = HashMap::builder().hasher(Prehashed::default()).collector(collector).build();
        let entries = usize::try_from(config.bytes / USUAL_ENTRY).unwrap_or(usize::MAX);
        let options = OptionsBuilder::new()
            .shards(usize::try_from(parts(config.bytes, max_entry)).unwrap_or(1))
            .estimated_items_capacity(entries)
            .weight_capacity(config.bytes)
            .hot_allocation(HOT)
            .ghost_allocation(1.0)
            .build()
            .map_err(|error| Error::Config(error.to_string()))?;
        let judge = Cache::with_options(options, ByWeight, Prehashed::default(), Evictions);
        let (turn, put, turns_after) = (AtomicU32::new(1), AtomicU64::new(0), config.bytes / TURNS);
        Ok(Self { judge, index, max_entry, turn, put, turns_after })
    }

    pub(crate) fn get(&self, key: KeyRef<'_>) -> Option<Arc<Slot>> {
        self.get_with(key, Arc::clone)
    }

    /// Has a look at what is at `key`, where it lies.
    #[inline]
    pub(crate) fn get_with<R>(
        &self,
        key: KeyRef<'_>,
        look: impl FnOnce(&Arc<Slot>) -> R,
    ) -> Option<R> {
        self.find(key, |_| true, look)
    }

    /// As [`get`](Self::get), of what can be had again at less cost than others: so it is what is let go
    /// of first among those that are asked for as often.
    pub(crate) fn glance(&self, key: KeyRef<'_>) -> Option<Arc<Slot>> {
        self.find(key, |turn| turn.is_multiple_of(GLANCES), Arc::clone)
    }

    /// As [`glance`](Self::glance), at what was found before.
    #[inline]
    pub(crate) fn glance_again(&self, slot: &Slot, key: impl FnOnce() -> KeyBuf) {
        let turn = self.turn.load(Relaxed);
        if turn.is_multiple_of(GLANCES) && !slot.was_read_in(turn) {
            self.tell(KeyRef::new(key().as_bytes()), slot, turn);
        }
    }

    /// What is at `key`. The judge is told of it in the turns that count.
    #[inline]
    fn find<R>(
        &self,
        key: KeyRef<'_>,
        counts: impl FnOnce(u32) -> bool,
        look: impl FnOnce(&Arc<Slot>) -> R,
    ) -> Option<R> {
        let index = self.index.pin();
        let found = index.get(&key)?;
        let turn = self.turn.load(Relaxed);
        if counts(turn) && !found.was_read_in(turn) {
            self.tell(key, found, turn);
        }
        Some(look(found))
    }

    /// Tells the judge that an entry is read; never waits for it.
    #[cold]
    fn tell(&self, key: KeyRef<'_>, slot: &Slot, turn: u32) {
        if self.judge.try_get(&key).is_ok() {
            slot.read_in(turn);
        }
    }

    /// Keeps `slot`, unless it is larger than an entry may be: then nothing is kept at `key`.
    pub(crate) fn insert(&self, key: KeyRef<'_>, slot: Arc<Slot>) -> bool {
        let fits = u64::from(slot.weight) <= self.max_entry;
        if !fits {
            self.remove(key);
            return false;
        }
        let index = self.index.pin();
        // The very entry that is there is not put in its own place: it would be handed out as replaced.
        if index.get(&key).is_some_and(|found| Arc::ptr_eq(found, &slot)) {
            return true;
        }
        let (key, this, weight) = (key.to_key(), Arc::as_ptr(&slot), u64::from(slot.weight));
        index.insert(key.clone(), Arc::clone(&slot));
        let mut evicted = Vec::new();
        self.judge.insert_with_lifecycle(key, slot, &mut evicted);
        for (key, slot) in &evicted {
            // Only this very entry: another may have taken its place.
            let _ = index.remove_if(key, |_, found| Arc::ptr_eq(found, slot));
        }
        if self.put.fetch_add(weight, Relaxed) >= self.turns_after {
            self.put.store(0, Relaxed);
            self.turn.fetch_add(1, Relaxed);
        }
        // One that takes nearly all there is may have been refused.
        !evicted.iter().any(|(_, other)| Arc::as_ptr(other) == this)
    }

    /// The most bytes that an entry may take.
    pub(crate) fn max_entry(&self) -> u64 {
        self.max_entry
    }

    pub(crate) fn remove(&self, key: KeyRef<'_>) {
        let index = self.index.pin();
        if let Some(slot) = index.remove(&key) {
            // No other: one that was put in meanwhile would be in the index alone, and never go.
            self.judge.remove_if(&key, |found| Arc::ptr_eq(found, slot));
        }
    }

    /// Removes `slot`, unless another has taken its place.
    pub(crate) fn remove_slot(&self, key: KeyRef<'_>, slot: &Arc<Slot>) {
        let taken = self.index.pin().remove_if(&key, |_, found| Arc::ptr_eq(found, slot)).is_ok();
        if taken {
            self.judge.remove_if(&key, |found| Arc::ptr_eq(found, slot));
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
        // One by one, so that none of those that are put in meanwhile is left in the index alone.
        self.remove_all(|_| true);
    }

    /// Entries, and how many bytes they count as.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.index.len() as u64, self.judge.weight())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entries, bytes) = self.size();
        let mut fields = f.debug_struct("Memory");
        fields.field("entries", &entries).field("bytes", &bytes).finish_non_exhaustive()
    }
}

/// What share of its bytes the judge keeps for what is read again and again. The largest entry must fit
/// into that.
const HOT: f64 = 0.97;

/// Into how many parts the judge is divided: as many as there are threads to write at the same time, but
/// so few that the largest entry fits into what each has.
fn parts(bytes: u64, max_entry: u64) -> u64 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let most = (threads * 4).min(MAX_PARTS);
    let fits = |parts: &u64| {
        // 97 % of a part, in whole bytes; the whole for a single one.
        *parts == 1 || max_entry <= bytes / parts / 100 * 97
    };
    let powers = std::iter::successors(Some(1_u64), |parts| parts.checked_mul(2));
    powers.take_while(|parts| *parts <= most).filter(fits).last().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tag_table::Stamps;
    use crate::time::Clock;
    use crate::ttl::Ttl;
    use proptest::prelude::*;

    #[test]
    fn the_bound_holds_between_two_housekeepings() {
        let clock = Clock::system();
        let memory = memory(8 << 20);
        for i in 0..500u32 {
            memory.insert(KeyRef::new(&i.to_be_bytes()), slot(clock, i, 1_000_000));
            assert!(memory.index.len() <= 10, "{} entries of 1 MB in 8 MiB", memory.index.len());
        }
    }

    #[test]
    fn what_could_never_hold_an_entry_is_refused() {
        let refused = |config| Memory::new(config).unwrap_err().to_string();
        assert!(refused(L1::bytes(0)).contains("leave `l1` out"));
        assert!(refused(L1::bytes(8191)).contains("8 KiB"));
        assert!(refused(L1::bytes(1 << 20).max_entry(1023)).contains("1 KiB"));
        assert!(refused(L1::bytes(1 << 20).max_entry(2 << 20)).contains("raise"));
        assert!(Memory::new(L1::bytes(8192)).is_ok());
    }

    fn memory(bytes: u64) -> Memory {
        Memory::new(L1::bytes(bytes).max_entry(bytes)).unwrap()
    }

    fn slot(clock: Clock, number: u32, bytes: usize) -> Arc<Slot> {
        let lifetime = Ttl::secs(60).lifetime(clock.now(), 0, 0.0);
        Arc::new(Slot::new(Arc::new(number), lifetime, false, Stamps::new(), 0, bytes, clock.now()))
    }

    /// What the judge holds and what the index holds.
    fn both(memory: &Memory) -> (u64, u64) {
        (memory.judge.len() as u64, memory.index.len() as u64)
    }

    #[test]
    fn what_is_evicted_or_refused_leaves_the_index() {
        let clock = Clock::system();
        let memory = memory(100_000);
        for i in 0..10_000u32 {
            memory.insert(KeyRef::new(&i.to_be_bytes()), slot(clock, i, 560));
        }
        let (judged, indexed) = both(&memory);
        assert_eq!(judged, indexed);
        assert!(indexed <= 100, "{indexed} entries of 1,000 bytes in 100,000");
        assert!(indexed > 50, "{indexed}");
    }

    #[test]
    fn an_entry_inserted_twice_is_there() {
        let clock = Clock::system();
        let memory = memory(100_000);
        let (key, slot) = (KeyRef::new(b"key"), slot(clock, 0, 296));
        for _ in 0..3 {
            memory.insert(key, Arc::clone(&slot));
            assert_eq!(both(&memory), (1, 1));
        }
    }

    #[test]
    fn what_is_read_often_stays() {
        let clock = Clock::system();
        let memory = memory(100_000);
        let hot = KeyRef::new(b"hot");
        memory.insert(hot, slot(clock, 0, 296));
        for i in 0..5_000u32 {
            memory.insert(KeyRef::new(&i.to_be_bytes()), slot(clock, i, 296));
            assert!(memory.get(hot).is_some(), "after {i}");
        }
    }

    #[test]
    fn what_is_read_in_turn_stays_as_well() {
        let clock = Clock::system();
        let memory = memory(100_000);
        let hot = [KeyRef::new(b"response"), KeyRef::new(b"form")];
        for key in hot {
            memory.insert(key, slot(clock, 0, 296));
        }
        for i in 0..5_000u32 {
            memory.insert(KeyRef::new(&i.to_be_bytes()), slot(clock, i, 296));
            assert!(hot.map(|key| memory.get(key).is_some()) == [true; 2], "after {i}");
        }
    }

    /// About Zipf's law: the logarithm of the rank is uniform.
    fn ranks(seed: u64, keys: f64) -> impl Iterator<Item = u32> {
        let mut random = fastrand::Rng::with_seed(seed);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it fits")]
        std::iter::repeat_with(move || keys.powf(random.f64()) as u32)
    }

    #[test]
    fn a_judge_that_is_told_little_judges_as_well() {
        let clock = Clock::system();
        for (entries, seed) in [(100_u64, 1), (1_000, 2), (5_000, 3)] {
            let weight = u64::from(slot(clock, 0, 296).weight);
            let memory = memory(entries * weight);
            let told_all = Cache::<u32, ()>::new(usize::try_from(entries).unwrap());
            let (mut hits, mut expected) = (0_i32, 0_i32);
            for rank in ranks(seed, 100_000.0).take(200_000) {
                let bytes = rank.to_be_bytes();
                if memory.get(KeyRef::new(&bytes)).is_some() {
                    hits += 1;
                } else {
                    memory.insert(KeyRef::new(&bytes), slot(clock, rank, 296));
                }
                if told_all.get(&rank).is_some() {
                    expected += 1;
                } else {
                    told_all.insert(rank, ());
                }
            }
            let [hits, expected] = [hits, expected].map(|count| f64::from(count) / 2_000.0);
            assert!(hits > expected - 1.0, "{hits} % of {entries}, instead of {expected} %");
        }
    }

    #[test]
    fn the_largest_entry_fits_into_each_part() {
        for bytes in [8192_u64, 100_000, 64 << 20, 10 << 30] {
            for max_entry in [bytes / 8, bytes / 100, bytes].map(|it| it.max(LEAST_ENTRY)) {
                let parts = parts(bytes, max_entry);
                assert!(parts == 1 || max_entry <= bytes / parts, "{bytes} {max_entry}: {parts}");
                let memory = Memory::new(L1::bytes(bytes).max_entry(max_entry)).unwrap();
                let clock = Clock::system();
                let overhead = u64::from(slot(clock, 0, 0).weight);
                let room = (max_entry - overhead).min(1 << 31) / 100 * 96;
                let slot = slot(clock, 0, usize::try_from(room).unwrap());
                assert!(memory.insert(KeyRef::new(b"large"), slot), "{bytes} {max_entry}");
                assert!(memory.get(KeyRef::new(b"large")).is_some(), "{bytes} {max_entry}");
            }
        }
    }

    #[test]
    fn several_threads_leave_both_in_step() {
        let clock = Clock::system();
        let memory = memory(50_000);
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let memory = &memory;
                scope.spawn(move || {
                    for i in 0..3_000u32 {
                        let key = (i % 64).to_be_bytes();
                        match (i + thread) % 5 {
                            0 if i % 97 == 0 => memory.clear(),
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
            "the index holds nothing that the judge doesn't: {indexed} and {judged}"
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
            let memory = memory(100_000_000);
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
