//! The future of a verification, which mostly is ready at once.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::de::DeserializeOwned;

use super::{Pending, Step, Verifier};
use crate::refusal::Refusal;
use crate::source::LookAgain;
use crate::verified::Verified;

/// The future of [`Verifier::verify`]. It allocates only if it has to wait.
#[must_use = "futures do nothing unless polled"]
pub struct Verify<C> {
    state: State<C>,
}

enum State<C> {
    Done(Result<Verified<C>, Refusal>),
    Looking { looking: LookAgain, verifier: Verifier<C>, token: Box<[u8]> },
    Checking { pending: Pending<C>, verifier: Verifier<C> },
    Taken,
}

impl<C> Verify<C> {
    pub(super) fn done(result: Result<Verified<C>, Refusal>) -> Self {
        Self { state: State::Done(result) }
    }

    pub(super) fn looking(looking: LookAgain, verifier: Verifier<C>, token: &[u8]) -> Self {
        Self { state: State::Looking { looking, verifier, token: token.into() } }
    }

    pub(super) fn checking(pending: Pending<C>, verifier: Verifier<C>) -> Self {
        Self { state: State::Checking { pending, verifier } }
    }
}

impl<C: DeserializeOwned + Send + Sync + 'static> Future for Verify<C> {
    type Output = Result<Verified<C>, Refusal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let state = &mut self.get_mut().state;
        if let State::Looking { looking, verifier, token } = state {
            let looked = ready!(looking.as_mut().poll(cx));
            let next = match verifier.run(token, |_, _| None) {
                Step::Done(result) => State::Done(result.map_err(|refusal| refusal.after(looked))),
                Step::LookAgain(_) => State::Done(Err(Refusal::UnknownKey.after(looked))),
                Step::Check(pending) => State::Checking { pending, verifier: verifier.clone() },
            };
            *state = next;
        }
        let standing = match state {
            State::Checking { pending, .. } => Some(ready!(pending.checking.as_mut().poll(cx))),
            _ => None,
        };
        match (std::mem::replace(state, State::Taken), standing) {
            (State::Done(result), _) => Poll::Ready(result),
            (State::Checking { pending: Pending { verified, digest, .. }, verifier }, Some(it)) => {
                Poll::Ready(verifier.shared.settle(verified, digest, it))
            }
            // Polled after it was ready, which nobody should do.
            _ => Poll::Pending,
        }
    }
}

impl<C> Verify<C> {
    /// The result, if nothing has to be waited for.
    pub(crate) fn ready(self) -> Result<Result<Verified<C>, Refusal>, Self> {
        match self.state {
            State::Done(result) => Ok(result),
            state => Err(Self { state }),
        }
    }
}

impl<C> fmt::Debug for Verify<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waits = matches!(self.state, State::Looking { .. } | State::Checking { .. });
        f.debug_struct("Verify").field("waits", &waits).finish_non_exhaustive()
    }
}
