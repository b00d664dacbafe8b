//! A trace as sites have it, replayed: how many requests, and how many bytes, caches of several sizes
//! answer that count what they hold in bytes.

mod caches;

use std::collections::HashSet;

use self::caches::{Cache, NAMES, cache, weight};
use super::draws::Site;
use crate::BoxError;
use crate::pace::Pace;
use crate::progress;
use crate::report::{Figure, Plot, Report, Table};

/// Keys that may be popular.
const KEYS: u64 = 200_000;

/// Requests before it is counted, and those that are.
const WARM: usize = 500_000;
const COUNTED: usize = 1_000_000;

/// Requests of a day, in half of which there are few people, and crawlers all the same.
const DAY: u64 = 250_000;

/// The share of requests that crawlers make at the quietest time.
const AT_NIGHT: f64 = 0.4;

/// The logarithm of bytes: its median, and its deviation. Between them, a tenth has more than 60 KiB.
const MEDIAN: f64 = 9.0;
const DEVIATION: f64 = 1.6;
const MOST: f64 = (4 << 20) as f64;

const SEED: u64 = 11;

/// Percent of all the bytes that are asked for.
const SIZES: [(u64, &str); 4] = [(1, "1 %"), (5, "5 %"), (10, "10 %"), (20, "20 %")];

/// Something that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Object {
    key: u64,
    bytes: u32,
}

/// The trace: the same for a seed.
#[derive(Debug)]
struct Trace {
    people: Site,
    crawlers: fastrand::Rng,
    count: u64,
}

impl Trace {
    fn new(seed: u64) -> Self {
        let crawlers = fastrand::Rng::with_seed(seed.rotate_left(7));
        Self { people: Site::new(KEYS, seed), crawlers, count: 0 }
    }

    /// Zero at the busiest time of the day, one at the quietest.
    fn night(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52")]
        let share = (self.count % DAY) as f64 / DAY as f64;
        (1.0 - (share * std::f64::consts::TAU).cos()) / 2.0
    }
}

impl Iterator for Trace {
    type Item = Object;

    fn next(&mut self) -> Option<Object> {
        self.count += 1;
        let key = if self.crawlers.f64() < self.night() * AT_NIGHT {
            self.crawlers.u64(..KEYS)
        } else {
            self.people.next()?
        };
        Some(Object { key, bytes: bytes(key) })
    }
}

/// Log-normal, and always the same for a key.
fn bytes(key: u64) -> u32 {
    let mut random = fastrand::Rng::with_seed(key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // Box and Muller's way to the normal distribution; of 1 - [0, 1), which is never 0.
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * random.f64()).cos();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in bounds")]
    let bytes = (MEDIAN + DEVIATION * normal).exp().clamp(64.0, MOST) as u32;
    bytes
}

/// Both tables: of requests, and of bytes.
///
/// # Errors
///
/// If the report can't be written, or a cache waits for something.
pub fn run(report: &mut Report, pace: Pace) -> Result<(), BoxError> {
    let (warm, counted) = match pace {
        Pace::Full => (WARM, COUNTED),
        Pace::Quick => (WARM / 50, COUNTED / 50),
    };
    let mut seen = HashSet::new();
    let objects = Trace::new(SEED).take(warm + counted).filter(|object| seen.insert(object.key));
    let total: u64 = objects.map(|object| u64::from(object.bytes)).sum();
    let weight = weight()?;
    let columns = SIZES.map(|(_, name)| (name, 2));
    let note = format!(
        "{counted} requests after {warm} that aren't counted, of one thread, by one seed: {} objects of {} MiB in all, \
         log-normal, 64 bytes to 4 MiB; popularity by Zipf's law that drifts, things that are asked for once, and \
         crawlers, which make more of the requests at night. All count {weight} bytes beside an object's own.",
        seen.len(),
        total >> 20,
    );
    let mut hits =
        Table::new("trace-hits", "A trace: hits, %, by how many of its bytes fit", &columns)
            .note(&*note)
            .plot(Plot::Lines);
    let mut bytes = Table::new(
        "trace-bytes",
        "A trace: bytes that are hits, %, by how many of its bytes fit",
        &columns,
    )
    .note(note)
    .plot(Plot::Lines);
    let bar = progress::bar("trace", NAMES.len() * SIZES.len());
    for name in NAMES {
        let (mut of_hits, mut of_bytes) = (Vec::new(), Vec::new());
        for (percent, _) in SIZES {
            let ratios = replay(&*cache(name, total * percent / 100, weight)?, warm, counted)?;
            of_hits.push(Figure::of(ratios.0));
            of_bytes.push(Figure::of(ratios.1));
            bar.inc(1);
        }
        hits.row(name, of_hits);
        bytes.row(name, of_bytes);
    }
    bar.finish_and_clear();
    report.add(hits)?;
    report.add(bytes)?;
    Ok(())
}

/// Percent of the requests that are hits, and of the bytes.
#[expect(clippy::cast_precision_loss, reason = "counts this small are exact")]
fn replay(cache: &dyn Cache, warm: usize, counted: usize) -> Result<(f64, f64), BoxError> {
    let (mut hits, mut hit_bytes, mut bytes) = (0_u64, 0_u64, 0_u64);
    for (number, object) in Trace::new(SEED).take(warm + counted).enumerate() {
        let is_hit = cache.has(object)?;
        if number >= warm {
            bytes += u64::from(object.bytes);
            hits += u64::from(is_hit);
            hit_bytes += u64::from(object.bytes) * u64::from(is_hit);
        }
    }
    Ok((hits as f64 * 100.0 / counted as f64, hit_bytes as f64 * 100.0 / bytes as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_it_all_and_sizes_are_log_normal() {
        let take = |seed| Trace::new(seed).take(10_000).collect::<Vec<_>>();
        assert!(take(1) == take(1) && take(1) != take(2));
        let logs: Vec<f64> = (0..10_000).map(|key| f64::from(bytes(key)).ln()).collect();
        let mean = logs.iter().sum::<f64>() / 1e4;
        let deviation = (logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / 1e4).sqrt();
        assert!(
            (mean - MEDIAN).abs() < 0.1 && (deviation - DEVIATION).abs() < 0.1,
            "{mean} {deviation}"
        );
    }

    #[test]
    fn nights_are_in_the_middle_of_days() {
        let at = |count| Trace { count, ..Trace::new(1) }.night();
        assert!(at(0) < 0.01 && at(DAY / 2) > 0.99 && at(DAY) < 0.01);
    }
}
