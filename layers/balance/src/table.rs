//! A table: the backends of a pool at one time, ready to be picked from. It is never changed, only
//! replaced as a whole, so reading it takes no lock.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::backend::Settings;
use crate::error::PickError;
use crate::member::{BackendId, Common, Member};
use crate::pick::{Pick, Wish};
use crate::strategy::Strategy;
use crate::strategy::alias::Alias;
use crate::strategy::least::Loads;
use crate::strategy::maglev::Maglev;
use crate::strategy::schedule::Schedule;

/// How often a strategy is asked before any backend will do.
const ATTEMPTS: u64 = 4;

/// A backend and its settings.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) member: Arc<Member<T>>,
    pub(crate) settings: Settings,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self { member: Arc::clone(&self.member), settings: self.settings }
    }
}

impl<T> Entry<T> {
    fn weight(&self) -> u16 {
        self.settings.weight.max(1)
    }

    fn has_room(&self) -> bool {
        self.member.in_flight() < self.settings.max_in_flight
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table<T> {
    /// By priority, the first first.
    levels: Box<[Level<T>]>,
    /// Why there is none, if so.
    absence: PickError,
    /// Whether none is healthy, and so all are used.
    pub(crate) panics: bool,
    /// Whether all are used if none is healthy.
    uses_unhealthy: bool,
}

/// Backends of one priority.
#[derive(Debug)]
struct Level<T> {
    entries: Box<[Entry<T>]>,
    plan: Plan,
}

/// What a strategy has prepared.
#[derive(Debug)]
enum Plan {
    Schedule(Schedule),
    Random(Alias),
    Least(Schedule, Loads),
    TwoChoices(Alias),
    PeakEwma(Alias),
    Hash { maglev: Arc<Maglev>, total: u64, bound: Option<u16> },
}

impl<T> Table<T> {
    /// Without any backend.
    pub(crate) fn empty() -> Self {
        Self {
            levels: Box::default(),
            absence: PickError::Empty,
            panics: false,
            uses_unhealthy: false,
        }
    }

    /// Of those in `entries` that can be used, to take the place of this one. If none is healthy, of
    /// all if `uses_unhealthy`.
    pub(crate) fn next(
        &self,
        entries: &[Entry<T>],
        strategy: Strategy,
        uses_unhealthy: bool,
    ) -> Self {
        let weighty = || entries.iter().filter(|entry| entry.settings.weight > 0);
        let is_any_up = weighty().any(|entry| entry.member.is_up());
        let panics = !is_any_up && uses_unhealthy && weighty().next().is_some();
        let absence = match weighty().next() {
            None => PickError::Empty,
            Some(_) if !is_any_up && !panics => PickError::Unhealthy,
            Some(_) => PickError::Saturated,
        };
        // A hash belongs to the same backend while that is down for a while, so that what belongs to
        // the others stays where it is.
        let keeps_all = matches!(strategy, Strategy::Hash(_));
        let mut priorities: Vec<u8> = weighty().map(|entry| entry.settings.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let levels = priorities.into_iter().filter_map(|priority| {
            let of_level = weighty().filter(|entry| entry.settings.priority == priority);
            let is_any_up = panics || of_level.clone().any(|entry| entry.member.is_up());
            let usable = of_level.filter(|entry| panics || keeps_all || entry.member.is_up());
            let entries: Box<[Entry<T>]> = usable.cloned().collect();
            is_any_up.then(|| Level { plan: self.plan(&entries, strategy), entries })
        });
        Self { levels: levels.collect(), absence, panics, uses_unhealthy }
    }

    /// What `strategy` needs to pick from `entries`.
    fn plan(&self, entries: &[Entry<T>], strategy: Strategy) -> Plan {
        let weights: Vec<u16> = entries.iter().map(Entry::weight).collect();
        match strategy {
            Strategy::RoundRobin => Plan::Schedule(Schedule::new(&weights)),
            Strategy::Random => Plan::Random(Alias::new(&weights)),
            Strategy::LeastConnections => {
                let seats = entries.iter().filter_map(|entry| entry.member.seat());
                let loads = Loads::new(weights.iter().copied().zip(seats));
                Plan::Least(Schedule::new(&weights), loads)
            }
            Strategy::TwoChoices => Plan::TwoChoices(Alias::new(&weights)),
            Strategy::PeakEwma(_) => Plan::PeakEwma(Alias::new(&weights)),
            Strategy::Hash(settings) => Plan::Hash {
                maglev: self.maglev(entries),
                total: weights.iter().copied().map(u64::from).sum::<u64>().max(1),
                bound: settings.bound,
            },
        }
    }

    /// The one of `entries`: that of this table, if they are the same. It takes a millisecond to make,
    /// and health changes more often than names do.
    fn maglev(&self, entries: &[Entry<T>]) -> Arc<Maglev> {
        let named = |entry: &Entry<T>| (Arc::clone(&entry.member.name), entry.weight());
        let named: Box<[_]> = entries.iter().map(named).collect();
        let same = self.levels.iter().find_map(|level| match &level.plan {
            Plan::Hash { maglev, .. } if maglev.is_of(&named) => Some(Arc::clone(maglev)),
            _ => None,
        });
        same.unwrap_or_else(|| Arc::new(Maglev::new(named)))
    }

    /// Picks one, and counts the request as in flight there.
    pub(crate) fn pick(
        &self,
        wish: Wish<'_>,
        common: &Common,
        counter: &AtomicUsize,
    ) -> Result<Pick<T>, PickError> {
        let now = if common.decay.is_some() { common.now() } else { Duration::ZERO };
        let dice = if common.slow_start.is_some() { fastrand::f32() } else { 0.0 };
        let clock = Cell::new(common.decay.map(|_| now));
        let draw = Draw { wish, common, counter, now, panics: self.panics, dice, clock: &clock };
        let found = self.levels.iter().find_map(|level| level.pick(&draw));
        let any = Draw { wish: Wish { avoid: &[], ..wish }, dice: 0.0, ..draw };
        found.or_else(|| self.rescue(&any)).ok_or(self.absence)
    }

    /// One that can take it after all: that was to be avoided, or has come up while others went down.
    fn rescue(&self, draw: &Draw<'_>) -> Option<Pick<T>> {
        let scan = |draw: &Draw<'_>| self.levels.iter().find_map(|level| level.scan(draw));
        let can_take = |entry: &Entry<T>| (self.panics || entry.member.is_up()) && entry.has_room();
        for _ in 0..ATTEMPTS {
            if !self.levels.iter().flat_map(|level| &level.entries).any(can_take) {
                break;
            }
            if let Some(pick) = scan(draw) {
                return Some(pick);
            }
        }
        // The last one has just gone down, and the table that says so is being made.
        let is_panic = self.uses_unhealthy && !self.panics && !self.is_any_up_but(None);
        if is_panic { scan(&Draw { panics: true, ..*draw }) } else { None }
    }

    /// Whether any of it may be given something, apart from one.
    pub(crate) fn is_any_up_but(&self, one: Option<BackendId>) -> bool {
        let mut entries = self.levels.iter().flat_map(|level| &level.entries);
        entries.any(|entry| Some(entry.member.id) != one && entry.member.is_up())
    }
}

/// What a pick goes by.
#[derive(Clone, Copy)]
struct Draw<'a> {
    wish: Wish<'a>,
    common: &'a Common,
    counter: &'a AtomicUsize,
    /// If the strategy goes by how fast backends are.
    now: Duration,
    panics: bool,
    /// In 0.0..1.0: at 0, warming backends take what they are given. The same for all attempts, so
    /// that to try again makes none of them likelier.
    dice: f32,
    /// What time it is, once that was looked up for backends that warm up.
    clock: &'a Cell<Option<Duration>>,
}

impl Draw<'_> {
    /// Gives the request to `entry`, if that can take it.
    fn take<T>(&self, entry: &Entry<T>) -> Option<Pick<T>> {
        let can_take = self.accepts(entry) && self.is_up(entry);
        (can_take && entry.member.acquire(entry.settings.max_in_flight))
            .then(|| Pick::new(Arc::clone(&entry.member), self.now))
    }

    fn is_up<T>(&self, entry: &Entry<T>) -> bool {
        self.panics || entry.member.is_up()
    }

    fn accepts<T>(&self, entry: &Entry<T>) -> bool {
        !self.wish.avoid.contains(&entry.member.id) && self.admits(entry)
    }

    fn admits<T>(&self, entry: &Entry<T>) -> bool {
        let now = || {
            let now = self.clock.get().unwrap_or_else(|| self.common.now());
            self.clock.set(Some(now));
            now
        };
        self.dice <= 0.0 || entry.member.admits(self.dice, now)
    }

    /// Whether `other` is to be preferred, whatever they have in flight.
    fn must_leave<T>(&self, entry: &Entry<T>) -> bool {
        !entry.has_room() || !self.admits(entry)
    }
}

impl<T> Level<T> {
    fn pick(&self, draw: &Draw<'_>) -> Option<Pick<T>> {
        (0..ATTEMPTS)
            .filter_map(|attempt| self.choose(draw, attempt))
            .find_map(|entry| draw.take(entry))
            .or_else(|| self.scan(draw))
            // A backend that warms up is better than none, or than one that is a spare.
            .or_else(
                || if draw.dice > 0.0 { self.scan(&Draw { dice: 0.0, ..*draw }) } else { None },
            )
    }

