//! The pool's keeper: a task that ejects, lets return, and makes the table anew.
//!
//! What a request or a check finds out about a backend, it leaves at the backend, where picks heed
//! it at once; the table is made anew for many such changes together.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::{Roster, Shared};
use crate::health::probe::ProbeError;
use crate::member::{Common, Flag, Member};
use crate::outlier::rate::{Rate, outliers};
use crate::outlier::{Ejection, OutlierDetection};
use crate::span::after;
use crate::status::count;
use crate::strategy::ewma::from_micros;

/// How long the keeper waits at least before it looks again.
const PAUSE: Duration = Duration::from_millis(1);

/// How the task sleeps when nothing is due. It is woken.
const IDLE: Duration = Duration::from_secs(3600);

/// How many backends tell how fast one is to be expected that comes back.
const SAMPLE: usize = 16;

/// Starts the keeper of a pool.
pub(super) type Start<T> = fn(&Handle, &Arc<Shared<T>>) -> AbortHandle;

pub(super) fn start<T: Send + Sync + 'static>(
    runtime: &Handle,
    shared: &Arc<Shared<T>>,
) -> AbortHandle {
    runtime.spawn(keep(Arc::downgrade(shared), Arc::clone(&shared.common))).abort_handle()
}

async fn keep<T>(pool: Weak<Shared<T>>, common: Arc<Common>) {
    loop {
        let now = Instant::now();
        let due = match pool.upgrade() {
            Some(pool) => pool.tend(now),
            None => return,
        };
        tokio::select! {
            () = sleep_until(due) => {}
            () = common.wake.notified() => {}
        }
        sleep_until(now + PAUSE).await;
    }
}

impl<T> Shared<T> {
    /// Takes the answer of a check into account, which changes something if it `counts`.
    pub(crate) fn checked(&self, member: &Member<T>, answer: Result<(), ProbeError>, counts: bool) {
        count(&self.common.counters.checks);
        if let Err(error) = &answer {
            count(&self.common.counters.failed_checks);
            tracing::debug!(backend = &*member.name, %error, "a check has failed");
        }
        if !counts {
            return;
        }
        let mut roster = self.lock();
        if member.has(Flag::Removed) {
            return;
        }
        let passed = answer.is_ok();
        member.history().error = answer.err();
        self.put(&mut roster, member, Flag::Unhealthy, !passed);
        if passed && member.has(Flag::Ejected) {
            // It was the same trouble that its requests and its checks have met.
            self.end_ejection(&roster, member);
        }
        self.settle(&mut roster);
        member.announce();
    }

    /// Sets or clears what keeps `member` from being used. One that comes back may have to warm up.
    pub(super) fn put(
        &self,
        roster: &mut Roster<T>,
        member: &Member<T>,
        flag: Flag,
        on: bool,
    ) -> bool {
        if !on && member.is_up_but_for(flag) {
            self.readmit(roster, member);
        }
        if on && roster.is_dirty && !self.table.load().is_any_up_but(Some(member.id)) {
            // Another is up, perhaps, of which the table doesn't know yet.
            self.rebuild(roster);
        }
        member.set(flag, on)
    }

    /// One that was down is used again.
    fn readmit(&self, roster: &Roster<T>, member: &Member<T>) {
        self.welcome(roster, member);
        if self.common.decay.is_none() {
            return;
        }
        // What was known of how fast it is has sunk while it was away, and would have it look like the
        // fastest of all until its first answer.
        let now = self.common.now();
        let others = roster.weighty().filter(|other| other.id != member.id && other.is_up());
        let others = others.take(SAMPLE).map(|other| other.expected(now));
        let (sum, count) = others.fold((0.0, 0.0), |(sum, count), it| (sum + it, count + 1.0));
        if count > 0.0 {
            member.takes_at_least(from_micros(sum / count), now);
        }
    }

    /// Lets a newcomer warm up, if there is another that can take what it leaves.
    pub(super) fn welcome(&self, roster: &Roster<T>, member: &Member<T>) {
        let is_warm =
            |other: &Member<T>| other.id != member.id && other.is_up() && !other.has(Flag::Warming);
        if self.common.slow_start.is_some() && roster.weighty().any(is_warm) {
            member.warm_up();
        }
    }

    /// After a change of health: makes the table anew, at once if that matters, or else soon.
    pub(super) fn settle(&self, roster: &mut Roster<T>) {
        let is_time = roster.built.elapsed() >= roster.gather;
        if is_time || self.is_pressing() || self.keeper.get().is_none() {
            self.rebuild(roster);
        } else {
            roster.is_dirty = true;
            self.common.wake.notify_one();
        }
    }

    /// Whether the table can't serve until it knows of the next change.
    fn is_pressing(&self) -> bool {
        let table = self.table.load();
        table.panics || !table.is_any_up_but(None)
    }

