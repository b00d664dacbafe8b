//! What a watcher knows, and whose absence it believes.
//!
//! A server that was down, or lost its data, says for a while that hardly anybody lives: the
//! heartbeats of the others were lost or are on their way. So an instance that isn't listed any more
//! stays, unless it was heard to leave, or the server has been in touch, with the same data and an even
//! clock, for as long as the instance's time to live and what it may take to connect again: then a
//! heartbeat would have arrived.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::instance::Instance;
use super::record::{Answer, Living};

/// By how much two clocks may differ over a moment.
const SLACK: Duration = Duration::from_millis(200);

/// When a question was asked and answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

#[derive(Debug)]
pub(super) struct Known {
    /// What the others may need until they are connected again.
    reconnect: Duration,
    living: Vec<Living>,
    /// Those who were heard to leave since the last answer.
    left: HashSet<Box<str>>,
    /// Since when the server has been in touch; nothing if it always was.
    since: Option<Instant>,
    is_lost: bool,
    last: Option<(Bytes, Duration, Asked)>,
}

impl Known {
    /// Of instances that are connected again within `reconnect` after an outage.
    pub(super) fn new(reconnect: Duration) -> Self {
        let (living, left) = (Vec::new(), HashSet::new());
        Self { reconnect, living, left, since: None, is_lost: false, last: None }
    }

    /// The server couldn't be asked.
    pub(super) fn lost(&mut self) {
        self.is_lost = true;
    }

    /// The instance `id` was heard to leave. It may have come back since; the next answer tells.
    pub(super) fn leaves(&mut self, id: &str) {
        if self.living.iter().any(|living| living.instance.id() == id) {
            self.left.insert(id.into());
        }
    }

    /// Takes what the server says, and gives what is to be believed.
    pub(super) fn learn(&mut self, answer: Answer, asked: Asked) -> Vec<Instance> {
        let Answer { origin, now, mut living, .. } = answer;
        let is_same = self.last.as_ref().is_none_or(|(last_origin, last_now, last)| {
            let least = asked.began.saturating_duration_since(last.ended);
            let most = asked.ended.saturating_duration_since(last.began) + SLACK;
            let passed = now.checked_sub(*last_now);
            *last_origin == origin
                && passed.is_some_and(|passed| passed + SLACK >= least && passed <= most)
        });
        // A service that nobody is left of has no origin after a while, and needs none.
        if self.is_lost && self.last.is_some() || !is_same && !self.living.is_empty() {
            self.since = Some(asked.ended);
        }
        self.is_lost = false;
        self.last = Some((origin, now, asked));
        let in_touch = self.since.map(|since| asked.ended.saturating_duration_since(since));
        let listed: HashSet<_> = living.iter().map(|it| it.instance.id.clone()).collect();
        let left = std::mem::take(&mut self.left);
        for mut absent in self.living.drain(..) {
            let (id, due) = (&absent.instance.id, absent.ttl + self.reconnect);
            let missing = in_touch.and_then(|span| due.checked_sub(span));
            let missing = missing.filter(|missing| !missing.is_zero());
            if let Some(missing) = missing
                && !listed.contains(id)
                && !left.contains(&**id)
            {
                absent.left = missing;
                living.push(absent);
            }
        }
        self.living = living;
        self.living.iter().map(|it| it.instance.clone()).collect()
    }

    /// When to ask again if nothing is announced: a third of the shortest time to live, or when the
    /// first expires.
    pub(super) fn next(&self) -> Option<Duration> {
        let each = self.living.iter().map(|it| (it.ttl / 3).min(it.left));
        each.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(9);
    const RECONNECT: Duration = Duration::from_secs(2);

    fn answer(origin: &'static str, now: u64, ids: &[&str]) -> Answer {
        let living =
            ids.iter().map(|id| Living { instance: Instance::new(*id, "x"), ttl: TTL, left: TTL });
        let (origin, now) = (Bytes::from_static(origin.as_bytes()), Duration::from_secs(now));
        Answer { origin, now, living: living.collect(), skipped: 0 }
    }

    /// What is believed when the answers come at these seconds of this process's clock.
    struct Watcher(Known, Instant);

    impl Watcher {
        fn learn(&mut self, at: u64, answer: Answer) -> Vec<String> {
            let at = self.1 + Duration::from_secs(at);
            let believed = self.0.learn(answer, Asked { began: at, ended: at });
            let mut ids: Vec<_> = believed.iter().map(|it| it.id().to_owned()).collect();
            ids.sort();
            ids
        }
    }

    fn watcher() -> Watcher {
        Watcher(Known::new(RECONNECT), Instant::now())
    }

    #[test]
    fn a_server_in_touch_is_believed_at_once() {
        let mut watcher = watcher();
        assert_eq!(watcher.learn(0, answer("o", 100, &["a", "b"])), ["a", "b"]);
        assert_eq!(watcher.learn(3, answer("o", 103, &["a"])), ["a"]);
        assert!(watcher.learn(6, answer("o", 106, &[])).is_empty());
        assert_eq!(watcher.0.next(), None);
    }

    #[test]
    fn after_an_outage_nobody_is_gone_before_a_heartbeat_was_due() {
        let mut watcher = watcher();
        watcher.learn(0, answer("o", 100, &["a", "b", "c", "d"]));
        watcher.0.lost();
        assert_eq!(watcher.learn(90, answer("o", 190, &[])), ["a", "b", "c", "d"]);
        assert_eq!(watcher.learn(92, answer("o", 192, &["a"])), ["a", "b", "c", "d"]);
        watcher.0.leaves("b");
        watcher.0.leaves("unknown");
        assert_eq!(watcher.learn(93, answer("o", 193, &["a"])), ["a", "c", "d"]);
        assert_eq!(watcher.0.next(), Some(TTL / 3));
        assert_eq!(watcher.learn(100, answer("o", 200, &["a", "c"])), ["a", "c", "d"]);
        assert_eq!(watcher.0.next(), Some(Duration::from_secs(1)), "when it is to be believed");
        assert_eq!(watcher.learn(101, answer("o", 201, &["a", "c"])), ["a", "c"]);
        assert_eq!(watcher.learn(102, answer("o", 202, &["a"])), ["a"]);
    }

    #[test]
    fn data_that_were_lost_are_nobodys_end() {
        let mut watcher = watcher();
        watcher.learn(0, answer("o", 100, &["a", "b"]));
        assert_eq!(watcher.learn(3, answer("", 103, &[])), ["a", "b"]);
        assert_eq!(watcher.learn(4, answer("p", 104, &["a"])), ["a", "b"]);
        assert_eq!(watcher.learn(14, answer("p", 114, &["a"])), ["a", "b"]);
        assert_eq!(watcher.learn(15, answer("p", 115, &["a"])), ["a"]);
    }

    #[test]
    fn a_clock_that_jumps_is_nobodys_end() {
        for now in [500, 50] {
            let mut watcher = watcher();
            watcher.learn(0, answer("o", 100, &["a", "b"]));
            assert_eq!(watcher.learn(3, answer("o", now, &["a"])), ["a", "b"]);
            assert_eq!(watcher.learn(14, answer("o", now + 11, &["a"])), ["a"]);
        }
    }
}
