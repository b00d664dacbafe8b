//! The tags this process knows of: a mirror of the epochs that the second tier holds, and all there
//! is without one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::epoch::{Epochs, Moment, micros};
use crate::tag::{Strength, Tag};

/// One tag, interned: all entries that carry it share this cell.
#[derive(Debug)]
pub(crate) struct TagCell {
    tag: Tag,
    hard: Mirrored,
    soft: Mirrored,
    /// The second tier's epoch at which it can have been invalidated last.
    touched: AtomicU64,
    /// The count of this node's invalidations when it was invalidated here last.
    made: AtomicU64,
}

/// An epoch, as far as this node knows it.
#[derive(Debug)]
struct Mirrored {
    epoch: AtomicU64,
    /// Begun here: the second tier hasn't said what it really is.
    assumed: AtomicBool,
}

impl Mirrored {
    fn new(epoch: u64, assumed: bool) -> Self {
        Self { epoch: epoch.into(), assumed: assumed.into() }
    }

    fn load(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Learns an epoch that it has, or has had. The first one replaces what was assumed, even if it
    /// is lower, and what was stored on the assumption becomes a miss. Older ones change nothing.
    fn learn(&self, epoch: u64) {
        if self.assumed.swap(false, Ordering::AcqRel) {
            self.epoch.store(epoch, Ordering::Release);
        } else {
            self.epoch.fetch_max(epoch, Ordering::AcqRel);
        }
    }

    fn may_be_behind(&self, epoch: u64) -> bool {
        self.assumed.load(Ordering::Acquire) || self.load() < epoch
    }

    fn is_ahead_of(&self, epoch: u64) -> bool {
        !self.assumed.load(Ordering::Acquire) && self.load() > epoch
    }
}

impl TagCell {
    fn new(tag: Tag, epochs: Epochs, made: u64, assumed: bool) -> Self {
        Self {
            tag,
            hard: Mirrored::new(epochs.hard, assumed),
            soft: Mirrored::new(epochs.soft, assumed),
            touched: epochs.touched.into(),
            made: made.into(),
        }
    }

    pub(crate) fn tag(&self) -> &Tag {
        &self.tag
    }

    pub(crate) fn epochs(&self) -> Epochs {
        let touched = self.touched.load(Ordering::Acquire);
        Epochs { hard: self.hard.load(), soft: self.soft.load(), touched }
    }

    /// Whether `epochs` are news, or may be: what is only assumed says nothing.
    pub(crate) fn is_behind(&self, epochs: Epochs) -> bool {
        self.hard.may_be_behind(epochs.hard) || self.soft.may_be_behind(epochs.soft)
    }

    /// When it was invalidated last.
    pub(crate) fn last(&self) -> Moment {
        Moment {
            made: self.made.load(Ordering::Acquire),
            heard: self.touched.load(Ordering::Acquire),
        }
    }

    /// It was invalidated at `epoch`.
    fn invalidated(&self, epoch: u64, strength: Strength) {
        self.soft.learn(epoch);
        if strength == Strength::Hard {
            self.hard.learn(epoch);
        }
    }

    /// The second tier says that these are its epochs.
    fn learn(&self, epochs: Epochs) {
        self.hard.learn(epochs.hard);
        self.soft.learn(epochs.soft);
        self.touched.fetch_max(epochs.touched, Ordering::AcqRel);
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
        self.cell.hard.load() == self.epochs.hard
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.cell.soft.load() == self.epochs.soft
    }
}

/// The stamps of an entry. Two are the store's own; with one tag more they still lie in the entry
/// itself, so that checking them reads no other memory than the tags' cells, which are hot.
pub(crate) type Stamps = SmallVec<[TagStamp; 3]>;

/// Whether what was fetched `as_of` some moment may be older than the last invalidation of a tag.
pub(crate) fn predates(as_of: Moment, stamps: &[TagStamp]) -> bool {
    !stamps.iter().all(|stamp| as_of.covers(stamp.cell.last()))
}

/// All tags this process knows of, and its reading of the epoch clock.
#[derive(Debug)]
pub(crate) struct TagTable {
    cells: Mutex<Cells>,
    /// The highest epoch heard or made here.
    clock: AtomicU64,
    /// The highest epoch heard from the second tier.
    heard: AtomicU64,
    /// How many invalidations were made here.
    made: AtomicU64,
}

#[derive(Debug)]
struct Cells {
    by_name: HashMap<Tag, Arc<TagCell>>,
    /// The highest epoch of a cell that was swept, and its last invalidation. A tag without a cell
    /// is taken to have them.
    swept: u64,
    swept_last: Moment,
    sweep_at: usize,
    capacity: usize,
}

impl TagTable {
    /// A table that sweeps unused tags once it holds more than `capacity`.
    pub(crate) fn new(capacity: usize) -> Self {
        let epoch = micros();
        let cells = Cells {
            by_name: HashMap::new(),
            swept: epoch,
            swept_last: Moment::default(),
            sweep_at: capacity,
            capacity,
        };
        Self { cells: Mutex::new(cells), clock: epoch.into(), heard: 0.into(), made: 0.into() }
    }

