//! tower-keep's pool, by each of its strategies. A pick is counted as in flight, and given back.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};

use tower_keep_balance::{Backend, Balance, BuildError, Hash, Outcome, Pool, Strategy, Wish};

use super::tower::Nothing;
use super::{Way, key, weight};
use ::tower::Service;

/// How many requests are in flight meanwhile, for each unit of weight.
const BUSY: usize = 2;

pub(super) fn ways(backends: usize) -> Result<Vec<Way>, BuildError> {
    let bounded = Strategy::Hash(Hash::default().bounded_load(125));
    Ok(vec![
        by("ours: round robin", backends, BUSY, Strategy::RoundRobin)?,
        by("ours: random", backends, BUSY, Strategy::Random)?,
        by("ours: least connections", backends, BUSY, Strategy::LeastConnections)?,
        by("ours: least connections, idle", backends, 0, Strategy::LeastConnections)?,
        by("ours: two choices", backends, BUSY, Strategy::TwoChoices)?,
        by("ours: peak EWMA", backends, BUSY, Strategy::default())?,
        observed(backends)?,
        by("ours: hash", backends, BUSY, Strategy::Hash(Hash::default()))?,
        by("ours: hash, bounded", backends, BUSY, bounded)?,
        service(backends)?,
    ])
}

fn pool<T: Clone>(backends: usize, strategy: Strategy, target: T) -> Result<Pool<T>, BuildError> {
    let backends = (0..backends).map(|at| {
        let weight = u16::try_from(weight(at)).unwrap_or(1);
        Backend::new(format!("{at}"), target.clone()).weight(weight)
    });
    Pool::builder().strategy(strategy).backends(backends).build()
}

fn by(
    name: &'static str,
    backends: usize,
    busy: usize,
    strategy: Strategy,
) -> Result<Way, BuildError> {
    let pool = pool(backends, strategy, ())?;
    let units: usize = (0..backends).map(weight).sum();
    let in_flight: Vec<_> = (0..units * busy).map(|_| pool.pick()).collect();
    let is_hash = matches!(strategy, Strategy::Hash(_));
    Ok(Way::new(name, move |times| {
        black_box(&in_flight);
        for turn in 0..times {
            let key = key(turn);
            let wish = if is_hash { Wish::new().hash_bytes(&key) } else { Wish::new() };
            drop(black_box(pool.pick_by(wish)));
        }
    }))
}

/// With a word on how it went, which makes it look at the clock once more, and at how long it took.
fn observed(backends: usize) -> Result<Way, BuildError> {
    let pool = pool(backends, Strategy::default(), ())?;
    Ok(Way::new("ours: peak EWMA, and `finish`", move |times| {
        for _ in 0..times {
            if let Ok(pick) = black_box(pool.pick()) {
                pick.finish(Outcome::Success);
            }
        }
    }))
}

/// The Tower service, whole calls of a service that does nothing.
fn service(backends: usize) -> Result<Way, BuildError> {
    let balance = Balance::new(pool(backends, Strategy::default(), Nothing)?);
    Ok(Way::new("ours: peak EWMA, a call of `Balance`", move |times| {
        let mut balance = balance.clone();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..times {
            if balance.poll_ready(&mut cx).is_ready() {
                let answer = pin!(balance.call(()));
                let _ = black_box(answer.poll(&mut cx));
            }
        }
    }))
}
