//! The service of single routes, and its future.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::layer::Rules;
use crate::answer::{Asked, answer_unguarded};
use crate::body::AuthBody;
use crate::identity::Guarded;

/// Asks for a token that says what was required: see [`RequireLayer`](super::RequireLayer).
#[derive(Clone, Debug)]
#[must_use]
pub struct Required<S> {
    pub(super) inner: S,
    pub(super) rules: Arc<Rules>,
}

/// Tonic asks for the name of a service that is added to a server.
#[cfg(feature = "tonic")]
impl<S: tonic::server::NamedService> tonic::server::NamedService for Required<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Required<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<AuthBody<ResBody>>;
    type Error = S::Error;
    type Future = RequiredFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let state = match request.extensions().get::<Guarded>() {
            None => State::refused(answer_unguarded(&Asked::by(&request))),
            Some(Guarded { identity, answers }) => {
                match self.rules.of(request.uri().path()).judge(identity.as_ref()) {
                    Ok(()) => State::Called { future: self.inner.call(request) },
                    Err(denial) => State::refused(answers.answer(denial, &Asked::by(&request))),
                }
            }
        };
        RequiredFuture { state }
    }
}

pin_project! {
    /// The future of [`Required`].
    pub struct RequiredFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] future: F },
        Refused { response: Option<Response<Bytes>> },
    }
}

impl<F> State<F> {
    fn refused(response: Response<Bytes>) -> Self {
        Self::Refused { response: Some(response) }
    }
}

impl<F, B, E> Future for RequiredFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<AuthBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called { future } => {
                Poll::Ready(ready!(future.poll(cx)).map(|response| response.map(AuthBody::inner)))
            }
            // None only after it was done.
            StateProj::Refused { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response.map(AuthBody::own))),
                None => Poll::Pending,
            },
        }
    }
}

impl<F> fmt::Debug for RequiredFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_refused = matches!(self.state, State::Refused { .. });
        f.debug_struct("RequiredFuture").field("is_refused", &is_refused).finish_non_exhaustive()
    }
}
