//! Keeping in step with the other nodes: what they announce, and what to do after a silence.
//!
//! After a silence this node asks for the epochs of its tags and of all buckets of keys, and drops what
//! they say has changed. That is as good as asking the second tier for each entry again, also where
//! another server has taken over that lacks the last of what was acknowledged: an epoch and what it is
//! about are lost together. What was removed and is lost there would be found there, too; those who
//! removed it do so again, which changes the epoch.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::inner::{BATCH, Inner};
use crate::epoch::Epochs;
use crate::error::RemoteError;
use crate::event::{Announcement, Event};
use crate::key::KeyRef;
use crate::remote::{Listener, Remote, RemoteFuture};
use crate::removals::Reading;
use crate::tag::Tag;

/// How many buckets to check at once.
const CHECKED: u16 = 256;

/// How many buckets to ask for at once after a loss: the server is busy with it for about a
/// millisecond.
const BUCKETS: u16 = 1024;

/// Over how long nodes with many tags spread their first questions after a loss.
const SPREAD: Duration = Duration::from_millis(200);

/// The store's ear at the second tier. Weak, so that it doesn't keep the store alive.
#[derive(Debug)]
pub(super) struct Coherence {
    inner: Weak<Inner>,
    /// The tags that are yet to be checked in this round.
    unchecked: Mutex<Vec<Tag>>,
    /// Those that are yet to be asked for, since announcements were lost.
    unheard: Mutex<Option<Vec<Tag>>>,
    /// The first bucket that is yet to be asked for, since announcements were lost.
    unread: Mutex<u16>,
    buckets: Mutex<Buckets>,
}

/// The buckets that are checked in turn.
#[derive(Debug, Default)]
struct Buckets {
    next: u16,
    /// What differed when it was asked for last. That may be news of which the announcement was
    /// on its way; if it still differs after a heartbeat, it was lost.
    suspect: Vec<Reading>,
}

