//! What brings a proxy's requests to the upstreams of a pool.

use std::fmt;

use http::{HeaderMap, Response};
use tower_layer::Layer;

use super::error::UpstreamError;
use super::upstream::Upstream;
use crate::classify::{Classify, Verdict};
use crate::error::BuildError;
use crate::failures::{ClassifyEnd, HttpFailures};
use crate::over_http::Http;
use crate::pool::Pool;
use crate::queue::Queue;
use crate::retry::{Retry, RetryBuilder, RetryLayer};
use crate::service::Balance;

/// Gives each request to an upstream of a pool, and to another where that failed and it is safe.
pub type Balanced<A = ()> = Retry<Balance<Upstream, Http<UpstreamFailures>, A>>;

/// Settings of a [`Balanced`].
#[derive(Debug)]
pub struct Balancing<A = ()> {
    pub(super) pool: Pool<Upstream>,
    pub(super) retry: RetryBuilder,
    pub(super) failures: HttpFailures,
    pub(super) queue: Queue,
    pub(super) affinity: A,
}

impl Balancing {
    pub(super) fn new(pool: Pool<Upstream>) -> Self {
        let (failures, queue) = (HttpFailures::new(), Queue::default());
        Self { pool, retry: retries(), failures, queue, affinity: () }
    }
}

/// To the upstreams of `pool`, with the default settings.
pub(super) fn balanced(pool: Pool<Upstream>) -> Balanced {
    pool.detect_outliers();
    let http = Http::new().classify(UpstreamFailures(HttpFailures::new()));
    retries().layer().layer(Balance::http_with(pool, http))
}

/// Two that fail at the same time are to cost no request that can be sent again.
fn retries() -> RetryBuilder {
    RetryLayer::builder().max_attempts(3)
}

impl<A> Balancing<A> {
    pub(super) fn affinity<B>(self, affinity: B) -> Balancing<B> {
        let Self { pool, retry, failures, queue, .. } = self;
        Balancing { pool, retry, failures, queue, affinity }
    }

    pub(super) fn build(self) -> Result<Balanced<A>, BuildError> {
        let retry = self.retry.build()?;
        self.pool.detect_outliers();
        let http = Http::new().classify(UpstreamFailures(self.failures));
        let balance = Balance::http_with(self.pool, http).affinity(self.affinity).queue(self.queue);
        Ok(retry.layer(balance))
    }
}

/// What of an upstream's responses and errors are its failures: [`HttpFailures`], but for errors that
/// say nothing of it, as when it was the client's content that broke off.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamFailures(HttpFailures);

impl<B> Classify<Response<B>, UpstreamError> for UpstreamFailures {
    fn classify(&self, result: Result<&Response<B>, &UpstreamError>) -> Verdict {
        match result {
            Err(error) if error.is_our_own() => Verdict::Unknown,
            result => self.0.classify(result),
        }
    }
}

impl ClassifyEnd for UpstreamFailures {
    fn classify_end(&self, trailers: Option<&HeaderMap>) -> Verdict {
        self.0.classify_end(trailers)
    }
}

impl fmt::Debug for UpstreamFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
