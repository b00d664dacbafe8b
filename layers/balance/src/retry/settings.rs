//! Settings of retries, checked when the layer is built.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::request::Parts;

use super::budget::Budget;
use super::fate::{ByBoxedCause, ByCause};
use super::hedge::{Delay, Hedge, Latencies};
use super::service::RetryLayer;
use crate::backoff::Backoff;
use crate::error::BuildError;
use crate::grpc;

type Predicate = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

/// Settings of a [`RetryLayer`].
///
/// | setting | default |
/// | --- | --- |
/// | [`max_attempts`](Self::max_attempts) | 2 |
/// | [`per_try_timeout`](Self::per_try_timeout), [`deadline`](Self::deadline) | none |
/// | [`budget`](Self::budget) | 20 % of the requests, and 10 a second |
/// | [`backoff`](Self::backoff) | up to 25 ms, doubled up to 250 ms |
/// | [`max_wait`](Self::max_wait) | 1 s |
/// | [`statuses`](Self::statuses) | 502, 503, 504 |
/// | [`grpc_codes`](Self::grpc_codes) | `UNAVAILABLE` |
/// | [`replay_limit`](Self::replay_limit) | 64 KiB |
/// | [`idempotency_key`](Self::idempotency_key) | not heeded |
/// | [`hedge`](Self::hedge) | none |
#[must_use]
pub struct RetryBuilder<F = ByCause> {
    settings: Settings,
    fate: F,
}

pub(crate) struct Settings {
    pub(crate) max_attempts: u32,
    pub(crate) per_try: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) budget: Budget,
    pub(crate) backoff: Backoff,
    pub(crate) max_wait: Duration,
    statuses: Vec<StatusCode>,
    codes: Vec<u16>,
    pub(crate) replay_limit: usize,
    heeds_key: bool,
    predicate: Option<Predicate>,
    pub(crate) hedge: Option<Hedge>,
    pub(crate) latencies: Latencies,
}

impl Settings {
    /// Whether the request may be sent again after it was sent.
    pub(crate) fn may_repeat(&self, head: &Parts) -> bool {
        head.method.is_idempotent()
            || self.heeds_key && head.headers.contains_key("idempotency-key")
            || self.predicate.as_ref().is_some_and(|predicate| predicate(head))
    }

    pub(crate) fn is_status(&self, status: StatusCode) -> bool {
        self.statuses.contains(&status)
    }

    pub(crate) fn is_code(&self, code: u16) -> bool {
        self.codes.contains(&code)
    }

    /// How long the first attempt has before there is a second one.
    pub(crate) fn hedge_delay(&self) -> Option<Duration> {
        match self.hedge?.0 {
            Delay::Fixed(delay) => Some(delay),
            Delay::Percentile(percentile) => self.latencies.percentile(percentile),
        }
    }
}

impl Default for RetryBuilder {
    fn default() -> Self {
        let statuses = [502, 503, 504].into_iter().flat_map(StatusCode::from_u16).collect();
        let settings = Settings {
            max_attempts: 2,
            per_try: None,
            deadline: None,
            budget: Budget::default(),
            backoff: Backoff::default(),
            max_wait: Duration::from_secs(1),
            statuses,
            codes: vec![grpc::UNAVAILABLE],
            replay_limit: 64 * 1024,
            heeds_key: false,
            predicate: None,
            hedge: None,
            latencies: Latencies::default(),
        };
        Self { settings, fate: ByCause }
    }
}

