//! Single flight: of all who want the same missing entry, one gets it and the rest wait.
//!
//! The one that leads runs in a task of its own, so that no caller's cancellation reaches it; if
//! the task dies all the same, its [`Lead`] is dropped and every follower is told. A flight is left
//! alone by those who come after the entry was removed: they start a new one.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;

use crate::fence::{Fence, Ticket};
use crate::key::{Key, KeyRef, Prehashed};

/// The flights in progress, each of which ends in a `T`.
pub struct Flights<T>(Arc<Board<T>>);

struct Board<T> {
    flights: Mutex<HashMap<Key, Flight<T>, Prehashed>>,
    next_id: AtomicU64,
}

struct Flight<T> {
    id: u64,
    fence: Fence,
    outcome: watch::Sender<Option<T>>,
}

impl<T> Board<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Flight<T>, Prehashed>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the flight off the board, unless another has taken its place.
    fn retire(&self, key: &Key, id: u64) {
        let mut flights = self.lock();
        if flights.get(key).is_some_and(|flight| flight.id == id) {
            flights.remove(key);
        }
    }
}

impl<T> Flights<T> {
    /// No flights yet.
    pub fn new() -> Self {
        let flights = Mutex::new(HashMap::with_hasher(Prehashed::default()));
        Self(Arc::new(Board { flights, next_id: AtomicU64::new(0) }))
    }

    /// Joins the flight for `key`, or starts one, with the ticket that `begin` makes.
    pub fn join(&self, key: KeyRef<'_>, begin: impl FnOnce() -> Ticket) -> Join<T> {
        let key = key.to_key();
        let mut flights = self.0.lock();
        if let Some(flight) = flights.get(&key) {
            // A flight that was overtaken by a removal carries what the removal was about.
            if !flight.fence.load(Ordering::Acquire) {
                return Join::Follow(self.follow(flight, key));
            }
        }
        let ticket = begin();
        // The board keeps a sender, not a receiver: so the receivers are those who follow.
        let sender = watch::Sender::new(None);
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let flight = Flight { id, fence: ticket.fence(), outcome: sender.clone() };
        let follow = self.follow(&flight, key.clone());
        flights.insert(key.clone(), flight);
        Join::Lead(Lead { board: Arc::clone(&self.0), key, id, sender, ticket }, follow)
    }

    fn follow(&self, flight: &Flight<T>, key: Key) -> Follow<T> {
        Follow {
            board: Arc::clone(&self.0),
            key,
            id: flight.id,
            outcome: flight.outcome.subscribe(),
        }
    }

    /// Whether these are the flights of the same space of the same store.
    pub fn are(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.0, &others.0)
    }

    /// How many are in progress.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether none is in progress.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Send + Sync + 'static> Flights<T> {
    /// A reference that keeps nothing alive, its type erased.
    pub(crate) fn downgrade(&self) -> Weak<dyn Any + Send + Sync> {
        let board: Weak<Board<T>> = Arc::downgrade(&self.0);
        board
    }

    /// What [`downgrade`](Self::downgrade) was made of, if it still is.
    pub(crate) fn upgrade(weak: &Weak<dyn Any + Send + Sync>) -> Option<Self> {
        weak.upgrade()?.downcast().ok().map(Self)
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Flights<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("len", &self.len()).finish()
    }
}

/// Which part a caller has in a flight.
#[derive(Debug)]
pub enum Join<T> {
    /// It is the first: it must see to it that the [`Lead`] lands, and may itself follow.
    Lead(Lead<T>, Follow<T>),
    /// Somebody else leads.
    Follow(Follow<T>),
}

/// The duty to land a flight. Dropping it ends the flight.
pub struct Lead<T> {
    board: Arc<Board<T>>,
    key: Key,
    id: u64,
    sender: watch::Sender<Option<T>>,
    ticket: Ticket,
}

impl<T> Lead<T> {
    /// Gives `outcome` to all who follow now, and to all who join before this is dropped.
    pub fn land(&self, outcome: T) {
        self.sender.send_replace(Some(outcome));
    }

    /// Lets nobody else join; who asks from now on starts a new flight.
    pub fn close(&self) {
        self.board.retire(&self.key, self.id);
    }

    /// How many wait for the outcome, or are about to look at it.
    pub fn followers(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Waits until nobody follows. Somebody may still join, unless the flight is
    /// [closed](Self::close).
    pub async fn unfollowed(&self) {
        self.sender.closed().await;
    }

    /// The key that this is about.
    pub fn key(&self) -> KeyRef<'_> {
        self.key.as_ref()
    }

    /// The ticket that was begun with the flight, or [since](Self::begin_again).
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Begins the fill again, with the ticket that `begin` makes: its origin hasn't been asked, so what
    /// has been removed or invalidated meanwhile was so before it. Says whether the earlier ticket was
    /// overtaken; then what has landed is taken back, too.
    ///
    /// Who asks from now on may join, unless another flight has taken off meanwhile.
    pub fn begin_again(&mut self, begin: impl FnOnce() -> Ticket) -> bool {
        // First the new one, so that no removal falls in between.
        let ticket = begin();
        // Nobody joins while the lock is held.
        let mut flights = self.board.lock();
        let was_overtaken = self.ticket.is_overtaken();
        if was_overtaken {
            self.sender.send_replace(None);
        }
        if let Some(flight) = flights.get_mut(&self.key).filter(|flight| flight.id == self.id) {
            flight.fence = ticket.fence();
        }
        drop(flights);
        self.ticket = ticket;
        was_overtaken
    }
}

