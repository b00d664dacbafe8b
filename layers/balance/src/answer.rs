//! Answers that no backend gave.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use crate::error::PickError;

/// Why no backend has answered: in the extensions of responses that [`Balance`](crate::Balance) and
/// [`Retry`](crate::Retry) give themselves, for those who log, count, or answer in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// No backend was picked.
    Pick(PickError),
    /// Time was up.
    Deadline,
}

/// What to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The same in terms of gRPC.
    pub(crate) code: u16,
    /// What it is about. Plain ASCII, as `grpc-message` needs it.
    pub(crate) text: &'static str,
    /// RFC 9110, section 10.2.3.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) why: Option<Refusal>,
}

impl Answer {
    /// The response, to a request of gRPC or another.
    pub(crate) fn response<B: Default>(self, is_grpc: bool) -> Response<B> {
        let mut response = Response::new(B::default());
        if let Some(why) = self.why {
            response.extensions_mut().insert(why);
        }
        let headers = response.headers_mut();
        if is_grpc {
            // "Trailers-Only": the status in the head, and no body.
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", self.code.into());
            headers.insert("grpc-message", HeaderValue::from_static(self.text));
            return response;
        }
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.into());
        }
        *response.status_mut() = self.status;
        response
    }
}
