//! The pool: the handle by which backends are picked, added, changed and removed.

mod builder;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

pub use self::builder::{PoolBuilder, WhenNoneHealthy};
use crate::backend::Backend;
use crate::error::PickError;
use crate::member::{BackendId, Common, Flag, Member};
use crate::pick::{Pick, Wish};
use crate::strategy::Strategy;
use crate::table::{Entry, Table};

/// Backends to pick from. Cheap to clone: all clones are the same pool.
///
/// A pick takes no lock, whatever is changed meanwhile.
pub struct Pool<T>(Arc<Shared<T>>);

struct Shared<T> {
    table: ArcSwap<Table<T>>,
    common: Arc<Common>,
    /// How far round robin has come.
    counter: AtomicUsize,
    strategy: Strategy,
    uses_unhealthy: bool,
    /// What the table is made of. Locked by those who change it.
    entries: Mutex<Vec<Entry<T>>>,
}

/// How a backend stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Its name.
    pub name: Arc<str>,
    /// Names it among all that ever were.
    pub id: BackendId,
    /// Its weight.
    pub weight: u16,
    /// Its priority.
    pub priority: u8,
    /// How many requests it is at work on.
    pub in_flight: u32,
    /// Whether it gets new ones.
    pub is_up: bool,
}

impl<T> Pool<T> {
    /// Settings for a new pool.
    pub fn builder() -> PoolBuilder<T> {
        PoolBuilder::default()
    }

    /// Picks a backend. Until the [`Pick`] is dropped, the request counts as in flight there.
    ///
    /// # Errors
    ///
    /// [`PickError`] if none can take it.
    pub fn pick(&self) -> Result<Pick<T>, PickError> {
        self.pick_by(Wish::new())
    }

    /// As [`pick`](Self::pick), for one who has a wish.
    ///
    /// # Errors
    ///
    /// [`PickError`] if none can take it.
    pub fn pick_by(&self, wish: Wish<'_>) -> Result<Pick<T>, PickError> {
        let shared = &*self.0;
        shared.table.load().pick(wish, &shared.common, &shared.counter)
    }

    /// Adds `backend`. One of the same name is [removed](Self::remove): what it counted stays with it.
    pub fn insert(&self, backend: Backend<T>) -> BackendId {
        self.0.change(|entries| {
            let entry = self.0.entry(backend);
            let id = entry.member.id;
            match entries.iter_mut().find(|it| it.member.name == entry.member.name) {
                Some(it) => remove(&std::mem::replace(it, entry).member),
                None => entries.push(entry),
            }
            id
        })
    }

    /// Removes the backend `name`: it gets nothing new, and finishes what it has. Says which it was.
    pub fn remove(&self, name: &str) -> Option<Removed<T>> {
        self.0.change(|entries| {
            let at = entries.iter().position(|entry| &*entry.member.name == name)?;
            let member = entries.remove(at).member;
            remove(&member);
            Some(Removed(member))
        })
    }

    /// Makes these the backends. Those whose names are known stay as they are, with their counters,
    /// targets and health, and take the settings over; the others are added and removed.
    pub fn update(&self, backends: impl IntoIterator<Item = Backend<T>>) {
        let backends: Vec<_> = backends.into_iter().collect();
        self.0.change(|entries| {
            let mut before = std::mem::take(entries);
            for backend in backends {
                if entries.iter().any(|entry| entry.member.name == backend.name) {
                    continue;
                }
                let known = before.iter().position(|entry| entry.member.name == backend.name);
                entries.push(match known {
                    Some(at) => Entry { settings: backend.settings, ..before.swap_remove(at) },
                    None => self.0.entry(backend),
                });
            }
            for entry in &before {
                remove(&entry.member);
            }
        });
    }

    /// Changes the weight of the backend `name`. Says whether there is one.
    pub fn set_weight(&self, name: &str, weight: u16) -> bool {
        self.0.change(|entries| {
            let entry = entries.iter_mut().find(|entry| &*entry.member.name == name);
            entry.map(|entry| entry.settings.weight = weight).is_some()
        })
    }

    /// How the backends stand.
    pub fn status(&self) -> Vec<Status> {
        let of = |entry: &Entry<T>| Status {
            name: Arc::clone(&entry.member.name),
            id: entry.member.id,
            weight: entry.settings.weight,
            priority: entry.settings.priority,
            in_flight: entry.member.in_flight(),
            is_up: entry.member.is_up(),
        };
        self.0.lock().iter().map(of).collect()
    }

    /// Whether no backend is healthy, and so all are used: see [`WhenNoneHealthy`].
    pub fn panics(&self) -> bool {
        self.0.table.load().panics
    }

    /// Says of the backend `name` whether it is healthy, for one who finds that out by other means.
    /// While it isn't, it gets nothing. Says whether that is news.
    pub fn set_healthy(&self, name: &str, is_healthy: bool) -> bool {
        self.0.change(|entries| {
            let entry = entries.iter().find(|entry| &*entry.member.name == name);
            entry.is_some_and(|entry| entry.member.set(Flag::Unhealthy, !is_healthy))
        })
    }
}

fn remove<T>(member: &Member<T>) {
    member.set(Flag::Removed, true);
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry<T>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, backend: Backend<T>) -> Entry<T> {
        let Backend { name, target, settings } = backend;
        let member = Arc::new(Member::new(name, target, Arc::clone(&self.common)));
        Entry { member, settings }
    }

    /// Changes what the table is made of, and makes it anew.
    fn change<R>(&self, change: impl FnOnce(&mut Vec<Entry<T>>) -> R) -> R {
        let mut entries = self.lock();
        let done = change(&mut entries);
        let before = self.table.load();
        let table = before.next(&entries, self.strategy, self.uses_unhealthy);
        if table.panics && !before.panics {
            tracing::warn!(backends = entries.len(), "no backend is healthy, so all are used");
        }
        self.table.store(Arc::new(table));
        done
    }
}

/// A backend that was removed from its pool.
#[derive(Debug)]
pub struct Removed<T>(Arc<Member<T>>);

impl<T> Removed<T> {
    /// Waits until it is done with what it had.
    pub async fn drained(&self) {
        self.0.drained().await;
    }

    /// How many requests it is still at work on.
    pub fn in_flight(&self) -> u32 {
        self.0.in_flight()
    }

    /// The target.
    pub fn target(&self) -> &T {
        &self.0.target
    }
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("strategy", &self.0.strategy)
            .field("backends", &self.status())
            .finish_non_exhaustive()
    }
}
