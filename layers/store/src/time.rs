//! Instants that several nodes can compare, and the clock that makes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// An instant in whole milliseconds since the Unix epoch.
///
/// Entries carry these, so that a node can judge what another one stored. Nodes whose clocks
/// differ by some amount misjudge lifetimes by the same amount, and nothing else: tags and
/// removals do not depend on clocks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This instant moved forward; the end of time if that overflows.
    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// This instant moved back; 1970 if that is too far.
    #[must_use]
    pub fn saturating_sub(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// The time since `earlier`; zero if that lies ahead (another node's clock may be).
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A wall clock that never goes back within a process.
///
/// It reads the system's wall clock once and adds monotonic time to it, so a step of the system
/// clock neither revives nor kills entries. The monotonic part is tokio's, so that tests under
/// `tokio::time::pause` govern it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    since: Instant,
}

impl Clock {
    pub(crate) fn system() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: Timestamp::default().saturating_add(wall), since: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        // On the way of every hit, so without `as_millis`, which divides 128 bits.
        let since = self.since.elapsed();
        Timestamp(self.wall.0 + since.as_secs() * 1000 + u64::from(since.subsec_millis()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_paused_time() {
        let clock = Clock::system();
        let start = clock.now();
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(clock.now().saturating_since(start), Duration::from_secs(61));
    }

    #[test]
    fn saturates_at_both_ends() {
        let early = Timestamp::from_millis(1);
        assert_eq!(early.saturating_since(Timestamp::from_millis(9)), Duration::ZERO);
        assert_eq!(early.saturating_add(Duration::MAX).as_millis(), u64::MAX);
        assert_eq!(early.saturating_sub(Duration::from_secs(1)).as_millis(), 0);
    }
}