    fn cells(&self) -> MutexGuard<'_, Cells> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What begins now has seen every invalidation up to this.
    pub(crate) fn now(&self) -> Moment {
        Moment {
            made: self.made.load(Ordering::Acquire),
            heard: self.heard.load(Ordering::Acquire),
        }
    }

    /// The highest epoch known: whatever the second tier draws next must be higher.
    pub(crate) fn highest(&self) -> u64 {
        self.clock.load(Ordering::Acquire)
    }

    /// Learns that the second tier has drawn `epoch`.
    pub(crate) fn hear(&self, epoch: u64) {
        self.clock.fetch_max(epoch, Ordering::AcqRel);
        self.heard.fetch_max(epoch, Ordering::AcqRel);
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

    /// When `tag` was invalidated last, as far as is known here.
    pub(crate) fn last(&self, tag: &Tag) -> Moment {
        let cells = self.cells();
        cells.by_name.get(tag).map_or(cells.swept_last, |cell| cell.last())
    }

    /// Every tag that has a cell.
    pub(crate) fn tags(&self) -> Vec<Tag> {
        self.cells().by_name.keys().cloned().collect()
    }

    /// Invalidates `tag` on this node.
    pub(crate) fn invalidate(&self, tag: &Tag, strength: Strength) {
        // Both are drawn before the cell changes: a fill that begins in between has seen them, and
        // began after this call did.
        let epoch = self.next();
        let made = self.made.fetch_add(1, Ordering::AcqRel) + 1;
        // Under the lock, as whatever replaces assumed epochs is.
        let mut cells = self.cells();
        let cell = cells.intern(tag);
        cell.made.fetch_max(made, Ordering::AcqRel);
        cell.invalidated(epoch, strength);
    }

    /// Learns that the second tier has invalidated `tag` at `epoch`.
    pub(crate) fn invalidated(&self, tag: &Tag, epoch: u64, strength: Strength) {
        self.hear(epoch);
        let mut cells = self.cells();
        // Also for a tag that no entry carries: the answer about it may be on its way, for a fill.
        let cell = cells.intern(tag);
        cell.touched.fetch_max(epoch, Ordering::AcqRel);
        cell.invalidated(epoch, strength);
    }

    /// Learns the epochs of `tag` from the second tier, and stamps an entry with them.
    pub(crate) fn learn(&self, tag: &Tag, epochs: Epochs) -> TagStamp {
        self.hear(epochs.highest());
        let mut cells = self.cells();
        let cell = cells.intern(tag);
        cell.learn(epochs);
        TagStamp { cell, epochs }
    }

    /// The invalidation of `tag` that the second tier has lost: it said `epochs` when it was asked
    /// at a moment when more was known here.
    pub(crate) fn lost(&self, tag: &Tag, epochs: Epochs, asked: Moment) -> Option<Strength> {
        let cell = self.find(tag).filter(|cell| asked.covers(cell.last()))?;
        if cell.hard.is_ahead_of(epochs.hard) {
            Some(Strength::Hard)
        } else {
            cell.soft.is_ahead_of(epochs.soft).then_some(Strength::Soft)
        }
    }

    /// The stamps of an entry, without asking the second tier.
    pub(crate) fn stamp(&self, tags: &[Tag]) -> Stamps {
        let mut cells = self.cells();
        let cells = tags.iter().map(|tag| cells.intern(tag));
        cells.map(|cell| TagStamp { epochs: cell.epochs(), cell }).collect()
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
        // highest epochs that any swept cell had.
        let epochs = Epochs { hard: self.swept, soft: self.swept, touched: self.swept_last.heard };
        let cell = Arc::new(TagCell::new(tag.clone(), epochs, self.swept_last.made, true));
        self.by_name.insert(tag.clone(), Arc::clone(&cell));
        cell
    }

    /// Drops the cells that no entry holds, once there are many.
    fn sweep_if_full(&mut self) {
        if self.by_name.len() < self.sweep_at {
            return;
        }
        let (mut swept, mut last) = (self.swept, self.swept_last);
        // Clones are only ever taken under the lock that is held here, so a count of one stays one.
        self.by_name.retain(|_, cell| {
            let used = Arc::strong_count(cell) > 1;
            if !used {
                swept = swept.max(cell.epochs().highest());
                last = last.latest(cell.last());
            }
            used
        });
        (self.swept, self.swept_last) = (swept, last);
        // What is still there belongs to live entries, and those are bounded by L1. Doubling keeps
        // the cost of sweeping constant for each tag.
        self.sweep_at = self.capacity.max(self.by_name.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str) -> Tag {
        Tag::new(name).unwrap()
    }

    /// The stamps for a fill that began at `as_of`, unless it is too late.
    fn stamp(table: &TagTable, tags: &[Tag], as_of: Moment) -> Option<Stamps> {
        let stamps = table.stamp(tags);
        (!predates(as_of, &stamps)).then_some(stamps)
    }

    #[test]
    fn an_invalidation_breaks_the_stamps_made_before_it_and_none_made_after() {
        let table = TagTable::new(16);
        let before = stamp(&table, &[tag("a"), tag("b")], table.now()).unwrap();
        table.invalidate(&tag("a"), Strength::Hard);
        assert!(!before[0].is_valid() && before[1].is_valid());
        let after = stamp(&table, &[tag("a")], table.now()).unwrap();
        assert!(after[0].is_valid() && after[0].is_fresh());
    }

    #[test]
    fn soft_leaves_entries_valid_but_not_fresh() {
        let table = TagTable::new(16);
        let stamps = stamp(&table, &[tag("a")], table.now()).unwrap();
        table.invalidate(&tag("a"), Strength::Soft);
        assert!(stamps[0].is_valid() && !stamps[0].is_fresh());
    }

    #[test]
    fn a_fill_that_began_before_a_hard_invalidation_gets_no_stamp() {
        let table = TagTable::new(16);
        let as_of = table.now();
        table.invalidate(&tag("a"), Strength::Hard);
        assert!(stamp(&table, &[tag("a")], as_of).is_none());
        assert!(stamp(&table, &[tag("b")], as_of).is_some());
    }

    #[test]
    fn sweeping_forgets_no_invalidation() {
        let table = TagTable::new(4);
        let as_of = table.now();
        table.invalidate(&tag("gone"), Strength::Hard);
        for i in 0..64 {
            stamp(&table, &[tag(&format!("filler-{i}"))], table.now());
        }
        assert!(table.find(&tag("gone")).is_none(), "swept, as no entry holds it");
        assert!(table.len() <= 5);
        assert!(stamp(&table, &[tag("gone")], as_of).is_none(), "yet not forgotten");
        assert!(stamp(&table, &[tag("gone")], table.now()).is_some());
    }

    #[test]
    fn tags_held_by_entries_survive_a_sweep() {
        let table = TagTable::new(2);
        let held = stamp(&table, &[tag("held")], table.now()).unwrap();
        for i in 0..32 {
            stamp(&table, &[tag(&format!("filler-{i}"))], table.now());
        }
        table.invalidate(&tag("held"), Strength::Hard);
        assert!(!held[0].is_valid());
    }

    #[test]
    fn old_news_change_nothing() {
        let table = TagTable::new(4);
        let TagStamp { cell, .. } = table.learn(&tag("a"), Epochs::all(u64::MAX / 4));
        table.learn(&tag("a"), Epochs::all(7));
        assert_eq!(cell.epochs(), Epochs::all(u64::MAX / 4));
        assert_eq!((table.highest(), table.now().heard), (u64::MAX / 4, u64::MAX / 4));
    }

    #[test]
    fn a_soft_invalidation_keeps_what_was_being_fetched_from_being_stored() {
        let table = TagTable::new(16);
        let as_of = table.now();
        table.invalidate(&tag("a"), Strength::Soft);
        assert!(stamp(&table, &[tag("a")], as_of).is_none());
    }

    #[test]
    fn what_is_announced_of_an_unknown_tag_outlasts_an_older_answer() {
        let (table, old) = (TagTable::new(16), Epochs::all(1_000));
        table.invalidated(&tag("a"), 2_000, Strength::Soft);
        let TagStamp { cell, .. } = table.learn(&tag("a"), old);
        assert_eq!(cell.epochs(), Epochs { hard: 1_000, soft: 2_000, touched: 2_000 });
    }

    #[test]
    fn a_clock_that_is_ahead_makes_no_fill_younger() {
        let table = TagTable::new(16);
        table.learn(&tag("a"), Epochs::all(1_000));
        let as_of = table.now();
        // Years before this node's own clock, and yet after the fill began.
        table.invalidated(&tag("a"), 1_001, Strength::Hard);
        assert!(stamp(&table, &[tag("a")], as_of).is_none());
        assert!(stamp(&table, &[tag("a")], table.now()).is_some());
    }

    #[test]
    fn an_invalidation_that_the_second_tier_lost_is_noticed() {
        let table = TagTable::new(16);
        let before = table.now();
        table.invalidated(&tag("hard"), 2_000, Strength::Hard);
        table.learn(&tag("soft"), Epochs::all(1_000));
        table.invalidated(&tag("soft"), 2_000, Strength::Soft);
        table.invalidate(&tag("made"), Strength::Hard);
        let lost = |name, at| table.lost(&tag(name), Epochs::all(1_000), at);
        for name in ["hard", "soft", "made", "unknown"] {
            assert_eq!(lost(name, before), None, "{name}: the answer may be from before it");
        }
        let now = table.now();
        assert_eq!(lost("hard", now), Some(Strength::Hard));
        assert_eq!(lost("soft", now), Some(Strength::Soft));
        assert_eq!(lost("made", now), Some(Strength::Hard));
        assert_eq!(lost("unknown", now), None);
    }
}
