//! How long a backend takes, as a moving average that follows what is slow at once: Finagle's "peak
//! EWMA".
//!
//! One word holds the average and when it was taken, so that reading and writing take no lock.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "ticks wrap around, words have halves, and an average need not be exact"
)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::PeakEwma;

/// What a tick of the clock is: 64 µs, of which 32 bits hold three days. Past that an average looks
/// younger than it is, once.
const TICK_MICROS: u32 = 64;

/// The average, in microseconds (the upper half, a float), and when it was taken, in ticks.
#[derive(Debug)]
pub(crate) struct Ewma(AtomicU64);

/// The parameters, prepared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decay {
    ticks: f32,
    initial: f32,
}

impl Decay {
    pub(crate) fn new(settings: PeakEwma) -> Self {
        let ticks = settings.decay.as_secs_f32() * 1e6 / TICK_MICROS as f32;
        Self { ticks: ticks.max(1.0), initial: settings.initial.as_secs_f32() * 1e6 }
    }

    /// What is assumed of a backend before its first answer.
    pub(crate) fn initial(self) -> Duration {
        Duration::from_secs_f32(self.initial / 1e6)
    }

    fn left(self, ticks: u32) -> f32 {
        (-(ticks as f32) / self.ticks).exp()
    }
}

/// The instant `since` after the clock's start.
fn tick(since: Duration) -> u32 {
    // It wraps around.
    (since.as_micros() / u128::from(TICK_MICROS)) as u32
}

fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

fn pack(average: f32, at: u32) -> u64 {
    u64::from(average.to_bits()) << 32 | u64::from(at)
}

impl Ewma {
    /// Of a backend that comes `now`. What is assumed of it sinks, too, until it has been tried.
    pub(crate) fn new(now: Duration, decay: Decay) -> Self {
        Self(pack(decay.initial, tick(now)).into())
    }

    /// Takes an answer into account that has just come, `now` after the clock's start.
    pub(crate) fn observe(&self, latency: Duration, now: Duration, decay: Decay) {
        let latency = latency.as_secs_f32() * 1e6;
        let now = tick(now);
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let (average, at) = unpack(word);
            let next = if latency >= average {
                latency
            } else {
                let left = decay.left(now.wrapping_sub(at));
                average * left + latency * (1.0 - left)
            };
            Some(pack(next, now))
        });
    }

    /// Takes into account that an answer would have taken longer than `latency`, if that is news.
    pub(crate) fn observe_at_least(&self, latency: Duration, now: Duration, decay: Decay) {
        let latency = latency.as_secs_f32() * 1e6;
        let now = tick(now);
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let (average, at) = unpack(word);
            let expected = average * decay.left(now.wrapping_sub(at));
            (latency > expected).then(|| pack(latency, now))
        });
    }

    /// What is expected, in microseconds. It sinks while there are no answers, so that one that was
    /// slow is tried again.
    pub(crate) fn expected(&self, now: Duration, decay: Decay) -> f32 {
        let (average, at) = unpack(self.0.load(Relaxed));
        average * decay.left(tick(now).wrapping_sub(at))
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "nothing was computed")]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn follows_what_is_slow_at_once_and_what_is_fast_slowly() {
        let decay = Decay::new(PeakEwma::default());
        let ewma = Ewma::new(Duration::ZERO, decay);
        assert_eq!(ewma.expected(Duration::ZERO, decay), 30_000.0);
        assert!(ewma.expected(Duration::from_secs(60), decay) < 100.0, "it is to be tried");
        ewma.observe(500 * MS, 2 * MS, decay);
        assert!((ewma.expected(2 * MS, decay) - 500_000.0).abs() < 1.0);
        ewma.observe(MS, 3 * MS, decay);
        assert!(ewma.expected(3 * MS, decay) > 499_000.0);
        let after = 3 * MS + Duration::from_secs(10);
        let expected = ewma.expected(after, decay);
        assert!((expected / 500_000.0 - (-1.0f32).exp()).abs() < 0.01, "{expected}");
        ewma.observe(MS, after, decay);
        assert!(ewma.expected(after, decay) < 190_000.0);
        let before = ewma.expected(after, decay);
        ewma.observe_at_least(MS, after, decay);
        assert_eq!(ewma.expected(after, decay), before, "it was expected to take longer");
        ewma.observe_at_least(300 * MS, after, decay);
        assert!((ewma.expected(after, decay) - 300_000.0).abs() < 1.0);
    }
}
