//! Picks of a pool.

use std::hint::black_box;

use tower_keep::balance::{Backend, Pool, Strategy, Wish};

use crate::{Way, With};

const BACKENDS: u16 = 100;

/// How many requests are in flight meanwhile, for each unit of weight.
const BUSY: usize = 2;

/// A backend is picked, and given back.
pub(super) fn pick(strategy: Strategy) -> Box<dyn Way> {
    let weight = |at: u16| 1 + at % 3;
    let backends = (0..BACKENDS).map(|at| Backend::new(format!("{at}"), ()).weight(weight(at)));
    let pool = Pool::builder().strategy(strategy).backends(backends).build().unwrap();
    let units: usize = (0..BACKENDS).map(|at| usize::from(weight(at))).sum();
    let in_flight: Vec<_> = (0..units * BUSY).map(|_| pool.pick().unwrap()).collect();
    let is_hash = matches!(strategy, Strategy::Hash(_));
    let run = move |key: [u8; 16]| {
        black_box(&in_flight);
        let wish = if is_hash { Wish::new().hash_bytes(&key) } else { Wish::new() };
        drop(black_box(pool.pick_by(wish).unwrap()));
    };
    let mut turn = 0_u128;
    let prepare = move || {
        turn += 1;
        // As long as an address of IPv6, another one at each turn.
        turn.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_le_bytes()
    };
    Box::new(With { prepare, run })
}
