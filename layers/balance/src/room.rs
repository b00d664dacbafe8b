//! Who waits until a backend can take something again.

use std::sync::atomic::{AtomicUsize, Ordering, fence};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Those who wait, told when it may be worth asking again.
///
/// A release that finds nobody waiting costs one load. That neither misses the other: one who
/// begins to wait says so, then looks whether there is room; a release makes room, then looks
/// whether anyone waits. All four are sequentially consistent, so at least one sees the other.
#[derive(Debug, Default)]
pub(crate) struct Room {
    waiting: AtomicUsize,
    freed: Notify,
}

impl Room {
    /// One request more can be taken.
    pub(crate) fn freed(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// All may be different.
    pub(crate) fn changed(&self) {
        self.freed.notify_waiters();
    }

    /// Begins to wait, unless `most` do so already.
    pub(crate) fn enter(&self, most: usize) -> Option<Waiting<'_>> {
        let more = |count: usize| (count < most).then_some(count + 1);
        let entered = self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        fence(Ordering::SeqCst);
        entered.is_ok().then(|| Waiting(self))
    }
}

/// One who waits. Dropped, it doesn't.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Room);

impl Waiting<'_> {
    /// Resolves when there may be room, in turn. It must be enabled before one looks.
    pub(crate) fn told(&self) -> Notified<'_> {
        self.0.freed.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
