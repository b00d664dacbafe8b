//! What those who take part in one attempt at a request tell each other: who tries again, who
//! chooses a backend, and who speaks to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use smallvec::SmallVec;

use crate::member::BackendId;

/// No backend was picked yet. There will never be so many.
const NOBODY: u64 = u64::MAX;

/// Backends, mostly few.
pub(crate) type Backends = SmallVec<[BackendId; 4]>;

/// One attempt at a request, to be found in the request's extensions.
///
/// A client that answers errors with a response of its own, such as a proxy with `502`, says by
/// [`mark_unsent`](Self::mark_unsent) that the request may safely be sent to another backend.
#[derive(Clone, Debug)]
pub struct Attempt(Arc<State>);

#[derive(Debug)]
struct State {
    number: u32,
    avoid: Backends,
    backend: AtomicU64,
    marks: AtomicU8,
}

/// What was said of an attempt.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "what only retries tell"))]
#[repr(u8)]
pub(crate) enum Mark {
    /// A backend's service has been called.
    Called = 1,
    /// Nothing of it has reached a backend.
    Unsent = 2,
    /// The balancer itself has answered it.
    Refused = 4,
    /// The backend didn't answer in time.
    TimedOut = 8,
    /// It was the client whose request broke off.
    Broken = 16,
}

impl Attempt {
    /// The attempt `number`, from 1, which is not to go to those in `avoid` unless there is no other:
    /// for one who tries again without `Retry`, and puts it into the extensions.
    pub fn new(number: u32, avoid: impl IntoIterator<Item = BackendId>) -> Self {
        let avoid = avoid.into_iter().collect();
        let (backend, marks) = (AtomicU64::new(NOBODY), AtomicU8::new(0));
        Self(Arc::new(State { number, avoid, backend, marks }))
    }

    /// Which one it is, from 1.
    pub fn number(&self) -> u32 {
        self.0.number
    }

    /// The backend that was picked last.
    pub fn backend(&self) -> Option<BackendId> {
        let id = self.0.backend.load(Ordering::Acquire);
        (id != NOBODY).then_some(BackendId(id))
    }

    /// The backends that were tried before.
    pub fn avoid(&self) -> &[BackendId] {
        &self.0.avoid
    }

    /// Says that nothing of the request has reached the backend, as when no connection could be
    /// made: it may be sent to another one whatever its method.
    pub fn mark_unsent(&self) {
        self.mark(Mark::Unsent);
    }

    pub(crate) fn picked(&self, backend: BackendId) {
        self.0.backend.store(backend.0, Ordering::Release);
    }

    pub(crate) fn mark(&self, mark: Mark) {
        self.0.marks.fetch_or(mark as u8, Ordering::AcqRel);
    }

    pub(crate) fn has(&self, mark: Mark) -> bool {
        self.0.marks.load(Ordering::Acquire) & mark as u8 != 0
    }
}
