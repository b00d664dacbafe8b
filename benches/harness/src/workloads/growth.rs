//! Whether the cost of a hit grows with what is stored.

use std::convert::Infallible;

use futures_util::FutureExt;
use tokio::runtime::Runtime;
use tower_keep::store::{L1, Store, Ttl, Typed};
use tower_keep_benches::{Way, With, compare_in};

use super::in_process::Kind;
use crate::BoxError;
use crate::contenders::Page;
use crate::pace::Pace;
use crate::progress;
use crate::report::{Figure, Plot, Report, Table};

const ROUNDS: usize = 100;

/// How many of the entries are asked for: those who are hot lie in the processor's own caches, as
/// they do wherever a few are asked for most.
const HOT: u64 = 100;

const ENTRIES: [(u64, &str); 4] =
    [(1_000, "1,000"), (10_000, "10,000"), (100_000, "100,000"), (1_000_000, "1,000,000")];

const TAGS: [(u64, &str); 3] = [(1, "1"), (1_000, "1,000"), (100_000, "100,000")];

/// By the number of entries, and by that of tags.
///
/// # Errors
///
/// If the report can't be written, or something not be filled.
pub fn run(report: &mut Report, runtime: &Runtime, pace: Pace) -> Result<(), BoxError> {
    report.add(by_entries(runtime, pace)?)?;
    report.add(by_tags(runtime, pace)?)?;
    Ok(())
}

fn by_entries(runtime: &Runtime, pace: Pace) -> Result<Table, BoxError> {
    let (entries, rounds) = (pace.of(&ENTRIES), pace.rounds(ROUNDS));
    let columns: Vec<_> = entries.iter().map(|(_, name)| (*name, 0)).collect();
    let mut table =
        Table::new("entries", "ns for one of the same 100, by how many there are", &columns)
            .note(format!("{rounds} rounds of 1,000."))
            .plot(Plot::Lines);
    let mut ways = Vec::new();
    for (entries, _) in entries.iter().copied() {
        let moka = moka::sync::Cache::<u64, u64>::new(entries * 2);
        for id in 0..entries {
            moka.insert(id, id);
        }
        let ids = hot();
        let moka = With { prepare: ids, run: move |id| assert!(moka.get(&id).is_some()) };
        ways.push(Box::new(moka) as Box<dyn Way>);
        ways.push(typed(runtime, entries, 1)?);
        ways.push(Kind::KeepBare.way_to(runtime, entries, HOT, Page::of(128))?);
    }
    let rows =
        ["moka `get`", "tower-keep `get`", "a response, by tower-keep around a `service_fn`"];
    measure(runtime, &mut table, rounds, &rows, ways);
    Ok(table)
}

fn by_tags(runtime: &Runtime, pace: Pace) -> Result<Table, BoxError> {
    let (tags, rounds) = (pace.of(&TAGS), pace.rounds(ROUNDS));
    let columns: Vec<_> = tags.iter().map(|(_, name)| (*name, 0)).collect();
    let mut table =
        Table::new("tags", "ns for one of the same 100, by how many tags are in use", &columns)
            .note(format!(
                "{rounds} rounds of 1,000, of 100,000 entries, each with one of the tags."
            ))
            .plot(Plot::Lines);
    let ways: Result<Vec<_>, _> =
        tags.iter().map(|(tags, _)| typed(runtime, 100_000, *tags)).collect();
    measure(runtime, &mut table, rounds, &["tower-keep `get`"], ways?);
    Ok(table)
}

fn measure(
    runtime: &Runtime,
    table: &mut Table,
    rounds: usize,
    rows: &[&str],
    mut ways: Vec<Box<dyn Way>>,
) {
    let _entered = runtime.enter();
    let bar = progress::bar(&table.id, rounds);
    let mut all: Vec<&mut dyn Way> = ways.iter_mut().map(|way| &mut **way as _).collect();
    let costs = compare_in(rounds, &mut all, |round| bar.set_position(round as u64));
    bar.finish_and_clear();
    for (row, name) in rows.iter().enumerate() {
        let costs = costs.iter().skip(row).step_by(rows.len());
        table.row(name, costs.map(|cost| Figure::of(cost.nanos)));
    }
}

fn typed(runtime: &Runtime, entries: u64, tags: u64) -> Result<Box<dyn Way>, BoxError> {
    let _entered = runtime.enter();
    let values: Typed<u64, u64> =
        Store::builder().l1(L1::bytes(entries * 4096)).build()?.typed("value");
    runtime.block_on(async {
        for id in 0..entries {
            let ttl = Ttl::secs(3600).tags([format!("tag:{}", id % tags)]);
            values.set(&id, id, ttl).await?;
        }
        Ok::<_, BoxError>(())
    })?;
    let fill = || async { Ok::<_, Infallible>(0) };
    let run = move |id| {
        let value = values.get_or_try_set(&id, Ttl::secs(3600), fill);
        assert!(value.now_or_never().is_some_and(|it| it.is_ok()), "it must be there at once");
    };
    Ok(Box::new(With { prepare: hot(), run }))
}

fn hot() -> impl FnMut() -> u64 {
    let mut ids = (0..HOT).cycle();
    move || ids.next().unwrap_or_default()
}
