//! Hedging: a second attempt before the first one has ended, at another backend, for when one is
//! slow now and then (Dean and Barroso, "The Tail at Scale", CACM 2013).

use std::array;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// When a second attempt is made beside the first one, for requests that may be sent twice and whose
/// body is there as a whole. It counts as an attempt, and takes from the budget like a retry; of the
/// two, the first that is no failure wins, and the other attempt is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Hedge(pub(crate) Delay);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Delay {
    Fixed(Duration),
    Percentile(f64),
}

impl Hedge {
    /// After `delay`.
    pub fn after(delay: Duration) -> Self {
        Self(Delay::Fixed(delay))
    }

    /// When it takes longer than `percentile` of the recent requests did, such as 95.0; not before a
    /// hundred were seen. Between 50 and 100.
    pub fn percentile(percentile: f64) -> Self {
        Self(Delay::Percentile(percentile))
    }
}

/// Buckets of equal ratio: four to the power of two.
const PARTS: u32 = 4;
/// Up to about an hour.
const BUCKETS: usize = 32 * PARTS as usize;
/// How many make a percentile worth something.
const ENOUGH: u32 = 100;
/// After how many those before count half.
const MANY: u32 = 2_000;

/// How long recent requests took.
#[derive(Debug)]
pub(crate) struct Latencies {
    buckets: [AtomicU32; BUCKETS],
    total: AtomicU32,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: array::from_fn(|_| AtomicU32::new(0)), total: AtomicU32::new(0) }
    }
}

/// The bucket of `latency`, by its highest bit and the two below.
fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(u64::from(PARTS));
    let octave = micros.ilog2();
    let part = (micros >> (octave - 2)) & 3;
    let index = u64::from((octave - 2) * PARTS) + part;
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// Where the bucket ends.
fn end(bucket: usize) -> Duration {
    let (octave, part) = (bucket / PARTS as usize, bucket % PARTS as usize);
    Duration::from_micros((part as u64 + 5) << octave)
}

impl Latencies {
    pub(crate) fn observe(&self, latency: Duration) {
        if let Some(bucket) = self.buckets.get(bucket(latency)) {
            bucket.fetch_add(1, Relaxed);
        }
        if self.total.fetch_add(1, Relaxed) == MANY {
            let mut left = 0;
            for bucket in &self.buckets {
                // Rounded up, so that single ones go.
                let half = bucket.load(Relaxed).div_ceil(2);
                bucket.fetch_sub(half, Relaxed);
                left += bucket.load(Relaxed);
            }
            self.total.store(left, Relaxed);
        }
    }

    /// What so many per cent were faster than, if enough were seen.
    pub(crate) fn percentile(&self, percentile: f64) -> Option<Duration> {
        let counts: [u32; BUCKETS] =
            array::from_fn(|at| self.buckets.get(at).map_or(0, |bucket| bucket.load(Relaxed)));
        let total: u32 = counts.iter().sum();
        let wanted = f64::from(total) * percentile / 100.0;
        let mut below = 0;
        let found = counts.iter().position(|count| {
            below += count;
            f64::from(below) >= wanted
        });
        found.filter(|_| total >= ENOUGH).map(end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_is_a_quarter_wide_at_most(micros in 4u64..1 << 32) {
            let latency = Duration::from_micros(micros);
            let end = end(bucket(latency));
            prop_assert!(latency < end && end <= latency * 5 / 4 + Duration::from_micros(1));
        }
    }

    #[test]
    fn finds_percentiles_once_there_is_enough_and_forgets_what_was_long_ago() {
        let latencies = Latencies::default();
        for at in 1..100 {
            latencies.observe(Duration::from_millis(at));
            assert_eq!(latencies.percentile(50.0), None);
        }
        latencies.observe(Duration::from_millis(100));
        let half = latencies.percentile(50.0).unwrap().as_millis();
        assert!((50..=63).contains(&half), "{half}");
        let most = latencies.percentile(95.0).unwrap().as_millis();
        assert!((95..=119).contains(&most), "{most}");
        for _ in 0..10_000 {
            latencies.observe(Duration::from_millis(1));
        }
        assert!(latencies.percentile(99.0).unwrap().as_millis() < 2);
    }
}
