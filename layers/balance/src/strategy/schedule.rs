//! Smooth weighted round robin, as a schedule that is made once and read without a lock.
//!
//! nginx's algorithm: at each step every backend gains its weight, the one that has most is taken and
//! loses the sum of all weights. It repeats itself after as many steps as the weights come to, so
//! those steps are written down, and a counter walks through them.
//!
//! Backends of the same weight take turns, so at each step only the next of each weight is looked at:
//! of those there are few, as different weights add up to a schedule soon.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longer schedules are made with weights that are scaled down.
const LONGEST: usize = 16 * 1024;

/// The schedule: indices of backends.
#[derive(Debug)]
pub(crate) struct Schedule {
    steps: Box<[u32]>,
    /// 2^64 by the number of steps, rounded up: to take a remainder without a division.
    inverse: u64,
}

impl Schedule {
    /// Of weights, none of which is 0.
    pub(crate) fn new(weights: &[u16]) -> Self {
        let weights = scaled(weights);
        let total: i64 = weights.iter().sum();
        let mut turns: Vec<Turns> = Vec::new();
        let mut known = HashMap::new();
        for (weight, index) in weights.into_iter().zip(0..) {
            let at = *known.entry(weight).or_insert_with(|| {
                turns.push(Turns { weight, gained: 0, first: index, next: 0, members: Vec::new() });
                turns.len() - 1
            });
            turns[at].members.push(index);
        }
        let steps = (0..total).map(|_| {
            let mut best = 0;
            for at in 0..turns.len() {
                turns[at].gained += turns[at].weight;
                if turns[at].is_before(&turns[best]) {
                    best = at;
                }
            }
            turns[best].take(total)
        });
        let steps: Box<[u32]> = steps.collect();
        Self { inverse: (u64::MAX / (steps.len() as u64).max(1)).wrapping_add(1), steps }
    }

    /// The next one, by a counter that outlives this schedule.
    pub(crate) fn next(&self, counter: &AtomicUsize) -> usize {
        let step = self.remainder(counter.fetch_add(1, Ordering::Relaxed));
        self.steps.get(step).copied().unwrap_or_default() as usize
    }

    /// Of 32 bits, by the number of steps (Lemire, Kaser and Kurz 2019): a division takes longer than
    /// two multiplications, and than the rest of a step.
    fn remainder(&self, count: usize) -> usize {
        #[allow(clippy::cast_possible_truncation, reason = "the counter may as well wrap around")]
        let count = u64::from(count as u32);
        let fraction = u128::from(self.inverse.wrapping_mul(count));
        #[allow(clippy::cast_possible_truncation, reason = "it is less than the number of steps")]
        let remainder = ((fraction * self.steps.len() as u128) >> 64) as usize;
        remainder
    }
}

/// Backends of one weight, in turn.
struct Turns {
    weight: i64,
    /// By the one whose turn it is.
    gained: i64,
    first: u32,
    /// Where that one is among the members.
    next: usize,
    members: Vec<u32>,
}

impl Turns {
    /// Of those that have gained the same, the first one is taken.
    fn is_before(&self, other: &Self) -> bool {
        self.gained > other.gained || (self.gained == other.gained && self.first < other.first)
    }

    fn take(&mut self, total: i64) -> u32 {
        let taken = self.first;
        self.next += 1;
        if self.next == self.members.len() {
            // All others have lost as much in this round.
            self.next = 0;
            self.gained -= total;
        }
        self.first = self.members.get(self.next).copied().unwrap_or_default();
        taken
    }
}

/// The weights without what they have in common, and not more in all than a schedule may be long.
fn scaled(weights: &[u16]) -> Vec<i64> {
    let common = weights.iter().copied().fold(0, gcd).max(1);
    let total: usize = weights.iter().map(|weight| usize::from(weight / common)).sum();
    let longest = LONGEST.max(weights.len());
    let scale = |weight: &u16| {
        let weight = usize::from(weight / common);
        if total <= longest {
            return weight;
        }
        ((weight * longest + total / 2) / total).max(1)
    };
    weights.iter().map(|weight| i64::try_from(scale(weight)).unwrap_or(1)).collect()
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(weights: &[u16]) -> Vec<u32> {
        Schedule::new(weights).steps.to_vec()
    }

    #[test]
    fn the_steps_are_those_of_nginx() {
        assert_eq!(steps(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(steps(&[10, 5]), [0, 1, 0]);
        assert_eq!(steps(&[7]), [0]);
        assert_eq!(steps(&[1, 1, 1]), [0, 1, 2]);
    }

    #[test]
    fn large_weights_that_have_nothing_in_common_are_scaled_down() {
        let steps = steps(&[65_521, 32_749, 1]);
        assert!(steps.len() <= LONGEST + 3);
        let share =
            |index| steps.iter().filter(|step| **step == index).count() as f64 / steps.len() as f64;
        assert!((share(0) / share(1) - 65_521.0 / 32_749.0).abs() < 0.01);
        assert!(share(2) > 0.0, "nobody is left out");
    }

    /// nginx's algorithm, word for word.
    fn slow(weights: &[u16]) -> Vec<u32> {
        let weights = scaled(weights);
        let total: i64 = weights.iter().sum();
        let mut gained = vec![0i64; weights.len()];
        let steps = (0..total).map(|_| {
            let mut first = 0;
            for (index, weight) in weights.iter().enumerate() {
                gained[index] += weight;
                if gained[index] > gained[first] {
                    first = index;
                }
            }
            gained[first] -= total;
            u32::try_from(first).unwrap()
        });
        steps.collect()
    }

    proptest! {
        #[test]
        fn a_remainder_is_one(steps in 1usize..3_000, count: u32) {
            let schedule = Schedule::new(&vec![1; steps]);
            prop_assert_eq!(schedule.remainder(count as usize), count as usize % steps);
        }

        #[test]
        fn the_steps_are_those_of_nginx_whatever_the_weights(
            weights in prop_oneof![
                prop::collection::vec(1u16..6, 0..40),
                prop::collection::vec(1u16..300, 1..12),
                prop::collection::vec(any::<u16>().prop_map(|weight| weight.max(1)), 1..4),
            ],
        ) {
            prop_assert_eq!(steps(&weights), slow(&weights));
        }

        #[test]
        fn each_gets_its_share_of_every_stretch(weights in prop::collection::vec(1u16..40, 1..12)) {
            let steps = steps(&weights);
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            let mut counts = vec![0f64; weights.len()];
            for (step, index) in steps.iter().enumerate() {
                counts[*index as usize] += 1.0;
                for (count, weight) in counts.iter().zip(&weights) {
                    let due = (step + 1) as f64 * f64::from(*weight) / total;
                    // What smooth means: nobody is ever further from what is due than this.
                    prop_assert!((count - due).abs() <= (weights.len() as f64 / 2.0).max(1.0), "{count} {due}");
                }
            }
            let common = weights.iter().copied().fold(0, gcd);
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert!((count - f64::from(weight / common)).abs() < 0.5);
            }
        }
    }
}
