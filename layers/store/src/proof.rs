//! How one who waits for a fill can tell that what it got is not older than what it must see.

use std::sync::Arc;

use crate::epoch::TagTable;
use crate::tag::Tag;

/// As of when something was fetched, and the tags it carries.
#[derive(Clone, Debug)]
pub struct Proof {
    pub(crate) as_of: u64,
    pub(crate) tags: Arc<[Tag]>,
}

impl Proof {
    /// Whether none of the tags was invalidated since.
    ///
    /// One who began to wait before the invalidation could have it all the same. But a tag knows
    /// only its last invalidation: if that came after the waiter, another may have come before.
    pub(crate) fn holds(&self, table: &TagTable) -> bool {
        self.tags.iter().all(|tag| table.epochs(tag).touched <= self.as_of)
    }
}
