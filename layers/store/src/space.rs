//! A space: the entries of one kind, in both tiers. What typed values and responses build on.

mod entry;
mod many;
mod record;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::entry::Source;
use crate::backlog::{Debt, Target};
use crate::codec::Codec;
use crate::early::Beta;
use crate::fence::Ticket;
use crate::flight::Flights;
use crate::frame::{self, BadFrame, FrameMeta};
use crate::hit::{Found, Held, Hit, Trail};
use crate::key::{KeyBuf, KeyRef, ToKey};
use crate::lease::{Attempt, End, Lease, Turn};
use crate::payload::Payload;
use crate::proof::{Asking, Proof};
use crate::remote::Stored;
use crate::slot::Slot;
use crate::stats::Count;
use crate::store::{Inner, Store};
use crate::tag::{MAX_TAGS, Reach, Strength, Tag};
use crate::tag_table::predates;
use crate::time::Timestamp;
use crate::ttl::{Lifetime, State};

/// The entries of one kind: one name, one codec, one type of value.
///
/// This is the level below [`Typed`](crate::Typed), for layers that bring their own single flight,
/// their own lifetimes or a codec with a body. Lookups and fills are separate steps here:
/// [`peek`](Self::peek) the first tier, [`begin`](Self::begin) a fill, [`fetch`](Self::fetch) from
/// the second tier, wait for one's [`turn`](Self::turn), [`commit`](Self::commit) what the origin said.
///
/// Two spaces with the same name share their entries; they must have the same type and codec.
pub struct Space<V>(Arc<Shared<V>>);

struct Shared<V> {
    store: Store,
    name: Arc<str>,
    prefix: KeyBuf,
    tags: [Tag; 2],
    codec: Box<dyn Codec<V>>,
}

/// What lay in the second tier at a key when a fill began. With it, a fill stores nothing there if
/// something else was stored, or removed, meanwhile.
///
/// It may come with the [lease](crate::StoreBuilder::lease) of the entry, which is released when the
/// last clone is dropped.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub(crate) token: Option<Bytes>,
    /// Whether something lay there that was not found to be a value: perhaps what tells of a removal.
    pub(crate) is_other: bool,
    pub(crate) lease: Option<Arc<Lease>>,
}

impl Seen {
    /// Nothing: for a key that cannot have been used before.
    pub fn nothing() -> Self {
        Self::of(Bytes::new())
    }

    pub(crate) fn of(token: Bytes) -> Self {
        Self { token: Some(token), ..Self::default() }
    }

    /// With a lease, if there is one.
    pub(crate) fn leased(self, lease: Option<Arc<Lease>>) -> Self {
        Self { lease, ..self }
    }

    /// Whether the lease of the entry comes with it.
    pub fn is_leased(&self) -> bool {
        self.lease.is_some()
    }

    /// What a lookup found: empty bytes if nothing, none at all if the second tier could not be asked;
    /// and whether that is a `hit`.
    fn found(found: Option<&Bytes>, is_hit: bool) -> Self {
        let is_other = !is_hit && found.is_some_and(|found| !found.is_empty());
        Self { token: found.map(frame::token), is_other, lease: None }
    }

    /// What tells it from everything else that may have lain there, removals included; empty for
    /// nothing. `None` if the second tier could not be asked.
    pub fn token(&self) -> Option<&[u8]> {
        self.token.as_deref()
    }
}

