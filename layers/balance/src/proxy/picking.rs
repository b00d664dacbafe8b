//! Picks an upstream for each request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use smallvec::SmallVec;
use tower_service::Service;

use super::body::UpstreamBody;
use super::content::Content;
use super::error::{BoxError, ErrorKind, ForwardError};
use super::upstream::Upstream;
use crate::member::BackendId;
use crate::pick::{Outcome, Wish};
use crate::pool::Pool;

/// How many upstreams are tried if none can be connected to.
const ATTEMPTS: usize = 3;

/// Gives each request to an upstream of a pool. If no connection to it can be made, the next gets it:
/// nothing has been sent, so it doesn't matter what the request is. Three are tried at most.
///
/// A request is in flight until the body of its response is over. It is a failure of its upstream if
/// that gives no whole response, or one of 502, 503 and 504.
#[derive(Clone, Debug)]
pub struct Picking {
    pool: Pool<Upstream>,
}

impl Picking {
    /// From `pool`.
    pub fn new(pool: Pool<Upstream>) -> Self {
        Self { pool }
    }

    async fn forward(
        self,
        mut request: Request<Content>,
    ) -> Result<Response<UpstreamBody>, ForwardError> {
        let mut tried: SmallVec<[BackendId; ATTEMPTS]> = SmallVec::new();
        loop {
            let pick = self.pool.pick_by(Wish::new().avoid(&tried))?;
            let failed = match pick.target().send(request).await {
                Ok(mut response) => {
                    let (status, body) = (response.status(), response.body_mut());
                    match status {
                        StatusCode::SWITCHING_PROTOCOLS => body.hold_on(pick, Outcome::Success),
                        _ => body.hold(pick, outcome(status)),
                    }
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            let is_new = !tried.contains(&pick.id());
            tried.push(pick.id());
            let name: Arc<str> = pick.name().into();
            match failed.error.kind() {
                // That is the client's fault, or what this upstream was set to.
                ErrorKind::Request | ErrorKind::Upgrade => drop(pick),
                _ => pick.finish(Outcome::Failure),
            }
            match failed.request {
                Some(again) if is_new && tried.len() < ATTEMPTS => {
                    tracing::debug!(upstream = &*name, error = %failed.error, "another is tried");
                    request = again;
                }
                _ => return Err(ForwardError::Upstream { name, source: failed.error }),
            }
        }
    }
}

fn outcome(status: StatusCode) -> Outcome {
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Outcome::Failure
        }
        _ => Outcome::Success,
    }
}

impl<B> Service<Request<B>> for Picking
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<UpstreamBody>;
    type Error = ForwardError;
    type Future = PickingFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> PickingFuture {
        let request = request.map(Content::new);
        PickingFuture(Box::pin(self.clone().forward(request)))
    }
}

/// The future of [`Picking`]. If it is dropped, the request is cancelled.
pub struct PickingFuture(
    Pin<Box<dyn Future<Output = Result<Response<UpstreamBody>, ForwardError>> + Send>>,
);

impl Future for PickingFuture {
    type Output = Result<Response<UpstreamBody>, ForwardError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for PickingFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PickingFuture")
    }
}
