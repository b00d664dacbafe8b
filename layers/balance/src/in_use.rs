//! A backend in use by one request, until the response is complete.

use crate::attempt::{Attempt, Mark};
use crate::classify::Verdict;
use crate::pick::{Outcome, Pick};
#[cfg(feature = "http")]
use crate::served_by::ServedBy;

/// A pick, and the attempt that it is for. Dropped before its end, it says nothing of the backend,
/// unless that was too slow.
#[derive(Debug)]
pub struct InUse<T> {
    pick: Option<Pick<T>>,
    attempt: Option<Attempt>,
    /// What to say if it is dropped.
    when_dropped: Verdict,
}

impl<T> InUse<T> {
    pub(crate) fn new(pick: Pick<T>, attempt: Option<Attempt>) -> Self {
        if let Some(attempt) = &attempt {
            attempt.picked(pick.id());
        }
        Self { pick: Some(pick), attempt, when_dropped: Verdict::Unknown }
    }

    /// The backend's name.
    pub(crate) fn name(&self) -> Option<&str> {
        self.pick.as_ref().map(Pick::name)
    }

    /// Writes down whose it is.
    #[cfg(feature = "http")]
    pub(crate) fn tell(&self, served_by: &ServedBy) {
        if let Some(pick) = &self.pick {
            served_by.set(pick.shared_name());
        }
    }

    /// The answer has begun to come.
    #[cfg(feature = "http")]
    pub(crate) fn answered(&mut self) {
        if let Some(pick) = &mut self.pick {
            pick.answered();
        }
    }

    /// Has no end but that it is dropped, and then says `verdict`.
    #[cfg(feature = "http")]
    pub(crate) fn finish_when_dropped(&mut self, verdict: Verdict) {
        self.when_dropped = verdict;
    }

    /// Ends the use. What the client has broken off tells nothing of the backend.
    pub(crate) fn finish(mut self, verdict: Verdict) {
        let Some(pick) = self.take() else { return };
        match outcome(verdict) {
            Some(outcome) => pick.finish(outcome),
            None => pick.forget(),
        }
    }

    /// The pick, if it has something to tell.
    fn take(&mut self) -> Option<Pick<T>> {
        let pick = self.pick.take()?;
        let is_broken = self.attempt.as_ref().is_some_and(|attempt| attempt.has(Mark::Broken));
        if is_broken {
            pick.forget();
            return None;
        }
        Some(pick)
    }
}

fn outcome(verdict: Verdict) -> Option<Outcome> {
    match verdict {
        Verdict::Success => Some(Outcome::Success),
        Verdict::Failure => Some(Outcome::Failure),
        Verdict::Unknown | Verdict::AtEnd => None,
    }
}

impl<T> Drop for InUse<T> {
    fn drop(&mut self) {
        let is_late = self.attempt.as_ref().is_some_and(|attempt| attempt.has(Mark::TimedOut));
        let verdict = if is_late { Verdict::Failure } else { self.when_dropped };
        if let Some(pick) = self.take()
            && let Some(outcome) = outcome(verdict)
        {
            pick.finish(outcome);
        }
    }
}
