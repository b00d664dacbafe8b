//! The future of a call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use pin_project_lite::pin_project;

pin_project! {
    /// The future of [`BodyKey`](crate::BodyKey).
    ///
    /// For a request whose content isn't looked at it is the inner service's own.
    pub struct BodyKeyFuture<F, R, E> {
        #[pin]
        state: State<F, R, E>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, R, E> {
        Pass { #[pin] call: F },
        Read { call: BoxFuture<'static, Result<R, E>> },
    }
}

impl<F, R, E> BodyKeyFuture<F, R, E> {
    pub(super) fn pass(call: F) -> Self {
        Self { state: State::Pass { call } }
    }

    pub(super) fn read(call: impl Future<Output = Result<R, E>> + Send + 'static) -> Self {
        Self { state: State::Read { call: Box::pin(call) } }
    }
}

impl<F, R, E> Future for BodyKeyFuture<F, R, E>
where
    F: Future<Output = Result<R, E>>,
{
    type Output = Result<R, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Pass { call } => call.poll(cx),
            StateProj::Read { call } => call.as_mut().poll(cx),
        }
    }
}

impl<F, R, E> fmt::Debug for BodyKeyFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Pass { .. } => "Pass",
            State::Read { .. } => "Read",
        };
        f.debug_tuple("BodyKeyFuture").field(&state).finish()
    }
}
