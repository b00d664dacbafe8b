//! The future of a call: a token whose key must be looked for is awaited, then the inner service.

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
    /// With the service that was made ready for it. None once it was called.
    call: Option<(Request<ReqBody>, S)>,
    gate: Arc<Gate<C>>,
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
        let waiting = Waiting { verify, place, call: Some((request, inner)), gate };
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
                StateProj::Verifying { waiting } => {
                    let result = ready!(Pin::new(&mut waiting.verify).poll(cx));
                    // None only after it was done.
                    let Some((mut request, mut inner)) = waiting.call.take() else {
                        return Poll::Pending;
                    };
                    match waiting.gate.admit(&mut request, Some(waiting.place), Some(result)) {
                        Ok(mark) => State::Called { future: inner.call(request), mark },
                        Err(denial) => {
                            let response =
                                waiting.gate.answers.answer(denial, &Asked::by(&request));
                            State::Refused { response: Some(response) }
                        }
                    }
                }
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
