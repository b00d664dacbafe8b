//! Pools of thousands of backends, and weights at their bounds.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic")]

use std::collections::HashSet;

use tokio::time::Instant;
use tower_keep_balance::{Backend, Hash, Outcome, PickError, Pool, Strategy, Wish};

const MANY: usize = 4_096;

fn strategies() -> [Strategy; 7] {
    [
        Strategy::RoundRobin,
        Strategy::Random,
        Strategy::LeastConnections,
        Strategy::TwoChoices,
        Strategy::default(),
        Strategy::Hash(Hash::default()),
        Strategy::Hash(Hash::default().bounded_load(125)),
    ]
}

fn pool(strategy: Strategy, weights: impl IntoIterator<Item = u16>) -> Pool<usize> {
    let backends = weights.into_iter().enumerate();
    let backends = backends.map(|(at, weight)| Backend::new(at.to_string(), at).weight(weight));
    Pool::builder().strategy(strategy).backends(backends).build().unwrap()
}

fn picked(pool: &Pool<usize>, picks: u64) -> HashSet<usize> {
    let pick = |key: u64| {
        let pick = pool.pick_by(Wish::new().hash_bytes(&key.to_le_bytes())).unwrap();
        let at = *pick;
        pick.finish(Outcome::Success);
        at
    };
    (0..picks).map(pick).collect()
}

#[test]
fn thousands_are_all_used_and_changed_in_no_time() {
    for strategy in strategies() {
        let began = Instant::now();
        let pool = pool(strategy, vec![1; MANY]);
        let built = began.elapsed();
        let used = picked(&pool, 12 * MANY as u64).len();
        assert!(used > MANY * 9 / 10, "{strategy:?}: {used} of {MANY}");
        let began = Instant::now();
        for at in 0..10 {
            assert!(pool.set_healthy(&at.to_string(), false));
        }
        let changed = began.elapsed() / 10;
        assert!(picked(&pool, 4_096).iter().all(|at| *at >= 10), "{strategy:?}");
        let began = Instant::now();
        let removed = pool.remove("4095").unwrap();
        println!(
            "{strategy:?}: built in {built:?}, {changed:?} a change of health, {:?} a removal",
            began.elapsed()
        );
        assert_eq!(removed.in_flight(), 0);
        assert!(!picked(&pool, 4_096).contains(&4_095));
    }
}

#[test]
fn the_greatest_weight_beside_the_least_is_no_trouble() {
    for strategy in strategies() {
        let weights = (0..MANY).map(|at| if at == 0 { u16::MAX } else { u16::from(at % 2 == 0) });
        let pool = pool(strategy, weights);
        let used = picked(&pool, 20_000);
        assert!(used.contains(&0), "{strategy:?}");
        assert!(used.iter().all(|at| at % 2 == 0), "{strategy:?}: weight 0 gets nothing");
        if strategy == Strategy::LeastConnections {
            // Who has none in flight has the fewest, however little its weight.
            continue;
        }
        let held: Vec<_> = (0..2_000).map(|_| pool.pick().unwrap()).collect();
        let heavy = held.iter().filter(|pick| ***pick == 0).count();
        // Of all the weight, it has 97 %.
        assert!(heavy > 1_500, "{strategy:?}: {heavy} of 2,000");
    }
}

#[test]
fn weights_of_zero_alone_are_no_backend() {
    for strategy in strategies() {
        let pool = pool(strategy, [0, 0, 0]);
        assert_eq!(pool.pick().unwrap_err(), PickError::Empty, "{strategy:?}");
        assert!(pool.set_weight("1", u16::MAX));
        assert!((0..100).all(|_| *pool.pick().unwrap() == 1), "{strategy:?}");
        assert!(pool.set_weight("1", 0));
        assert_eq!(pool.pick().unwrap_err(), PickError::Empty, "{strategy:?}");
    }
}
