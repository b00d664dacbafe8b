//! The future of a call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::util::Oneshot;
use tower_service::Service;

use crate::body::CacheBody;
use crate::cache_status::CacheStatus;
use crate::core::Core;
use crate::forms::Undress;
use crate::respond;
use crate::status_field::Finish;

pin_project! {
    /// The future of [`Cache`](crate::Cache).
    ///
    /// A hit is there at once, and a request that passes through is the inner service's own
    /// future; only a miss is boxed.
    pub struct CacheFuture<S, ReqBody, ResBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S, ReqBody, ResBody>,
        finish: Finish,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, ReqBody, ResBody>
    where
        S: Service<Request<ReqBody>>,
    {
        Hit { response: Option<Response<CacheBody<ResBody>>> },
        Pass { #[pin] call: Oneshot<S, Request<ReqBody>>, core: Arc<Core>, status: CacheStatus },
        Miss { miss: BoxFuture<'static, Result<Response<CacheBody<ResBody>>, S::Error>> },
    }
}

impl<S, ReqBody, ResBody> CacheFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    pub(crate) fn hit(response: Response<CacheBody<ResBody>>) -> Self {
        Self { state: State::Hit { response: Some(response) }, finish: Finish::Leave }
    }

    /// A hit; the answer is in its plain form if there is word of one.
    pub(crate) fn found(response: Response<CacheBody<ResBody>>, plain: Option<Box<Undress>>) -> Self
    where
        ResBody: Send + 'static,
    {
        match plain {
            None => Self::hit(response),
            Some(plain) => Self::miss(async move { Ok(plain.answer(response).await) }),
        }
    }

    /// Waits for `service` to be ready, and passes the request on.
    pub(crate) fn pass(
        service: S,
        request: Request<ReqBody>,
        core: Arc<Core>,
        status: CacheStatus,
    ) -> Self {
        let call = Oneshot::new(service, request);
        Self { state: State::Pass { call, core, status }, finish: Finish::Leave }
    }

    pub(crate) fn miss(
        miss: impl Future<Output = Result<Response<CacheBody<ResBody>>, S::Error>> + Send + 'static,
    ) -> Self {
        Self { state: State::Miss { miss: Box::pin(miss) }, finish: Finish::Leave }
    }

    /// The same, with this done to the response.
    pub(crate) fn finish(self, finish: Finish) -> Self {
        Self { finish, ..self }
    }
}

impl<S, ReqBody, ResBody> Future for CacheFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Output = Result<Response<CacheBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.state.project() {
            StateProj::Hit { response } => match response.take() {
                Some(response) => response,
                // Polled after it was done.
                None => return Poll::Pending,
            },
            StateProj::Pass { call, core, status } => {
                respond::pass(core, ready!(call.poll(cx))?, status)
            }
            StateProj::Miss { miss } => ready!(miss.as_mut().poll(cx))?,
        };
        this.finish.apply(response.headers_mut());
        Poll::Ready(Ok(response))
    }
}

impl<S, ReqBody, ResBody> fmt::Debug for CacheFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Hit { .. } => "Hit",
            State::Pass { .. } => "Pass",
            State::Miss { .. } => "Miss",
        };
        f.debug_tuple("CacheFuture").field(&state).finish()
    }
}
