//! After a refresh has failed: when the next is due, and for how long nobody waits for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::epoch::Moment;
use crate::tag_table::{TagStamp, predates};
use crate::time::Timestamp;

/// A pause is shortened at random by up to this share, so that not all nodes end it together.
const JITTER: f64 = 0.2;

/// A year: as good as for ever, and no arithmetic overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What one who finds an entry that isn't fresh does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No refresh of it has failed lately: do as its [state](crate::State) says.
    None,
    /// One failed a moment ago: serve it, and leave its origin alone.
    Paused,
    /// One failed a while ago: serve it, and try again behind the caller's back. This is said once in
    /// each pause.
    Behind,
}

/// The pause of one entry. Boxed, since hardly any has one.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Option<Box<Pause>>>);

#[derive(Clone, Debug)]
struct Pause {
    /// Until then its origin isn't asked again.
    ends: Timestamp,
    /// Until then its origin is taken to fail still.
    believed_until: Timestamp,
    /// What had been invalidated when it began.
    as_of: Moment,
}

impl Pause {
    fn holds(&self, now: Timestamp, stamps: &[TagStamp]) -> bool {
        now < self.believed_until && !predates(self.as_of, stamps)
    }
}

impl Throttle {
    fn lock(&self) -> MutexGuard<'_, Option<Box<Pause>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A refresh has failed at `now`.
    pub(crate) fn failed(&self, now: Timestamp, pause: Duration, as_of: Moment) {
        let believed_until = now.saturating_add(pause.saturating_mul(2));
        let ends = end(now, pause);
        *self.lock() = (!pause.is_zero()).then(|| Box::new(Pause { ends, believed_until, as_of }));
    }

    /// Ends the pause: there is something new to be had.
    pub(crate) fn end(&self) {
        *self.lock() = None;
    }

    /// What to do at `now`. One who is told [`Retry::Behind`] has a refresh to begin, which takes
    /// `longest` at most, and after which another pause begins if it fails.
    pub(crate) fn turn(
        &self,
        now: Timestamp,
        pause: Duration,
        longest: Duration,
        stamps: &[TagStamp],
    ) -> Retry {
        let mut slot = self.lock();
        let Some(current) = slot.as_mut() else { return Retry::None };
        if !current.holds(now, stamps) {
            *slot = None;
            return Retry::None;
        }
        if now < current.ends {
            return Retry::Paused;
        }
        // For as long as the refresh may hang, nobody waits for it.
        current.ends = end(now, pause);
        let failed_by = now.saturating_add(longest);
        current.believed_until = failed_by.saturating_add(pause.saturating_mul(2));
        Retry::Behind
    }

    /// Whether the origin is taken to fail still.
    pub(crate) fn is_relied_on(&self, now: Timestamp, stamps: &[TagStamp]) -> bool {
        let current = self.lock();
        current.as_ref().is_some_and(|pause| pause.holds(now, stamps))
    }

    /// Whether the origin isn't to be asked at `now`.
    pub(crate) fn is_paused(&self, now: Timestamp) -> bool {
        self.lock().as_ref().is_some_and(|pause| now < pause.ends)
    }

    /// Takes over the pause of the same entry in another slot.
    pub(crate) fn inherit(&self, other: &Self) {
        let pause = other.lock().clone();
        *self.lock() = pause;
    }
}

fn end(now: Timestamp, pause: Duration) -> Timestamp {
    now.saturating_add(pause.min(LONGEST).mul_f64(1.0 - JITTER * fastrand::f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);
    const FILL: Duration = Duration::from_secs(60);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn turn(throttle: &Throttle, secs: u64) -> Retry {
        throttle.turn(at(secs), PAUSE, FILL, &[])
    }

    #[test]
    fn one_tries_again_after_each_pause_and_nobody_waits() {
        let throttle = Throttle::default();
        assert_eq!(turn(&throttle, 0), Retry::None);
        throttle.failed(at(0), PAUSE, Moment::default());
        assert_eq!(turn(&throttle, 7), Retry::Paused);
        assert_eq!(turn(&throttle, 10), Retry::Behind);
        assert_eq!(turn(&throttle, 10), Retry::Paused, "one is enough");
        assert_eq!(turn(&throttle, 20), Retry::Behind, "the first may hang");
        assert_eq!(turn(&throttle, 20 + 60 + 19), Retry::Behind);
    }

    #[test]
    fn a_failure_of_long_ago_says_nothing() {
        let throttle = Throttle::default();
        throttle.failed(at(0), PAUSE, Moment::default());
        assert_eq!(turn(&throttle, 20), Retry::None);
        throttle.failed(at(20), Duration::ZERO, Moment::default());
        assert_eq!(turn(&throttle, 20), Retry::None, "there is no pause");
    }

    #[test]
    fn pauses_end_early_by_up_to_a_fifth() {
        let ends = (0..1000).map(|_| end(at(0), PAUSE).as_millis());
        let (first, last) = (ends.clone().min().unwrap(), ends.max().unwrap());
        assert!((8_000..8_200).contains(&first) && (9_800..=10_000).contains(&last));
    }
}
