//! Many keys at once.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::batch::{Batch, FillMany};
use super::landing::Earlier;
use super::{Fill, Typed};
use crate::error::{BoxError, FillError};
use crate::hit::Hit;
use crate::key::{Key, KeyBuf, Prehashed, ToKey};
use crate::ttl::{State, Ttl};

/// How many keys a fill gets at once: few enough for the second tier to answer within its deadline.
const FILLED_AT_ONCE: usize = 256;

impl<K: ToKey + ?Sized, V: Send + Sync + 'static> Typed<K, V> {
    /// The values at `keys`, in their order, as [`get`](Self::get) would return them. What the first
    /// tier lacks is asked of the second together: 128 keys take about as long as one.
    pub async fn get_many<'a>(&self, keys: impl IntoIterator<Item = &'a K>) -> Vec<Option<Arc<V>>>
    where
        K: 'a,
    {
        let keys: Vec<_> = keys.into_iter().map(|key| self.key(key)).collect();
        self.find(&keys, |hit| self.is_served(hit)).await
    }

    /// The values at `keys`, in their order; for those that are in neither tier, `fill` is called with
    /// the keys that are missing, and what it returns is stored.
    ///
    /// It promises for each key what [`get_or_try_set`](Self::get_or_try_set) does: one fill for all who
    /// ask meanwhile, be it for one key or for many, and nothing is stored for a key that was removed
    /// since. `fill` gets all the keys of this call at once for which nobody else's fill runs, up to 256
    /// of them. It is called again for more, and for those that others' fills, or the second tier, are
    /// slow about (50 ms). It returns pairs of a key and a value, or a [`Fill`] that says more, in any
    /// order; keys that it wasn't asked for are left out. Values that are fresh are not refreshed
    /// [early](Ttl::early_refresh).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_keep_store::{L1, Store, Ttl};
    ///
    /// let keep = Store::builder().l1(L1::bytes(64 * 1024 * 1024)).build()?;
    /// let users = keep.typed::<u64, String>("user");
    ///
    /// let query = |ids: Vec<u64>| async move {
    ///     // One query for all of them.
    ///     Ok::<_, std::io::Error>(ids.into_iter().map(|id| (id, format!("user {id}"))))
    /// };
    /// let found = users.get_or_try_set_many([1, 2, 3], Ttl::secs(60), query).await;
    /// assert_eq!(**found[2].as_ref().unwrap(), "user 3");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// For each key its own: [`FillError::Missing`] if `fill` returned nothing for it, the same for all
    /// if it failed. As with one key, a stale value may be returned instead.
    pub async fn get_or_try_set_many<Q, F, Fut, I, R, E>(
        &self,
        keys: impl IntoIterator<Item = Q>,
        ttl: Ttl,
        fill: F,
    ) -> Vec<Result<Arc<V>, FillError>>
    where
        K: 'static,
        Q: Borrow<K> + Send + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (Q, R)>,
        R: Into<Fill<V>>,
        E: Into<BoxError>,
    {
        // Each key once, and where its outcome belongs.
        let (mut distinct, mut bufs, mut places) = (Vec::new(), Vec::new(), Vec::new());
        let mut numbers = HashMap::with_hasher(Prehashed::default());
        for key in keys {
            let buf = self.key(key.borrow());
            let number = *numbers.entry(self.space.key(&buf).to_key()).or_insert(bufs.len());
            if number == bufs.len() {
                distinct.push(key);
                bufs.push(buf);
            }
            places.push(number);
        }
        let found = self.find(&bufs, |hit| hit.state() == State::Fresh).await;
        let mut outcomes: Vec<_> =
            found.into_iter().map(|value| value.ok_or(FillError::Missing)).collect();
        let fill = Arc::new(fill);
        let mut lacking: Vec<_> = distinct
            .into_iter()
            .zip(&bufs)
            .zip(&mut outcomes)
            .filter(|(_, outcome)| outcome.is_err())
            .collect();
        while !lacking.is_empty() {
            let rest = lacking.split_off(lacking.len().min(FILLED_AT_ONCE));
            let batch = Batch::new(lacking.len(), self.fill_many(&fill), self.hard_timeout);
            let filled = lacking.into_iter().map(|((key, buf), outcome)| {
                let (seat, ttl) = (batch.seat(), ttl.clone());
                let follows = {
                    let seat = Arc::downgrade(&seat);
                    move || {
                        if let Some(seat) = seat.upgrade() {
                            seat.leave();
                        }
                    }
                };
                async move {
                    let fill = move |_: Earlier<'_, V>| seat.answer(key);
                    *outcome = self.get_or_fill(buf, ttl, fill, follows).await;
                }
            });
            join_all(filled).await;
            lacking = rest;
        }
        places.into_iter().filter_map(|number| outcomes.get(number).cloned()).collect()
    }

    /// `fill`, whose answers are put in the order of the keys.
    fn fill_many<Q, F, Fut, I, R, E>(&self, fill: &Arc<F>) -> Box<FillMany<Q, V>>
    where
        K: 'static,
        Q: Borrow<K> + Send + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (Q, R)>,
        R: Into<Fill<V>>,
        E: Into<BoxError>,
    {
        let (fill, typed) = (Arc::clone(fill), self.clone());
        let place = move |key: &Q| typed.space.key(&typed.key(key.borrow())).to_key();
        let place = Arc::new(place);
        Box::new(move |keys: Vec<Q>| {
            let asked: HashMap<Key, usize, Prehashed> =
                keys.iter().enumerate().map(|(number, key)| (place(key), number)).collect();
            let (filled, place) = (fill(keys), Arc::clone(&place));
            let answers = async move {
                let filled = filled.await.map_err(|error| FillError::of(error.into()))?;
                let mut answers: Vec<Option<Fill<V>>> = asked.iter().map(|_| None).collect();
                for (key, value) in filled {
                    let number = asked.get(&place(&key));
                    if let Some(answer) = number.and_then(|number| answers.get_mut(*number)) {
                        *answer = Some(value.into());
                    }
                }
                Ok(answers)
            };
            answers.boxed()
        })
    }

    /// What either tier has at `keys` and is good enough.
    pub(super) async fn find(
        &self,
        keys: &[KeyBuf],
        is_good: impl Fn(&Hit<V>) -> bool,
    ) -> Vec<Option<Arc<V>>> {
        let now = self.space.store().now();
        let good = |hit: Option<Hit<V>>| hit.filter(&is_good).map(Hit::into_value);
        let peeked = keys.iter().map(|buf| good(self.space.peek(self.space.key(buf), now)));
        let mut found: Vec<_> = peeked.collect();
        let lacking = keys.iter().zip(&mut found).filter(|(_, found)| found.is_none());
        let (mut places, wanted): (Vec<_>, Vec<_>) = lacking
            .map(|(buf, found)| {
                let key = self.space.key(buf);
                (found, (self.space.begin(&[key]), key))
            })
            .unzip();
        let fetched = self.space.fetch_many(&wanted).await;
        for ((place, (ticket, key)), (hit, _)) in places.iter_mut().zip(wanted).zip(fetched) {
            **place = match hit {
                // Removed or replaced meanwhile.
                None if ticket.is_overtaken() => good(self.fetch(key).await),
                hit => good(hit),
            };
        }
        found
    }
}
