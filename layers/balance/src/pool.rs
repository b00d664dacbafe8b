//! The pool: the handle by which backends are picked, added, changed and removed.

mod builder;
mod following;
mod keeper;
mod listing;
mod roster;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub use self::builder::{PoolBuilder, WhenNoneHealthy};
pub(crate) use self::listing::Listed;
use self::roster::Roster;
use crate::backend::Backend;
use crate::error::PickError;
use crate::health::checker::Checks;
use crate::member::{BackendId, Common, Flag, Member};
#[cfg(feature = "proxy")]
use crate::outlier::OutlierDetection;
use crate::pick::{Pick, Wish};
use crate::room::Room;
use crate::status::{Changes, Stats, Status};
use crate::strategy::Strategy;
use crate::table::{Entry, Table};

/// Backends to pick from. Cheap to clone: all clones are the same pool.
///
/// A pick takes no lock, whatever is changed meanwhile.
pub struct Pool<T>(Arc<Shared<T>>);

pub(crate) struct Shared<T> {
    table: ArcSwap<Table<T>>,
    common: Arc<Common>,
    /// How far round robin has come.
    counter: AtomicUsize,
    /// And for those who try again. If they took from the same, what is tried again would push others
    /// off their turns: with every third backend failing, say, one of the good ones would get all.
    second_counter: AtomicUsize,
    strategy: Strategy,
    uses_unhealthy: bool,
    /// What checks newcomers, and where.
    checks: Option<(Checks<T>, Handle)>,
    /// Whether nothing has been said about outlier detection.
    #[cfg_attr(not(feature = "proxy"), allow(dead_code, reason = "proxies ask"))]
    takes_outliers: bool,
    /// If there is something to keep.
    keeper: OnceLock<AbortHandle>,
    /// If it follows a registry.
    follower: Mutex<Option<AbortHandle>>,
    /// What the table is made of. Locked by those who change it.
    roster: Mutex<Roster<T>>,
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
        let is_first = wish.avoid.is_empty();
        let counter = if is_first { &shared.counter } else { &shared.second_counter };
        let mut table = shared.table.load();
        loop {
            let picked = table.pick(wish, &shared.common, counter);
            let newest = if picked.is_ok() { return picked } else { shared.table.load() };
            if Arc::ptr_eq(&table, &newest) {
                return picked;
            }
            table = newest;
        }
    }

    /// Adds `backend`. One of the same name is [removed](Self::remove): what it counted stays with it.
    pub fn insert(&self, backend: Backend<T>) -> BackendId {
        self.0.change(|roster| {
            let entry = self.0.entry(roster, backend);
            let id = entry.member.id;
            let mut entries = roster.entries.iter_mut();
            match entries.find(|it| it.member.name == entry.member.name) {
                Some(it) => {
                    let before = std::mem::replace(it, entry);
                    remove(roster, &before.member);
                }
                None => roster.entries.push(entry),
            }
            id
        })
    }

    /// Removes the backend `name`: it gets nothing new, and finishes what it has. Says which it was.
    pub fn remove(&self, name: &str) -> Option<Removed<T>> {
        self.0.change(|roster| {
            let at = roster.entries.iter().position(|entry| &*entry.member.name == name)?;
            let member = roster.entries.remove(at).member;
            remove(roster, &member);
            Some(Removed(member))
        })
    }

    /// Makes these the backends. Those whose names are known stay as they are, with their counters,
    /// targets and health, and take the settings over; the others are added and removed.
    pub fn update(&self, backends: impl IntoIterator<Item = Backend<T>>) {
        self.list(backends.into_iter().map(Listed::Set).collect());
    }

    /// Changes the weight of the backend `name`. Says whether there is one.
    pub fn set_weight(&self, name: &str, weight: u16) -> bool {
        self.0.change(|roster| {
            let mut entries = roster.entries.iter_mut();
            let entry = entries.find(|entry| &*entry.member.name == name);
            entry.map(|entry| entry.settings.weight = weight).is_some()
        })
    }

    /// How the backends stand; at the end those that were removed and aren't done yet.
    pub fn status(&self) -> Vec<Status> {
        let of = |member: &Member<T>, weight, priority| Status {
            name: Arc::clone(&member.name),
            id: member.id,
            weight,
            priority,
            in_flight: member.in_flight(),
            is_up: member.is_up(),
            state: member.state(),
        };
        let mut roster = self.0.lock();
        roster.forget_those_that_left();
        let entries = roster.entries.iter();
        let entries =
            entries.map(|entry| of(&entry.member, entry.settings.weight, entry.settings.priority));
        let leaving = roster.leaving.iter().filter_map(Weak::upgrade);
        entries.chain(leaving.map(|member| of(&member, 0, 0))).collect()
    }

    /// The changes of state of backends from now on, for logs and who watches; they are also logged.
    pub fn changes(&self) -> Changes {
        Changes(self.0.common.changes.subscribe())
    }

    /// What has happened so far.
    pub fn stats(&self) -> Stats {
        self.0.common.counters.stats()
    }

    /// Whether no backend is healthy, and so all are used: see [`WhenNoneHealthy`].
    pub fn panics(&self) -> bool {
        self.0.table.load().panics
    }

    /// Says of the backend `name` whether it is healthy, for one who finds that out by other means
    /// than [checks](PoolBuilder::health_check), which don't overrule it. While it isn't, it gets
    /// nothing, from now on. One that comes back gets something again within a second at most: where
    /// many change at the same time, what picks go by is made anew for all of them together. Says
    /// whether that is news.
    pub fn set_healthy(&self, name: &str, is_healthy: bool) -> bool {
        let mut roster = self.0.lock();
        let mut entries = roster.entries.iter();
        let Some(entry) = entries.find(|entry| &*entry.member.name == name) else { return false };
        let member = Arc::clone(&entry.member);
        let is_news = self.0.put(&mut roster, &member, Flag::Marked, !is_healthy);
        if is_news {
            self.0.settle(&mut roster);
            member.announce();
        }
        is_news
    }
}