impl<F> RetryBuilder<F> {
    /// How often a request is sent at most, hedges included. With 1, only what reached nobody is
    /// tried again.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = attempts;
        self
    }

    /// How long one attempt may take, until the head of the response is there. A backend that is
    /// slower has failed.
    pub fn per_try_timeout(mut self, time: Duration) -> Self {
        self.settings.per_try = Some(time);
        self
    }

    /// How long all attempts together may take, waits included, until the head of the response is
    /// there; then the answer is `504`, or `DEADLINE_EXCEEDED`. The `grpc-timeout` of a request
    /// holds as well.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.settings.deadline = Some(time);
        self
    }

    /// How many attempts may be made beyond the first ones. All services made by the layer share it.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.settings.budget = budget;
        self
    }

    /// How long to wait before another attempt.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// How long a wait is heeded that a backend asks for by `Retry-After` (RFC 9110, section 10.2.3)
    /// or `grpc-retry-pushback-ms` (gRFC A6). One who asks for more isn't tried again: its response
    /// is passed on.
    pub fn max_wait(mut self, time: Duration) -> Self {
        self.settings.max_wait = time;
        self
    }

    /// Which responses are worth another attempt.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.settings.statuses = statuses.into_iter().collect();
        self
    }

    /// Which codes of gRPC are, if they stand in the head of the response, as they do when a call
    /// has failed before its first message.
    pub fn grpc_codes(mut self, codes: impl IntoIterator<Item = u16>) -> Self {
        self.settings.codes = codes.into_iter().collect();
        self
    }

    /// How many bytes of a request's body are kept to be sent again. A longer body is sent all the
    /// same, once.
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.settings.replay_limit = bytes;
        self
    }

    /// Requests with an `Idempotency-Key` may be sent again, whatever their method: for backends
    /// that all heed it.
    pub fn idempotency_key(mut self) -> Self {
        self.settings.heeds_key = true;
        self
    }

    /// Requests may be sent again of which `predicate` says so, besides those whose method is
    /// idempotent: gRPC methods that do no harm twice, by their path.
    pub fn retry_if(mut self, predicate: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.settings.predicate = Some(Arc::new(predicate));
        self
    }

    /// When a second attempt is made beside the first one.
    pub fn hedge(mut self, hedge: Hedge) -> Self {
        self.settings.hedge = Some(hedge);
        self
    }

    /// Says what became of a request by the error of its attempt. Default: [`ByCause`].
    pub fn error_fate<G>(self, fate: G) -> RetryBuilder<G> {
        RetryBuilder { settings: self.settings, fate }
    }

    /// For services whose errors are boxed.
    pub fn boxed_errors(self) -> RetryBuilder<ByBoxedCause> {
        self.error_fate(ByBoxedCause)
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// [`BuildError`], with what to change, if the settings can't work.
    pub fn build(self) -> Result<RetryLayer<F>, BuildError> {
        let settings = &self.settings;
        let longer =
            |one: Option<Duration>| one.zip(settings.deadline).is_some_and(|(a, b)| a >= b);
        let error = if settings.max_attempts == 0 {
            "max_attempts(0) sends nothing; 1 sends each request once"
        } else if settings.per_try.is_some_and(|time| time.is_zero()) {
            "a per_try_timeout of zero lets no attempt end; leave it out for none"
        } else if settings.deadline.is_some_and(|time| time.is_zero()) {
            "a deadline of zero lets no request end; leave it out for none"
        } else if longer(settings.per_try) {
            "per_try_timeout isn't shorter than deadline, so nothing is ever tried again in time"
        } else if settings.hedge.is_some() && settings.max_attempts < 2 {
            "a hedge is a second attempt: max_attempts must be at least 2"
        } else if let Some(Hedge(Delay::Percentile(percentile))) = settings.hedge
            && !(50.0..100.0).contains(&percentile)
        {
            "the percentile of a hedge is from 50 to below 100; 95 hedges one request in twenty"
        } else {
            return Ok(self.layer());
        };
        Err(BuildError::Setting(error))
    }

    /// Of settings that can work.
    pub(crate) fn layer(self) -> RetryLayer<F> {
        RetryLayer::new(self.settings, self.fate)
    }
}

impl<F> fmt::Debug for RetryBuilder<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RetryBuilder").field(&self.settings).finish()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("max_attempts", &self.max_attempts)
            .field("per_try_timeout", &self.per_try)
            .field("deadline", &self.deadline)
            .field("budget", &self.budget)
            .field("hedge", &self.hedge)
            .finish_non_exhaustive()
    }
}
