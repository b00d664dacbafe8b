//! Consistent hashing by Maglev's table (Eisenbud et al., "Maglev: A Fast and Reliable Software
//! Network Load Balancer", NSDI 2016, §3.4).
//!
//! Each backend prefers the places of the table in an order of its own, which follows from its name.
//! They take turns, as often as their weights say, and each takes the first place in its order that
//! is free. So the shares are even, and one that comes or goes moves little but its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A prime, as the orders need it, and much more than there are backends: the shares of 100 differ
/// by less than 1 % (§5.3).
const PLACES: usize = 65_537;

/// The table.
#[derive(Debug)]
pub(crate) struct Maglev {
    /// Indices of backends.
    places: Box<[u32]>,
    made_of: Box<[Named]>,
}

/// The name and the weight of a backend.
pub(crate) type Named = (Arc<str>, u16);

/// Where a backend looks for a free place next.
struct Turn {
    at: usize,
    skip: usize,
    weight: u64,
    /// How many it has had.
    taken: u64,
}

impl Turn {
    /// In which round it is to take its next place: one of full weight takes one in each.
    fn round(&self, full: u64) -> u64 {
        ((self.taken + 1) * full).div_ceil(self.weight)
    }
}

impl Maglev {
    /// Of names, which all differ, and weights, none of which is 0.
    pub(crate) fn new(backends: Box<[Named]>) -> Self {
        let hash = |name: &str, seed, modulo: usize| {
            usize::try_from(xxh3_64_with_seed(name.as_bytes(), seed) % modulo as u64)
                .unwrap_or_default()
        };
        let mut turns: Vec<Turn> = backends
            .iter()
            .map(|(name, weight)| Turn {
                at: hash(name, 0, PLACES),
                skip: hash(name, 1, PLACES - 1) + 1,
                weight: u64::from(*weight).max(1),
                taken: 0,
            })
            .collect();
        let full = turns.iter().map(|turn| turn.weight).max().unwrap_or(1);
        let mut table: Vec<Option<u32>> = vec![None; if turns.is_empty() { 0 } else { PLACES }];
        // By round, who takes a place then. Those of little weight are not looked at in between: beside
        // one of full weight, thousands of them would be, in tens of thousands of rounds.
        let mut due: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (index, turn) in turns.iter().enumerate() {
            due.entry(turn.round(full)).or_default().push(index);
        }
        let mut left = table.len();
        'rounds: while let Some((_, mut indices)) = due.pop_first() {
            indices.sort_unstable();
            for index in indices {
                if left == 0 {
                    break 'rounds;
                }
                let Some(turn) = turns.get_mut(index) else { continue };
                while table.get(turn.at).is_some_and(Option::is_some) {
                    turn.at = (turn.at + turn.skip) % PLACES;
                }
                if let Some(place) = table.get_mut(turn.at) {
                    *place = u32::try_from(index).ok();
                }
                left -= 1;
                turn.taken += 1;
                due.entry(turn.round(full)).or_default().push(index);
            }
        }
        let places = table.into_iter().map(Option::unwrap_or_default).collect();
        Self { places, made_of: backends }
    }

    /// Whether it would be the same for these.
    pub(crate) fn is_of(&self, backends: &[Named]) -> bool {
        *self.made_of == *backends
    }

    /// Whose it is.
    pub(crate) fn find(&self, hash: u64) -> usize {
        let places = self.places.len().max(1) as u64;
        let place = usize::try_from(hash % places).unwrap_or_default();
        self.places.get(place).copied().unwrap_or_default() as usize
    }
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("http://10.0.0.{index}:3000")).collect()
    }

    fn table(names: &[String], weight: impl Fn(usize) -> u16) -> Maglev {
        let named = |(index, name): (usize, &String)| (Arc::from(&**name), weight(index));
        Maglev::new(names.iter().enumerate().map(named).collect())
    }

    fn counts(maglev: &Maglev, backends: usize) -> Vec<usize> {
        let mut counts = vec![0; backends];
        for index in &maglev.places {
            counts[*index as usize] += 1;
        }
        counts
    }

    #[test]
    fn equal_backends_get_equal_shares() {
        let counts = counts(&table(&names(100), |_| 1), 100);
        assert!(counts.iter().all(|count| count.abs_diff(PLACES / 100) <= 1), "{counts:?}");
    }

    /// As the paper has it, in whose §3.4 a backend of less weight skips turns: looking at each in
    /// every round.
    fn slow(backends: &[Named]) -> Vec<u32> {
        let hash = |name: &str, seed, modulo: usize| {
            usize::try_from(xxh3_64_with_seed(name.as_bytes(), seed) % modulo as u64).unwrap()
        };
        let (mut table, mut left) = (vec![None; PLACES], PLACES);
        let places = |(name, _): &Named| (hash(name, 0, PLACES), hash(name, 1, PLACES - 1) + 1);
        let mut places: Vec<_> = backends.iter().map(places).collect();
        let mut saved = vec![0u32; backends.len()];
        let full = u32::from(backends.iter().map(|(_, weight)| *weight).max().unwrap());
        while left > 0 {
            for (index, (_, weight)) in backends.iter().enumerate() {
                saved[index] += u32::from(*weight);
                if saved[index] >= full && left > 0 {
                    saved[index] -= full;
                    let (at, skip) = &mut places[index];
                    while table[*at].is_some() {
                        *at = (*at + *skip) % PLACES;
                    }
                    table[*at] = u32::try_from(index).ok();
                    left -= 1;
                }
            }
        }
        table.into_iter().map(Option::unwrap).collect()
    }

    #[test]
    fn whoever_skips_rounds_takes_the_same_places() {
        for weights in [&[1, 1, 1][..], &[3, 1, 2, 7], &[1_000, 999, 1, 500], &[u16::MAX, 2, 1]] {
            let names = names(weights.len());
            let table = table(&names, |index| weights[index]);
            assert_eq!(*table.places, slow(&table.made_of), "{weights:?}");
        }
    }

    #[test]
    fn one_of_great_weight_beside_thousands_of_little_weight_costs_little_more() {
        let names = names(4_096);
        let time = |weight: &dyn Fn(usize) -> u16| {
            let began = tokio::time::Instant::now();
            let _ = table(&names, weight);
            began.elapsed()
        };
        let equal = time(&|_| 1);
        let skewed = time(&|index| if index == 7 { u16::MAX } else { 1 });
        println!("equal weights: {equal:?}; one of 65,535 beside 4,095 of 1: {skewed:?}");
        assert!(skewed < 30 * equal, "{skewed:?} for {equal:?}");
    }

    #[test]
    fn shares_follow_the_weights() {
        let counts = counts(&table(&names(3), |index| [10, 5, 1][index]), 3);
        for (count, due) in counts.iter().zip([10, 5, 1].map(|weight| PLACES * weight / 16)) {
            assert!(count.abs_diff(due) <= 2, "{counts:?}");
        }
    }

    #[test]
    fn one_that_comes_moves_little_but_its_own() {
        for count in [3, 10, 50, 100] {
            let names = names(count + 1);
            let (before, after) = (table(&names[..count], |_| 1), table(&names, |_| 1));
            let moved = before.places.iter().zip(&after.places).filter(|(a, b)| a != b).count();
            let (share, due) = (moved as f64 / PLACES as f64, 1.0 / (count + 1) as f64);
            println!("{count} and one more: {share:.4} of the keys move; its share is {due:.4}");
            assert!(share < due + 0.05, "{share} of all moved for one of {count}");
        }
    }
}
