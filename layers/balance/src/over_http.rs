//! HTTP, and gRPC over it: responses that are complete when their bodies are, and refusals that are
//! responses, so that the error type stays the backends' own.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body::Body;
use tower_service::Service;

use crate::answer::{Answer, Refusal};
use crate::attempt::Attempt;
use crate::body::BalanceBody;
use crate::classify::Classify;
use crate::error::PickError;
use crate::failures::{ClassifyEnd, HttpFailures};
use crate::grpc;
use crate::in_use::InUse;
use crate::layer::BalanceLayer;
use crate::pool::Pool;
use crate::queue::Queue;
use crate::served_by::ServedBy;
use crate::service::Balance;
use crate::track::{Track, sealed};

/// Requests and responses of HTTP.
///
/// Where no backend can take a request, the answer is `503` with `Retry-After` (RFC 9110, section
/// 15.6.4); to a gRPC request it is `RESOURCE_EXHAUSTED` if all backends are at their limits, and
/// `UNAVAILABLE` otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Http<C = HttpFailures> {
    classify: C,
    retry_after: Duration,
}

impl Http {
    /// With [`HttpFailures`], and `Retry-After: 1`.
    pub fn new() -> Self {
        Self { classify: HttpFailures::new(), retry_after: Duration::from_secs(1) }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> Http<C> {
    /// Says what a response tells of its backend: [`HttpFailures`], or a closure in
    /// [`ByHead`](crate::ByHead).
    pub fn classify<D>(self, classify: D) -> Http<D> {
        Http { classify, retry_after: self.retry_after }
    }

    /// When clients that were refused are told to come again, in whole seconds. Default: 1 s.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = after;
        self
    }
}

impl<S> Balance<S, Http> {
    /// Over `pool`, for HTTP.
    pub fn http(pool: Pool<S>) -> Self {
        Self::http_with(pool, Http::new())
    }
}

impl<S, C> Balance<S, Http<C>> {
    /// Over `pool`, for HTTP as `http` says.
    pub fn http_with(pool: Pool<S>, http: Http<C>) -> Self {
        Self::with(pool, http, (), Queue::default())
    }
}

impl BalanceLayer<Http> {
    /// For HTTP.
    pub fn http() -> Self {
        Self::of(Http::new())
    }
}

/// What is remembered of a request.
#[derive(Clone, Debug)]
pub struct Memo {
    is_grpc: bool,
    attempt: Option<Attempt>,
    served_by: Option<ServedBy>,
}

impl<C> sealed::Sealed for Http<C> {}

impl<C, S, ReqBody, ResBody> Track<Request<ReqBody>, S> for Http<C>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    C: Classify<Response<ResBody>, S::Error> + ClassifyEnd + Clone,
    ResBody: Body,
{
    type Response = Response<BalanceBody<ResBody, S, C>>;
    type Error = S::Error;
    type Memo = Memo;

    fn memo(&self, request: &Request<ReqBody>) -> Memo {
        let attempt = request.extensions().get::<Attempt>().cloned();
        let served_by = request.extensions().get::<ServedBy>().cloned();
        Memo { is_grpc: grpc::is_grpc(request.headers()), attempt, served_by }
    }

    fn attempt(memo: &Memo) -> Option<&Attempt> {
        memo.attempt.as_ref()
    }

    fn answered(
        &self,
        memo: &Memo,
        result: Result<S::Response, S::Error>,
        mut in_use: InUse<S>,
    ) -> Result<Self::Response, S::Error> {
        if let Some(served_by) = &memo.served_by {
            in_use.tell(served_by);
        }
        let verdict = self.classify.classify(result.as_ref());
        match result {
            Ok(response) => {
                in_use.answered();
                let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                if switches {
                    // The body has nothing in it, and is held as long as the other protocol is used.
                    in_use.finish_when_dropped(verdict);
                }
                Ok(response.map(|body| {
                    let body = BalanceBody::new(body, in_use, verdict, self.classify.clone());
                    if switches { body } else { body.ends() }
                }))
            }
            Err(error) => {
                in_use.finish(verdict);
                Err(error)
            }
        }
    }

    fn unready(&self, error: S::Error) -> S::Error {
        error
    }

    fn refuse(&self, memo: &Memo, why: PickError) -> Result<Self::Response, S::Error> {
        let (code, text) = match why {
            PickError::Saturated => (grpc::RESOURCE_EXHAUSTED, "every backend is at its limit"),
            PickError::Unhealthy => (grpc::UNAVAILABLE, "no backend is healthy"),
            PickError::Empty => (grpc::UNAVAILABLE, "there is no backend"),
        };
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let why = Some(Refusal::Pick(why));
        let answer = Answer { status, code, text, retry_after: Some(self.retry_after), why };
        Ok(answer.response(memo.is_grpc))
    }
}
