//! The connections for operations, and which of them an operation takes.
//!
//! On one connection, all that is asked meanwhile waits for a large value to arrive. And fred reads and
//! writes each connection in a task of its own, which one processor does at a time. Nothing relies on
//! the order of two operations that are under way together: what depends on another is asked after
//! its answer, and what comes late is refused by the server (see `clocks`).

use std::iter;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::ClientLike;
use futures_util::future::try_join_all;

/// One or more clients with the same settings.
pub(super) struct Pool {
    first: Member,
    others: Vec<Member>,
    /// Where to begin to look for the next one to take.
    next: AtomicUsize,
    /// The one that was the last to learn something about a Cluster.
    informed: AtomicUsize,
}

struct Member {
    client: Client,
    in_flight: AtomicUsize,
}

impl Member {
    fn new(client: Client) -> Self {
        Self { client, in_flight: 0.into() }
    }

    fn load(&self) -> usize {
        self.in_flight.load(Relaxed)
    }
}

impl Pool {
    pub(super) fn new(first: Client, others: Vec<Client>) -> Self {
        let (first, others) = (Member::new(first), others.into_iter().map(Member::new).collect());
        Self { first, others, next: 0.into(), informed: 0.into() }
    }

    /// The one with the fewest operations in flight; of several, each in turn.
    pub(super) fn take(&self) -> Taken<'_> {
        let (begin, many) = (self.next.fetch_add(1, Relaxed), self.len());
        let mut found = self.member(begin % many);
        for step in 1..many {
            let member = self.member(begin.wrapping_add(step) % many);
            if member.load() < found.load() {
                found = member;
            }
        }
        found.in_flight.fetch_add(1, Relaxed);
        Taken(found)
    }

    fn member(&self, number: usize) -> &Member {
        number.checked_sub(1).and_then(|other| self.others.get(other)).unwrap_or(&self.first)
    }

    pub(super) fn len(&self) -> usize {
        self.others.len() + 1
    }

    /// The client with that number, of as many as there are.
    pub(super) fn client(&self, number: usize) -> &Client {
        &self.member(number).client
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = &Client> {
        iter::once(&self.first).chain(&self.others).map(|member| &member.client)
    }

    /// The client that knows best how things are with a Cluster: each reads its state by itself.
    pub(super) fn informed(&self) -> &Client {
        self.client(self.informed.load(Relaxed))
    }

    /// Client `number` has read the state of the Cluster anew.
    pub(super) fn inform(&self, number: usize) {
        self.informed.store(number, Relaxed);
    }

    /// Whether all of them are connected.
    pub(super) fn is_connected(&self) -> bool {
        self.clients().all(ClientLike::is_connected)
    }

    /// Waits until all of them are.
    pub(super) async fn wait_for_connect(&self) -> Result<(), Error> {
        try_join_all(self.clients().map(ClientLike::wait_for_connect)).await.map(drop)
    }
}

/// A client for one operation.
pub(super) struct Taken<'a>(&'a Member);

impl Deref for Taken<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0.client
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use fred::prelude::Builder;

    use super::*;

    #[test]
    fn the_one_with_the_fewest_operations_is_taken() {
        let client = || Builder::default_centralized().build().unwrap();
        let pool = Pool::new(client(), vec![client(), client()]);
        let loads = || [0, 1, 2].map(|number| pool.member(number).load());
        let mut taken: Vec<_> = (0..6).map(|_| pool.take()).collect();
        assert_eq!(loads(), [2, 2, 2]);
        let free = pool.others[0].client.id().to_owned();
        taken.retain(|it| it.id() != free);
        assert_eq!(loads(), [2, 0, 2]);
        let again = [pool.take(), pool.take()];
        assert!(again.iter().all(|it| it.id() == free));
        drop((taken, again));
        assert_eq!(loads(), [0, 0, 0]);
    }
}
