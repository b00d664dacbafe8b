//! The task that fills a pool from a registry, and ends with the pool.

use std::sync::{Arc, PoisonError, Weak};

use tokio::task::AbortHandle;

use super::{Pool, Shared};

impl<T> Pool<T> {
    pub(crate) fn of(shared: Arc<Shared<T>>) -> Self {
        Self(shared)
    }

    pub(crate) fn downgrade(&self) -> Weak<Shared<T>> {
        Arc::downgrade(&self.0)
    }

    /// The task that fills it ends as soon as it can. Says which it is.
    pub(crate) fn end_follower(&self) -> Option<AbortHandle> {
        self.0.followed_by(None).inspect(AbortHandle::abort)
    }

    /// The task `follower` fills it from now on, and no other, until the last handle is dropped.
    pub(crate) fn is_followed_by(&self, follower: AbortHandle) {
        if let Some(other) = self.0.followed_by(Some(follower)) {
            other.abort();
        }
    }
}

impl<T> Shared<T> {
    /// Says which task filled it so far.
    pub(super) fn followed_by(&self, follower: Option<AbortHandle>) -> Option<AbortHandle> {
        let mut current = self.follower.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, follower)
    }
}
