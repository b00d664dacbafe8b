//! Epochs: what makes dropping a tag O(1), however many entries carry it.
//!
//! A tag has two epochs, one for each [`Strength`]. An entry records the epochs that its tags
//! had, and is valid while they are still the same: an invalidation writes a new epoch and touches
//! no entry. Epochs only grow, and no two invalidations anywhere share one: they are the readings
//! of a hybrid logical clock (Kulkarni et al., 2014), microseconds since 1970 that never stand
//! still. With a second tier its server is the authority on epochs, and the table here mirrors it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use smallvec::SmallVec;

use crate::tag::{Strength, Tag};

/// The epochs of one tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    /// Of the last hard invalidation, or of the tag's creation.
    pub hard: u64,
    /// Of the last soft invalidation, or of the tag's creation.
    pub soft: u64,
    /// The last moment at which the tag can have been hard invalidated: `hard`, unless that is an
    /// epoch the tag was merely created with. What was fetched as of then or later is in order.
    pub touched: u64,
}

impl Epochs {
    /// Those after a hard invalidation at `epoch`.
    pub const fn all(epoch: u64) -> Self {
        Self { hard: epoch, soft: epoch, touched: epoch }
    }

    const fn soft(epoch: u64) -> Self {
        Self { hard: 0, soft: epoch, touched: 0 }
    }

    fn highest(self) -> u64 {
        self.hard.max(self.soft).max(self.touched)
    }
}

/// One tag, interned: all entries that carry it share this cell.
#[derive(Debug)]
pub(crate) struct TagCell {
    tag: Tag,
    hard: AtomicU64,
    soft: AtomicU64,
    touched: AtomicU64,
    /// Begun here, with assumed epochs: the second tier hasn't said what they really are.
    assumed: AtomicBool,
}

impl TagCell {
    fn new(tag: Tag, epochs: Epochs, assumed: bool) -> Self {
        let Epochs { hard, soft, touched } = epochs;
        Self {
            tag,
            hard: hard.into(),
            soft: soft.into(),
            touched: touched.into(),
            assumed: assumed.into(),
        }
    }

    pub(crate) fn tag(&self) -> &Tag {
        &self.tag
    }

    pub(crate) fn epochs(&self) -> Epochs {
        let [hard, soft, touched] =
            [&self.hard, &self.soft, &self.touched].map(|epoch| epoch.load(Ordering::Acquire));
        Epochs { hard, soft, touched }
    }

    /// Moves the cell forward; news that are older than what it knows change nothing.
    fn raise(&self, epochs: Epochs) {
        self.hard.fetch_max(epochs.hard, Ordering::AcqRel);
        self.soft.fetch_max(epochs.soft, Ordering::AcqRel);
        self.touched.fetch_max(epochs.touched, Ordering::AcqRel);
    }

    fn replace(&self, epochs: Epochs) {
        self.hard.store(epochs.hard, Ordering::Release);
        self.soft.store(epochs.soft, Ordering::Release);
        self.touched.store(epochs.touched, Ordering::Release);
    }
}

/// What an entry remembers of one of its tags.
#[derive(Clone, Debug)]
pub(crate) struct TagStamp {
    pub(crate) cell: Arc<TagCell>,
    pub(crate) epochs: Epochs,
}

impl TagStamp {
    pub(crate) fn is_valid(&self) -> bool {
        self.cell.hard.load(Ordering::Acquire) == self.epochs.hard
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.cell.soft.load(Ordering::Acquire) == self.epochs.soft
    }
}

/// The stamps of an entry. Two are the store's own; with one tag more they still lie in the entry
/// itself, so that checking them reads no other memory than the tags' cells, which are hot.
pub(crate) type Stamps = SmallVec<[TagStamp; 3]>;

/// All tags this process knows of, and its reading of the epoch clock.
#[derive(Debug)]
pub(crate) struct TagTable {
    cells: Mutex<Cells>,
    /// The highest epoch seen or made here.
    clock: AtomicU64,
}

#[derive(Debug)]
struct Cells {
    by_name: HashMap<Tag, Arc<TagCell>>,
    /// The highest epoch of a cell that was swept. A tag without a cell is taken to have it.
    swept: u64,
    sweep_at: usize,
    capacity: usize,
}

