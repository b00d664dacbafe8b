//! When requests are due.

use std::time::Duration;

use tokio::time::Instant;

/// How they arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// As soon as a connection has its answer.
    Closed,
    /// So many a second on average, independently of each other (Poisson), by a seed.
    Open {
        /// Requests a second.
        rate: f64,
        /// The same seed gives the same times.
        seed: u64,
    },
}

/// The times.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The time of the next, and what the times after it are drawn from; nothing in a closed loop.
    open: Option<(Instant, f64, fastrand::Rng)>,
}

impl Schedule {
    pub(super) fn begin(arrivals: Arrivals, start: Instant) -> Self {
        match arrivals {
            Arrivals::Closed => Self { open: None },
            Arrivals::Open { rate, seed } => {
                Self { open: Some((start, rate, fastrand::Rng::with_seed(seed))) }
            }
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.open.is_none()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.0)
    }

    /// One that is due by `now`.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        let (next, rate, random) = self.open.as_mut()?;
        if *next > now {
            return None;
        }
        let due = *next;
        // Exponential gaps: of 1 - [0, 1), which is never 0.
        *next += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / *rate);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_due_as_the_rate_says_whenever_somebody_looks() {
        let start = Instant::now();
        let mut schedule = Schedule::begin(Arrivals::Open { rate: 10_000.0, seed: 1 }, start);
        let mut count = 0_u32;
        for millis in (0..10_000).step_by(250) {
            let now = start + Duration::from_millis(millis);
            while let Some(due) = schedule.take(now) {
                assert!(due <= now && now - due <= Duration::from_millis(250));
                count += 1;
            }
        }
        // 97,500 on average, of which the square root is the deviation.
        assert!((96_500..98_500).contains(&count), "{count}");
        assert!(!schedule.is_closed() && schedule.next().is_some());
    }

    #[test]
    fn a_closed_loop_has_no_times() {
        let mut schedule = Schedule::begin(Arrivals::Closed, Instant::now());
        assert!(schedule.is_closed() && schedule.take(Instant::now()).is_none());
    }
}
