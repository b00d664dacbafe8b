//! A list that all nodes share, on the second tier of a store.
//!
//! Each bucket is a record there, with a tag beside it. To revoke is to add to the record, in one
//! step, and then to invalidate the tag: every node hears of that at once and reads the record before
//! it accepts another token of that bucket. A node that finds less in a record than it knows adds what
//! it knows, so a revocation is lost only with all who knew of it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tower_keep_store::{Bincode, KeyBuf, RemoteError, Space, Store, Strength, Tag, Timestamp};

use super::bucket::{self, Bucket, Entries, Entry, MAX_ENTRIES};
use super::list::Inner;
use super::target::Digest;
use super::{Checking, Reach, Standing};
use crate::error::BuildError;
use crate::refusal::Refusal;
use crate::time::NumericDate;

pub(super) use tower_keep_store::Watch;

/// How often it is seen to that what is owed is paid.
const EVERY: Duration = Duration::from_millis(250);

/// How long reads must have succeeded for the second tier to count as being there again.
const CALM: u64 = 1000;

/// How often a record is read again because another node changed it meanwhile.
const ATTEMPTS: usize = 16;

/// How often a bucket is read again for one token, because it was changed meanwhile.
const LOOKS: usize = 3;

/// How many buckets are read at once.
const BATCH: usize = 64;

pub(super) struct Shared {
    store: Store,
    space: Space<Kept>,
    runtime: Handle,
    /// The buckets of which the second tier may not have all that this node has.
    owed: Mutex<BTreeSet<usize>>,
    /// Since when, and until when, it could not be read, by the store's clock; 0 if it could.
    failing_since: AtomicU64,
    failed_at: AtomicU64,
}

/// A bucket as a record. Instants are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    lost_before: i64,
    entries: Vec<(Digest, i64, i64)>,
}

impl Kept {
    fn entries(&self) -> Entries {
        let date = NumericDate::from_millis;
        let entries = self.entries.iter().take(2 * MAX_ENTRIES);
        entries
            .map(|&(digest, cutoff, until)| {
                (digest, Entry { cutoff: date(cutoff), until: date(until) })
            })
            .collect()
    }
}

impl Shared {
    pub(super) fn new(store: Store) -> Result<Self, BuildError> {
        if !store.is_shared() {
            let text = "the store has no second tier, so there is nobody to share revocations with; add one with `l2`, or leave `store` out";
            return Err(BuildError::Setting(text));
        }
        let runtime = Handle::try_current().map_err(|_| {
            BuildError::Setting("a list with a store must be built inside a Tokio runtime")
        })?;
        let space = store.space("revoked", Bincode);
        let (owed, failing_since, failed_at) = Default::default();
        Ok(Self { store, space, runtime, owed, failing_since, failed_at })
    }

