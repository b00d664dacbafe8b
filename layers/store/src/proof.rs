//! How one who waits for a fill can tell that what it got is not older than what it must see.

use std::sync::Arc;

use crate::epoch::Moment;
use crate::slot::Slot;
use crate::tag::Tag;
use crate::tag_table::TagTable;
use crate::time::Timestamp;

/// One who asks for something that others may fetch already, and what it must see of invalidations.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    pub(crate) at: Moment,
    /// What was fetched before this may be too old, whatever is known: the node has lost touch.
    pub(crate) oldest: Timestamp,
}

/// As of when something was fetched, and the tags it carries.
#[derive(Clone, Debug)]
pub struct Proof {
    pub(crate) as_of: Moment,
    pub(crate) began: Timestamp,
    pub(crate) tags: Arc<[Tag]>,
    /// What it is made of, if of anything that was fetched earlier.
    pub(crate) base: Option<Arc<Slot>>,
}

impl Proof {
    /// Whether one who asks may have it: either it was fetched as of then or later, or none of its tags
    /// was invalidated since it was.
    ///
    /// In the second case a tag may have been invalidated after the asking only, and be refused for
    /// no need: a tag knows no more than its last invalidation.
    pub(crate) fn satisfies(&self, asking: Asking, table: &TagTable) -> bool {
        let is_covered = |tag| self.as_of.covers(table.last(tag));
        self.began >= asking.oldest
            && self.base.as_ref().is_none_or(|base| base.is_valid())
            && (self.as_of.covers(asking.at) || self.tags.iter().all(is_covered))
    }
}