impl<T> Drop for Lead<T> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T> fmt::Debug for Lead<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead").field("key", &self.key).field("id", &self.id).finish_non_exhaustive()
    }
}

/// A place in a flight. Dropping it leaves no trace.
pub struct Follow<T> {
    board: Arc<Board<T>>,
    key: Key,
    id: u64,
    outcome: watch::Receiver<Option<T>>,
}

impl<T: Clone> Follow<T> {
    /// Waits for the flight to land; `None` if it ended without landing.
    pub async fn landed(&mut self) -> Option<T> {
        self.outcome.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl<T> Follow<T> {
    /// Keeps others from joining this flight: its outcome has turned out to be too old.
    pub fn reject(self) {
        self.board.retire(&self.key, self.id);
    }
}

impl<T> fmt::Debug for Follow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("key", &self.key)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::epoch::Moment;
    use crate::fence::Fences;
    use crate::time::Timestamp;

    fn fixture() -> (Flights<u8>, Arc<Fences>) {
        (Flights::new(), Arc::default())
    }

    fn join(flights: &Flights<u8>, fences: &Arc<Fences>) -> Join<u8> {
        let key = KeyRef::new(b"k");
        flights.join(key, || fences.begin(&[key], Moment::default(), Timestamp::default()))
    }

    #[tokio::test]
    async fn all_get_what_the_leader_lands_late_joiners_too() {
        let (flights, fences) = fixture();
        let Join::Lead(lead, mut first) = join(&flights, &fences) else {
            panic!("the first leads")
        };
        let Join::Follow(mut second) = join(&flights, &fences) else {
            panic!("the second follows")
        };
        lead.land(7);
        let Join::Follow(mut third) = join(&flights, &fences) else { panic!("so does the third") };
        drop(lead);
        assert_eq!(
            [first.landed().await, second.landed().await, third.landed().await],
            [Some(7); 3]
        );
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn a_leader_knows_whether_anybody_follows() {
        let (flights, fences) = fixture();
        let Join::Lead(lead, first) = join(&flights, &fences) else { panic!() };
        let Join::Follow(second) = join(&flights, &fences) else { panic!() };
        assert_eq!(lead.followers(), 2);
        let mut unfollowed = Box::pin(lead.unfollowed());
        assert!(unfollowed.as_mut().now_or_never().is_none());
        drop((first, second));
        unfollowed.await;
        assert_eq!(lead.followers(), 0);
        let Join::Follow(mut late) = join(&flights, &fences) else { panic!("it is still open") };
        lead.land(3);
        assert_eq!(late.landed().await, Some(3));
    }

    #[tokio::test]
    async fn a_leader_that_dies_releases_its_followers() {
        let (flights, fences) = fixture();
        let Join::Lead(lead, _) = join(&flights, &fences) else { panic!() };
        let Join::Follow(mut follow) = join(&flights, &fences) else { panic!() };
        drop(lead);
        assert_eq!(follow.landed().await, None);
        assert!(matches!(join(&flights, &fences), Join::Lead(..)));
    }

    #[tokio::test]
    async fn a_fill_that_begins_again_is_joined_by_those_who_come_after_the_removal() {
        let (flights, fences) = fixture();
        let Join::Lead(mut lead, _) = join(&flights, &fences) else { panic!() };
        let key = KeyRef::new(b"k");
        let begin = || fences.begin(&[key], Moment::default(), Timestamp::default());
        lead.land(1);
        assert!(!lead.begin_again(begin));
        let Join::Follow(mut early) = join(&flights, &fences) else { panic!("it is open") };
        assert_eq!(early.landed().await, Some(1));
        fences.overtake(key, || ());
        assert!(lead.begin_again(begin), "there was a removal");
        let Join::Follow(mut late) = join(&flights, &fences) else { panic!("it is open again") };
        assert!(late.landed().now_or_never().is_none(), "what landed was removed");
        fences.overtake(key, || ());
        let Join::Lead(new, _) = join(&flights, &fences) else { panic!("overtaken once more") };
        assert!(lead.begin_again(begin));
        fences.overtake(key, || ());
        assert!(new.ticket().is_overtaken() && lead.ticket().is_overtaken());
        let Join::Lead(..) = join(&flights, &fences) else { panic!("the new one's fence counts") };
    }

    #[tokio::test]
    async fn nobody_joins_a_flight_that_a_removal_overtook() {
        let (flights, fences) = fixture();
        let Join::Lead(old, _) = join(&flights, &fences) else { panic!() };
        fences.overtake(KeyRef::new(b"k"), || ());
        let Join::Lead(new, _) = join(&flights, &fences) else { panic!("a new flight starts") };
        drop(old);
        assert_eq!(flights.len(), 1, "the old one does not take the new one off the board");
        drop(new);
        assert!(flights.is_empty());
    }
}
