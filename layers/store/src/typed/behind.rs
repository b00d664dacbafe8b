//! What is fetched behind its callers' backs: early, or again after a failure.

use std::future::Future;

use super::Typed;
use super::fill::Fill;
use super::landing::{Earlier, Filler};
use crate::error::BoxError;
use crate::flight::Join;
use crate::hit::Hit;
use crate::key::{KeyRef, ToKey};
use crate::throttle::Retry;
use crate::ttl::{State, Ttl};

impl<K: ToKey + ?Sized, V: Send + Sync + 'static> Typed<K, V> {
    /// Whether what was found is the answer to one who has no fill.
    pub(super) fn is_served(&self, hit: &Hit<V>) -> bool {
        match hit.state() {
            State::Fresh | State::Stale => true,
            State::Fallback => hit.is_relied_on(self.space.store().now()),
            State::Gone => false,
        }
    }

    /// Whether what was found, though it isn't fresh, is served at once to one who has a fill, because
    /// its refresh has failed lately; in which case the fill runs behind the caller's back, if it is
    /// time. Else it is given back.
    #[cold]
    pub(super) fn served_in_need<F, Fut, R, E>(
        &self,
        key: KeyRef<'_>,
        hit: &Hit<V>,
        ttl: Ttl,
        fill: F,
    ) -> Result<(), (Ttl, F)>
    where
        F: FnOnce(Earlier<'_, V>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Fill<V>> + 'static,
        E: Into<BoxError> + 'static,
    {
        let inner = self.space.store().inner();
        let now = inner.clock.now();
        match hit.retry(now, self.retry_pause, self.hard_timeout) {
            Retry::None => return Err((ttl, fill)),
            Retry::Paused => inner.counters.retries_paused.add(),
            Retry::Behind => self.refresh(key, hit, ttl, fill),
        }
        inner.counters.stale_served.add();
        Ok(())
    }

    /// Runs `fill`, unless another runs already.
    #[cold]
    pub(super) fn refresh<F, Fut, R, E>(&self, key: KeyRef<'_>, hit: &Hit<V>, ttl: Ttl, fill: F)
    where
        F: FnOnce(Earlier<'_, V>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Fill<V>> + 'static,
        E: Into<BoxError> + 'static,
    {
        if let Join::Lead(lead, _) = self.flights.join(key, || self.space.begin(&[key])) {
            let filler = self.filler(ttl, fill);
            let due = (hit.state() == State::Fresh).then_some(hit.lifetime().fresh_until);
            tokio::spawn(filler.run(self.space.clone(), lead, due));
        }
    }

    pub(super) fn filler<F>(&self, ttl: Ttl, fill: F) -> Filler<F> {
        Filler { ttl, fill, timeout: self.hard_timeout, retry_pause: self.retry_pause }
    }
}
