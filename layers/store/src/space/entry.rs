//! An entry on its way into the tiers: its tags as they are now, its weight, its frame.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Space;
use crate::codec::Encoded;
use crate::fence::Ticket;
use crate::frame::{self, FrameMeta};
use crate::key::KeyRef;
use crate::remote::{Put, Removal, Stored};
use crate::slot::Slot;
use crate::tag::{Strength, Tag};
use crate::tag_table::Stamps;
use crate::time::Timestamp;
use crate::ttl::Lifetime;

impl<V: Send + Sync + 'static> Space<V> {
    /// The tags of an entry with `tags`: those, and the ones for the space and the store.
    pub(super) fn all_tags(&self, tags: &[Tag]) -> Vec<Tag> {
        let mut all = self.0.tags.to_vec();
        for tag in tags {
            if !all.contains(tag) {
                all.push(tag.clone());
            }
        }
        all
    }

    /// The tags of an entry with `tags`, as they are now. With them, this node learns of those of the
    /// entry that it is made of, if there is one: it needn't carry them all itself, unless the second tier
    /// can't say whether they have been invalidated.
    pub(super) async fn stamped(&self, tags: &[Tag], base: Option<&Slot>) -> Stamped {
        let inner = self.inner();
        let mut tags = self.all_tags(tags);
        let own = tags.len();
        for stamp in base.iter().flat_map(|base| &base.stamps) {
            if !tags.contains(stamp.cell.tag()) {
                tags.push(stamp.cell.tag().clone());
            }
        }
        if let Some(mut stamps) = inner.resolve(&tags).await {
            stamps.truncate(own);
            return Stamped { stamps, resolved: true };
        }
        if inner.remote.is_none() {
            tags.truncate(own);
        }
        Stamped { stamps: inner.tags.stamp(&tags), resolved: false }
    }

    /// The entry as both tiers take it.
    pub(super) fn entry(
        &self,
        key: KeyRef<'_>,
        value: Arc<V>,
        lifetime: Lifetime,
        Stamped { stamps, resolved }: Stamped,
        Source { order, began, took }: Source,
    ) -> Entry {
        let inner = self.inner();
        let took = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        let codec = &self.0.codec;
        let encoded = if inner.remote.is_some() || codec.weighs_encoded() {
            codec.encode(&value).inspect_err(|error| inner.cannot_encode(&**error)).ok()
        } else {
            Some(Encoded::default())
        };
        let bytes = match &encoded {
            Some(encoded) => codec.weigh(&value, encoded),
            None if codec.weighs_encoded() => usize::MAX,
            None => codec.weigh(&value, &Encoded::default()),
        };
        let parts = encoded.filter(|_| resolved && inner.remote.is_some()).map(|encoded| {
            let tags = stamps.iter().map(|stamp| (stamp.cell.tag().clone(), stamp.epochs));
            (FrameMeta { lifetime, softened: false, took, tags: tags.collect() }, encoded)
        });
        let bytes = bytes.saturating_add(key.as_bytes().len());
        let slot = Slot::new(value, lifetime, false, stamps, order, bytes, began);
        Entry { slot: Arc::new(slot.took(took)), parts }
    }

    /// The frame of an entry that the second tier can be given.
    pub(super) async fn framed(&self, parts: Option<(FrameMeta, Encoded)>) -> Option<Bytes> {
        let (meta, encoded) = parts?;
        let payload = self.inner().pack(encoded).await;
        frame::encode(self.0.codec.id(), fastrand::u64(..), &meta, &payload)
    }

    /// Writes a frame to the second tier, if it can be written there now.
    pub(super) async fn put(
        &self,
        key: KeyRef<'_>,
        frame: Bytes,
        lifetime: Lifetime,
        only_if: Option<Bytes>,
        announce: Option<Strength>,
    ) -> Option<Stored> {
        let inner = self.inner();
        let remote = inner.available().filter(|_| key.fits())?;
        let put = Put {
            key: Bytes::copy_from_slice(key.as_bytes()),
            frame,
            keep: lifetime.kept_for(inner.clock.now()),
            only_if,
            announce: announce.map(|strength| Removal { sender: inner.id, strength }),
        };
        let stored = remote.put(put).await.inspect_err(|error| inner.trouble("put", error)).ok()?;
        if stored == Stored::TooLarge {
            inner.counters.too_large.add();
        }
        Some(stored)
    }
}

/// The tags of an entry, and whether the second tier said so: else it is not for that.
pub(super) struct Stamped {
    pub(super) stamps: Stamps,
    pub(super) resolved: bool,
}

/// Where a value comes from: a fill, or the caller who sets it.
pub(super) struct Source {
    pub(super) order: u64,
    /// As of when it is.
    pub(super) began: Timestamp,
    pub(super) took: Duration,
}

impl Source {
    pub(super) fn fill(ticket: &Ticket, now: Timestamp) -> Self {
        let took = now.saturating_since(ticket.began());
        Self { order: ticket.order(), began: ticket.oldest(), took }
    }
}

/// An entry on its way into the tiers.
pub(super) struct Entry {
    pub(super) slot: Arc<Slot>,
    /// What its frame is made of, if it can go into the second tier.
    pub(super) parts: Option<(FrameMeta, Encoded)>,
}
