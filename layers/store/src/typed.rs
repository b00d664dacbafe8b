//! Typed values: `get_or_try_set` and its relatives.

mod batch;
mod behind;
mod fill;
mod landing;
mod many;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

pub use self::fill::Fill;
use self::landing::{Earlier, Landing};
use crate::error::{BoxError, Error, FillError};
use crate::flight::{Flights, Follow, Join};
use crate::hit::Hit;
use crate::key::{KeyBuf, KeyRef, ToKey};
use crate::space::Space;
use crate::tag::{Reach, Strength, Tag};
use crate::ttl::{State, Ttl};

/// The longest that a fill may take, unless set: 30 s.
const HARD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a key's origin is left alone after a failure, unless set: 1 s.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The values of one kind, by key. Cheap to clone.
///
/// Concurrent callers that miss the same key share one fill. It runs in a task of its own:
/// cancelling a caller, the first one included, cancels nothing.
pub struct Typed<K: ?Sized, V> {
    space: Space<V>,
    flights: Flights<Landing<V>>,
    soft_timeout: Option<Duration>,
    hard_timeout: Duration,
    retry_pause: Duration,
    key: PhantomData<fn(&K)>,
}

impl<K: ToKey + ?Sized, V: Send + Sync + 'static> Typed<K, V> {
    pub(crate) fn new(space: Space<V>) -> Self {
        let flights = space.flights();
        Self {
            space,
            flights,
            soft_timeout: None,
            hard_timeout: HARD_TIMEOUT,
            retry_pause: RETRY_PAUSE,
            key: PhantomData,
        }
    }

    /// Where a stale value may be served if the fill fails, serve it after `timeout`, too; the fill
    /// goes on in the background. Default: wait for the fill.
    #[must_use]
    pub fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.soft_timeout = Some(timeout);
        self
    }

    /// Ends a fill that takes longer: those who wait get the stale value if there is one, else
    /// [`FillError::TimedOut`]. With a [lease](crate::StoreBuilder::lease), a fill first waits as long
    /// for that of another node at the most; so a caller may wait twice as long, if both hang.
    /// Default: 30 s.
    #[must_use]
    pub fn hard_timeout(mut self, timeout: Duration) -> Self {
        self.hard_timeout = timeout;
        self
    }

    /// After a refresh has failed, how long the key's stale value is served without asking its origin
    /// again; up to a fifth less, at random. Then one caller's fill tries again in the background, while
    /// all are served at once: nobody waits for an origin that has just failed. So one that is back is
    /// noticed within this time. Where nobody asks for twice as long, the failure is forgotten.
    ///
    /// An invalidation ends the pause. Each node pauses by itself, and only where its first tier holds
    /// the value. Zero: every caller asks, and waits. Default: 1 s.
    #[must_use]
    pub fn retry_pause(mut self, pause: Duration) -> Self {
        self.retry_pause = pause;
        self
    }

    fn key(&self, key: &K) -> KeyBuf {
        let mut buf = self.space.key_buf();
        key.write_key(&mut buf);
        buf
    }

    /// The value at `key`, from either tier, if it is fresh, or stale but allowed to be served: within
    /// its `stale_while_revalidate`, or its `stale_if_error` if a refresh has just failed.
    pub async fn get(&self, key: &K) -> Option<Arc<V>> {
        let buf = self.key(key);
        let key = self.space.key(&buf);
        let is_served = |hit: &Hit<V>| self.is_served(hit);
        let hit = match self.space.peek(key, self.space.store().now()).filter(is_served) {
            Some(hit) => Some(hit),
            // Also when the first tier holds one that has outlived its use: another node may have
            // fetched a new one.
            None => self.fetch(key).await,
        };
        hit.filter(is_served).map(Hit::into_value)
    }

    /// Whether [`get`](Self::get) would return a value.
    pub async fn contains(&self, key: &K) -> bool {
        self.get(key).await.is_some()
    }

    /// Stores `value`, whatever was there, and tells the other nodes.
    ///
    /// # Errors
    ///
    /// [`Error::Tag`] if one of the tags can't be one, [`Error::KeyTooLong`] if the key can't be
    /// stored under; then nothing is stored.
    pub async fn set(&self, key: &K, value: V, ttl: Ttl) -> Result<Reach, Error> {
        let tags = ttl.checked_tags()?;
        let buf = self.key(key);
        if !self.space.key(&buf).fits() {
            return Err(Error::KeyTooLong(buf.as_bytes().len()));
        }
        let lifetime = self.space.store().inner().lifetime(&ttl);
        Ok(self.space.set(self.space.key(&buf), Arc::new(value), lifetime, &tags).await)
    }

    /// Removes the value at `key`, on all nodes. A fill that is under way will not bring it back.
    pub async fn remove(&self, key: &K) -> Reach {
        let buf = self.key(key);
        self.space.remove(self.space.key(&buf), Strength::Hard).await
    }

    /// Makes the value at `key` stale, on all nodes.
    pub async fn expire(&self, key: &K) -> Reach {
        let buf = self.key(key);
        self.space.remove(self.space.key(&buf), Strength::Soft).await
    }

    /// Removes all values of this kind, on all nodes, at the cost of one.
    pub async fn clear(&self) -> Reach {
        self.space.clear(Strength::Hard).await
    }

    /// The value at `key`; if there is none, the one that `fill` returns, which is stored.
    ///
    /// - A fresh value is returned at once; near its end, one that is often asked for is
    ///   [refreshed](crate::StoreBuilder::early_refresh) behind the caller's back.
    /// - A stale one within its `stale_while_revalidate` is returned at once, and refreshed behind
    ///   the caller's back.
    /// - One that is served though a refresh of it has failed is refreshed again after a
    ///   [pause](Self::retry_pause), and nobody waits for that either.
    /// - Otherwise one caller's `fill` runs, for all who ask meanwhile. If it fails or takes too
    ///   long, a value within its `stale_if_error` is returned.
    ///
    /// `fill` returns a value, or a [`Fill`] that says more. It runs in a task, therefore
    /// `'static`: let it own a clone of what it needs. One that asks for its own key waits for itself,
    /// until the [hard timeout](Self::hard_timeout). Under a key longer than
    /// [`MAX_KEY_LEN`](crate::MAX_KEY_LEN), the value is returned but not stored.
    ///
    /// # Errors
    ///
    /// [`FillError`], the same for all who waited, when there is no value to return.
    pub async fn get_or_try_set<F, Fut, R, E>(
        &self,
        key: &K,
        ttl: Ttl,
        fill: F,
    ) -> Result<Arc<V>, FillError>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Fill<V>> + 'static,
        E: Into<BoxError> + 'static,
    {
        self.get_or_fill(&self.key(key), ttl, move |_| fill(), || ()).await
    }

    /// As [`get_or_try_set`](Self::get_or_try_set), for fills that make use of the earlier value:
    /// `fill` gets the one that is to be replaced, if there is one, and may answer
    /// [`Fill::not_modified`].
    ///
    /// # Errors
    ///
    /// As [`get_or_try_set`](Self::get_or_try_set).
    pub async fn get_or_try_refresh<F, Fut, R, E>(
        &self,
        key: &K,
        ttl: Ttl,
        fill: F,
    ) -> Result<Arc<V>, FillError>
    where
        F: FnOnce(Option<Arc<V>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Fill<V>> + 'static,
        E: Into<BoxError> + 'static,
    {
        let fill = move |earlier: Earlier<'_, V>| fill(earlier.take());
        self.get_or_fill(&self.key(key), ttl, fill, || ()).await
    }

    /// The same. `follows` is told when the fill isn't needed for now, since another one runs.
    async fn get_or_fill<F, Fut, R, E>(
        &self,
        buf: &KeyBuf,
        ttl: Ttl,
        fill: F,
        follows: impl Fn() + Send,
    ) -> Result<Arc<V>, FillError>
    where
        F: FnOnce(Earlier<'_, V>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Fill<V>> + 'static,
        E: Into<BoxError> + 'static,
    {
        let key = self.space.key(buf);
        let now = self.space.store().now();
        let stale = match self.space.peek(key, now) {
            Some(hit) if hit.state() == State::Fresh => {
                if self.space.is_due_early_by(hit.found(), ttl.early(), now, self.retry_pause) {
                    self.refresh(key, &hit, ttl, fill);
                }
                return Ok(hit.into_value());
            }
            stale => stale,
        };
        let (ttl, fill) = match &stale {
            Some(hit) => match self.served_in_need(key, hit, ttl, fill) {
                Ok(()) => return Ok(hit.clone().into_value()),
                Err(given_back) => given_back,
            },
            None => (ttl, fill),
        };
        let inner = self.space.store().inner();
        let asking = self.space.asking();
        let mut filler = Some(self.filler(ttl, fill));
        let served_meanwhile = stale.as_ref().is_some_and(|hit| hit.state() == State::Stale);
        loop {
            let mut follow = match self.flights.join(key, || self.space.begin(&[key])) {
                Join::Lead(lead, follow) => match filler.take() {
                    Some(filler) => {
                        tokio::spawn(filler.run(self.space.clone(), lead, None));
                        follow
                    }
                    // This caller's own fill ran, and its task died with the runtime.
                    None => return Err(FillError::Panicked),
                },
                Join::Follow(follow) => {
                    follows();
                    inner.counters.coalesced.add();
                    follow
                }
            };
            if let (true, Some(hit)) = (served_meanwhile, &stale) {
                inner.counters.stale_served.add();
                return Ok(hit.clone().into_value());
            }
            match self.landed(&mut follow, key, stale.as_ref()).await {
                // The one that led has what its own fill got, whatever came since; others can still
                // run theirs.
                Some(landing) if filler.is_some() && !landing.is_current(&self.space, asking) => {
                    follow.reject();
                }
                Some(landing) => return self.or_stale(landing.outcome, stale),
                None if filler.is_none() => return self.or_stale(Err(FillError::Panicked), stale),
                None => {}
            }
        }
    }

    /// What the flight lands; or, after the soft timeout, a value that may still be served.
    async fn landed(
        &self,
        follow: &mut Follow<Landing<V>>,
        key: KeyRef<'_>,
        stale: Option<&Hit<V>>,
    ) -> Option<Landing<V>> {
        if let Some(soft) = self.soft_timeout {
            match timeout(soft, follow.landed()).await {
                Ok(landing) => return landing,
                Err(_) => {
                    if let Some(hit) = self.fallback(key, stale).await {
                        self.space.store().inner().counters.stale_served.add();
                        return Some(Landing::stored(hit));
                    }
                }
            }
        }
        follow.landed().await
    }

    /// A value that may be served while the fill takes its time: the one this caller found, or the
    /// one that only the second tier has.
    async fn fallback(&self, key: KeyRef<'_>, stale: Option<&Hit<V>>) -> Option<Hit<V>> {
        let is_there = |hit: &Hit<V>| hit.state_at(self.space.store().now()) != State::Gone;
        match stale.filter(|hit| is_there(hit)) {
            Some(hit) => Some(hit.clone()),
            None => self.fetch(key).await.filter(is_there),
        }
    }

    /// What the second tier has. Asked again if it was removed or replaced meanwhile.
    async fn fetch(&self, key: KeyRef<'_>) -> Option<Hit<V>> {
        for _ in 0..2 {
            let ticket = self.space.begin(&[key]);
            let (hit, _) = self.space.fetch(&ticket, key).await;
            if hit.is_some() || !ticket.is_overtaken() {
                return hit;
            }
        }
        None
    }

    /// The outcome; or the stale value, if the fill failed and it may still be served.
    fn or_stale(
        &self,
        outcome: Result<Arc<V>, FillError>,
        stale: Option<Hit<V>>,
    ) -> Result<Arc<V>, FillError> {
        outcome.or_else(|error| match stale {
            Some(hit) if hit.state_at(self.space.store().now()) != State::Gone => {
                self.space.store().inner().counters.stale_served.add();
                Ok(hit.into_value())
            }
            _ => Err(error),
        })
    }
}

impl<K: ?Sized, V> Clone for Typed<K, V> {
    fn clone(&self) -> Self {
        Self { space: self.space.clone(), flights: self.flights.clone(), key: PhantomData, ..*self }
    }
}

impl<K: ?Sized, V> fmt::Debug for Typed<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed")
            .field("space", &self.space)
            .field("flights", &self.flights)
            .finish_non_exhaustive()
    }
}

/// The tags a fill ends with; those of its [`Ttl`], checked, or why they can't be used.
fn tags_of(ttl: &Ttl) -> Result<Vec<Tag>, FillError> {
    ttl.checked_tags().map_err(|error| FillError::Failed(Arc::new(error)))
}
