//! What the table of a pool is made of.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::member::Member;
use crate::table::Entry;

/// How long changes of health are gathered at least, unless they matter at once.
const GATHER: Duration = Duration::from_millis(10);

/// And at most.
const LONGEST: Duration = Duration::from_secs(1);

/// And in between, how many times as long as it took to make the table, so that this takes a tenth
/// of a core at most.
const RATIO: u32 = 10;

#[derive(Debug)]
pub(crate) struct Roster<T> {
    pub(super) entries: Vec<Entry<T>>,
    /// What was removed, and may not be done yet.
    pub(super) leaving: Vec<Weak<Member<T>>>,
    /// What has just been removed, and has yet to be told so.
    pub(super) removed: Vec<Arc<Member<T>>>,
    /// Whether the table has yet to be made of this.
    pub(super) is_dirty: bool,
    /// When the table was last made.
    pub(super) built: Instant,
    /// How long changes of health are gathered until it is made again.
    pub(super) gather: Duration,
    /// When outlier detection takes its counts next.
    pub(super) next_tick: Instant,
}

impl<T> Default for Roster<T> {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            entries: Vec::new(),
            leaving: Vec::new(),
            removed: Vec::new(),
            is_dirty: false,
            built: now,
            gather: GATHER,
            next_tick: now,
        }
    }
}

impl<T> Roster<T> {
    /// Those that could get something.
    pub(super) fn weighty(&self) -> impl Iterator<Item = &Member<T>> {
        let weighty = |entry: &&Entry<T>| entry.settings.weight > 0;
        self.entries.iter().filter(weighty).map(|entry| &*entry.member)
    }

    pub(super) fn forget_those_that_left(&mut self) {
        self.leaving.retain(|member| member.upgrade().is_some_and(|it| it.in_flight() > 0));
    }

    /// The table has been made, since `began`.
    pub(super) fn was_built(&mut self, began: Instant) {
        self.is_dirty = false;
        self.built = Instant::now();
        self.gather = ((self.built - began) * RATIO).clamp(GATHER, LONGEST);
    }
}