    fn owed(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn owe(&self, place: usize) {
        self.owed().insert(place);
    }

    pub(super) fn is_reachable(&self) -> bool {
        self.store.is_synced()
    }

    /// For how long it could not be asked.
    pub(super) fn away_for(&self) -> Duration {
        let (stats, now) = (self.store.stats(), self.store.now());
        self.failed_at.store(now.as_millis(), Ordering::Relaxed);
        let since = self.failing_since.compare_exchange(
            0,
            now.as_millis(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        let since = Timestamp::from_millis(since.map_or_else(|since| since, |_| now.as_millis()));
        let since = if stats.in_step { since } else { since.min(stats.in_step_since) };
        now.saturating_since(since)
    }

    /// Once it has been there for a while, the next failure is a new one.
    fn calm_down(&self) {
        let now = self.store.now().as_millis();
        if now.saturating_sub(self.failed_at.load(Ordering::Relaxed)) > CALM {
            self.failing_since.store(0, Ordering::Relaxed);
        }
    }

    fn tag(&self, place: usize) -> Tag {
        self.space.part_tag(place as u128)
    }

    fn key(&self, place: usize) -> KeyBuf {
        let mut buf = self.space.key_buf();
        buf.push(place.to_string().as_bytes());
        buf
    }

    /// Reads what the second tier has of the buckets at `places`.
    async fn read(&self, list: &Inner, places: &[usize]) -> Result<(), RemoteError> {
        for places in places.chunks(BATCH) {
            let tags: Vec<Tag> = places.iter().map(|place| self.tag(*place)).collect();
            // Before the records: what is added to one afterwards changes its watch.
            let watches = self.store.watch(&tags).await?;
            let keys: Vec<KeyBuf> = places.iter().map(|place| self.key(*place)).collect();
            let reads = keys.iter().map(|key| self.space.read(self.space.key(key)));
            let found = futures_util::future::try_join_all(reads).await?;
            for ((place, watch), (kept, _)) in places.iter().zip(watches).zip(found) {
                self.learn(list, *place, watch, kept);
            }
        }
        Ok(())
    }

    fn learn(&self, list: &Inner, place: usize, watch: Watch, kept: Option<Kept>) {
        let now = list.clock.now();
        let lost_before = match &kept {
            Some(kept) => NumericDate::from_millis(kept.lost_before),
            None => lost_before(&watch),
        };
        let mut entries = kept.map(|kept| kept.entries()).unwrap_or_default();
        entries.retain(|_, entry| now < entry.until);
        let owes = list.replace(place, |before| {
            let owes = bucket::merge(&mut entries, &before.entries, now);
            (Some(Bucket::new(entries, lost_before, Some(watch))), owes)
        });
        if owes == Some(true) {
            self.owe(place);
        }
    }

    /// Brings what this node knows of a bucket to the second tier, and tells the others.
    async fn push(&self, list: &Inner, place: usize) -> Result<Reach, RemoteError> {
        let (tag, key) = (self.tag(place), self.key(place));
        for _ in 0..ATTEMPTS {
            let watch = self.store.watch(std::slice::from_ref(&tag)).await?;
            let (kept, seen) = self.space.read(self.space.key(&key)).await?;
            let now = list.clock.now();
            let is_there = kept.is_some();
            let lost_before = match &kept {
                Some(kept) => kept.lost_before,
                None => watch.first().map_or(i64::MIN, |watch| lost_before(watch).as_millis()),
            };
            let mut entries = kept.map(|kept| kept.entries()).unwrap_or_default();
            entries.retain(|_, entry| now < entry.until);
            let own = list.bucket(place);
            let adds = own.is_some_and(|own| bucket::merge(&mut entries, &own.entries, now));
            let Some(last) = entries.values().map(|entry| entry.until).max() else {
                return Ok(Reach::Everywhere);
            };
            let entries = entries.iter().map(|(digest, entry)| {
                (*digest, entry.cutoff.as_millis(), entry.until.as_millis())
            });
            let next = Kept { lost_before, entries: entries.collect() };
            let keep = last.saturating_since(now);
            if (is_there && !adds)
                || self.space.exchange(self.space.key(&key), &seen, &next, keep).await?
            {
                return Ok(match self.space.invalidate(&tag, Strength::Hard).await {
                    tower_keep_store::Reach::Everywhere => Reach::Everywhere,
                    tower_keep_store::Reach::ThisNode => Reach::ThisNode,
                });
            }
        }
        Err(RemoteError::Unavailable)
    }

    async fn push_or_owe(&self, list: &Inner, place: usize) -> Reach {
        // Before it is read: what is added meanwhile is owed again.
        self.owed().remove(&place);
        if let Ok(reach) = self.push(list, place).await {
            return reach;
        }
        self.owe(place);
        Reach::ThisNode
    }
}

/// What was issued until then may have been revoked, and forgotten with the record.
fn lost_before(watch: &Watch) -> NumericDate {
    let millis = watch.may_have_changed_at().as_millis();
    NumericDate::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Reads the buckets at `places`, and again while they change, before `answer` is asked.
pub(super) fn look_again(
    list: &Arc<Inner>,
    mut places: Vec<usize>,
    answer: impl FnOnce(&Inner) -> Result<Standing, Refusal> + Send + 'static,
) -> Checking {
    let list = Arc::clone(list);
    Box::pin(async move {
        let is_stale = |place: &usize| list.bucket(*place).is_some_and(|bucket| bucket.is_stale());
        for _ in 0..LOOKS {
            let Some(shared) = list.shared.as_ref().filter(|_| !places.is_empty()) else { break };
            if shared.read(&list, &places).await.is_err() {
                break;
            }
            places.retain(is_stale);
        }
        answer(&list)
    })
}

/// Brings the bucket at `place` to the other nodes, whatever becomes of the caller.
pub(super) async fn spread(list: Arc<Inner>, place: usize) -> Reach {
    let Some(shared) = &list.shared else { return Reach::Everywhere };
    let runtime = shared.runtime.clone();
    let task = {
        let list = Arc::clone(&list);
        async move {
            match &list.shared {
                Some(shared) => shared.push_or_owe(&list, place).await,
                None => Reach::Everywhere,
            }
        }
    };
    // If the runtime is ending, nobody hears of it any more.
    runtime.spawn(task).await.unwrap_or(Reach::ThisNode)
}

/// Sees to it, for as long as the list is in use, that what is owed is paid, and that what the second
/// tier lost while this node was out of touch is added again.
pub(super) fn keep_up(list: &Arc<Inner>) {
    let Some(shared) = &list.shared else { return };
    shared.runtime.spawn(run(Arc::downgrade(list)));
}

async fn run(list: Weak<Inner>) {
    let (mut in_step_since, mut is_first) = (None, true);
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(list) = list.upgrade() else { return };
        let Some(shared) = &list.shared else { return };
        if !shared.is_reachable() {
            continue;
        }
        shared.calm_down();
        let since = shared.store.stats().in_step_since;
        if in_step_since != Some(since) {
            // All of them, where nothing is accepted that wasn't read: an outage may be next.
            let reads_all = is_first && list.refuses_unread;
            let is_known =
                |place: &usize| list.bucket(*place).is_some_and(|it| !it.entries.is_empty());
            let known: Vec<usize> =
                (0..list.cells.len()).filter(|place| reads_all || is_known(place)).collect();
            if shared.read(&list, &known).await.is_err() {
                continue;
            }
            (in_step_since, is_first) = (Some(since), false);
        }
        let owed: Vec<usize> = shared.owed().iter().copied().collect();
        for place in owed {
            if shared.push_or_owe(&list, place).await == Reach::ThisNode {
                break;
            }
        }
    }
}
