//! Connections of HTTP/1.1 that wait for a request.

use std::sync::Weak;

use tokio::time::{Instant, sleep_until};

use super::{Http1, Limits, Shared};

/// The one that was used last is on top.
#[derive(Default)]
pub(super) struct Idle {
    stack: Vec<(Http1, Instant)>,
    is_swept: bool,
}

impl Idle {
    pub(super) fn len(&self) -> usize {
        self.stack.iter().filter(|(sender, _)| !sender.is_closed()).count()
    }

    /// One that can be used at once.
    pub(super) fn take(&mut self, limits: Limits) -> Option<Http1> {
        let mut at = self.stack.len();
        while at > 0 {
            at -= 1;
            let (sender, since) = self.stack.get(at)?;
            if sender.is_closed() {
                self.stack.remove(at);
            } else if since.elapsed() >= limits.idle_timeout {
                // Those below are older.
                self.stack.drain(..=at);
                return None;
            } else if sender.is_ready() {
                return Some(self.stack.remove(at).0);
            }
            // The last bytes of its message are still on their way through its task.
        }
        None
    }

    /// Says whether somebody has to begin to sweep.
    pub(super) fn put(&mut self, sender: Http1, now: Instant, limits: Limits) -> bool {
        if self.stack.len() >= limits.max_idle {
            return false;
        }
        self.stack.push((sender, now));
        !std::mem::replace(&mut self.is_swept, true)
    }

    /// Drops those that have waited for too long. Says when to come again.
    fn sweep(&mut self, limits: Limits) -> Option<Instant> {
        let now = Instant::now();
        self.stack.retain(|(sender, since)| {
            !sender.is_closed() && now.duration_since(*since) < limits.idle_timeout
        });
        self.is_swept = !self.stack.is_empty();
        let (_, oldest) = self.stack.first()?;
        oldest.checked_add(limits.idle_timeout)
    }
}

/// Closes connections that nobody needs, until there are none, or nobody who could need them.
pub(super) async fn sweep(connections: Weak<Shared>) {
    loop {
        let next = match connections.upgrade() {
            Some(shared) => shared.state().idle.sweep(shared.limits),
            None => return,
        };
        let Some(next) = next else { return };
        sleep_until(next).await;
    }
}
