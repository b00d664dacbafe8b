//! Keeping in step with the other nodes: what they announce, and what to do after a silence.

use std::sync::{Arc, Weak};

use super::inner::Inner;
use crate::event::{Announcement, Event};
use crate::key::KeyRef;
use crate::remote::{Listener, RemoteFuture};
use crate::tag::{Strength, Tag};

/// How many tags to ask for at once.
const BATCH: usize = 256;

/// The store's ear at the second tier. Weak, so that it doesn't keep the store alive.
#[derive(Debug)]
pub(super) struct Coherence(Weak<Inner>);

impl Coherence {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self(Arc::downgrade(inner))
    }
}

impl Listener for Coherence {
    fn heard(&self, announcement: &[u8]) {
        let Some(inner) = self.0.upgrade() else { return };
        let Some(Announcement { sender, event }) = Announcement::decode(announcement) else {
            // Another version's nodes may share the channel.
            inner.counters.bad_frames.add();
            return;
        };
        if sender == inner.id {
            // Applied when it was made; since then the key may have been filled anew.
            return;
        }
        inner.counters.invalidations.add();
        match event {
            Event::Tag { tag, epoch, strength } => inner.apply_tag(&tag, epoch, strength),
            Event::Key { key, strength } => inner.drop_local(KeyRef::new(&key), strength),
        }
    }

    fn lost(&self) {}

    fn regained(&self) -> RemoteFuture<'_, ()> {
        Box::pin(async move {
            let Some(inner) = self.0.upgrade() else { return Ok(()) };
            let Some(remote) = inner.remote.as_deref() else { return Ok(()) };
            // First what the others haven't heard, then what this node may have missed.
            inner.pay_all(remote).await?;
            let mut tags = inner.tags.tags();
            // Also on a new node: it sets the epoch clock going, and tells what it stands at.
            tags.push(Tag::everything());
            for batch in tags.chunks(BATCH) {
                let found = inner.ask(remote, batch).await?;
                for (tag, epochs) in batch.iter().zip(&found) {
                    if inner.tags.knows_better(tag, *epochs) {
                        // A failover lost it. Only a new epoch reaches the entries it was about.
                        let epoch = remote
                            .invalidate(tag.clone(), Strength::Hard, inner.tags.now(), inner.id)
                            .await?;
                        inner.apply_tag(tag, epoch, Strength::Hard);
                    }
                }
                inner.stamps_from(batch, &found, u64::MAX);
            }
            Ok(())
        })
    }
}
