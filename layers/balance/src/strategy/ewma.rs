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
    /// How often an average halves in a tick.
    halvings: f32,
    initial: f32,
}

impl Decay {
    pub(crate) fn new(settings: PeakEwma) -> Self {
        let ticks = settings.decay.as_secs_f32() * 1e6 / TICK_MICROS as f32;
        let halvings = std::f32::consts::LOG2_E / ticks.max(1.0);
        Self { halvings, initial: settings.initial.as_secs_f32() * 1e6 }
    }

    /// What is assumed of a backend before its first answer.
    pub(crate) fn initial(self) -> Duration {
        from_micros(self.initial)
    }

    /// What is left of an average after so many ticks.
    fn left(self, ticks: u32) -> f32 {
        half_to_the(ticks as f32 * self.halvings)
    }
}

/// 2 to the power of `-x`, for an `x` that isn't negative, to within 0.02 %, which is quicker than
/// `exp`: the whole part of `x` goes into the exponent, and the rest into a polynomial that is 1 at 0
/// and a half at 1, with the least error in between.
fn half_to_the(x: f32) -> f32 {
    let x = x.min(126.0);
    #[allow(clippy::cast_sign_loss, reason = "it isn't negative")]
    let whole = x as u32;
    let part = x - whole as f32;
    let polynomial = 1.0 + part * (-0.691_677_4 + part * (0.231_299_8 - part * 0.039_622_41));
    f32::from_bits((127 - whole) << 23) * polynomial
}

/// So many microseconds; what is too long for a `Duration` is the longest.
pub(crate) fn from_micros(micros: f32) -> Duration {
    Duration::try_from_secs_f32(micros / 1e6).unwrap_or(Duration::MAX)
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
                // One that has come since this answer's time was taken is as it is.
                let age = now.wrapping_sub(at).cast_signed().max(0);
                let left = decay.left(age.unsigned_abs());
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

    /// What is expected `now`, in microseconds.
    pub(crate) fn expected(&self, now: Duration, decay: Decay) -> f32 {
        let (average, at) = unpack(self.0.load(Relaxed));
        average * decay.left(tick(now).wrapping_sub(at))
    }

    /// What is expected of this one and of another, in microseconds, as of when the newer one was
    /// taken. Both sink while there are no answers, so that one that was slow is tried again; and both
    /// at the same rate, so that which of them is less doesn't depend on what time it is now.
    pub(crate) fn beside(&self, other: &Self, decay: Decay) -> (f32, f32) {
        let (average, at) = unpack(self.0.load(Relaxed));
        let (others, others_at) = unpack(other.0.load(Relaxed));
        let ahead = others_at.wrapping_sub(at).cast_signed();
        let left = decay.left(ahead.unsigned_abs());
        if ahead >= 0 { (average * left, others) } else { (average, others * left) }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "nothing was computed")]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn powers_of_a_half_are_right_and_never_grow() {
        let mut last = 1.0;
        for step in 0..20_000u16 {
            let x = f32::from(step) / 128.0;
            let power = half_to_the(x);
            assert!((power / 0.5f32.powf(x.min(126.0)) - 1.0).abs() < 2e-4, "{x}: {power}");
            assert!(power <= last, "{x}");
            last = power;
        }
        assert_eq!(half_to_the(f32::MAX), 0.5f32.powi(126));
    }

    #[test]
    fn answers_that_are_observed_out_of_turn_take_nothing_from_an_average() {
        let decay = Decay::new(PeakEwma::default());
        let ewma = Ewma::new(Duration::ZERO, decay);
        ewma.observe(500 * MS, 90 * MS, decay);
        ewma.observe(MS, 10 * MS, decay);
        assert_eq!(ewma.expected(10 * MS, decay), 500_000.0);
    }

    proptest::proptest! {
        /// Whatever the times, also where ticks wrap around.
        #[test]
        fn two_stand_beside_each_other_as_they_would_now(
            (one, other) in (1f32..1e7, 1f32..1e7),
            (at, since) in (proptest::num::u32::ANY, 0u32..1_000_000),
            is_first: bool,
        ) {
            let decay = Decay::new(PeakEwma::default());
            let late = at.wrapping_add(since);
            let (ats, now) = (if is_first { (at, late) } else { (late, at) }, late);
            let (a, b) = Ewma(pack(one, ats.0).into()).beside(&Ewma(pack(other, ats.1).into()), decay);
            let due = |average: f32, at: u32| average * decay.left(now.wrapping_sub(at));
            assert_eq!((a, b), (due(one, ats.0), due(other, ats.1)));
        }
    }

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
        let after_a_decay = ewma.expected(after, decay);
        let share = after_a_decay / 500_000.0;
        assert!((share - (-1.0f32).exp()).abs() < 0.01, "{share}");
        ewma.observe(MS, after, decay);
        assert!(ewma.expected(after, decay) < 190_000.0);
        let before = ewma.expected(after, decay);
        ewma.observe_at_least(MS, after, decay);
        assert_eq!(ewma.expected(after, decay), before, "it was expected to take longer");
        ewma.observe_at_least(300 * MS, after, decay);
        assert!((ewma.expected(after, decay) - 300_000.0).abs() < 1.0);
    }
}
