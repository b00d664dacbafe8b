//! What all handles of a store share, and the steps that every operation is made of.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::backlog::{Backlog, Debt, Target};
use crate::epoch::{Epochs, Stamps, TagStamp, TagTable};
use crate::error::RemoteError;
use crate::event::{Announcement, Event};
use crate::fence::Fences;
use crate::flight::Flights;
use crate::frame;
use crate::key::KeyRef;
use crate::l1::Memory;
use crate::remote::{Put, Remote};
use crate::slot::Slot;
use crate::stats::Counters;
use crate::tag::{Reach, Strength, Tag};
use crate::time::Clock;
use crate::ttl::{Lifetime, Ttl};

/// How long to wait before another attempt to pay what is owed.
const DRAIN_EVERY: Duration = Duration::from_millis(200);

/// The flights of each space and type of outcome, so that all handles of one name share them.
pub(super) type FlightsByName = Mutex<HashMap<(String, TypeId), Arc<dyn Any + Send + Sync>>>;

pub(crate) struct Inner {
    pub(crate) l1: Option<Memory>,
    pub(crate) remote: Option<Arc<dyn Remote>>,
    pub(crate) tags: TagTable,
    pub(crate) fences: Arc<Fences>,
    pub(super) backlog: Backlog,
    /// Whether a task is at work on the backlog.
    pub(super) draining: AtomicBool,
    pub(crate) counters: Counters,
    pub(crate) clock: Clock,
    /// Names this process among the nodes.
    pub(crate) id: u64,
    pub(super) flights: FlightsByName,
    pub(super) jitter: u8,
    pub(crate) max_fill: Duration,
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
        self.remote.as_deref().is_some_and(Remote::is_available) && self.backlog.is_empty()
    }

    /// The flights of the space `name` that end in a `T`.
    pub(crate) fn flights<T: Send + Sync + 'static>(&self, name: &str) -> Flights<T> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let of_type = (name.to_owned(), TypeId::of::<T>());
        let shared = flights.entry(of_type).or_insert_with(|| Arc::new(Flights::<T>::new()));
        shared.downcast_ref::<Flights<T>>().cloned().unwrap_or_default()
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

    /// Takes `key` out of the first tier, or makes it stale there, and overtakes its fills.
    pub(crate) fn drop_local(&self, key: KeyRef<'_>, strength: Strength) {
        self.fences.overtake(key, || match (&self.l1, strength) {
            (Some(l1), Strength::Hard) => l1.remove(key),
            (Some(l1), Strength::Soft) => {
                if let Some(slot) = l1.get(key) {
                    slot.soften();
                }
            }
            (None, _) => {}
        });
    }

    /// The epochs of `tags` as the second tier has them; nothing if it can't say.
    pub(crate) async fn resolve(&self, tags: &[Tag]) -> Option<Vec<Epochs>> {
        let found = self.ask(self.available()?, tags).await;
        found.inspect_err(|error| self.trouble("resolve", error)).ok()
    }

    pub(super) async fn ask(
        &self,
        remote: &dyn Remote,
        tags: &[Tag],
    ) -> Result<Vec<Epochs>, RemoteError> {
        let found = remote.resolve(tags.to_vec(), self.tags.now()).await?;
        if found.len() == tags.len() {
            Ok(found)
        } else {
            Err(RemoteError::Protocol("a wrong number of epochs".into()))
        }
    }

    /// The stamps of a fill that began at `as_of`, from what the second tier says of its `tags`;
    /// nothing if one may have been invalidated since.
    pub(crate) fn stamps_from(&self, tags: &[Tag], found: &[Epochs], as_of: u64) -> Option<Stamps> {
        let stamps = tags
            .iter()
            .zip(found)
            .map(|(tag, &epochs)| TagStamp { cell: self.tags.raise(tag, epochs), epochs });
        let stamps: Stamps = stamps.collect();
        found.iter().all(|epochs| epochs.touched <= as_of).then_some(stamps)
    }

    /// The stamps of an entry that lay in the second tier with these `tags`; nothing if one was
    /// invalidated since it was stored. Asks only for tags of which this node knows too little.
    pub(crate) async fn stamps_of(
        &self,
        remote: &dyn Remote,
        tags: &[(Tag, Epochs)],
    ) -> Option<Stamps> {
        let unknown = tags.iter().filter(|(tag, epochs)| {
            // A frame that is ahead of this node carries news; one that is behind is old.
            self.tags.find(tag).is_none_or(|cell| {
                let known = cell.epochs();
                known.hard < epochs.hard || known.soft < epochs.soft
            })
        });
        let unknown: Vec<Tag> = unknown.map(|(tag, _)| tag.clone()).collect();
        if !unknown.is_empty() {
            let found = self.ask(remote, &unknown).await;
            let found = found.inspect_err(|error| self.trouble("resolve", error)).ok()?;
            self.stamps_from(&unknown, &found, u64::MAX)?;
        }
        let stamps = tags.iter().map(|(tag, epochs)| {
            let stamp = TagStamp { cell: self.tags.find(tag)?, epochs: *epochs };
            stamp.is_valid().then_some(stamp)
        });
        stamps.collect()
    }

    /// Brings an invalidation, in force here already, to the second tier and the other nodes; or
    /// remembers that it must be.
    pub(crate) async fn settle_now(self: &Arc<Self>, target: Target, strength: Strength) -> Reach {
        if self.remote.is_none() {
            return Reach::Everywhere;
        }
        let debt = Debt { target, strength };
        if let Some(remote) = self.available() {
            match self.pay(remote, &debt).await {
                Ok(()) => return Reach::Everywhere,
                Err(error) => self.trouble("invalidate", &error),
            }
        }
        self.owe(debt.target, strength);
        self.drain_soon();
        Reach::ThisNode
    }

    /// Does at the second tier what `debt` says.
    pub(super) async fn pay(&self, remote: &dyn Remote, debt: &Debt) -> Result<(), RemoteError> {
        let Debt { target, strength } = debt;
        match target {
            Target::Tag(tag) => {
                let epoch =
                    remote.invalidate(tag.clone(), *strength, self.tags.now(), self.id).await?;
                self.apply_tag(tag, epoch, *strength);
            }
            Target::Key(key) => {
                let event = Event::Key { key: key.clone(), strength: *strength };
                let announce = Some(Announcement { sender: self.id, event });
                let key = Bytes::copy_from_slice(key);
                let (frame, keep, only_if) = match strength {
                    Strength::Hard => {
                        (frame::tombstone(fastrand::u64(..)), self.max_fill.saturating_mul(2), None)
                    }
                    Strength::Soft => {
                        let Some(found) = remote.get(key.clone()).await? else { return Ok(()) };
                        // What isn't a frame is never served, so it needs no softening.
                        let Ok(Some((meta, frame))) = frame::soften(fastrand::u64(..), &found)
                        else {
                            return Ok(());
                        };
                        (
                            frame,
                            meta.lifetime.kept_for(self.clock.now()),
                            Some(frame::token(&found)),
                        )
                    }
                };
                remote.put(Put { key, frame, keep, only_if, announce }).await?;
            }
        }
        Ok(())
    }

    pub(super) fn apply_tag(&self, tag: &Tag, epoch: u64, strength: Strength) {
        match strength {
            Strength::Hard => drop(self.tags.raise(tag, Epochs::all(epoch))),
            Strength::Soft => self.tags.raise_soft(tag, epoch),
        }
    }

    /// Remembers an invalidation that the second tier hasn't got.
    fn owe(&self, target: Target, strength: Strength) {
        self.counters.deferred_invalidations.add();
        self.backlog.push(Debt { target, strength });
    }

    /// Pays all debts, oldest first.
    pub(super) async fn pay_all(&self, remote: &dyn Remote) -> Result<(), RemoteError> {
        while let Some(debt) = self.backlog.first() {
            self.pay(remote, &debt).await?;
            self.backlog.settle(&debt);
        }
        Ok(())
    }

    /// Sees to it that what is owed gets paid, also if no connection is lost or found meanwhile.
    fn drain_soon(self: &Arc<Self>) {
        if self.draining.swap(true, Ordering::AcqRel) {
            return;
        }
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(DRAIN_EVERY).await;
                let Some(inner) = weak.upgrade() else { return };
                if let Some(remote) = inner.remote.as_deref().filter(|remote| remote.is_available())
                    && let Err(error) = inner.pay_all(remote).await
                {
                    inner.trouble("replay", &error);
                }
                inner.draining.store(false, Ordering::Release);
                // Something may have been owed just before the flag fell.
                if inner.backlog.is_empty() || inner.draining.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        });
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