    /// Does what is due. Says when something is due again.
    fn tend(&self, now: Instant) -> Instant {
        let mut roster = self.lock();
        let mut due = now + IDLE;
        if let Some(settings) = self.common.outlier.get() {
            due = due.min(self.watch(&mut roster, settings, now));
        }
        if roster.is_dirty {
            let ready = roster.built + roster.gather;
            if now >= ready || self.is_pressing() {
                self.rebuild(&mut roster);
            } else {
                due = due.min(ready);
            }
        }
        due
    }

    fn watch(&self, roster: &mut Roster<T>, settings: &OutlierDetection, now: Instant) -> Instant {
        let mut changed = self.end_ejections(roster, |until| until <= now);
        let mut suspects = Vec::new();
        let mut rates = Vec::new();
        let is_tick = now >= roster.next_tick;
        for entry in &roster.entries {
            let record = &entry.member.record;
            let failed = settings.consecutive > 0 && record.run() >= settings.consecutive;
            suspects.push(failed.then_some(Ejection::ConsecutiveFailures));
            if is_tick {
                let mut history = entry.member.history();
                history.ejections.window.push(record.take());
                // What is down already is no measure for the others.
                let is_up = entry.member.is_up();
                let rate = if is_up { history.ejections.window.rate() } else { Rate::default() };
                rates.push(rate);
            }
        }
        if is_tick {
            roster.next_tick = after(now, settings.tick());
            for (suspect, found) in suspects.iter_mut().zip(outliers(&rates, settings)) {
                *suspect = suspect.or(found);
            }
        }
        for (at, why) in suspects.into_iter().enumerate() {
            if let (Some(why), Some(entry)) = (why, roster.entries.get(at)) {
                let member = Arc::clone(&entry.member);
                if member.is_up() && self.eject(roster, &member, why, settings, now) {
                    changed.push(member);
                }
            }
        }
        roster.is_dirty |= !changed.is_empty();
        for member in changed {
            member.announce();
        }
        let ends = roster.entries.iter().filter(|entry| entry.member.has(Flag::Ejected));
        let ends = ends.filter_map(|entry| entry.member.history().ejections.current());
        ends.map(|(until, _)| until).fold(roster.next_tick, Instant::min)
    }

    /// Ejects `member`, unless too many are, or it is the last.
    fn eject(
        &self,
        roster: &mut Roster<T>,
        member: &Member<T>,
        why: Ejection,
        settings: &OutlierDetection,
        now: Instant,
    ) -> bool {
        let ejected = roster.weighty().filter(|member| member.has(Flag::Ejected)).count();
        let is_last = !roster.weighty().any(|other| other.id != member.id && other.is_up());
        if is_last || ejected >= settings.allowed(roster.weighty().count()) {
            count(&self.common.counters.spared);
            return false;
        }
        member.history().ejections.eject(why, now, settings);
        self.put(roster, member, Flag::Ejected, true);
        count(&self.common.counters.ejections);
        true
    }

    /// Ends the ejections that `ends` says so of. Says whose.
    fn end_ejections(
        &self,
        roster: &Roster<T>,
        ends: impl Fn(Instant) -> bool,
    ) -> Vec<Arc<Member<T>>> {
        let ends = |member: &Member<T>| {
            member.history().ejections.current().is_some_and(|(until, _)| ends(until))
        };
        let ejected = roster.entries.iter().map(|entry| &entry.member);
        let ended = ejected.filter(|member| member.has(Flag::Ejected) && ends(member));
        let ended: Vec<_> = ended.map(Arc::clone).collect();
        for member in &ended {
            self.end_ejection(roster, member);
        }
        ended
    }

    fn end_ejection(&self, roster: &Roster<T>, member: &Member<T>) {
        member.history().ejections.end(Instant::now());
        member.record.clear();
        if member.is_up_but_for(Flag::Ejected) {
            self.readmit(roster, member);
        }
        member.set(Flag::Ejected, false);
    }

    /// Makes the table anew.
    pub(super) fn rebuild(&self, roster: &mut Roster<T>) {
        let began = Instant::now();
        let mut returned = Vec::new();
        if !roster.weighty().any(Member::is_up) {
            // Better one that failed requests than one that fails its checks.
            returned = self.end_ejections(roster, |_| true);
        }
        let before = self.table.load();
        let table = before.next(&roster.entries, self.strategy, self.uses_unhealthy);
        let backends = roster.entries.len();
        match (before.panics, table.panics) {
            (false, true) => {
                count(&self.common.counters.panics);
                tracing::warn!(backends, "no backend is healthy, so all are used");
            }
            (true, false) => tracing::info!(backends, "not all backends are used any more"),
            _ => {}
        }
        self.table.store(Arc::new(table));
        self.common.room.changed();
        count(&self.common.counters.rebuilds);
        roster.was_built(began);
        for member in returned {
            member.announce();
        }
    }
}
