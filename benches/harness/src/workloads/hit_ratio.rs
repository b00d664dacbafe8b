//! How often a cache that can't hold everything has what is asked for.

use std::sync::Arc;

use futures_util::FutureExt;
use moka::policy::EvictionPolicy;
use tower_keep::store::{L1, Store, Ttl, Typed};

use super::draws::{Site, Zipf};
use crate::BoxError;
use crate::pace::Pace;
use crate::progress;
use crate::report::{Figure, Plot, Report, Table};

/// How many requests are made before it is counted, and how many are counted.
const WARM: usize = 500_000;
const COUNTED: usize = 1_000_000;

/// Keys that may be asked for.
const KEYS: u64 = 1_000_000;

/// Keys of one length weigh the same.
fn key(number: u64) -> String {
    format!("{number:016x}")
}

/// A cache of values that don't matter.
trait Candidate {
    fn get(&self, key: &str) -> Result<bool, BoxError>;

    fn put(&self, key: String) -> Result<(), BoxError>;
}

/// What is asked for.
type Stream = Box<dyn Iterator<Item = u64>>;
type MakeStream = fn() -> Stream;

/// With room for so many entries.
type MakeCandidate = fn(u64) -> Result<Box<dyn Candidate>, BoxError>;

/// Whether `candidate` has the key; else it is put in.
fn has(candidate: &dyn Candidate, number: u64) -> Result<bool, BoxError> {
    let key = key(number);
    let found = candidate.get(&key)?;
    if !found {
        candidate.put(key)?;
    }
    Ok(found)
}

struct Keep {
    values: Typed<str, ()>,
}

impl Keep {
    /// With room for so many entries.
    fn of(entries: u64) -> Result<Self, BoxError> {
        let bytes = entries * Self::weight()?;
        let values = Store::builder().l1(L1::bytes(bytes)).build()?.typed("v");
        Ok(Self { values })
    }

    /// What an entry is counted as.
    fn weight() -> Result<u64, BoxError> {
        let store = Store::builder().l1(L1::bytes(1 << 20)).build()?;
        has(&Self { values: store.typed("v") }, 0)?;
        Ok(store.l1_size().1)
    }
}

impl Candidate for Keep {
    fn get(&self, key: &str) -> Result<bool, BoxError> {
        Ok(self.values.get(key).now_or_never().ok_or("a lookup waits")?.is_some())
    }

    fn put(&self, key: String) -> Result<(), BoxError> {
        let set = self.values.set(&key, (), Ttl::secs(86_400));
        set.now_or_never().ok_or("a set waits")??;
        Ok(())
    }
}

struct Moka(moka::sync::Cache<String, Arc<()>>);

impl Moka {
    fn of(entries: u64, policy: EvictionPolicy) -> Self {
        Self(moka::sync::Cache::builder().max_capacity(entries).eviction_policy(policy).build())
    }
}

impl Candidate for Moka {
    fn get(&self, key: &str) -> Result<bool, BoxError> {
        Ok(self.0.get(key).is_some())
    }

    fn put(&self, key: String) -> Result<(), BoxError> {
        self.0.insert(key, Arc::new(()));
        Ok(())
    }
}

struct Quick(quick_cache::sync::Cache<String, Arc<()>>);

impl Candidate for Quick {
    fn get(&self, key: &str) -> Result<bool, BoxError> {
        Ok(self.0.get(key).is_some())
    }

    fn put(&self, key: String) -> Result<(), BoxError> {
        self.0.insert(key, Arc::new(()));
        Ok(())
    }
}

/// Of streams by Zipf's law and of a site, for caches of several sizes.
///
/// # Errors
///
/// If the report can't be written, or ours not be made.
pub fn run(report: &mut Report, pace: Pace) -> Result<(), BoxError> {
    let (warm, counted) = match pace {
        Pace::Full => (WARM, COUNTED),
        Pace::Quick => (WARM / 50, COUNTED / 50),
    };
    report.add(ratios(warm, counted)?)?;
    Ok(())
}

fn ratios(warm: usize, counted: usize) -> Result<Table, BoxError> {
    let streams: [(&str, MakeStream); 3] = [
        ("Zipf 0.8", || Box::new(Zipf::new(KEYS, 0.8, 1))),
        ("Zipf 1.0", || Box::new(Zipf::new(KEYS, 1.0, 2))),
        ("site", || Box::new(Site::new(KEYS, 3))),
    ];
    let sizes = [("1 %", KEYS / 100), ("5 %", KEYS / 20)];
    let cases: Vec<_> =
        streams.iter().flat_map(|stream| sizes.iter().map(move |size| (stream, size))).collect();
    let names: Vec<_> =
        cases.iter().map(|(stream, size)| format!("{}, {}", stream.0, size.0)).collect();
    let columns: Vec<_> = names.iter().map(|name| (&**name, 2)).collect();
    let mut table = Table::new("hit-ratio", "Hits, %, by how much of a million keys fits", &columns)
        .note(format!(
            "{counted} requests after {warm} that aren't counted, of one thread, by one seed. `site` \
             is a stream made up like one: popularity that drifts, 15 % of requests for what nobody \
             asks for again, crawlers."
        ))
        .plot(Plot::Lines);
    let candidates: [(&str, MakeCandidate); 4] = [
        ("tower-keep", |entries| Ok(Box::new(Keep::of(entries)?))),
        ("moka, TinyLFU", |entries| Ok(Box::new(Moka::of(entries, EvictionPolicy::tiny_lfu())))),
        ("moka, LRU", |entries| Ok(Box::new(Moka::of(entries, EvictionPolicy::lru())))),
        ("quick_cache", |entries| {
            let entries = usize::try_from(entries)?;
            Ok(Box::new(Quick(quick_cache::sync::Cache::new(entries))))
        }),
    ];
    let bar = progress::bar("hit-ratio", candidates.len() * cases.len());
    for (name, make) in candidates {
        let mut cells = Vec::new();
        for (stream, size) in &cases {
            cells.push(Figure::of(ratio(&*make(size.1)?, stream.1(), warm, counted)?));
            bar.inc(1);
        }
        table.row(name, cells);
    }
    bar.finish_and_clear();
    Ok(table)
}

#[expect(clippy::cast_precision_loss, reason = "counts this small are exact")]
fn ratio(
    candidate: &dyn Candidate,
    mut stream: Stream,
    warm: usize,
    counted: usize,
) -> Result<f64, BoxError> {
    for key in stream.by_ref().take(warm) {
        has(candidate, key)?;
    }
    let mut hits = 0_u64;
    for key in stream.take(counted) {
        hits += u64::from(has(candidate, key)?);
    }
    Ok(hits as f64 * 100.0 / counted as f64)
}
