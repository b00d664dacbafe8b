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
    /// A hit; the answer is in its plain form if there is word of one.
    #[inline]
    pub(crate) fn found(
        response: Response<CacheBody<ResBody>>,
        plain: Option<Box<Undress>>,
        finish: Finish,
    ) -> Self
    where
        ResBody: Send + 'static,
    {
        match plain {
            None => Self { state: State::Hit { response: Some(response) }, finish },
            Some(plain) => Self::miss(async move { Ok(plain.answer(response).await) }, finish),
        }
    }

    /// Waits for `service` to be ready, and passes the request on.
    pub(crate) fn pass(
        service: S,
        request: Request<ReqBody>,
        core: Arc<Core>,
        status: CacheStatus,
        finish: Finish,
    ) -> Self {
        let call = Oneshot::new(service, request);
        Self { state: State::Pass { call, core, status }, finish }
    }

    pub(crate) fn miss(
        miss: impl Future<Output = Result<Response<CacheBody<ResBody>>, S::Error>> + Send + 'static,
        finish: Finish,
    ) -> Self {
        Self { state: State::Miss { miss: Box::pin(miss) }, finish }
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
            StateProj::Hit { response } => {
                // In its place, so that it moves once.
                if let Some(response) = response {
                    this.finish.apply(response.headers_mut());
                }
                return match response.take() {
                    Some(response) => Poll::Ready(Ok(response)),
                    // Polled after it was done.
                    None => Poll::Pending,
                };
            }
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
