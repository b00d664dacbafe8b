//! What it costs to invalidate a tag, by how many values carry it, and then to find them gone.

use std::sync::Arc;
use std::time::Duration;

use armature_cache::{InMemoryCache, TaggedCache};
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tower_keep::store::{L1, Store, Ttl, Typed};

use crate::BoxError;
use crate::pace::Pace;
use crate::progress;
use crate::report::{Figure, Plot, Report, Table};
use crate::samples::Samples;

/// Few, since the index of one of them takes its time to be made.
const ROUNDS: usize = 20;

const SIZES: [(u64, &str); 3] = [(1, "1"), (100, "100"), (10_000, "10,000")];

const HOUR: Duration = Duration::from_hours(1);

const TAG: &str = "users";

/// A cache of values with tags.
enum Cache {
    Keep(Store, Typed<String, String>),
    Amalgam(amalgam::Cache<String>),
    Armature(TaggedCache<InMemoryCache>),
}

/// Both tables.
///
/// # Errors
///
/// If the report can't be written, or a cache can't be filled.
pub fn run(report: &mut Report, runtime: &Runtime, pace: Pace) -> Result<(), BoxError> {
    let rounds = pace.rounds(ROUNDS);
    let caches = runtime.block_on(async {
        let store = Store::builder().l1(L1::bytes(1 << 30)).build()?;
        let values = store.typed("user");
        Ok::<_, BoxError>([
            ("tower-keep", Cache::Keep(store, values)),
            ("amalgam-cache", Cache::Amalgam(amalgam::Cache::builder().try_build()?)),
            (
                "armature-cache `TaggedCache`",
                Cache::Armature(TaggedCache::new(Arc::new(InMemoryCache::with_capacity(1 << 30)))),
            ),
        ])
    })?;
    let samples = || caches.each_ref().map(|_| SIZES.map(|_| Samples::default()));
    let (mut invalidated, mut found) = (samples(), samples());
    let bar = progress::bar("storm-typed", rounds);
    for _ in 0..rounds {
        for (at, (size, _)) in SIZES.into_iter().enumerate() {
            for (number, (_, cache)) in caches.iter().enumerate() {
                let (took, gets) = runtime.block_on(cache.round(size))?;
                invalidated[number][at].push(took.as_secs_f64() * 1e9);
                #[expect(clippy::cast_precision_loss, reason = "there are few")]
                let size = size as f64;
                found[number][at].push(gets.as_secs_f64() * 1e9 / size);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let note =
        format!("{rounds} rounds, in turn, in which the values are set anew; medians (quartiles).");
    let columns = SIZES.map(|(_, name)| (name, 0));
    let tables = [
        ("storm-typed", "ns to invalidate a tag, by how many values carry it", invalidated),
        (
            "storm-typed-after",
            "ns to find that a value is gone, by how many carried the tag",
            found,
        ),
    ];
    for (id, title, samples) in tables {
        let mut table =
            Table::new(id, title, &columns).note(&*note).plot(Plot::LogLines(SIZES.len()));
        for ((name, _), samples) in caches.iter().zip(&samples) {
            table.row(name, samples.iter().map(Figure::median));
        }
        report.add(table)?;
    }
    Ok(())
}

impl Cache {
    /// Sets so many, invalidates their tag, and looks for them: how long the last two took.
    async fn round(&self, size: u64) -> Result<(Duration, Duration), BoxError> {
        let keys: Vec<String> = (0..size).map(|id| format!("user:{id}")).collect();
        for key in &keys {
            match self {
                Self::Keep(_, values) => {
                    values.set(key, "Ada".to_owned(), Ttl::secs(3600).tags([TAG])).await?;
                }
                Self::Amalgam(cache) => {
                    cache.set(&**key, "Ada".to_owned()).tags([TAG]).await?;
                }
                Self::Armature(cache) => {
                    cache.set_with_tags(key, "\"Ada\"".into(), &[TAG], Some(HOUR)).await?;
                }
            }
        }
        let start = Instant::now();
        match self {
            Self::Keep(store, _) => drop(store.invalidate_tag(TAG).await?),
            Self::Amalgam(cache) => drop(cache.remove_by_tag(TAG).await?),
            Self::Armature(cache) => cache.invalidate_tag(TAG).await?,
        }
        let took = start.elapsed();
        let start = Instant::now();
        for key in &keys {
            let is_gone = match self {
                Self::Keep(_, values) => values.get(key).await.is_none(),
                Self::Amalgam(cache) => cache.try_get(&**key).await?.is_none(),
                Self::Armature(cache) => cache.get(key).await?.is_none(),
            };
            if !is_gone {
                return Err("what was invalidated is still there".into());
            }
        }
        Ok((took, start.elapsed()))
    }
}
