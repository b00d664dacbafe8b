//! Keeping in step with the other nodes: what they announce, and what to do after a silence.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::inner::Inner;
use crate::epoch::Epochs;
use crate::event::{Announcement, Event};
use crate::key::KeyRef;
use crate::remote::{Listener, RemoteFuture};
use crate::tag::Tag;

/// How many tags to ask for at once.
const BATCH: usize = 256;

/// The store's ear at the second tier. Weak, so that it doesn't keep the store alive.
#[derive(Debug)]
pub(super) struct Coherence {
    inner: Weak<Inner>,
    /// The tags that are yet to be checked in this round.
    unchecked: Mutex<Vec<Tag>>,
}

impl Coherence {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self { inner: Arc::downgrade(inner), unchecked: Mutex::default() }
    }

    /// The tags whose turn it is. Each gets its turn, once all others had theirs.
    fn next_batch(&self, inner: &Inner) -> Vec<Tag> {
        let mut unchecked = self.unchecked.lock().unwrap_or_else(PoisonError::into_inner);
        if unchecked.is_empty() {
            *unchecked = inner.tags.tags();
        }
        let rest = unchecked.len().saturating_sub(BATCH);
        unchecked.split_off(rest)
    }
}

impl Listener for Coherence {
    fn heard(&self, announcement: &[u8]) {
        let Some(inner) = self.inner.upgrade() else { return };
        let Some(Announcement { sender, event }) = Announcement::decode(announcement) else {
            // Another version's nodes may share the channel.
            inner.counters.bad_frames.add();
            return;
        };
        if sender == inner.id {
            // Applied when it was made; since then the key may have been filled anew.
            return;
        }
        match event {
            Event::Tag { epoch, .. } if Epochs::all(epoch).check().is_err() => {
                inner.counters.bad_frames.add();
                return;
            }
            Event::Tag { tag, epoch, strength } => inner.tags.invalidated(&tag, epoch, strength),
            Event::Key { key, strength } => inner.drop_local(KeyRef::new(&key), strength),
        }
        inner.counters.invalidations.add();
    }

    fn lost(&self) {}

    fn regained(&self) -> RemoteFuture<'_, ()> {
        Box::pin(async move {
            let Some(inner) = self.inner.upgrade() else { return Ok(()) };
            let Some(remote) = inner.remote.as_deref() else { return Ok(()) };
            // First what the others haven't heard, then what this node may have missed.
            inner.pay_all(remote).await?;
            let mut tags = inner.tags.tags();
            // Also on a new node: it sets the epoch clock going, and tells what it stands at.
            tags.push(Tag::everything());
            for batch in tags.chunks(BATCH) {
                inner.ask(remote, batch).await?;
            }
            // Removals of single keys leave no epoch behind. What was one of them is not known, so
            // every entry is asked of the second tier again.
            inner.forget_entries();
            Ok(())
        })
    }

    /// An announcement that gets lost leaves no other trace where nothing else is lost, as between
    /// two servers of a Cluster.
    fn check(&self) -> RemoteFuture<'_, ()> {
        Box::pin(async move {
            let Some(inner) = self.inner.upgrade() else { return Ok(()) };
            let batch = self.next_batch(&inner);
            if let (Some(remote), false) = (inner.remote.as_deref(), batch.is_empty()) {
                inner.ask(remote, &batch).await?;
            }
            Ok(())
        })
    }
}
