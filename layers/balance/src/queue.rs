//! The queue of requests for which no backend has room.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::PickError;
use crate::pick::{Pick, Wish};
use crate::pool::Pool;
use crate::span::after;

/// How many requests may wait, and how long, while every backend is at its limit or the pool is
/// empty. What goes beyond that is refused, so that trouble shows early and memory is bounded.
///
/// Envoy's `max_pending_requests`, HAProxy's `maxqueue` and `timeout queue`. Default: 1,024 requests
/// for up to a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Queue {
    pub(crate) requests: usize,
    pub(crate) time: Duration,
}

impl Queue {
    /// Up to so many requests of the whole pool, each for up to so long.
    pub fn new(requests: usize, time: Duration) -> Self {
        Self { requests, time }
    }

    /// None waits: what nobody can take is refused at once.
    pub fn none() -> Self {
        Self::new(0, Duration::ZERO)
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new(1_024, Duration::from_secs(1))
    }
}

impl<T> Pool<T> {
    /// As [`pick_by`](Self::pick_by), for one who can wait: for a request in flight to end, or for a
    /// first backend to come. First come, first served, but for those who come just when there is
    /// room.
    ///
    /// # Errors
    ///
    /// [`PickError::Unhealthy`] at once; the others if the queue is full, or nothing has changed in
    /// time.
    pub async fn pick_within(&self, wish: Wish<'_>, queue: Queue) -> Result<Pick<T>, PickError> {
        match self.pick_by(wish) {
            Err(error) if can_wait(error) => {}
            picked => return picked,
        }
        self.queued(wish, queue).await
    }

    /// For one who has just asked in vain.
    pub(crate) async fn queued(&self, wish: Wish<'_>, queue: Queue) -> Result<Pick<T>, PickError> {
        let Some(waiting) = self.room().enter(queue.requests) else {
            return self.pick_by(wish);
        };
        let until = after(Instant::now(), queue.time);
        loop {
            let mut told = std::pin::pin!(waiting.told());
            // Before looking: what is freed from here on is not missed.
            told.as_mut().enable();
            let refused = match self.pick_by(wish) {
                Err(error) if can_wait(error) => error,
                picked => return picked,
            };
            if timeout_at(until, told).await.is_err() {
                return Err(refused);
            }
        }
    }
}

/// Whether it may pass while one waits.
pub(crate) fn can_wait(error: PickError) -> bool {
    matches!(error, PickError::Saturated | PickError::Empty)
}
