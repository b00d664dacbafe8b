//! What of an HTTP response speaks against its backend.

use http::{HeaderMap, Response, StatusCode};

use crate::classify::{Classify, Verdict};
use crate::grpc;

/// Which responses are failures of the backend: by their status, of HTTP or gRPC. Errors always are,
/// and so is a body that breaks off.
///
/// By default these are `502`, `503` and `504` (Envoy's gateway errors) and `UNAVAILABLE`: what says
/// that the backend can't work now. Others, `500` and `INTERNAL` among them, are as often due to the
/// request, and `DEADLINE_EXCEEDED` to a deadline that the caller chose: a single caller could have
/// one backend after another put aside by them. Where all callers are known, there is
/// [`strict`](Self::strict).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct HttpFailures {
    any_5xx: bool,
    /// A bit for each code of gRPC.
    codes: u32,
}

impl HttpFailures {
    /// The default.
    pub fn new() -> Self {
        Self { any_5xx: false, codes: 1 << grpc::UNAVAILABLE }
    }

    /// Every `5xx` but `501` and `505`, which are about the request, as with HAProxy's
    /// `observe layer7`; and `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`, `UNAVAILABLE` and
    /// `DATA_LOSS`.
    pub fn strict() -> Self {
        let codes = [2, grpc::DEADLINE_EXCEEDED, grpc::INTERNAL, grpc::UNAVAILABLE, 15];
        Self { any_5xx: true, codes: codes.iter().fold(0, |codes, code| codes | 1 << code) }
    }

    fn is_failure(&self, status: StatusCode) -> bool {
        match status.as_u16() {
            502..=504 => true,
            501 | 505 => false,
            _ => self.any_5xx && status.is_server_error(),
        }
    }

    /// Of a status of gRPC. Without one, the response has broken off.
    pub(crate) fn grpc(&self, status: Option<u16>) -> Verdict {
        let is_failure = status.is_none_or(|code| code < 32 && self.codes & 1 << code != 0);
        if is_failure { Verdict::Failure } else { Verdict::Success }
    }
}

impl Default for HttpFailures {
    fn default() -> Self {
        Self::new()
    }
}

impl<B, E> Classify<Response<B>, E> for HttpFailures {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
        let Ok(response) = result else { return Verdict::Failure };
        if self.is_failure(response.status()) {
            return Verdict::Failure;
        }
        if !grpc::is_grpc(response.headers()) {
            return Verdict::Success;
        }
        match grpc::status(response.headers()) {
            Some(code) => self.grpc(Some(code)),
            None => Verdict::AtEnd,
        }
    }
}

/// Says also what the trailers tell, where the head can't.
pub trait ClassifyEnd {
    /// What a body says that ended, with `trailers` or without.
    fn classify_end(&self, trailers: Option<&HeaderMap>) -> Verdict;
}

impl ClassifyEnd for HttpFailures {
    fn classify_end(&self, trailers: Option<&HeaderMap>) -> Verdict {
        self.grpc(trailers.and_then(grpc::status))
    }
}

/// For closures that look at heads: a body that ended is a success.
#[derive(Clone, Copy, Debug)]
pub struct ByHead<F>(pub F);

impl<F, Response, Error> Classify<Response, Error> for ByHead<F>
where
    F: Fn(Result<&Response, &Error>) -> Verdict,
{
    fn classify(&self, result: Result<&Response, &Error>) -> Verdict {
        (self.0)(result)
    }
}

impl<F> ClassifyEnd for ByHead<F> {
    fn classify_end(&self, _: Option<&HeaderMap>) -> Verdict {
        Verdict::Success
    }
}
