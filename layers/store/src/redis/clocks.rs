//! What time it is at the servers.
//!
//! Bytes of a write that its caller has given up may arrive seconds later, by a connection that was
//! slow and isn't closed yet, and undo what was written meanwhile. So a value is sent with the time
//! by which it must have arrived. It is the server's own: each beat brings it along, and nodes'
//! clocks don't matter.

use std::collections::{HashMap, VecDeque};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use fred::types::cluster::ClusterRouting;
use tokio::time::Instant;

use super::beats;

/// How many readings of each server's clock count.
const READINGS: usize = 8;

pub(super) struct Clocks {
    start: Instant,
    seen: RwLock<Seen>,
}

#[derive(Default)]
struct Seen {
    /// By how many microseconds each server is ahead of `start`, at the least: its answer took some
    /// time. The highest of them is the closest.
    ahead: HashMap<String, VecDeque<u64>>,
    /// Which server has which slots.
    routing: Option<ClusterRouting>,
}

impl Clocks {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), seen: RwLock::default() }
    }

    /// Forgets all: these may be other servers now.
    pub(super) fn begin(&self, routing: Option<ClusterRouting>) {
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) =
            Seen { routing, ..Seen::default() };
    }

    pub(super) fn route(&self, routing: Option<ClusterRouting>) {
        self.seen.write().unwrap_or_else(PoisonError::into_inner).routing = routing;
    }

    /// A beat has brought the time, in microseconds since 1970, of the server that it was sent to.
    pub(super) fn hear(&self, way: String, now: u64) {
        let ahead = now.saturating_sub(micros(self.start.elapsed()));
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let readings = seen.ahead.entry(way).or_default();
        readings.push_back(ahead);
        if readings.len() > READINGS {
            readings.pop_front();
        }
    }

    /// What time it is `after` that at the server that has `slot`: not later than it really is.
    pub(super) fn there(&self, slot: u16, after: Duration) -> Option<u64> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let way = beats::name(seen.routing.as_ref().and_then(|routing| routing.get_server(slot)));
        let ahead = seen.ahead.get(&way)?.iter().max()?;
        let since = micros(self.start.elapsed()).saturating_add(micros(after));
        Some(ahead.saturating_add(since))
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_does_not_make_a_server_seem_behind() {
        let clocks = Clocks::new();
        assert_eq!(clocks.there(0, Duration::ZERO), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        clocks.hear(String::new(), 105_000_000);
        tokio::time::advance(Duration::from_secs(3)).await;
        // Read two seconds ago, when it was 106 seconds.
        clocks.hear(String::new(), 106_000_000);
        assert_eq!(clocks.there(0, Duration::from_millis(5)), Some(108_005_000));
        for _ in 0..READINGS {
            clocks.hear(String::new(), 50_000_000);
        }
        assert_eq!(clocks.there(0, Duration::ZERO), Some(50_000_000), "it was set back");
        assert_eq!(clocks.there(0, Duration::MAX), Some(u64::MAX));
        clocks.begin(None);
        assert_eq!(clocks.there(0, Duration::ZERO), None);
    }
}
