//! Epochs: what makes dropping a tag O(1), however many entries carry it.
//!
//! A tag has two epochs, one for each [`Strength`](crate::Strength). An entry records the epochs
//! that its tags had, and is valid while they are still the same: an invalidation writes a new epoch
//! and touches no entry. Epochs only grow, and no two invalidations anywhere share one: they are the
//! readings of a hybrid logical clock (Kulkarni et al., 2014), microseconds since 1970 that never
//! stand still. With a second tier its server is the authority on epochs.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::RemoteError;

/// The epochs of one tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    /// Of the last hard invalidation, or of the tag's creation.
    pub hard: u64,
    /// Of the last soft invalidation, or of the tag's creation.
    pub soft: u64,
    /// The last moment at which the tag can have been invalidated: the higher of the two, unless
    /// they are epochs the tag was merely created with. What was fetched as of then or later is in
    /// order.
    pub touched: u64,
}

impl Epochs {
    /// Those after a hard invalidation at `epoch`.
    pub const fn all(epoch: u64) -> Self {
        Self { hard: epoch, soft: epoch, touched: epoch }
    }

    pub(crate) fn highest(self) -> u64 {
        self.hard.max(self.soft).max(self.touched)
    }

    /// Whether they can be epochs at all. One that is years ahead would be the last one ever: no
    /// higher one could be drawn.
    pub(crate) fn check(self) -> Result<(), RemoteError> {
        if self.highest() <= micros().saturating_add(HORIZON) {
            Ok(())
        } else {
            Err(RemoteError::Protocol("an epoch that is years ahead".into()))
        }
    }
}

/// How far ahead of this node's clock an epoch may be: a year, in microseconds.
const HORIZON: u64 = 366 * 24 * 3600 * 1_000_000;

/// A point in the order of invalidations: what begins at it has seen all that came before.
///
/// Two numbers, for there are two orders: that of the invalidations made on this node, which are
/// counted, and that of the second tier's epochs, of which the highest this node has heard counts.
/// No wall clock comes into it: a node whose own is ahead would believe it had seen what it hadn't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The count of this node's invalidations.
    pub(crate) made: u64,
    /// The second tier's epoch.
    pub(crate) heard: u64,
}

impl Moment {
    /// Whether what is done as of this moment has seen all that had happened at `other`.
    pub(crate) const fn covers(self, other: Self) -> bool {
        self.made >= other.made && self.heard >= other.heard
    }

    pub(crate) fn latest(self, other: Self) -> Self {
        Self { made: self.made.max(other.made), heard: self.heard.max(other.heard) }
    }
}

/// This node's clock, in microseconds since 1970.
pub(crate) fn micros() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_micros()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_is_years_ahead_is_none() {
        assert!(Epochs::all(micros() + HORIZON / 2).check().is_ok());
        assert!(Epochs::all(micros() + HORIZON * 2).check().is_err());
        assert!(Epochs { hard: 1, soft: 1, touched: u64::MAX }.check().is_err());
    }
}
