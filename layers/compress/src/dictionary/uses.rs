//! For which requests a dictionary is: several hosts may serve the same content, each for paths of its own.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::pattern::{MAX_PATTERN, Pattern};

/// How many hosts and patterns one content is for. Of more, those are forgotten that no client asks with, then
/// those that were asked with longest ago: whoever makes up hosts, and asks with each of them, takes it from
/// others, who get the plain coding until it is served to them again. What the operator put in stays.
pub(super) const MAX_USES: usize = 8;

/// The longest host (RFC 1035 §2.3.4), with a port.
pub(super) const MAX_HOST: usize = 253 + ":65535".len();

/// Requests to a host, for as long as clients keep what they have from there.
#[derive(Clone, Debug)]
pub(super) struct Use {
    /// In lower case, with a port where there was one.
    pub(super) host: String,
    pub(super) pattern: Pattern,
    pub(super) until: Instant,
    /// Whether a client has asked with it.
    is_named: bool,
    /// Whether it was put in beforehand, and not by what passed.
    is_lasting: bool,
}

impl Use {
    pub(super) fn new(host: String, pattern: Pattern, until: Instant) -> Self {
        Self { host, pattern, until, is_named: false, is_lasting: false }
    }

    /// The same, which no other takes the place of that comes from what passes.
    pub(super) fn lasting(self) -> Self {
        Self { is_lasting: true, ..self }
    }

    fn is_of(&self, host: &str, pattern: &Pattern) -> bool {
        self.host == host && self.pattern == *pattern
    }
}

/// The uses of a dictionary, those last that were asked with last.
#[derive(Debug)]
pub(super) struct Uses(Mutex<Vec<Use>>);

impl Uses {
    /// The most bytes that they take: what they are counted as, since it must not change.
    pub(super) const WEIGHT: usize = MAX_USES * (size_of::<Use>() + MAX_HOST + MAX_PATTERN);

    pub(super) fn of(first: Use) -> Self {
        Self(Mutex::new(vec![first]))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Use>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a client may have it that asks this host for this path.
    pub(super) fn name(&self, host: &str, path: &str) -> bool {
        let now = Instant::now();
        let mut uses = self.lock();
        let found = uses
            .iter()
            .position(|it| it.host == host && now < it.until && it.pattern.matches(path));
        let Some(rest) = found.and_then(|at| uses.get_mut(at..)) else { return false };
        if let Some(first) = rest.first_mut() {
            first.is_named = true;
        }
        rest.rotate_left(1);
        true
    }

    /// Makes a use last until then, if it is there.
    pub(super) fn renew(&self, host: &str, pattern: &Pattern, until: Instant) -> bool {
        let mut uses = self.lock();
        let found = uses.iter_mut().find(|it| it.is_of(host, pattern));
        found.map(|it| it.until = it.until.max(until)).is_some()
    }

    /// Makes all uses by a host last until then that aren't over.
    pub(super) fn renew_all(&self, host: &str, until: Instant) {
        let now = Instant::now();
        let mut uses = self.lock();
        for it in uses.iter_mut().filter(|it| it.host == host && now < it.until) {
            it.until = it.until.max(until);
        }
    }

    /// Adds one, or makes it last longer.
    pub(super) fn add(&self, new: Use) {
        let now = Instant::now();
        let mut uses = self.lock();
        if let Some(there) = uses.iter_mut().find(|it| it.is_of(&new.host, &new.pattern)) {
            there.until = there.until.max(new.until);
            there.is_lasting |= new.is_lasting;
            return;
        }
        uses.retain(|it| now < it.until);
        if uses.len() >= MAX_USES {
            let first = |may_go: &dyn Fn(&Use) -> bool| uses.iter().position(may_go);
            let forgotten = first(&|it| !it.is_lasting && !it.is_named)
                .or_else(|| first(&|it| !it.is_lasting))
                .or(new.is_lasting.then_some(0));
            let Some(forgotten) = forgotten else { return };
            uses.remove(forgotten);
        }
        uses.push(new);
    }

    /// All of another's.
    pub(super) fn add_all(&self, others: Self) {
        for new in others.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.add(new);
        }
    }

    /// Whether nobody has it any more.
    pub(super) fn are_over(&self) -> bool {
        let now = Instant::now();
        self.lock().iter().all(|it| it.until <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn by(host: &str, pattern: &str) -> Use {
        let until = Instant::now() + Duration::from_secs(60);
        Use::new(host.to_owned(), Pattern::parse_path(pattern).unwrap(), until)
    }

    #[test]
    fn content_is_for_each_host_and_pattern_that_it_was_served_by() {
        let uses = Uses::of(by("a", "/x/*"));
        uses.add(by("a", "/y/*"));
        uses.add(by("b", "/z/*"));
        assert!(uses.name("a", "/x/1") && uses.name("a", "/y/1") && uses.name("b", "/z/1"));
        assert!(!uses.name("b", "/x/1") && !uses.name("c", "/x/1") && !uses.name("a", "/z/1"));
    }

    #[test]
    fn hosts_that_are_made_up_leave_those_alone_that_clients_ask_with() {
        let uses = Uses::of(by("real", "/*"));
        assert!(uses.name("real", "/1"));
        for n in 0..100 {
            uses.add(by(&format!("made-up-{n}"), "/*"));
            assert!(uses.lock().len() <= MAX_USES);
        }
        assert!(uses.name("real", "/1"));
    }

    #[test]
    fn what_was_put_in_beforehand_stays_though_clients_ask_with_all_others() {
        let uses = Uses::of(by("real", "/*").lasting());
        for n in 0..100 {
            let made_up = format!("made-up-{n}");
            uses.add(by(&made_up, "/*"));
            assert!(uses.name(&made_up, "/1"));
            assert!(uses.lock().len() <= MAX_USES);
        }
        assert!(uses.name("real", "/1"));
        for n in 0..MAX_USES {
            uses.add(by(&format!("real-{n}"), "/*").lasting());
        }
        uses.add(by("made-up", "/*"));
        assert!(
            !uses.name("made-up", "/1") && !uses.name("real", "/1") && uses.name("real-7", "/1")
        );
    }
}