    /// The first that can take it, from anywhere on; for a hash, always from the same one.
    fn scan(&self, draw: &Draw<'_>) -> Option<Pick<T>> {
        let hash = draw.wish.hash.unwrap_or_else(|| fastrand::u64(..));
        let begin = usize::try_from(hash % self.entries.len().max(1) as u64).unwrap_or_default();
        let (before, from) = self.entries.split_at(begin);
        let all = || from.iter().chain(before);
        all()
            .filter(|entry| self.plan.is_within(entry, draw.common))
            .find_map(|entry| draw.take(entry))
            .or_else(|| all().find_map(|entry| draw.take(entry)))
    }

    /// The one that the strategy prefers.
    fn choose(&self, draw: &Draw<'_>, attempt: u64) -> Option<&Entry<T>> {
        match &self.plan {
            Plan::Schedule(schedule) => self.entries.get(schedule.next(draw.counter)),
            Plan::Random(alias) => self.entries.get(alias.draw(fastrand::u64(..))),
            Plan::Least(schedule, loads) => {
                let first = schedule.next(draw.counter);
                let can_take = |at: usize| {
                    self.entries.get(at).is_some_and(|entry| {
                        draw.is_up(entry) && entry.has_room() && draw.accepts(entry)
                    })
                };
                self.entries.get(loads.least(first, can_take)?)
            }
            Plan::TwoChoices(alias) => {
                let (one, other) = self.two(alias)?;
                let (ones, others) = (one.member.in_flight(), other.member.in_flight());
                let is_freer = u64::from(others) * u64::from(one.weight())
                    < u64::from(ones) * u64::from(other.weight());
                let takes_other = draw.must_leave(one) || is_freer;
                Some(if takes_other { other } else { one })
            }
            Plan::PeakEwma(alias) => {
                let (one, other) = self.two(alias)?;
                #[allow(clippy::cast_precision_loss, reason = "a cost need not be exact")]
                let waiting = |entry: &Entry<T>| entry.member.in_flight().saturating_add(1) as f32;
                let (ones, others) = one.member.expected_beside(&other.member);
                let ones = ones * waiting(one) * f32::from(other.weight());
                let others = others * waiting(other) * f32::from(one.weight());
                let takes_other = draw.must_leave(one) || others < ones;
                Some(if takes_other { other } else { one })
            }
            Plan::Hash { maglev, .. } => {
                let hash = draw.wish.hash.unwrap_or_else(|| fastrand::u64(..));
                let entry = self.entries.get(maglev.find(nth(hash, attempt)))?;
                self.plan.is_within(entry, draw.common).then_some(entry)
            }
        }
    }

