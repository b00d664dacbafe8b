//! Early refresh: when an entry that is still fresh is fetched anew.
//!
//! By XFetch (Vattani, Chierichetti, Lowenstein: "Optimal Probabilistic Cache Stampede Prevention",
//! VLDB 2015): each who finds the entry rolls a die, and refreshes it if
//! `now - took * beta * ln(die) >= fresh_until`. So the longer a fill takes and the more often an
//! entry is asked for, the earlier it is fetched; one that is hardly ever asked for is left alone. No
//! instant is set beforehand, so nodes and entries don't refresh all at the same time.

use crate::time::Timestamp;
use crate::ttl::Lifetime;

/// Twenty times its mean is exceeded by an exponential die once in 500 million: what has so much
/// left isn't worth rolling for.
const FARTHEST: u64 = 20;

/// How eager an early refresh is, in thousandths: whole, so that settings can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beta(u32);

impl Beta {
    pub(crate) const ONE: Self = Self(1000);

    /// What is no number, or negative, is 0: no early refresh.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    pub(crate) fn new(beta: f64) -> Self {
        Self(((beta * 1000.0) as u32).min(1_000_000))
    }

    /// Whether an entry that is fresh at `now`, and took `took` ms to fill, is to be refreshed. `die`
    /// is uniform in 0..1.
    ///
    /// Not in the first half of its time: else values that take nearly as long to fetch as they last
    /// would be fetched without end.
    #[inline]
    pub(crate) fn is_due(
        self,
        took: u32,
        lifetime: &Lifetime,
        now: Timestamp,
        die: impl FnOnce() -> f64,
    ) -> bool {
        let left = lifetime.fresh_until.as_millis().saturating_sub(now.as_millis());
        let mean = u64::from(self.0) * u64::from(took);
        // On the way of every hit, nearly all of which end here.
        left.saturating_mul(1000) < mean.saturating_mul(FARTHEST)
            && is_second_half(lifetime, left)
            && gap(mean, die()) >= left
    }
}

fn is_second_half(lifetime: &Lifetime, left: u64) -> bool {
    let whole = lifetime.fresh_until.as_millis().saturating_sub(lifetime.stored_at.as_millis());
    left <= whole / 2
}

/// How long before its end it is refreshed, in ms. `mean` is in thousandths of that.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it saturates, and a millisecond is exact enough"
)]
fn gap(mean: u64, die: f64) -> u64 {
    // 1 - die is never 0, which has no logarithm.
    (mean as f64 / -1000.0 * (1.0 - die).ln()) as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::ttl::Ttl;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// Fresh for a minute from 0.
    fn lifetime() -> Lifetime {
        Ttl::secs(60).lifetime(at(0), 0, 0.0)
    }

    fn share_due(beta: f64, took: u32, left: u32) -> f64 {
        let mut dice = fastrand::Rng::with_seed(left.into());
        let (mut due, rolls) = (0, 100_000);
        let now = at(60_000 - u64::from(left));
        for _ in 0..rolls {
            due += u32::from(Beta::new(beta).is_due(took, &lifetime(), now, || dice.f64()));
        }
        f64::from(due) / f64::from(rolls)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn is_due_with_the_probability_of_the_paper(
            beta in 0.1f64..4.0, took in 10u32..2_000, left in 1u32..30_000,
        ) {
            let share = share_due(beta, took, left);
            let paper = (-f64::from(left) / (beta * f64::from(took))).exp();
            // Beta is kept in thousandths.
            prop_assert!((share - paper).abs() < 0.01, "{share} and {paper}");
        }

        #[test]
        fn is_never_due_in_the_first_half_nor_when_off_nor_after_a_set(
            took: u32, die in 0.0f64..1.0, beta in 0.0f64..1e9, passed in 0u64..60_000,
        ) {
            let due = |beta: f64, took, passed| {
                Beta::new(beta).is_due(took, &lifetime(), at(passed), || die)
            };
            prop_assert!(!due(beta, took, passed / 2));
            prop_assert!(!due(0.0, took, passed) && !due(f64::NAN, took, passed));
            prop_assert!(!due(-beta, took, passed) && !due(beta, 0, passed));
        }
    }

    #[test]
    fn the_longest_life_and_fill_do_not_overflow() {
        let life = Ttl::new(Duration::MAX).lifetime(at(0), 0, 0.0);
        let end = life.fresh_until.as_millis() - 1;
        assert!(Beta::new(f64::INFINITY).is_due(u32::MAX, &life, at(end), || 0.5));
        assert!(!Beta::ONE.is_due(u32::MAX, &life, at(0), || 0.999));
    }
}
