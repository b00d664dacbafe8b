//! How thoroughly it is measured.

use std::time::Duration;

/// One of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// For figures.
    Full,
    /// To see that everything runs: nobody should read anything into the figures.
    Quick,
}

impl Pace {
    /// Of a comparison that is told how many rounds there are: with one, there is no median.
    pub fn of_rounds(rounds: u32) -> Self {
        if rounds > 1 { Self::Full } else { Self::Quick }
    }

    /// So many rounds.
    pub fn rounds(self, full: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => (full / 30).clamp(1, 10),
        }
    }

    /// For so long.
    pub fn duration(self, full: Duration) -> Duration {
        match self {
            Self::Full => full,
            Self::Quick => full.min(Duration::from_secs(1)),
        }
    }

    /// All of these, or the first alone.
    pub fn of<T>(self, full: &[T]) -> &[T] {
        match self {
            Self::Full => full,
            Self::Quick => full.get(..1).unwrap_or(full),
        }
    }
}
