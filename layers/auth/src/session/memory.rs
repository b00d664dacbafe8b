//! Sessions in this process.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::store::{RefreshFuture, RefreshRecord, RefreshStore, RefreshStoreError};
use crate::time::{Clock, NumericDate};

/// Sessions in this process: for one node, and lost when it ends.
///
/// It keeps so many, of 16 KiB at most each. When it is full, sessions that have expired make room;
/// if none has, no more are begun. To drop one that is in use would let anybody who can log in log out
/// others.
pub struct InMemorySessions {
    table: Mutex<Table>,
    capacity: usize,
    clock: Clock,
}

#[derive(Default)]
struct Table {
    by_name: HashMap<Box<str>, RefreshRecord>,
    by_end: BTreeSet<(NumericDate, Box<str>)>,
}

impl InMemorySessions {
    /// Keeps at most `sessions`. [`default`](Self::default) keeps 100,000.
    pub fn new(sessions: usize) -> Self {
        let (table, clock) = (Mutex::default(), Clock::system());
        Self { table, capacity: sessions.max(1), clock }
    }

    /// The clock by which sessions expire.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    fn table<T>(&self, with: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.drop_expired(self.clock.now());
        with(&mut table)
    }

    /// How many sessions are kept, those included that were ended and have not expired.
    pub fn len(&self) -> usize {
        self.table(|table| table.by_name.len())
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn swap_now(
        &self,
        session: &str,
        expected: Option<&RefreshRecord>,
        record: RefreshRecord,
    ) -> Result<bool, RefreshStoreError> {
        self.table(|table| {
            let there = table.by_name.get(session);
            if there.map(|it| &it.bytes) != expected.map(|it| &it.bytes) {
                return Ok(false);
            }
            if there.is_none() && table.by_name.len() >= self.capacity {
                return Err(RefreshStoreError::Full);
            }
            table.put(session, record);
            Ok(true)
        })
    }
}

impl Table {
    fn put(&mut self, session: &str, record: RefreshRecord) {
        let until = record.keep_until;
        if let Some(before) = self.by_name.insert(session.into(), record) {
            self.by_end.remove(&(before.keep_until, session.into()));
        }
        self.by_end.insert((until, session.into()));
    }

    fn drop_expired(&mut self, now: NumericDate) {
        while self.by_end.first().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, session)) = self.by_end.pop_first() {
                self.by_name.remove(&session);
            }
        }
    }
}

impl RefreshStore for InMemorySessions {
    fn load<'a>(&'a self, session: &'a str) -> RefreshFuture<'a, Option<RefreshRecord>> {
        let found = self.table(|table| table.by_name.get(session).cloned());
        Box::pin(std::future::ready(Ok(found)))
    }

    fn swap<'a>(
        &'a self,
        session: &'a str,
        expected: Option<&'a RefreshRecord>,
        record: RefreshRecord,
    ) -> RefreshFuture<'a, bool> {
        Box::pin(std::future::ready(self.swap_now(session, expected, record)))
    }
}

impl Default for InMemorySessions {
    fn default() -> Self {
        Self::new(100_000)
    }
}

impl fmt::Debug for InMemorySessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemorySessions").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
