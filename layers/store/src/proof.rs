//! How one who waits for a fill can tell that what it got is not older than what it must see.

use std::sync::Arc;

use crate::epoch::TagTable;
use crate::tag::Tag;

/// A reading of the epoch clock: the invalidations that a caller knows of.
#[derive(Clone, Copy, Debug)]
pub struct Mark(pub(crate) u64);

/// As of when something was fetched, and the tags it carries.
#[derive(Clone, Debug)]
pub struct Proof {
    pub(crate) as_of: u64,
    pub(crate) tags: Arc<[Tag]>,
}

impl Proof {
    /// Whether one who began to wait at `since` may have it. An invalidation between the beginning
    /// of the fill and that moment says no; a later one ran beside the read, and either order is
    /// right.
    pub(crate) fn holds(&self, table: &TagTable, since: Mark) -> bool {
        self.tags.iter().all(|tag| {
            let touched = table.epochs(tag).touched;
            touched <= self.as_of || touched > since.0
        })
    }
}
