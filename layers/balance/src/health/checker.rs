//! The task that checks one backend for as long as that is in its pool.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::probe::{ErasedProbe, ProbeError};
use super::tally::Tally;
use super::{Initially, Timing};
use crate::member::Member;
use crate::pool::Shared;
use crate::span::after;

/// Starts the checks of a backend.
type Start<T> = fn(&Checks<T>, &Handle, Arc<Member<T>>, Weak<Shared<T>>) -> AbortHandle;

/// The checks of a pool.
#[derive(Debug)]
pub(crate) struct Checks<T> {
    probe: Arc<dyn ErasedProbe<T>>,
    pub(crate) timing: Timing,
    /// Taken where it is known that `T` may go to another thread.
    start: Start<T>,
}

impl<T> Clone for Checks<T> {
    fn clone(&self) -> Self {
        Self { probe: Arc::clone(&self.probe), timing: self.timing, start: self.start }
    }
}

impl<T> Checks<T> {
    pub(crate) fn new(probe: Arc<dyn ErasedProbe<T>>, timing: Timing) -> Self
    where
        T: Send + Sync + 'static,
    {
        let start: Start<T> = |checks, runtime, member, pool| {
            let (probe, timing) = (Arc::clone(&checks.probe), checks.timing);
            runtime.spawn(check(probe, timing, member, pool)).abort_handle()
        };
        Self { probe, timing, start }
    }

    pub(crate) fn start(
        &self,
        runtime: &Handle,
        member: &Arc<Member<T>>,
        pool: Weak<Shared<T>>,
    ) -> AbortHandle {
        (self.start)(self, runtime, Arc::clone(member), pool)
    }

    pub(crate) fn begins_unhealthy(&self) -> bool {
        self.timing.initially == Initially::Unhealthy
    }
}

async fn check<T>(
    probe: Arc<dyn ErasedProbe<T>>,
    timing: Timing,
    member: Arc<Member<T>>,
    pool: Weak<Shared<T>>,
) {
    let is_healthy = timing.initially == Initially::Healthy;
    let mut tally = Tally::new(timing.rise, timing.fall, is_healthy);
    let mut due = after(Instant::now(), timing.first(fastrand::f64()));
    loop {
        sleep_until(due).await;
        // From when it was begun, not from when it was due: what was late isn't made up for.
        due = after(Instant::now(), timing.next(fastrand::f64()));
        let asking = AssertUnwindSafe(probe.ask(&member.target)).catch_unwind();
        let answer = match timeout(timing.timeout(), asking).await {
            Ok(answer) => answer.unwrap_or(Err(ProbeError::Panicked)),
            Err(_) => Err(ProbeError::Timeout(timing.timeout())),
        };
        let counts = tally.take(answer.is_ok());
        let Some(pool) = pool.upgrade() else { return };
        pool.checked(&member, answer, counts);
    }
}
