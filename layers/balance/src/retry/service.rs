//! The service and its layer.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::fate::{ByCause, ErrorFate};
use super::future::RetryFuture;
use super::replay::ReplayBody;
use super::settings::{RetryBuilder, Settings};

/// What all requests go by.
#[derive(Debug)]
pub(crate) struct Core<F> {
    pub(crate) settings: Settings,
    pub(crate) fate: F,
}

/// Makes a [`Retry`]. All services that it makes share one budget.
#[derive(Debug)]
pub struct RetryLayer<F = ByCause>(Arc<Core<F>>);

impl RetryLayer {
    /// Settings for a layer.
    pub fn builder() -> RetryBuilder {
        RetryBuilder::default()
    }
}

impl<F> RetryLayer<F> {
    pub(crate) fn new(settings: Settings, fate: F) -> Self {
        Self(Arc::new(Core { settings, fate }))
    }
}

impl<F> Clone for RetryLayer<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, F> Layer<S> for RetryLayer<F> {
    type Service = Retry<S, F>;

    fn layer(&self, inner: S) -> Retry<S, F> {
        Retry { inner, core: Arc::clone(&self.0) }
    }
}

/// Sends a request again where the first attempt failed and it is safe to: see the
/// [module](crate::retry).
///
/// Its errors are the inner service's own. Responses to what takes too long are its own, with an
/// empty body. It is ready when the inner service is.
#[derive(Debug)]
pub struct Retry<S, F = ByCause> {
    inner: S,
    core: Arc<Core<F>>,
}

impl<S, F> Retry<S, F> {
    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: Clone, F> Clone for Retry<S, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), core: Arc::clone(&self.core) }
    }
}

impl<S, F, ReqBody, ResBody> Service<Request<ReqBody>> for Retry<S, F>
where
    S: Service<Request<ReplayBody<ReqBody>>, Response = Response<ResBody>> + Clone,
    F: ErrorFate<S::Error>,
    ReqBody: Body,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = RetryFuture<S, ReqBody, F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let not_ready = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, not_ready);
        RetryFuture::new(ready, Arc::clone(&self.core), request)
    }
}
