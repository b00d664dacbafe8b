//! A backend that comes, or comes back, gets its share little by little.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a test may panic")]

use std::time::Duration;

use tokio::time::advance;
use tower_keep_balance::{
    Backend, Hash, Outcome, Pick, Pool, PoolBuilder, SlowStart, State, Strategy, WhenNoneHealthy,
    Wish,
};

const SECOND: Duration = Duration::from_secs(1);

fn rules() -> [Strategy; 5] {
    [
        Strategy::RoundRobin,
        Strategy::Random,
        Strategy::LeastConnections,
        Strategy::TwoChoices,
        Strategy::default(),
    ]
}

fn builder(rule: Strategy) -> PoolBuilder<usize> {
    let backends = (0..4).map(|at| Backend::new(at.to_string(), at));
    Pool::builder().strategy(rule).backends(backends)
}

fn pool(rule: Strategy) -> Pool<usize> {
    builder(rule).slow_start(SlowStart::within(100 * SECOND)).build().unwrap()
}

/// What part of the picks the one at `at` gets, relative to an equal share.
fn share(pool: &Pool<usize>, at: usize) -> f64 {
    let picks = 40_000;
    let got = (0..picks).filter(|_| {
        let pick = pool.pick().unwrap();
        let got = *pick == at;
        pick.finish(Outcome::Success);
        got
    });
    got.count() as f64 / f64::from(picks) * pool.status().len() as f64
}

#[tokio::test(start_paused = true)]
async fn the_share_of_one_that_comes_back_grows_under_every_strategy() {
    for rule in rules() {
        let pool = pool(rule);
        pool.set_healthy("2", false);
        pool.set_healthy("2", true);
        assert!(matches!(pool.status()[2].state, State::SlowStart));
        let mut shares = Vec::new();
        for _ in 0..4 {
            shares.push(share(&pool, 2));
            advance(33 * SECOND).await;
        }
        advance(SECOND).await;
        shares.push(share(&pool, 2));
        println!("{rule:?}: {shares:.2?} after 0, 33, 66, 99 and 133 s");
        // What it leaves, the other three take, so less than a quarter is missing from them.
        for (share, due) in shares.iter().zip([0.10, 0.33, 0.66, 0.99, 1.0]) {
            assert!((share - due).abs() < 0.08 + due * 0.12, "{rule:?}: {share}, not {due}");
        }
        assert!(matches!(pool.status()[2].state, State::Up));
    }
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_warms_up_but_not_the_first_ones() {
    for rule in rules() {
        let pool = pool(rule);
        assert!(pool.status().iter().all(|it| matches!(it.state, State::Up)));
        pool.insert(Backend::new("4", 4));
        assert!(matches!(pool.status()[4].state, State::SlowStart));
        assert!(share(&pool, 4) < 0.35, "{rule:?}");
        // All of them are new: nobody could take what one leaves.
        pool.update((5..9).map(|at| Backend::new(at.to_string(), at)));
        pool.update([]);
        pool.update((5..9).map(|at| Backend::new(at.to_string(), at)));
        assert!(pool.status().iter().all(|it| matches!(it.state, State::Up)), "{rule:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_warms_up_takes_all_if_it_is_the_only_one() {
    for rule in rules() {
        let spare = Backend::new("spare", 9).priority(1);
        let pool = builder(rule).backend(spare).when_none_healthy(WhenNoneHealthy::Refuse);
        let pool = pool.slow_start(SlowStart::within(100 * SECOND).minimum(1)).build().unwrap();
        pool.set_healthy("2", false);
        pool.set_healthy("2", true);
        assert_eq!(["0", "1", "3"].map(|name| pool.set_healthy(name, false)), [true; 3]);
        assert!((0..1_000).all(|_| *pool.pick().unwrap() == 2), "{rule:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hash_is_not_led_astray() {
    let pool = pool(Strategy::Hash(Hash::default()));
    let find = |hash| *pool.pick_by(Wish::new().hash(hash)).unwrap();
    let before: Vec<usize> = (0..1_000).map(find).collect();
    pool.set_healthy("2", false);
    pool.set_healthy("2", true);
    assert_eq!((0..1_000).map(find).collect::<Vec<_>>(), before);
}

#[tokio::test(start_paused = true)]
async fn without_it_a_backend_gets_its_share_at_once() {
    let pool = builder(Strategy::RoundRobin).build().unwrap();
    pool.set_healthy("2", false);
    pool.set_healthy("2", true);
    let picks: Vec<Pick<usize>> = (0..400).map(|_| pool.pick().unwrap()).collect();
    assert_eq!(picks.iter().filter(|pick| ***pick == 2).count(), 100);
}