#[cfg(feature = "proxy")]
impl<T: Send + Sync + 'static> Pool<T> {
    /// Turns outlier detection on, with the default settings, unless it has been set otherwise.
    pub(crate) fn detect_outliers(&self) {
        if !self.0.takes_outliers {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            tracing::warn!("a proxy that is made outside a tokio runtime detects no outliers");
            return;
        };
        self.0.common.outlier.get_or_init(OutlierDetection::new);
        self.0.keeper.get_or_init(|| keeper::start(&runtime, &self.0));
        // One that was there before sleeps, and has yet to hear of it.
        self.0.common.wake.notify_one();
    }
}

impl<T> Pool<T> {
    pub(crate) fn room(&self) -> &Room {
        &self.0.common.room
    }
}

fn remove<T>(roster: &mut Roster<T>, member: &Arc<Member<T>>) {
    member.end_check();
    roster.forget_those_that_left();
    roster.leaving.push(Arc::downgrade(member));
    roster.removed.push(Arc::clone(member));
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Roster<T>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a newcomer, whose checks begin.
    fn entry(self: &Arc<Self>, roster: &Roster<T>, backend: Backend<T>) -> Entry<T> {
        let Backend { name, target, settings } = backend;
        let member = Arc::new(Member::new(name, target, Arc::clone(&self.common)));
        if self.checks.as_ref().is_some_and(|(checks, _)| checks.begins_unhealthy()) {
            member.set(Flag::Unhealthy, true);
        } else {
            self.welcome(roster, &member);
        }
        if let Some((checks, runtime)) = &self.checks {
            member.is_checked_by(checks.start(runtime, &member, Arc::downgrade(self)));
        }
        Entry { member, settings }
    }

    /// Changes what the table is made of, and makes it anew.
    fn change<R>(&self, change: impl FnOnce(&mut Roster<T>) -> R) -> R {
        let mut roster = self.lock();
        let done = change(&mut roster);
        self.rebuild(&mut roster);
        // Not before the table is there without them: until then, there may be no other to pick.
        for member in std::mem::take(&mut roster.removed) {
            member.set(Flag::Removed, true);
            member.announce();
        }
        done
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
        if let Some(follower) = self.followed_by(None) {
            follower.abort();
        }
        for entry in &self.lock().entries {
            entry.member.end_check();
        }
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
