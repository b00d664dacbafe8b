//! Consistent hashing by Maglev's table (Eisenbud et al., "Maglev: A Fast and Reliable Software
//! Network Load Balancer", NSDI 2016, §3.4).
//!
//! Each backend prefers the places of the table in an order of its own, which follows from its name.
//! They take turns, as often as their weights say, and each takes the first place in its order that
//! is free. So the shares are even, and one that comes or goes moves little but its own.

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
    weight: u32,
    /// What of its next turn it has saved up.
    saved: u32,
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
                weight: (*weight).into(),
                saved: 0,
            })
            .collect();
        let full = turns.iter().map(|turn| turn.weight).max().unwrap_or(1).max(1);
        let mut table: Vec<Option<u32>> = vec![None; if turns.is_empty() { 0 } else { PLACES }];
        let mut left = table.len();
        'rounds: while left > 0 {
            for (index, turn) in turns.iter_mut().enumerate() {
                turn.saved += turn.weight;
                if turn.saved < full {
                    continue;
                }
                turn.saved -= full;
                while table.get(turn.at).is_some_and(Option::is_some) {
                    turn.at = (turn.at + turn.skip) % PLACES;
                }
                if let Some(place) = table.get_mut(turn.at) {
                    *place = u32::try_from(index).ok();
                }
                left -= 1;
                if left == 0 {
                    break 'rounds;
                }
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
