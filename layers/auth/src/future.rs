//! The future of a call: a token whose key must be looked for is awaited, then the inner service, until
//! it is ready and until it answers.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use serde::de::DeserializeOwned;
use tower_service::Service;

use crate::answer::Asked;
use crate::body::AuthBody;
use crate::gate::{Gate, Mark};
use crate::locate::Place;
use crate::verifier::Verify;

pin_project! {
    /// The future of [`Jwt`](crate::Jwt).
    pub struct JwtFuture<S, C, ReqBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S, C, ReqBody, S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, C, ReqBody, F> {
        // Rare, so it is the others that are kept small.
        Verifying { waiting: Box<Waiting<S, C, ReqBody>> },
        Called { #[pin] future: F, mark: Mark },
        Refused { response: Option<Response<Bytes>> },
    }
}

struct Waiting<S, C, ReqBody> {
    verify: Verify<C>,
    place: Place,
    /// None once the inner service was called with it.
    request: Option<Request<ReqBody>>,
    /// Not ready before the request is to be let through.
    inner: S,
    gate: Arc<Gate<C>>,
    /// Once the request is to be let through.
    mark: Option<Mark>,
}

impl<S, C, ReqBody> Waiting<S, C, ReqBody>
where
    C: DeserializeOwned + Send + Sync + 'static,
{
    /// Whether the request is to be let through, once that is known.
    fn poll_admitted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Response<Bytes>>> {
        let (None, Some(request)) = (&self.mark, &mut self.request) else {
            return Poll::Ready(Ok(()));
        };
        let result = ready!(Pin::new(&mut self.verify).poll(cx));
        Poll::Ready(match self.gate.admit(request, Some(self.place), Some(result)) {
            Ok(mark) => {
                self.mark = Some(mark);
                Ok(())
            }
            Err(denial) => Err(self.gate.answers.answer(denial, &Asked::by(request))),
        })
    }
}

impl<S, C, ReqBody> JwtFuture<S, C, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    pub(crate) fn verifying(
        verify: Verify<C>,
        place: Place,
        request: Request<ReqBody>,
        inner: S,
        gate: Arc<Gate<C>>,
    ) -> Self {
        let request = Some(request);
        let waiting = Waiting { verify, place, request, inner, gate, mark: None };
        Self { state: State::Verifying { waiting: Box::new(waiting) } }
    }

    pub(crate) fn called(future: S::Future, mark: Mark) -> Self {
        Self { state: State::Called { future, mark } }
    }

    pub(crate) fn refused(response: Response<Bytes>) -> Self {
        Self { state: State::Refused { response: Some(response) } }
    }
}

impl<S, C, ReqBody, ResBody> Future for JwtFuture<S, C, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    C: DeserializeOwned + Send + Sync + 'static,
{
    type Output = Result<Response<AuthBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Verifying { waiting } => match ready!(waiting.poll_admitted(cx)) {
                    Ok(()) => {
                        ready!(waiting.inner.poll_ready(cx))?;
                        // None only after it was done.
                        let (Some(request), Some(mark)) =
                            (waiting.request.take(), waiting.mark.take())
                        else {
                            return Poll::Pending;
                        };
                        State::Called { future: waiting.inner.call(request), mark }
                    }
                    Err(response) => State::Refused { response: Some(response) },
                },
                StateProj::Called { future, mark } => {
                    let mut response = ready!(future.poll(cx))?;
                    mark.put(&mut response);
                    return Poll::Ready(Ok(response.map(AuthBody::inner)));
                }
                StateProj::Refused { response } => {
                    return match response.take() {
                        Some(response) => Poll::Ready(Ok(response.map(AuthBody::own))),
                        None => Poll::Pending,
                    };
                }
            };
            this.state.set(next);
        }
    }
}

impl<S, C, ReqBody> fmt::Debug for JwtFuture<S, C, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Verifying { .. } => "Verifying",
            State::Called { .. } => "Called",
            State::Refused { .. } => "Refused",
        };
        f.debug_tuple("JwtFuture").field(&state).finish()
    }
}
