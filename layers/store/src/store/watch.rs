//! Watching tags that no entry carries: for decisions that hold until something changes.

use std::fmt;
use std::sync::Arc;

use super::{Inner, Store};
use crate::error::RemoteError;
use crate::tag::Tag;
use crate::tag_table::Stamps;
use crate::time::Timestamp;

impl Store {
    /// Watches each of `tags`, as the second tier has it now: one round trip for all of them.
    ///
    /// What is read after this, and would be changed before an invalidation of a tag, is as it was for
    /// as long as [its watch holds](Watch::has_changed).
    ///
    /// # Errors
    ///
    /// [`RemoteError`] if the second tier can't be asked, or there is none.
    pub async fn watch(&self, tags: &[Tag]) -> Result<Vec<Watch>, RemoteError> {
        let inner = self.inner();
        let remote = inner.available().ok_or(RemoteError::Unavailable)?;
        // When more is owed than is kept, all of it becomes one invalidation of everything.
        let mut all = vec![Tag::everything()];
        all.extend_from_slice(tags);
        let stamps = inner.ask(remote, &all).await;
        let mut stamps = stamps.inspect_err(|error| inner.trouble("watch", error))?.into_iter();
        let Some(everything) = stamps.next() else { return Ok(Vec::new()) };
        let watch = |stamp| {
            let stamps = [stamp, everything.clone()].into_iter().collect();
            Watch { stamps, inner: Arc::clone(inner) }
        };
        Ok(stamps.map(watch).collect())
    }

    /// Whether there is a second tier.
    pub fn is_shared(&self) -> bool {
        self.inner().remote.is_some()
    }
}

/// A tag that is [watched](Store::watch).
#[derive(Clone)]
pub struct Watch {
    stamps: Stamps,
    inner: Arc<Inner>,
}

impl Watch {
    /// Whether the tag was invalidated since, as far as this node knows. Two atomic loads.
    pub fn has_changed(&self) -> bool {
        !self.stamps.iter().all(crate::tag_table::TagStamp::is_valid)
    }

    /// Whether this node hears now of what other nodes invalidate. Two atomic loads and a look at the
    /// clock. While it doesn't, a watch that [hasn't changed](Self::has_changed) says nothing of them;
    /// when it does again, it does.
    pub fn is_heard(&self) -> bool {
        self.inner.step.hears_at(self.inner.clock.now())
    }

    /// When the tag can have been invalidated last, before it was watched, by the clock of the second
    /// tier: the time of its last invalidation; or, if none is known of, that of the last loss of data
    /// in which it could have been forgotten. The beginning of the second tier's memory is one, too.
    pub fn may_have_changed_at(&self) -> Timestamp {
        let micros = self.stamps.first().map_or(0, |stamp| stamp.epochs.touched);
        Timestamp::from_millis(micros.div_ceil(1000))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("has_changed", &self.has_changed()).finish_non_exhaustive()
    }
}