impl TagTable {
    /// A table that sweeps unused tags once it holds more than `capacity`.
    pub(crate) fn new(capacity: usize) -> Self {
        let epoch = micros();
        let cells = Cells { by_name: HashMap::new(), swept: epoch, sweep_at: capacity, capacity };
        Self { cells: Mutex::new(cells), clock: AtomicU64::new(epoch) }
    }

    fn cells(&self) -> MutexGuard<'_, Cells> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest epoch known. What begins now sees every invalidation up to it.
    pub(crate) fn now(&self) -> u64 {
        self.clock.load(Ordering::Acquire)
    }

    /// Learns that `epoch` is in use somewhere.
    pub(crate) fn witness(&self, epoch: u64) {
        self.clock.fetch_max(epoch, Ordering::AcqRel);
    }

    /// An epoch higher than all that are known here.
    fn next(&self) -> u64 {
        let wall = micros();
        let step = |last: u64| wall.max(last.saturating_add(1));
        let stepped = |last| Some(step(last));
        match self.clock.fetch_update(Ordering::AcqRel, Ordering::Acquire, stepped) {
            Ok(last) | Err(last) => step(last),
        }
    }

    /// The cell of `tag`, if there is one.
    pub(crate) fn find(&self, tag: &Tag) -> Option<Arc<TagCell>> {
        self.cells().by_name.get(tag).cloned()
    }

    /// The epochs of `tag`, whether or not it has a cell.
    pub(crate) fn epochs(&self, tag: &Tag) -> Epochs {
        let cells = self.cells();
        cells.by_name.get(tag).map_or(Epochs::all(cells.swept), |cell| cell.epochs())
    }

    /// Every tag that has a cell.
    pub(crate) fn tags(&self) -> Vec<Tag> {
        self.cells().by_name.keys().cloned().collect()
    }

    /// Invalidates `tag` on this node.
    pub(crate) fn invalidate(&self, tag: &Tag, strength: Strength) {
        // The epoch is drawn before the cell changes: a fill that begins in between has seen the
        // epoch, and began after this call did.
        let epoch = self.next();
        let epochs = match strength {
            Strength::Hard => Epochs::all(epoch),
            Strength::Soft => Epochs::soft(epoch),
        };
        // Under the lock, as whatever replaces assumed epochs is.
        let mut cells = self.cells();
        let cell = cells.intern(tag);
        cell.raise(epochs);
        if strength == Strength::Hard {
            // It is no assumption any more: what the second tier says of the time before must not
            // replace it, and what it will say of this invalidation is higher.
            cell.assumed.store(false, Ordering::Release);
        }
    }

    /// Learns the epochs of `tag` from the second tier. Returns its cell.
    pub(crate) fn raise(&self, tag: &Tag, epochs: Epochs) -> Arc<TagCell> {
        self.witness(epochs.highest());
        let mut cells = self.cells();
        let cell = cells
            .by_name
            .entry(tag.clone())
            .or_insert_with(|| Arc::new(TagCell::new(tag.clone(), epochs, false)));
        if cell.assumed.swap(false, Ordering::AcqRel) {
            // The truth replaces what was assumed, even if it is lower; what was stored on the
            // assumption becomes a miss.
            cell.replace(epochs);
        } else {
            cell.raise(epochs);
        }
        let cell = Arc::clone(cell);
        cells.sweep_if_full();
        cell
    }

    /// Learns that `tag` was softly invalidated. A tag without a cell has no entries here.
    pub(crate) fn raise_soft(&self, tag: &Tag, epoch: u64) {
        self.witness(epoch);
        if let Some(cell) = self.find(tag) {
            cell.raise(Epochs::soft(epoch));
        }
    }

    /// Whether the second tier, which says `epochs`, has lost an invalidation known here.
    pub(crate) fn knows_better(&self, tag: &Tag, epochs: Epochs) -> bool {
        self.find(tag).is_some_and(|cell| {
            !cell.assumed.load(Ordering::Acquire) && cell.epochs().hard > epochs.hard
        })
    }

