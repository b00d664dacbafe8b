//! Lookups of many entries in the second tier at once.

use futures_util::future::join_all;

use super::{Seen, Space};
use crate::fence::Ticket;
use crate::hit::Hit;
use crate::key::KeyRef;

/// How many keys are asked for at once: few enough for all answers to arrive within the deadline.
const ASKED_AT_ONCE: usize = 128;

impl<V: Send + Sync + 'static> Space<V> {
    /// As [`fetch`](Self::fetch) of each, in their order. The keys are asked for together, 128 at a
    /// time, in one round trip; and so are the tags that this node doesn't know yet, in another.
    pub async fn fetch_many(&self, wanted: &[(Ticket, KeyRef<'_>)]) -> Vec<(Option<Hit<V>>, Seen)> {
        let mut found = Vec::with_capacity(wanted.len());
        for wanted in wanted.chunks(ASKED_AT_ONCE) {
            found.extend(self.fetch_together(wanted).await);
        }
        found
    }

    async fn fetch_together(&self, wanted: &[(Ticket, KeyRef<'_>)]) -> Vec<(Option<Hit<V>>, Seen)> {
        let frames = join_all(wanted.iter().map(|(_, key)| self.look(*key))).await;
        let opened: Vec<_> =
            frames.iter().map(|frame| frame.as_ref().and_then(|frame| self.open(frame))).collect();
        let tags = opened.iter().flatten().flat_map(|(meta, _)| &meta.tags);
        // Kept until the entries are: a tag that no entry carries may be forgotten.
        let known = self.inner().learn_unknown(tags).await;
        let hits =
            wanted.iter().zip(opened).zip(&frames).map(async |(((ticket, key), opened), frame)| {
                let hit = match opened {
                    Some(opened) if known.is_some() => self.admit(ticket, *key, opened).await,
                    _ => None,
                };
                if frame.is_some() {
                    self.count_lookup(hit.is_some());
                }
                let seen = Seen::found(frame.as_ref(), hit.is_some());
                (hit, seen)
            });
        join_all(hits).await
    }
}