impl<V: Send + Sync + 'static> Space<V> {
    pub(crate) fn new(store: Store, name: &str, codec: impl Codec<V>) -> Self {
        let mut prefix = KeyBuf::new();
        name.write_key(&mut prefix);
        prefix.push(b":");
        let tags = [Tag::everything(), Tag::space(name)];
        let name = Arc::from(name);
        Self(Arc::new(Shared { store, name, prefix, tags, codec: Box::new(codec) }))
    }

    fn inner(&self) -> &Arc<Inner> {
        self.0.store.inner()
    }

    /// The store that this is a part of.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The flights of this space that end in a `T`: the same for all handles of its name.
    pub fn flights<T: Send + Sync + 'static>(&self) -> Flights<T> {
        self.inner().flights(self.0.tags[1].as_str())
    }

    /// A buffer that holds the space's own part of a key, to be completed by the caller.
    pub fn key_buf(&self) -> KeyBuf {
        let mut buf = KeyBuf::new();
        self.begin_key(&mut buf);
        buf
    }

    /// Writes the space's own part of a key into an empty buffer: where lookups are counted by the
    /// nanosecond, buffers aren't moved about.
    #[inline]
    pub fn begin_key(&self, buf: &mut KeyBuf) {
        buf.push(self.0.prefix.as_bytes());
    }

    /// The key in a buffer that [`key_buf`](Self::key_buf) or [`begin_key`](Self::begin_key) began.
    pub fn key<'a>(&self, buf: &'a KeyBuf) -> KeyRef<'a> {
        KeyRef::new(buf.as_bytes())
    }

    /// Looks into the first tier, as of `now` by the [store's clock](Store::now): no I/O, no lock, no
    /// waiting.
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method is of one lifetime")]
    pub fn peek(&self, key: KeyRef<'_>, now: Timestamp) -> Option<Hit<V>> {
        self.peek_with(key, now, |found| found.to_hit()).flatten()
    }

    /// The same, for who only has a look: a hit that counts no references. What was removed or evicted
    /// meanwhile lives on until all looks are over, so they should be short.
    #[inline]
    pub fn peek_with<R>(
        &self,
        key: KeyRef<'_>,
        now: Timestamp,
        look: impl FnOnce(Found<'_, V>) -> R,
    ) -> Option<R> {
        let inner = self.inner();
        let look = |slot: &Arc<Slot>| {
            if !inner.step.vouches_for(slot, now) {
                inner.counters.unvouched.add();
                return None;
            }
            let found = Found::new(slot, now)?;
            inner.counters.l1_hits.add();
            Some(look(found))
        };
        inner.l1.as_ref()?.get_with(key, look).flatten()
    }

    /// Whether the first tier holds an entry that [`peek`](Self::peek) doesn't return, because this
    /// node has been out of step for too long to vouch for it.
    pub fn is_unvouched(&self, key: KeyRef<'_>, now: Timestamp) -> bool {
        let inner = self.inner();
        !inner.step.hears_at(now)
            && inner.l1.as_ref().and_then(|l1| l1.get(key)).is_some_and(|slot| {
                !inner.step.vouches_for(&slot, now) && slot.state(now) != State::Gone
            })
    }

    /// As [`peek`](Self::peek), for one who only wants to know, or could do without: it isn't counted, and
    /// says little for keeping the entry when memory gets short.
    pub fn glance(&self, key: KeyRef<'_>, now: Timestamp) -> Option<Hit<V>> {
        let slot = self.inner().l1.as_ref()?.glance(key)?;
        Hit::new(&slot, now)
    }

    /// As [`glance`](Self::glance), at an entry that was found before, unless the first tier has let go of
    /// it: without a lookup, and whether or not it was invalidated since. For what is judged by something
    /// else. `key` is where it is.
    #[inline]
    pub fn glance_again(&self, trail: &Trail<V>, key: impl FnOnce() -> KeyBuf) -> Option<Held<V>> {
        let slot = trail.slot()?;
        self.inner().l1.as_ref()?.glance_again(&slot, key);
        Some(Held::new(slot))
    }

    /// Counts something that a layer did, in the store's [`Stats`](crate::Stats).
    pub fn count(&self, what: Count) {
        self.inner().counters.count(what);
    }

    /// Begins a fill under `keys`. Removing one of them, until the ticket is dropped, keeps the
    /// fill from storing anything.
    pub fn begin(&self, keys: &[KeyRef<'_>]) -> Ticket {
        let inner = self.inner();
        inner.fences.begin(keys, inner.tags.now(), inner.clock.now())
    }

    /// As of when a fill with `ticket` and `tags` gets what it gets.
    pub fn proof(&self, ticket: &Ticket, tags: &[Tag]) -> Proof {
        let tags = self.all_tags(tags).into();
        let base = ticket.base().cloned();
        Proof { as_of: ticket.as_of(), began: ticket.oldest(), tags, base }
    }

    /// For one who begins to wait for what another fetches.
    pub fn asking(&self) -> Asking {
        let inner = self.inner();
        Asking { at: inner.tags.now(), oldest: inner.step.oldest(inner.clock.now()) }
    }

    /// Whether what `proof` is about may be given to one who did not fetch it, but has waited for it
    /// since it was `asking`: it isn't older than an invalidation that came before that, as far as this
    /// node knows, or for longer than it may [go by that](crate::StoreBuilder::max_unsynced).
    pub fn satisfies(&self, proof: &Proof, asking: Asking) -> bool {
        proof.satisfies(asking, &self.inner().tags)
    }

    /// The same of an entry that another found, as of `now`: it as it is now, unless it is gone.
    pub fn given(&self, hit: &Hit<V>, asking: Asking, now: Timestamp) -> Option<Hit<V>> {
        hit.is_given(asking.oldest).then(|| hit.again(now)).flatten()
    }

    /// Looks into the second tier, and takes what is valid there into the first.
    ///
    /// Trouble is counted, and is a miss. [`Seen`] is for [`commit`](Self::commit).
    pub async fn fetch(&self, ticket: &Ticket, key: KeyRef<'_>) -> (Option<Hit<V>>, Seen) {
        let found = self.look(key).await;
        let Some(found) = found else { return (None, Seen::default()) };
        let hit = match self.open(&found) {
            Some(opened) => self.admit(ticket, key, opened).await,
            None => None,
        };
        self.count_lookup(hit.is_some());
        let seen = Seen::found(Some(&found), hit.is_some());
        (hit, seen)
    }

    /// The turn of a fill of `key` among those of all nodes, for which it waits as long as `patience`.
    pub fn turn(&self, key: KeyRef<'_>, patience: Duration) -> Turn {
        Turn::new(self.inner(), Bytes::copy_from_slice(key.as_bytes()), patience)
    }

    /// As [`Seen::nothing`], with the lease if it can be had: for a key that another node may look at
    /// before there is something.
    pub async fn reserve(&self, key: KeyRef<'_>) -> Seen {
        match self.turn(key, Duration::ZERO).attempt(Seen::nothing()).await {
            Attempt::Go(seen) => seen,
            Attempt::LookAgain => Seen::nothing(),
        }
    }

    /// The bytes that lie in the second tier, empty if there are none. Nothing if it can't be asked.
    async fn look(&self, key: KeyRef<'_>) -> Option<Bytes> {
        let inner = self.inner();
        let remote = inner.available().filter(|_| key.fits() && !inner.pending.has(key))?;
        let found = remote.get(Bytes::copy_from_slice(key.as_bytes())).await;
        Some(found.inspect_err(|error| inner.trouble("get", error)).ok()?.unwrap_or_default())
    }

    fn count_lookup(&self, is_hit: bool) {
        let counters = &self.inner().counters;
        if is_hit { counters.l2_hits.add() } else { counters.l2_misses.add() }
    }

    /// Takes what lay in the second tier apart, if it is a sound frame.
    fn open(&self, found: &Bytes) -> Option<(FrameMeta, Payload)> {
        if found.is_empty() {
            return None;
        }
        match frame::decode(self.0.codec.id(), found) {
            Ok(opened) => Some(opened),
            Err(BadFrame::NoValue) => None,
            Err(error) => {
                self.inner().bad_frame(&error);
                None
            }
        }
    }

    /// Turns a frame into a hit, if nothing has invalidated it.
    async fn admit(
        &self,
        ticket: &Ticket,
        key: KeyRef<'_>,
        (meta, payload): (FrameMeta, Payload),
    ) -> Option<Hit<V>> {
        let inner = self.inner();
        let stamps = inner.stamps_of(&meta.tags).await?;
        let encoded = inner.unpack(payload).await;
        let encoded = encoded.inspect_err(|error| inner.bad_frame(error)).ok()?;
        let bytes = key.as_bytes().len();
        let (value, weight) = match self.0.codec.decode(encoded.clone()) {
            Ok(value) => {
                let weight = self.0.codec.weigh(&value, &encoded);
                (Arc::new(value), weight)
            }
            Err(error) => {
                inner.bad_frame(&*error);
                return None;
            }
        };
        let bytes = bytes.saturating_add(weight);
        let order = ticket.order();
        let never = Timestamp::default();
        let slot = Slot::new(value, meta.lifetime, meta.softened, stamps, order, bytes, never);
        let slot = Arc::new(slot.took(meta.took));
        if let Some(there) = inner.l1.as_ref().and_then(|l1| l1.get(key)) {
            slot.inherit(&there);
        }
        let hit = Hit::new(&slot, inner.clock.now())?;
        // A removal since the fill began means that what was read may be what was removed.
        ticket.redeem(|| inner.keep_newest(key, slot))?;
        Some(hit)
    }

    /// Stores what a fill got, with `lifetime` and `tags`, and returns its entry; unless an
    /// invalidation of its tags or a removal of its keys has come since the fill began, or what a
    /// later fill got is there. `seen` is
    /// what [`fetch`](Self::fetch) said of this key; without it, only the first tier is written.
    ///
    /// When this returns, the first tier has it. The second tier is written before it returns, too,
    /// so let nobody wait for it.
    pub async fn commit(
        &self,
        ticket: &Ticket,
        key: KeyRef<'_>,
        value: Arc<V>,
        lifetime: Lifetime,
        tags: &[Tag],
        seen: Seen,
    ) -> Option<Hit<V>> {
        let inner = self.inner();
        let base = ticket.base().map(|base| &**base);
        let stamped = self.stamped(tags, base).await;
        // The epochs, just learned, of its tags tell of all invalidations that came before: also of those
        // that this node had yet to hear of when the fill began.
        let is_outdated =
            base.is_some_and(|base| !base.is_valid()) || predates(ticket.as_of(), &stamped.stamps);
        // One that is validated with other tags again and again while the second tier is away has ever
        // more of them.
        if is_outdated || stamped.stamps.len() > 4 * MAX_TAGS {
            inner.counters.overtaken.add();
            return None;
        }
        let source = Source::fill(ticket, inner.clock.now());
        let entry = self.entry(key, value, lifetime, stamped, source);
        let slot = Arc::clone(&entry.slot);
        // A fill that began later, and was quicker, has what is newer.
        if ticket.redeem(|| inner.keep_newest(key, Arc::clone(&slot))) != Some(true) {
            inner.counters.overtaken.add();
            return None;
        }
        let Some(expected) = seen.token.clone() else { return Hit::new(&slot, inner.clock.now()) };
        if base.is_some() && seen.is_other {
            // It may be made of just what was removed, or replaced, by what lies there. As long as this
            // node hasn't heard of that, it is for this node alone.
            seen.passes();
        } else if let Some(frame) = self.framed(entry.parts).await {
            // A tombstone outlives any fill that is quick enough to store.
            let in_time = inner.clock.now().saturating_since(ticket.began()) < inner.max_fill;
            if in_time && !ticket.is_overtaken() {
                match self.put(key, frame, lifetime, Some(expected), None).await {
                    Some(Stored::Yes) => seen.end(End::Stored),
                    // Another node has stored or removed it meanwhile; this value may be older.
                    Some(Stored::Refused) => inner.drop_slot(key, &slot),
                    // It is here, but those who wait for it there wait in vain.
                    Some(Stored::TooLarge) | None => seen.passes(),
                }
            }
        } else {
            seen.passes();
        }
        Hit::new(&slot, inner.clock.now())
    }

    /// Stores a value that did not come from a fill, whatever lies at `key`, and tells all nodes
    /// that what they hold there is old.
    pub async fn set(
        &self,
        key: KeyRef<'_>,
        value: Arc<V>,
        lifetime: Lifetime,
        tags: &[Tag],
    ) -> Reach {
        let inner = self.inner();
        if inner.remote.is_none() {
            return self.set_now(key, value, lifetime, tags).await;
        }
        // In a task, so that it is done whole, whatever becomes of the caller.
        let (space, tags, owned) = (self.clone(), tags.to_vec(), key.to_key());
        let task = async move { space.set_now(owned.as_ref(), value, lifetime, &tags).await };
        match inner.see_through(task).await {
            Some(reach) => reach,
            None => self.remove(key, Strength::Hard).await,
        }
    }

    async fn set_now(
        &self,
        key: KeyRef<'_>,
        value: Arc<V>,
        lifetime: Lifetime,
        tags: &[Tag],
    ) -> Reach {
        let inner = self.inner();
        // As of no moment: an invalidation that comes while this is on its way counts as before it,
        // or, once the tags have been asked, as after it.
        let stamped = self.stamped(tags, None).await;
        let order = inner.fences.next_order();
        let source = Source { order, began: inner.clock.now(), took: Duration::ZERO };
        let entry = self.entry(key, value, lifetime, stamped, source);
        let slot = Arc::clone(&entry.slot);
        let (now, began) = (inner.tags.now(), inner.clock.now());
        let ticket = inner.fences.take_over(key, now, began, || inner.keep(key, Arc::clone(&slot)));
        if inner.remote.is_none() {
            return Reach::Everywhere;
        }
        let stored = match self.framed(entry.parts).await {
            Some(frame) => self.put(key, frame, lifetime, None, Some(Strength::Hard)).await,
            None => None,
        };
        let reach = if stored == Some(Stored::Yes) {
            inner.recent.push(key.as_bytes(), Strength::Hard);
            Reach::Everywhere
        } else {
            // What lies in the second tier, and with the other nodes, is older than this value: at
            // least that must go.
            let (target, strength) = (Target::Key(key.as_bytes().to_vec()), Strength::Hard);
            inner.pay_or_owe(Debt { target, strength }).await
        };
        // Once more: until the second tier had it, a read could fetch what lay there before. If
        // another set or removed it meanwhile, the second tier knows which of the two came last.
        inner.fences.overtake_again(key, &ticket, |was_overtaken| {
            if was_overtaken { inner.drop_slots(key) } else { inner.keep(key, slot) }
        });
        reach
    }

    /// Whether this fresh entry is to be refreshed already, so that nobody has to wait for that later:
    /// by a die that is thrown with the [eagerness](crate::StoreBuilder::early_refresh) `beta`, the
    /// store's unless it is given. Not again within `pause`, whatever becomes of it: one who is told so
    /// has that to do.
    #[inline]
    pub fn is_due_early(
        &self,
        found: Found<'_, V>,
        beta: Option<f64>,
        now: Timestamp,
        pause: Duration,
    ) -> bool {
        self.is_due_early_by(found, beta.map(Beta::new), now, pause)
    }

    #[inline]
    pub(crate) fn is_due_early_by(
        &self,
        found: Found<'_, V>,
        beta: Option<Beta>,
        now: Timestamp,
        pause: Duration,
    ) -> bool {
        let inner = self.inner();
        let is_due = found.is_due_early(beta.unwrap_or(inner.early), now, pause);
        if is_due {
            inner.counters.early_refreshes.add();
        }
        is_due
    }

    /// A refresh of this entry, by the fill with `ticket`, has failed: its origin isn't asked again for
    /// `pause`, or up to a fifth less; unless the entry was invalidated or expired since that fill began,
    /// which is a reason to ask. See [`Found::retry`].
    pub fn refresh_failed(&self, ticket: &Ticket, hit: &Hit<V>, pause: Duration) {
        let now = self.inner().clock.now();
        let _ = ticket.redeem(|| hit.refresh_failed(now, pause, ticket.as_of()));
    }

    /// Removes the entry at `key` from all tiers and nodes ([`Strength::Hard`]), or makes it stale
    /// ([`Strength::Soft`]). Fills that run meanwhile store nothing.
    pub async fn remove(&self, key: KeyRef<'_>, strength: Strength) -> Reach {
        self.0.store.remove_key(key, strength).await
    }

    /// A tag for a part of this space, by a digest of what that is: for a layer whose entries belong
    /// together in another way than by the tags of its users. It is one of the store's own, so that
    /// neither they nor what they serve can name it. An entry may have one of these beside the
    /// [`MAX_TAGS`](crate::MAX_TAGS) of its user.
    ///
    /// Parts with the same digest are invalidated together.
    pub fn part_tag(&self, digest: u128) -> Tag {
        Tag::part(&self.0.name, digest)
    }

    /// Invalidates every entry that carries `tag`, one of [`part_tag`](Self::part_tag) included.
    pub async fn invalidate(&self, tag: &Tag, strength: Strength) -> Reach {
        self.0.store.invalidate(tag.clone(), strength).await
    }

    /// Invalidates every entry of this space, at the cost of one tag.
    pub async fn clear(&self, strength: Strength) -> Reach {
        let [_, space] = &self.0.tags;
        self.0.store.invalidate(space.clone(), strength).await
    }
}

impl<V> Clone for Space<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> fmt::Debug for Space<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("name", &self.0.tags[1]).finish_non_exhaustive()
    }
}
