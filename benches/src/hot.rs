//! The hot paths: what is done for each request, or as often. Each is defined here once, to be timed and
//! to have its instructions counted.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

mod auth;
mod balance;
mod cache;
mod compress;
mod service;
mod store;

use std::fmt;
use std::rc::Rc;

use tokio::runtime::Runtime;
use tower_keep::balance::{Hash, Strategy};

use crate::Way;

/// How many entries there are: a hit is of one among many.
const ENTRIES: u64 = 10_000;

/// So few that they lie in the processor's own caches, as what is asked for most does.
const HOT: u64 = 100;

type Make = fn(&Rc<Runtime>) -> Box<dyn Way>;

/// Something that is done very often.
#[derive(Clone, Copy)]
pub struct HotPath {
    /// What it is.
    pub name: &'static str,
    make: Make,
}

impl HotPath {
    /// Prepares it, and makes sure that it does what its name says. It is to be measured within the
    /// runtime, which has one thread.
    pub fn prepare(&self, runtime: &Rc<Runtime>) -> Box<dyn Way> {
        (self.make)(runtime)
    }
}

impl fmt::Debug for HotPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HotPath").field(&self.name).finish()
    }
}

/// All of them.
pub fn paths() -> Vec<HotPath> {
    let paths: &[(&'static str, Make)] = &[
        ("service alone", |_| service::alone()),
        ("cache: hit", |runtime| cache::hit(runtime, HOT)),
        ("cache: hit, of 10,000 in turn", |runtime| cache::hit(runtime, ENTRIES)),
        ("cache: hit, around a router of axum", cache::hit_before_axum),
        ("cache: hit, compressed form", cache::hit_compressed),
        ("cache: 304 by If-None-Match", cache::not_modified),
        ("cache: hit, range", cache::range),
        ("cache: miss that is stored", cache::miss),
        ("store: get, L1 hit", store::hit),
        ("store: get, L1 miss", store::miss),
        ("store: get_or_try_set, L1 hit", store::fill_hit),
        ("store: get_or_try_set, miss that is stored", store::fill_miss),
        ("store: tag invalidated, of 10,000 values", store::invalidate),
        ("compress: client reads no coding", |_| compress::identity()),
        ("compress: response too small", |_| compress::small()),
        ("auth: token seen before, HS256", |_| auth::seen_hs256()),
        ("auth: token seen before, RS256", |_| auth::seen_rs256()),
        ("auth: the same and RequireLayer, HS256", |_| auth::required()),
        ("balance: pick, round robin", |_| balance::pick(Strategy::RoundRobin)),
        ("balance: pick, random", |_| balance::pick(Strategy::Random)),
        ("balance: pick, least connections", |_| balance::pick(Strategy::LeastConnections)),
        ("balance: pick, two choices", |_| balance::pick(Strategy::TwoChoices)),
        ("balance: pick, peak EWMA", |_| balance::pick(Strategy::default())),
        ("balance: pick, hash", |_| balance::pick(Strategy::Hash(Hash::default()))),
        ("balance: pick, hash with bounded load", |_| {
            balance::pick(Strategy::Hash(Hash::default().bounded_load(125)))
        }),
        ("pipeline: token, hit, compressed form", auth::pipeline),
    ];
    paths.iter().map(|&(name, make)| HotPath { name, make }).collect()
}

/// The numbers below `end`, again and again.
fn below(end: u64) -> impl FnMut() -> u64 {
    let mut ids = (0..end).cycle();
    move || ids.next().unwrap()
}
