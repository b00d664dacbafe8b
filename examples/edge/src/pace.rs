//! How long a client may take for the content of a request.

use std::time::Duration;

/// What is left of its time: waiting takes of it, and bytes give back, as much as they may take.
///
/// So whoever sends at its rate or faster can go on for ever, and may fall behind by as long as it may
/// be silent; whoever drips, is silent in between and never again for long, runs out of time all the
/// same, however much it has sent before. Only waiting for the client counts: a backend that reads
/// slowly is none of its faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// The longest that it may be waited for at once, and what there is at first.
    longest: Duration,
    /// In bytes a second. Without one, any byte gives back everything.
    rate: Option<u64>,
    left: Duration,
}

impl Pace {
    pub(crate) fn new(longest: Duration, rate: Option<u64>) -> Self {
        Self { longest, rate, left: longest }
    }

    /// How much longer it may be waited for.
    pub(crate) fn left(&self) -> Duration {
        self.left
    }

    /// Begins anew.
    pub(crate) fn reset(&mut self) {
        self.left = self.longest;
    }

    /// These came, after so long.
    pub(crate) fn came(&mut self, bytes: usize, after: Duration) {
        let Some(rate) = self.rate else { return self.reset() };
        let nanos = (bytes as u64).saturating_mul(1_000_000_000) / rate.max(1);
        let given = Duration::from_nanos(nanos);
        self.left = self.left.saturating_sub(after).saturating_add(given).min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// For how many seconds somebody is heard who sends so many bytes in each, 1000 s at the most.
    fn heard(mut pace: Pace, bytes: usize) -> usize {
        let is_heard = |_: &usize| {
            let is_heard = pace.left() > SECOND;
            pace.came(bytes, SECOND);
            is_heard
        };
        (0..1000).take_while(is_heard).count()
    }

    #[test]
    fn who_drips_runs_out_of_time_and_who_keeps_up_does_not() {
        let pace = Pace::new(30 * SECOND, Some(500));
        assert_eq!(heard(pace, 0), 29);
        assert_eq!(heard(pace, 1), 30);
        assert_eq!(heard(pace, 250), 58);
        assert_eq!(heard(pace, 500), 1000);
        // What was sent at once before is no credit for later.
        let mut rich = pace;
        rich.came(1 << 30, SECOND);
        assert_eq!(rich, pace);
        assert_eq!(heard(Pace::new(30 * SECOND, None), 1), 1000);
    }

    #[test]
    fn no_numbers_are_too_large() {
        let mut pace = Pace::new(Duration::MAX, Some(u64::MAX));
        pace.came(usize::MAX, Duration::MAX);
        assert!(pace.left() > Duration::ZERO);
    }
}
