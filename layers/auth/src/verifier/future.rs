//! The future of a verification, which mostly is ready at once.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::de::DeserializeOwned;

use super::Verifier;
use crate::refusal::Refusal;
use crate::source::LookAgain;
use crate::verified::Verified;

/// The future of [`Verifier::verify`]. It allocates only if it has to wait for keys.
#[must_use = "futures do nothing unless polled"]
pub struct Verify<C> {
    state: State<C>,
}

enum State<C> {
    Done(Result<Verified<C>, Refusal>),
    Looking { looking: LookAgain, verifier: Verifier<C>, token: Box<[u8]> },
    Taken,
}

impl<C> Verify<C> {
    pub(super) fn done(result: Result<Verified<C>, Refusal>) -> Self {
        Self { state: State::Done(result) }
    }

    pub(super) fn looking(looking: LookAgain, verifier: Verifier<C>, token: &[u8]) -> Self {
        Self { state: State::Looking { looking, verifier, token: token.into() } }
    }
}

impl<C: DeserializeOwned + Send + Sync + 'static> Future for Verify<C> {
    type Output = Result<Verified<C>, Refusal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let state = &mut self.get_mut().state;
        if let State::Looking { looking, .. } = state {
            ready!(looking.as_mut().poll(cx));
        }
        match std::mem::replace(state, State::Taken) {
            State::Done(result) => Poll::Ready(result),
            State::Looking { verifier, token, .. } => Poll::Ready(verifier.verify_now(&token)),
            // Polled after it was ready, which nobody should do.
            State::Taken => Poll::Pending,
        }
    }
}

impl<C> fmt::Debug for Verify<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waits = matches!(self.state, State::Looking { .. });
        f.debug_struct("Verify").field("waits", &waits).finish_non_exhaustive()
    }
}
