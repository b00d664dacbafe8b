//! Slow start: a backend that comes, or comes back, is given its share little by little.

use std::time::Duration;

use crate::error::BuildError;

/// Gives a backend that comes, or comes back, a share that grows from
/// [`minimum`](Self::minimum) to all of it within a window, so that its caches, connections and
/// compilers can warm up. Envoy's `slow_start_config`, at the level of the pick: where the strategy
/// chooses it, it is taken with a probability that grows, or else another one is chosen; so nothing
/// is built anew meanwhile.
///
/// It has no effect with [`Strategy::Hash`](crate::Strategy::Hash), as in Envoy: a key would move
/// back and forth. Nor for one that comes while no other is warm, as nobody could take what it
/// leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct SlowStart {
    window: Duration,
    aggression: f32,
    minimum: u8,
}

impl SlowStart {
    /// Within so long; 30 s to some minutes suits what compiles just in time.
    pub fn within(window: Duration) -> Self {
        Self { window, aggression: 1.0, minimum: 10 }
    }

    /// How the share grows: with the time that has passed, to the power of 1 / `aggression`. Above
    /// 1 it grows sooner, below 1 later. Default: 1.
    pub fn aggression(mut self, aggression: f32) -> Self {
        self.aggression = aggression;
        self
    }

    /// What it gets at least, in percent of its share. Default: 10.
    pub fn minimum(mut self, percent: u8) -> Self {
        self.minimum = percent;
        self
    }

    pub(crate) fn validate(self) -> Result<(), BuildError> {
        if self.window.is_zero() {
            let text = "a slow start needs a window above zero; leave it out to have none";
            return Err(BuildError::Setting(text));
        }
        if !(self.aggression.is_finite() && self.aggression > 0.0) {
            let text = "the aggression of a slow start is above 0; the default is 1";
            return Err(BuildError::Setting(text));
        }
        if !(1..=100).contains(&self.minimum) {
            let text = "the minimum of a slow start is 1 to 100 percent; the default is 10";
            return Err(BuildError::Setting(text));
        }
        Ok(())
    }

    /// What part of its share one gets `since` it came; nothing more to heed once it is over.
    pub(crate) fn factor(&self, since: Duration) -> Option<f32> {
        if since >= self.window {
            return None;
        }
        let passed = since.as_secs_f32() / self.window.as_secs_f32();
        // A power takes longer than the rest of a pick.
        let is_even = (self.aggression - 1.0).abs() < f32::EPSILON;
        let share = if is_even { passed } else { passed.powf(1.0 / self.aggression) };
        Some(share.max(f32::from(self.minimum) / 100.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_share_grows_from_the_minimum_to_all(
            (aggression, minimum) in (0.1f32..10.0, 1u8..=100),
            (one, other) in (0u64..60_000, 0u64..60_000),
        ) {
            let settings = SlowStart::within(Duration::from_secs(60));
            let settings = settings.aggression(aggression).minimum(minimum);
            let at = |millis| settings.factor(Duration::from_millis(millis)).unwrap();
            prop_assert!(at(0) <= f32::from(minimum) / 100.0);
            prop_assert!(at(one.min(other)) <= at(one.max(other)));
            prop_assert!(at(one) <= 1.0 && at(one) * 100.1 >= f32::from(minimum));
            prop_assert_eq!(settings.factor(Duration::from_secs(60)), None);
        }
    }
}
