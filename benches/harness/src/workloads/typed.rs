//! What it costs to get a value that is there: typed caches with tiers and tags, and the maps that they
//! are built on.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use armature_cache::{InMemoryCache, TieredCache};
use futures_util::FutureExt;
use tokio::runtime::Runtime;
use tower_keep::store::{L1, Store, Ttl};
use tower_keep_benches::{Way, With, compare_in};

use crate::BoxError;
use crate::pace::Pace;
use crate::progress;
use crate::report::{Figure, Plot, Report, Table};

const ROUNDS: usize = 300;
const HOUR: Duration = Duration::from_hours(1);

/// Of 10,000 values.
///
/// # Errors
///
/// If the report can't be written, or one that takes part not be filled.
pub fn run(report: &mut Report, runtime: &Runtime, pace: Pace) -> Result<(), BoxError> {
    report.add(hits(runtime, 10_000, pace.rounds(ROUNDS))?)?;
    Ok(())
}

fn hits(runtime: &Runtime, entries: u64, rounds: usize) -> Result<Table, BoxError> {
    let _entered = runtime.enter();
    let keep = Store::builder().l1(L1::bytes(entries * 4096)).build()?.typed::<u64, String>("user");
    let moka = moka::sync::Cache::<u64, Arc<String>>::builder()
        .max_capacity(entries * 2)
        .time_to_live(HOUR)
        .build();
    let quick = quick_cache::sync::Cache::<u64, Arc<String>>::new(usize::try_from(entries * 2)?);
    let amalgam = amalgam::Cache::<String>::builder().try_build()?;
    let two = || Arc::new(InMemoryCache::with_capacity(1 << 30));
    let armature = TieredCache::new(two(), two());
    runtime.block_on(async {
        for id in 0..entries {
            let key = format!("user:{id}");
            keep.set(&id, "Ada".into(), Ttl::secs(3600).tags(["users"])).await?;
            moka.insert(id, Arc::new("Ada".into()));
            quick.insert(id, Arc::new("Ada".into()));
            amalgam.set(&*key, "Ada".to_owned()).tags(["users"]).await?;
            armature.set(&key, "\"Ada\"".into(), Some(HOUR)).await?;
        }
        Ok::<_, BoxError>(())
    })?;
    let ids = || {
        let mut ids = (0..entries).cycle();
        move || ids.next().unwrap_or_default()
    };
    let keys = || {
        let mut ids = (0..entries).cycle();
        move || format!("user:{}", ids.next().unwrap_or_default())
    };
    let mut ways: [(&str, Box<dyn Way + '_>); 6] = [
        ("moka `get`", Box::new(With { prepare: ids(), run: |id| is_there(moka.get(&id)) })),
        (
            "quick_cache `get`",
            Box::new(With { prepare: ids(), run: |id| is_there(quick.get(&id)) }),
        ),
        (
            "tower-keep `get`",
            Box::new(With {
                prepare: ids(),
                run: |id| is_there(keep.get(&id).now_or_never().flatten()),
            }),
        ),
        (
            "tower-keep `get_or_try_set`",
            Box::new(With {
                prepare: ids(),
                run: |id| {
                    let value = keep.get_or_try_set(&id, Ttl::secs(3600), fill);
                    is_there(value.now_or_never().and_then(Result::ok));
                },
            }),
        ),
        (
            "amalgam-cache `get_or_set`",
            Box::new(With {
                prepare: keys(),
                run: |key: String| {
                    let value = amalgam.get_or_set(&*key, |_| fill()).into_future();
                    is_there(value.now_or_never().and_then(Result::ok));
                },
            }),
        ),
        (
            "armature-cache `TieredCache::get`",
            Box::new(With {
                prepare: keys(),
                run: |key: String| {
                    let value = armature.get(&key);
                    is_there(value.now_or_never().and_then(Result::ok).flatten());
                },
            }),
        ),
    ];
    let title = format!("A value that is there, of {entries}");
    let columns = [("ns", 0), ("more than moka, ns", 0), ("allocations", 1)];
    let mut table = Table::new(&format!("typed-{entries}"), &title, &columns)
        .note(format!(
            "{rounds} rounds of 1,000. The first two are maps, without tags, tiers or single flight."
        ))
        .plot(Plot::Bars(0));
    let bar = progress::bar(&table.id, rounds);
    let mut all: Vec<&mut dyn Way> = ways.iter_mut().map(|(_, way)| &mut **way as _).collect();
    let costs = compare_in(rounds, &mut all, |round| bar.set_position(round as u64));
    bar.finish_and_clear();
    let moka = costs.first().ok_or("nothing was measured")?.nanos;
    for ((name, _), cost) in ways.iter().zip(&costs) {
        let quartiles = Some([cost.quartiles.0, cost.quartiles.1]);
        let nanos = Figure { median: cost.nanos, quartiles };
        let cells = [Some(nanos), Figure::of(cost.nanos - moka), Figure::of(cost.allocations)];
        table.row(name, cells);
    }
    Ok(table)
}

fn is_there<T>(value: Option<T>) {
    assert!(black_box(value).is_some(), "it must be there, at once");
}

async fn fill() -> Result<String, Infallible> {
    Ok("Ada".to_owned())
}