impl Coherence {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::downgrade(inner),
            unchecked: Mutex::default(),
            unheard: Mutex::default(),
            unread: Mutex::default(),
            buckets: Mutex::default(),
        }
    }

    /// The tags whose turn it is. Each gets its turn, once all others had theirs.
    fn next_batch(&self, inner: &Inner) -> Vec<Tag> {
        let mut unchecked = lock(&self.unchecked);
        if unchecked.is_empty() {
            *unchecked = inner.tags.tags();
        }
        let rest = unchecked.len().saturating_sub(BATCH);
        unchecked.split_off(rest)
    }

    /// Asks for all buckets, and takes out of the first tier what is in those that have changed. Where
    /// it failed before, it goes on: what was announced since has been heard.
    async fn read_all_buckets(
        &self,
        inner: &Arc<Inner>,
        remote: &dyn Remote,
    ) -> Result<(), RemoteError> {
        loop {
            let begin = *lock(&self.unread);
            let end = begin.saturating_add(BUCKETS).min(inner.removals.buckets());
            if begin == end {
                break;
            }
            let readings = inner.read_buckets(remote, (begin..end).collect()).await?;
            inner.overtake(inner.removals.learn(&readings));
            *lock(&self.unread) = end;
        }
        let swept = inner.sweep().ok_or(RemoteError::Unavailable)?;
        swept.await.map_err(|_| RemoteError::Unavailable)
    }

    /// Asks for some buckets again.
    async fn check_buckets(
        &self,
        inner: &Arc<Inner>,
        remote: &dyn Remote,
    ) -> Result<(), RemoteError> {
        let suspect = mem::take(&mut lock(&self.buckets).suspect);
        inner.overtake(inner.removals.learn(&suspect));
        inner.sweep_soon();
        let (begin, all) = (lock(&self.buckets).next, inner.removals.buckets());
        let end = begin.saturating_add(CHECKED).min(all);
        let readings = inner.read_buckets(remote, (begin..end).collect()).await?;
        let suspect = inner.removals.differing(&readings);
        *lock(&self.buckets) = Buckets { next: if end < all { end } else { 0 }, suspect };
        Ok(())
    }

    /// Asks for all tags that are known, in batches. Where it failed before, it goes on.
    async fn ask_for_all(&self, inner: &Inner, remote: &dyn Remote) -> Result<(), RemoteError> {
        let begins = lock(&self.unheard).is_none();
        if begins {
            let mut tags = inner.tags.tags();
            if tags.len() > BATCH {
                // All nodes may have lost the same server.
                tokio::time::sleep(SPREAD.mul_f64(fastrand::f64())).await;
            }
            // Also on a new node: it sets the epoch clock going, and tells what it stands at.
            tags.push(Tag::everything());
            *lock(&self.unheard) = Some(tags);
        }
        loop {
            let batch: Vec<Tag> =
                lock(&self.unheard).iter().flatten().rev().take(BATCH).cloned().collect();
            if batch.is_empty() {
                return Ok(());
            }
            inner.ask(remote, &batch).await?;
            if let Some(tags) = &mut *lock(&self.unheard) {
                tags.truncate(tags.len().saturating_sub(batch.len()));
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener for Coherence {
    fn heard(&self, announcement: &[u8]) {
        let Some(inner) = self.inner.upgrade() else { return };
        let Some(Announcement { sender, event }) = Announcement::decode(announcement) else {
            // Another version's nodes may share the channel.
            inner.counters.bad_frames.add();
            return;
        };
        let is_own = sender == inner.id;
        if let (Event::Key { key, epoch, before, .. }, Some(remote)) = (&event, &inner.remote) {
            // Of its own as well: they are a part of what the next one follows.
            let bucket = remote.bucket(key);
            inner.overtake(inner.removals.heard(bucket, *before, *epoch));
            inner.sweep_soon();
        }
        if is_own {
            // Applied when it was made; since then the key may have been filled anew.
            return;
        }
        match event {
            Event::Tag { epoch, .. } if Epochs::all(epoch).check().is_err() => {
                inner.counters.bad_frames.add();
                return;
            }
            Event::Tag { tag, epoch, strength } => inner.tags.invalidated(&tag, epoch, strength),
            Event::Key { key, strength, .. } => inner.drop_local(KeyRef::new(&key), strength),
        }
        inner.counters.invalidations.add();
    }

    fn lost(&self) {
        *lock(&self.unheard) = None;
        *lock(&self.unread) = 0;
        // They were those of another server, perhaps.
        lock(&self.buckets).suspect.clear();
        if let Some(inner) = self.inner.upgrade()
            && inner.step.lose(inner.clock.now())
        {
            inner.counters.losses.add();
        }
    }

    fn replaced(&self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.recent.doubt();
        }
    }

    fn regained(&self) -> RemoteFuture<'_, ()> {
        Box::pin(async move {
            let Some(inner) = self.inner.upgrade() else { return Ok(()) };
            let Some(remote) = inner.remote.as_deref() else { return Ok(()) };
            // First, since what this node does now to keys changes the buckets, too. What others do
            // is heard: they only have to be asked for what was missed before.
            self.read_all_buckets(&inner, remote).await?;
            // Then what the others haven't heard, and after that the tags it changed.
            inner.pay_all(remote).await?;
            inner.do_again(remote).await?;
            self.ask_for_all(&inner, remote).await?;
            let last = remote.last_epoch().await?;
            if Epochs::all(last).check().is_ok() {
                inner.tags.hear(last);
            }
            inner.step.regain(inner.clock.now());
            Ok(())
        })
    }

    fn confirmed(&self, age: Duration, span: Duration) {
        if let Some(inner) = self.inner.upgrade() {
            // Perhaps in the past: it may have been waiting here while this process stood still.
            inner.step.confirm(inner.clock.now().saturating_add(span).saturating_sub(age));
        }
    }

    /// An announcement that gets lost leaves no other trace where nothing else is lost, as between
    /// two servers of a Cluster.
    fn check(&self) -> RemoteFuture<'_, ()> {
        Box::pin(async move {
            let Some(inner) = self.inner.upgrade() else { return Ok(()) };
            let Some(remote) = inner.remote.as_deref() else { return Ok(()) };
            let buckets = self.check_buckets(&inner, remote).await;
            let batch = self.next_batch(&inner);
            if !batch.is_empty() {
                inner.ask(remote, &batch).await?;
            }
            buckets
        })
    }
}
