//! What each hot path costs, in time and in allocations.
//!
//! `cargo bench -p tower-keep-benches --bench hot` prints criterion's figures, and then tables whose
//! lines were measured in turn in one run: read the ratios rather than the nanoseconds.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench may panic")]

use std::rc::Rc;
use std::time::Duration;

use criterion::Criterion;
use tokio::runtime::Builder;
use tower_keep_benches::hot::paths;
use tower_keep_benches::{Way, compare, print_table};

/// So many inputs are made at a time.
const BATCH: u64 = 1_000;

/// The tables: what is compared with its first line.
const TABLES: [(&str, &[&str]); 2] = [
    (
        "A value, of 10,000 in the store",
        &["store: get, L1 hit", "store: get_or_try_set, L1 hit", "store: get, L1 miss"],
    ),
    (
        "A response of 1 KiB; `oneshot`",
        &[
            "service alone",
            "cache: hit",
            "cache: hit, of 10,000 in turn",
            "cache: hit, around a router of axum",
            "cache: hit, compressed form",
            "auth: token seen before, HS256",
            "auth: token seen before, RS256",
            "auth: the same and RequireLayer, HS256",
            "pipeline: token, hit, compressed form",
        ],
    ),
];

fn time(way: &mut dyn Way, times: u64) -> Duration {
    let whole = (0..times / BATCH).map(|_| BATCH);
    let batches = whole.chain([times % BATCH]).filter_map(|times| u32::try_from(times).ok());
    batches.map(|times| way.time(times)).sum()
}

fn main() {
    let runtime = Rc::new(Builder::new_current_thread().enable_time().build().unwrap());
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    for path in paths() {
        let mut way = path.prepare(&runtime);
        let _entered = runtime.enter();
        criterion.bench_function(path.name, |b| b.iter_custom(|times| time(&mut *way, times)));
    }
    criterion.final_summary();

    for (title, names) in TABLES {
        let chosen = paths().into_iter().filter(|path| names.contains(&path.name));
        let mut ways: Vec<_> = chosen.map(|path| (path.name, path.prepare(&runtime))).collect();
        // The first of a table is what the others are beside.
        ways.sort_by_key(|(name, _)| names.iter().position(|other| other == name));
        let names: Vec<_> = ways.iter().map(|(name, _)| *name).collect();
        let mut ways: Vec<&mut dyn Way> = ways.iter_mut().map(|(_, way)| &mut **way as _).collect();
        let _entered = runtime.enter();
        print_table(title, &names, &compare(&mut ways));
    }
}