    /// Two at random, in proportion to the weights; not the same twice, if there is another.
    fn two(&self, alias: &Alias) -> Option<(&Entry<T>, &Entry<T>)> {
        let one = alias.draw(fastrand::u64(..));
        let mut other = alias.draw(fastrand::u64(..));
        if one == other {
            other = alias.draw(fastrand::u64(..));
        }
        if one == other {
            other = (one + 1) % self.entries.len().max(1);
        }
        Some((self.entries.get(one)?, self.entries.get(other)?))
    }
}

/// Where to look for a hash after so many attempts: anywhere, but always the same.
fn nth(hash: u64, attempt: u64) -> u64 {
    if attempt == 0 {
        return hash;
    }
    xxhash_rust::xxh3::xxh3_64_with_seed(&hash.to_le_bytes(), attempt)
}

impl Plan {
    /// Whether one more is within what a hash strategy lets `entry` have.
    fn is_within<T>(&self, entry: &Entry<T>, common: &Common) -> bool {
        let (Self::Hash { total, bound: Some(bound), .. }, Some(all)) = (self, &common.in_flight)
        else {
            return true;
        };
        let all = all.load(Ordering::Relaxed) + 1;
        let most = (all * u64::from(*bound) * u64::from(entry.weight())).div_ceil(100 * total);
        u64::from(entry.member.in_flight()) < most
    }
}