    /// The stamps for a fill of this process that began at `as_of`, or `None` if one of the tags
    /// was invalidated since: then what was filled may predate the invalidation.
    pub(crate) fn stamp(&self, tags: &[Tag], as_of: u64) -> Option<Stamps> {
        let mut cells = self.cells();
        tags.iter()
            .map(|tag| {
                let cell = cells.intern(tag);
                let epochs = cell.epochs();
                (epochs.touched <= as_of).then_some(TagStamp { cell, epochs })
            })
            .collect()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.cells().by_name.len()
    }
}

impl Cells {
    fn intern(&mut self, tag: &Tag) -> Arc<TagCell> {
        if let Some(cell) = self.by_name.get(tag) {
            return Arc::clone(cell);
        }
        self.sweep_if_full();
        // A swept tag may have been invalidated before it was swept, so its new cell takes the
        // highest epoch that any swept cell had.
        let cell = Arc::new(TagCell::new(tag.clone(), Epochs::all(self.swept), true));
        self.by_name.insert(tag.clone(), Arc::clone(&cell));
        cell
    }

    /// Drops the cells that no entry holds, once there are many.
    fn sweep_if_full(&mut self) {
        if self.by_name.len() < self.sweep_at {
            return;
        }
        let mut swept = self.swept;
        // Clones are only ever taken under the lock that is held here, so a count of one stays one.
        self.by_name.retain(|_, cell| {
            let used = Arc::strong_count(cell) > 1;
            if !used {
                swept = swept.max(cell.epochs().highest());
            }
            used
        });
        self.swept = swept;
        // What is still there belongs to live entries, and those are bounded by L1. Doubling keeps
        // the cost of sweeping constant for each tag.
        self.sweep_at = self.capacity.max(self.by_name.len() * 2);
    }
}

fn micros() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_micros()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str) -> Tag {
        Tag::new(name).unwrap()
    }

    #[test]
    fn an_invalidation_breaks_the_stamps_made_before_it_and_none_made_after() {
        let table = TagTable::new(16);
        let before = table.stamp(&[tag("a"), tag("b")], table.now()).unwrap();
        table.invalidate(&tag("a"), Strength::Hard);
        assert!(!before[0].is_valid() && before[1].is_valid());
        let after = table.stamp(&[tag("a")], table.now()).unwrap();
        assert!(after[0].is_valid() && after[0].is_fresh());
    }

    #[test]
    fn soft_leaves_entries_valid_but_not_fresh() {
        let table = TagTable::new(16);
        let stamps = table.stamp(&[tag("a")], table.now()).unwrap();
        table.invalidate(&tag("a"), Strength::Soft);
        assert!(stamps[0].is_valid() && !stamps[0].is_fresh());
    }

    #[test]
    fn a_fill_that_began_before_a_hard_invalidation_gets_no_stamp() {
        let table = TagTable::new(16);
        let as_of = table.now();
        table.invalidate(&tag("a"), Strength::Hard);
        assert!(table.stamp(&[tag("a")], as_of).is_none());
        assert!(table.stamp(&[tag("b")], as_of).is_some());
    }

    #[test]
    fn sweeping_forgets_no_invalidation() {
        let table = TagTable::new(4);
        let as_of = table.now();
        table.invalidate(&tag("gone"), Strength::Hard);
        for i in 0..64 {
            table.stamp(&[tag(&format!("filler-{i}"))], table.now());
        }
        assert!(table.find(&tag("gone")).is_none(), "swept, as no entry holds it");
        assert!(table.len() <= 5);
        assert!(table.stamp(&[tag("gone")], as_of).is_none(), "yet not forgotten");
        assert!(table.stamp(&[tag("gone")], table.now()).is_some());
    }

    #[test]
    fn tags_held_by_entries_survive_a_sweep() {
        let table = TagTable::new(2);
        let held = table.stamp(&[tag("held")], table.now()).unwrap();
        for i in 0..32 {
            table.stamp(&[tag(&format!("filler-{i}"))], table.now());
        }
        table.invalidate(&tag("held"), Strength::Hard);
        assert!(!held[0].is_valid());
    }

    #[test]
    fn old_news_change_nothing() {
        let table = TagTable::new(4);
        let cell = table.raise(&tag("a"), Epochs::all(u64::MAX / 4));
        table.raise(&tag("a"), Epochs::all(7));
        assert_eq!(cell.epochs(), Epochs::all(u64::MAX / 4));
        assert_eq!(table.now(), u64::MAX / 4);
    }
}
