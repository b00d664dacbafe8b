//! The fills of one call for many keys, made one.
//!
//! Each key goes through a flight of its own, as if it had been asked for alone: so it is shared with
//! all who want it, and fenced against removals. Only its fill is none of its own: it puts the key on
//! a list and waits for the answer. When all keys of the call are on the list, or turned out not to
//! need it, the list is filled.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Fill;
use crate::error::FillError;

/// How long a key may wait for the others of its call. They come within a round trip to the second
/// tier, unless that is slow for some of them.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// An answer for each key, in their order, if there is one.
pub(super) type Answers<V> = Result<Vec<Option<Fill<V>>>, FillError>;

/// What fills a list of keys.
pub(super) type FillMany<Q, V> = dyn Fn(Vec<Q>) -> BoxFuture<'static, Answers<V>> + Send + Sync;

/// The keys of one call that are yet to be filled.
pub(super) struct Batch<Q, V> {
    list: Mutex<List<Q, V>>,
    fill: Box<FillMany<Q, V>>,
    timeout: Duration,
    runtime: Handle,
}

struct List<Q, V> {
    /// How many may still come.
    expected: usize,
    waiting: Vec<(Q, Asker<V>)>,
}

/// One who waits for the answer of a key.
type Asker<V> = oneshot::Sender<Result<Fill<V>, FillError>>;

impl<Q: Send + 'static, V: Send + 'static> Batch<Q, V> {
    /// For so many keys, each of which must get a [`seat`](Self::seat).
    pub(super) fn new(expected: usize, fill: Box<FillMany<Q, V>>, timeout: Duration) -> Arc<Self> {
        let list = Mutex::new(List { expected, waiting: Vec::new() });
        Arc::new(Self { list, fill, timeout, runtime: Handle::current() })
    }

    pub(super) fn seat(self: &Arc<Self>) -> Arc<Seat<Q, V>> {
        Arc::new(Seat { batch: Arc::clone(self), is_left: AtomicBool::new(false) })
    }

    fn list(&self) -> MutexGuard<'_, List<Q, V>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills what is on the list, in a task of its own.
    fn fill_list(self: &Arc<Self>) {
        let waiting = mem::take(&mut self.list().waiting);
        if waiting.is_empty() {
            return;
        }
        let batch = Arc::clone(self);
        // If it panics, those who wait find that nobody will answer.
        self.runtime.spawn(async move {
            let (keys, askers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
            let filled = timeout(batch.timeout, (batch.fill)(keys)).await;
            let mut answers = filled.unwrap_or(Err(FillError::TimedOut)).map(Vec::into_iter);
            for asker in askers {
                let answer = match &mut answers {
                    Ok(answers) => answers.next().flatten().ok_or(FillError::Missing),
                    Err(error) => Err(error.clone()),
                };
                // Who doesn't wait any more has run out of time.
                let _ = asker.send(answer);
            }
        });
    }
}

/// The place of one key on the list, for as long as it is expected to come.
pub(super) struct Seat<Q: Send + 'static, V: Send + 'static> {
    batch: Arc<Batch<Q, V>>,
    is_left: AtomicBool,
}

impl<Q: Send + 'static, V: Send + 'static> Seat<Q, V> {
    /// Lets nobody wait for this one any more; it may still come, late. Says whether anybody did.
    pub(super) fn leave(&self) -> bool {
        if self.is_left.swap(true, Ordering::AcqRel) {
            return false;
        }
        let mut list = self.batch.list();
        list.expected = list.expected.saturating_sub(1);
        let is_full = list.expected == 0;
        drop(list);
        if is_full {
            self.batch.fill_list();
        }
        true
    }

    /// Puts `key` on the list, and waits for its answer.
    pub(super) async fn answer(self: Arc<Self>, key: Q) -> Result<Fill<V>, FillError> {
        let (asker, mut answer) = oneshot::channel();
        self.batch.list().waiting.push((key, asker));
        if !self.leave() {
            // Nobody comes after the late ones.
            self.batch.fill_list();
        }
        let given = if let Ok(given) = timeout(LONGEST_WAIT, &mut answer).await {
            given
        } else {
            // Those that are missing may themselves wait for what this call has begun. This key may be
            // on its way, too: then there is nothing to do.
            self.batch.fill_list();
            answer.await
        };
        given.unwrap_or(Err(FillError::Panicked))
    }
}

impl<Q: Send + 'static, V: Send + 'static> Drop for Seat<Q, V> {
    fn drop(&mut self) {
        self.leave();
    }
}
