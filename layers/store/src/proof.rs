//! How one who waits for a fill can tell that what it got is not older than what it must see.

use std::sync::Arc;

use crate::epoch::Moment;
use crate::tag::Tag;
use crate::tag_table::TagTable;

/// As of when something was fetched, and the tags it carries.
#[derive(Clone, Debug)]
pub struct Proof {
    pub(crate) as_of: Moment,
    pub(crate) tags: Arc<[Tag]>,
}

impl Proof {
    /// Whether one who asked at `asked` may have it: either it was fetched as of then or later, or
    /// none of its tags was invalidated since it was.
    ///
    /// In the second case a tag may have been invalidated after the asking only, and be refused for
    /// no need: a tag knows no more than its last invalidation.
    pub(crate) fn satisfies(&self, asked: Moment, table: &TagTable) -> bool {
        self.as_of.covers(asked) || self.tags.iter().all(|tag| self.as_of.covers(table.last(tag)))
    }
}
