//! What all handles of a store share, and the steps that every operation is made of.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::packing::Permits;
use super::step::Step;
use crate::backlog::Backlog;
use crate::compression::Compression;
use crate::early::Beta;
use crate::epoch::Epochs;
use crate::error::RemoteError;
use crate::fence::Fences;
use crate::flight::Flights;
use crate::key::KeyRef;
use crate::l1::Memory;
use crate::pending::Pending;
use crate::recent::Recent;
use crate::remote::Remote;
use crate::removals::Removals;
use crate::slot::Slot;
use crate::stats::Counters;
use crate::tag::{Strength, Tag};
use crate::tag_table::{Stamps, TagStamp, TagTable};
use crate::time::Clock;
use crate::ttl::{Lifetime, State, Ttl};

/// The flights of each space and type of outcome, so that all handles of one name share them.
pub(super) type FlightsByName = Mutex<HashMap<(String, TypeId), Weak<dyn Any + Send + Sync>>>;

/// How many tags to ask for at once.
pub(super) const BATCH: usize = 256;

/// How many names the flights may have before those without a handle are looked for.
const NAMES: usize = 64;

pub(crate) struct Inner {
    pub(crate) l1: Option<Memory>,
    pub(crate) remote: Option<Arc<dyn Remote>>,
    /// Where the second tier is seen to. There is one if there is a second tier.
    pub(super) runtime: Option<Handle>,
    pub(crate) tags: TagTable,
    pub(crate) fences: Arc<Fences>,
    pub(super) backlog: Backlog,
    pub(crate) recent: Recent,
    pub(crate) pending: Pending,
    pub(super) removals: Removals,
    /// Whether a task is at work on the backlog.
    pub(super) draining: AtomicBool,
    pub(crate) step: Step,
    pub(crate) counters: Counters,
    pub(crate) clock: Clock,
    /// Names this process among the nodes.
    pub(crate) id: u64,
    pub(super) flights: FlightsByName,
    pub(super) jitter: u8,
    pub(crate) early: Beta,
    pub(crate) max_fill: Duration,
    /// How long a lease is; none, if there are none.
    pub(crate) lease: Option<Duration>,
    pub(super) compression: Option<Compression>,
    pub(super) packing: Permits,
}

impl Inner {
    /// The second tier, if it can be used now.
    ///
    /// It can't while an invalidation made here hasn't reached it: what it holds may be just what
    /// was invalidated.
    pub(crate) fn available(&self) -> Option<&dyn Remote> {
        let remote = self.remote.as_deref()?;
        if !self.is_synced() {
            self.counters.l2_skipped.add();
            return None;
        }
        Some(remote)
    }

    /// Whether there is a second tier that can be used now.
    pub(crate) fn is_synced(&self) -> bool {
        self.remote.as_deref().is_some_and(Remote::is_available)
            && self.backlog.is_empty()
            // By the clock, too: what this node knows of tags may be long out of date when its process
            // wakes up, and what it finds is judged by that.
            && self.step.is_confirmed(self.clock.now())
    }

