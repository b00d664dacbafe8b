//! The service.

use std::task::{Context, Poll};

use http::header::RANGE;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::body::CompressBody;
use crate::error::BoxError;
use crate::etag::map_conditions;
use crate::future::{CompressFuture, DeltaAsked};
use crate::policy::{Asked, Policy};

/// Compresses the responses of the service inside.
///
/// Made by [`CompressLayer`](crate::CompressLayer). Its readiness and its errors are the inner
/// service's own.
#[derive(Clone, Debug)]
pub struct Compress<S> {
    inner: S,
    policy: Policy,
}

impl<S> Compress<S> {
    pub(crate) fn new(inner: S, policy: Policy) -> Self {
        Self { inner, policy }
    }

    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Compress<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    type Response = Response<CompressBody<ResBody>>;
    type Error = S::Error;
    type Future = CompressFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let asked = Asked::of(request.method(), request.headers());
        if self.policy.may_continue_encoded(request.headers(), &asked.accept) {
            request.headers_mut().remove(RANGE);
        }
        let tags = self.policy.settings().entity_tags;
        let mapped = map_conditions(request.headers_mut(), tags, &asked.accept);
        let delta = DeltaAsked::of(&self.policy, &request);
        CompressFuture::new(self.inner.call(request), self.policy.clone(), asked, delta, mapped)
    }
}
