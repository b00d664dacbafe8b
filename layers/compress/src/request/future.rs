//! The future of a call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;

use super::verdict::Verdict;

pin_project! {
    /// The future of [`Decompress`](crate::Decompress).
    pub struct DecompressFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B> {
        Pass { #[pin] call: F },
        Judged { #[pin] call: F, verdict: Verdict },
        // It is the rarest, and a response is large.
        Refused { response: Option<Box<Response<B>>> },
    }
}

impl<F, B> DecompressFuture<F, B> {
    pub(super) fn pass(call: F) -> Self {
        Self { state: State::Pass { call } }
    }

    pub(super) fn judged(call: F, verdict: Verdict) -> Self {
        Self { state: State::Judged { call, verdict } }
    }

    pub(super) fn refused(response: Response<B>) -> Self {
        Self { state: State::Refused { response: Some(Box::new(response)) } }
    }
}

impl<F, B, E> Future for DecompressFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Pass { call } => call.poll(cx),
            StateProj::Judged { call, verdict } => {
                let answer = ready!(call.poll(cx));
                let stands = answer.as_ref().is_ok_and(|answer| !is_error(answer));
                Poll::Ready(match verdict.status() {
                    Some(status) if !stands => {
                        let mut response = Response::new(B::default());
                        *response.status_mut() = status;
                        Ok(response)
                    }
                    _ => answer,
                })
            }
            StateProj::Refused { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(*response)),
                // It was polled after its end.
                None => Poll::Pending,
            },
        }
    }
}

fn is_error<B>(answer: &Response<B>) -> bool {
    answer.status().is_client_error() || answer.status().is_server_error()
}

impl<F, B> fmt::Debug for DecompressFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Pass { .. } => "Pass",
            State::Judged { .. } => "Judged",
            State::Refused { .. } => "Refused",
        };
        f.debug_tuple("DecompressFuture").field(&state).finish()
    }
}