    /// Runs `task` for the second tier, whatever becomes of the caller.
    pub(crate) fn in_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(task);
        }
    }

    /// The flights of the space `name` that end in a `T`.
    pub(crate) fn flights<T: Send + Sync + 'static>(&self, name: &str) -> Flights<T> {
        let mut all = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let of_type = (name.to_owned(), TypeId::of::<T>());
        if let Some(flights) = all.get(&of_type).and_then(Flights::upgrade) {
            return flights;
        }
        if all.len() >= NAMES && all.len() == all.capacity() {
            // Full, so it would grow: as good a moment as any, and rarer the more there are.
            all.retain(|_, flights| flights.strong_count() > 0);
        }
        let flights = Flights::new();
        all.insert(of_type, flights.downgrade());
        flights
    }

    pub(crate) fn lifetime(&self, ttl: &Ttl) -> Lifetime {
        ttl.lifetime(self.clock.now(), self.jitter, fastrand::f64())
    }

    /// Puts a slot into the first tier.
    pub(crate) fn keep(&self, key: KeyRef<'_>, slot: Arc<Slot>) {
        let kept = match &self.l1 {
            Some(l1) if key.fits() => l1.insert(key, slot),
            _ => return,
        };
        if !kept {
            self.counters.too_large.add();
        }
    }

    /// As [`keep`](Self::keep), unless what is there was fetched by what began later. Tells whether
    /// it wasn't.
    pub(crate) fn keep_newest(&self, key: KeyRef<'_>, slot: Arc<Slot>) -> bool {
        let there = self.l1.as_ref().and_then(|l1| l1.get(key));
        let is_older = there.is_some_and(|there| {
            there.order > slot.order && there.state(self.clock.now()) != State::Gone
        });
        if !is_older {
            self.keep(key, slot);
        }
        !is_older
    }

    /// Takes `key` out of the first tier, or makes it stale there, and overtakes its fills.
    pub(crate) fn drop_local(&self, key: KeyRef<'_>, strength: Strength) {
        self.fences.overtake(key, || match strength {
            Strength::Hard => self.drop_slots(key),
            Strength::Soft => {
                if let Some(slot) = self.l1.as_ref().and_then(|l1| l1.get(key)) {
                    slot.soften();
                }
            }
        });
    }

    /// Takes what is at `key` out of the first tier.
    pub(crate) fn drop_slots(&self, key: KeyRef<'_>) {
        if let Some(l1) = &self.l1 {
            l1.remove(key);
        }
    }

    /// Takes `slot` out of the first tier, if it is still what is at `key`.
    pub(crate) fn drop_slot(&self, key: KeyRef<'_>, slot: &Arc<Slot>) {
        if let Some(l1) = &self.l1 {
            l1.remove_slot(key, slot);
        }
    }

    /// The stamps of `tags` as the second tier has them now; nothing if it can't say.
    pub(crate) async fn resolve(&self, tags: &[Tag]) -> Option<Stamps> {
        let found = self.ask(self.available()?, tags).await;
        found.inspect_err(|error| self.trouble("resolve", error)).ok()
    }

    /// The same of a second tier that is there. This node learns what it says; what it has lost, it
    /// is told again.
    pub(super) async fn ask(
        &self,
        remote: &dyn Remote,
        tags: &[Tag],
    ) -> Result<Stamps, RemoteError> {
        let asked = self.tags.now();
        let found = remote.resolve(tags.to_vec(), self.tags.highest()).await?;
        if found.len() != tags.len() {
            return Err(RemoteError::Protocol("a wrong number of epochs".into()));
        }
        for epochs in &found {
            epochs.check()?;
        }
        for (tag, epochs) in tags.iter().zip(&found) {
            if let Some(strength) = self.tags.lost(tag, *epochs, asked) {
                // A failover lost it. Only a new epoch reaches the entries it was about.
                self.pay_tag(remote, tag, strength).await?;
            }
        }
        let stamps = tags.iter().zip(found);
        Ok(stamps.map(|(tag, epochs)| self.tags.learn(tag, epochs)).collect())
    }

    /// Asks for those of `tags`, found in the second tier, of which this node knows too little, each
    /// once. Nothing if the second tier can't say. Those asked for are known as long as the result is
    /// kept.
    pub(crate) async fn learn_unknown(
        &self,
        tags: impl IntoIterator<Item = &(Tag, Epochs)>,
    ) -> Option<Vec<Stamps>> {
        let unknown = tags.into_iter().filter(|(tag, epochs)| {
            // A frame that is ahead of this node carries news; one that is behind is old.
            self.tags.find(tag).is_none_or(|cell| cell.is_behind(*epochs))
        });
        let mut unknown: Vec<Tag> = unknown.map(|(tag, _)| tag.clone()).collect();
        unknown.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        unknown.dedup();
        let mut learned = Vec::new();
        for batch in unknown.chunks(BATCH) {
            learned.push(self.resolve(batch).await?);
        }
        Some(learned)
    }

    /// The stamps of an entry that lay in the second tier with these `tags`; nothing if one was
    /// invalidated since it was stored.
    pub(crate) async fn stamps_of(&self, tags: &[(Tag, Epochs)]) -> Option<Stamps> {
        let _learned = self.learn_unknown(tags).await?;
        let stamps = tags.iter().map(|(tag, epochs)| {
            let stamp = TagStamp { cell: self.tags.find(tag)?, epochs: *epochs };
            stamp.is_valid().then_some(stamp)
        });
        stamps.collect()
    }

    pub(crate) fn trouble(&self, operation: &'static str, error: &RemoteError) {
        self.counters.l2_errors.add();
        tracing::debug!(operation, %error, "trouble with the second tier");
    }

    pub(crate) fn bad_frame(&self, error: &(dyn std::error::Error + 'static)) {
        self.counters.bad_frames.add();
        tracing::warn!(error, "what lies in the second tier cannot be used");
    }

    pub(crate) fn cannot_encode(&self, error: &(dyn std::error::Error + 'static)) {
        self.counters.encode_errors.add();
        tracing::warn!(error, "a value cannot be encoded");
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("id", &self.id).finish_non_exhaustive()
    }
}
