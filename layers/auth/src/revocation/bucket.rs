//! A part of all revocations, as this node knows it.
//!
//! All that can be revoked falls into buckets, by its digest. What a node knows of one never changes:
//! it is replaced as a whole, and those whose decisions were made by it are told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::SmallVec;

use super::Stands;
use super::shared::Watch;
use super::target::Digest;
use crate::time::NumericDate;

/// How many buckets there are: a revocation makes each node look again at what it holds of one.
pub(super) const BUCKETS: usize = 1024;

/// How many revocations may be in force in one of them.
pub(super) const MAX_ENTRIES: usize = 1024;

pub(super) fn place(digest: &Digest) -> usize {
    usize::from(u16::from_le_bytes([digest[0], digest[1]])) % BUCKETS
}

/// One revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// What was issued until then is revoked.
    pub(super) cutoff: NumericDate,
    /// All of that has expired by then.
    pub(super) until: NumericDate,
}

pub(super) type Entries = HashMap<Digest, Entry>;

/// Adds the revocations of `more` that are still in force. Whether that changed anything.
pub(super) fn merge(entries: &mut Entries, more: &Entries, now: NumericDate) -> bool {
    let mut changed = false;
    for (digest, entry) in more.iter().filter(|(_, entry)| now < entry.until) {
        let merged = match entries.get(digest) {
            Some(there) => Entry {
                cutoff: there.cutoff.max(entry.cutoff),
                until: there.until.max(entry.until),
            },
            None => *entry,
        };
        changed |= entries.insert(*digest, merged) != Some(merged);
    }
    changed
}

#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) entries: Entries,
    /// What was issued until then may have been revoked without anybody knowing any more.
    pub(super) lost_before: NumericDate,
    /// By which this node hears that others changed it; none if it was never read.
    pub(super) watch: Option<Watch>,
    superseded: AtomicBool,
}

impl Bucket {
    pub(super) fn new(entries: Entries, lost_before: NumericDate, watch: Option<Watch>) -> Self {
        Self { entries, lost_before, watch, superseded: false.into() }
    }

    pub(super) fn empty() -> Self {
        Self::new(Entries::new(), NumericDate::from_millis(i64::MIN), None)
    }

    /// Whether what was issued `at` an instant is revoked by the entry of `digest`.
    pub(super) fn revokes(&self, digest: &Digest, at: NumericDate, now: NumericDate) -> bool {
        self.entries.get(digest).is_some_and(|entry| at <= entry.cutoff && now < entry.until)
    }

    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// Whether others have changed it since, or it was never read.
    pub(super) fn is_stale(&self) -> bool {
        self.watch.as_ref().is_none_or(Watch::has_changed)
    }
}

/// The buckets that a decision was made by.
pub(super) struct Decision {
    pub(super) buckets: SmallVec<[Arc<Bucket>; 6]>,
    pub(super) until: NumericDate,
}

impl Stands for Decision {
    fn stands(&self, now: NumericDate) -> bool {
        let mut watches = self.buckets.iter().filter_map(|bucket| bucket.watch.as_ref());
        now < self.until
            && self.buckets.iter().all(|bucket| !bucket.is_superseded())
            && watches.clone().all(|watch| !watch.has_changed())
            // They are all of one store.
            && watches.next().is_none_or(Watch::is_heard)
    }
}
