//! Who listens on which channel: watches of one service share a subscription, and the last one ends
//! it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fred::interfaces::PubsubInterface;
use tokio::time::{sleep, timeout};

use super::Inner;
use crate::backoff::Waits;

/// How many listen, by channel.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<HashMap<Box<str>, usize>>);

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more listens on `channel`.
    pub(super) fn enter(&self, channel: &str) {
        *self.lock().entry(channel.into()).or_default() += 1;
    }

    /// One fewer does. Says whether it was the last one.
    fn leave(&self, channel: &str) -> bool {
        let mut listeners = self.lock();
        let Some(count) = listeners.get_mut(channel) else { return false };
        *count -= 1;
        let was_last = *count == 0;
        if was_last {
            listeners.remove(channel);
        }
        was_last
    }

    fn has(&self, channel: &str) -> bool {
        self.lock().contains_key(channel)
    }
}

/// One who listened on `channel` doesn't any more: if nobody else does, the server is told so.
pub(super) async fn leave(inner: Arc<Inner>, channel: String) {
    if !inner.listeners.leave(&channel) {
        return;
    }
    // From here on the registry may be dropped: its connections end then, and the subscription with
    // them.
    let inner = Arc::downgrade(&{ inner });
    let mut waits = Waits::new(Duration::from_millis(50), Duration::from_secs(5));
    while try_leave(&inner, &channel).await.is_err() {
        sleep(waits.next(fastrand::f64())).await;
    }
}

/// Ends the subscription, unless somebody listens again. An error if the server couldn't be told.
async fn try_leave(inner: &Weak<Inner>, channel: &str) -> Result<(), ()> {
    let Some(inner) = inner.upgrade() else { return Ok(()) };
    if inner.listeners.has(channel) {
        return Ok(());
    }
    let subscriber = inner.link.get().subscriber.clone();
    let told = timeout(inner.link.deadline(), subscriber.unsubscribe(channel)).await;
    if inner.listeners.has(channel) {
        // One who came meanwhile may have subscribed before that; twice does no harm.
        let subscribed = timeout(inner.link.deadline(), subscriber.subscribe(channel)).await;
        if !matches!(subscribed, Ok(Ok(()))) {
            tracing::debug!(channel, "announcements of the registry don't arrive");
        }
        return Ok(());
    }
    if matches!(told, Ok(Ok(()))) { Ok(()) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_who_leaves_is_told_so() {
        let listeners = Listeners::default();
        for channel in ["a", "a", "b"] {
            listeners.enter(channel);
        }
        assert!(!listeners.leave("a") && listeners.has("a"));
        assert!(listeners.leave("b") && !listeners.has("b"));
        assert!(listeners.leave("a") && !listeners.has("a"));
        assert!(!listeners.leave("a"), "there is nobody");
        assert!(listeners.lock().is_empty());
    }
}
