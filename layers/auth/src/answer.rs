//! Responses to requests that are refused.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, Request, Response};

use crate::challenge::Challenge;
use crate::denial::Denial;
use crate::grpc;
use crate::stats::Counters;

pub(crate) type Render = dyn Fn(&Denial, Response<Bytes>) -> Response<Bytes> + Send + Sync;

/// How to answer, and what was answered so far.
pub(crate) struct Answers {
    pub(crate) challenge: Challenge,
    pub(crate) problems: bool,
    pub(crate) retry_after: Duration,
    pub(crate) render: Option<Arc<Render>>,
    pub(crate) counters: Counters,
}

/// What of a request decides on the form of its answer.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    grpc: Option<HeaderValue>,
    head: bool,
}

impl Asked {
    pub(crate) fn by<B>(request: &Request<B>) -> Self {
        Self::with(request.method(), request.headers())
    }

    pub(crate) fn with(method: &Method, headers: &HeaderMap) -> Self {
        // A call of gRPC is a POST. What else says that it is one may be asked on behalf of another
        // request, whose fields it has, by who takes a status of 200 for a yes.
        let grpc = (method == Method::POST).then(|| grpc::media_type(headers).cloned()).flatten();
        Self { grpc, head: method == Method::HEAD }
    }
}

impl Answers {
    pub(crate) fn answer(&self, denial: Denial, asked: &Asked) -> Response<Bytes> {
        self.note(&denial);
        if asked.grpc.is_some() {
            return plain(denial, asked);
        }
        let mut response = if self.problems { problem(&denial) } else { Response::default() };
        *response.status_mut() = denial.status();
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge.field(&denial) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if matches!(denial, Denial::Unavailable(_)) {
            let after = self.retry_after;
            let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0));
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(render) = &self.render {
            response = render(&denial, response);
        }
        finish(response, denial, asked)
    }

    /// Counts it, and says it where logs are.
    pub(crate) fn note(&self, denial: &Denial) {
        self.counters.denied(denial.as_str());
        let reason = denial.as_str();
        match denial {
            Denial::Unavailable(_) => tracing::warn!(reason, "tokens can't be verified"),
            Denial::Unguarded => unguarded(),
            _ => tracing::debug!(reason, "request refused"),
        }
    }
}

/// Where no layer has looked at the request, so nobody has said how to answer.
pub(crate) fn answer_unguarded(asked: &Asked) -> Response<Bytes> {
    unguarded();
    plain(Denial::Unguarded, asked)
}

pub(crate) fn unguarded() {
    tracing::error!(
        "a token is required where no JwtLayer is outside, or one that reads its claims as another \
         type; nothing is let through"
    );
}

fn plain(denial: Denial, asked: &Asked) -> Response<Bytes> {
    let response = if let Some(media_type) = asked.grpc.clone() {
        grpc::trailers_only(media_type, denial.grpc_code(), denial.description())
    } else {
        let mut response = Response::default();
        *response.status_mut() = denial.status();
        response
    };
    finish(response, denial, asked)
}

fn finish(mut response: Response<Bytes>, denial: Denial, asked: &Asked) -> Response<Bytes> {
    if asked.head {
        *response.body_mut() = Bytes::new();
    }
    // It tells of the one who asked, and is another's as soon as the token is.
    let no_store = || HeaderValue::from_static("no-store");
    response.headers_mut().entry(CACHE_CONTROL).or_insert_with(no_store);
    response.extensions_mut().insert(denial);
    response
}

/// RFC 9457.
fn problem(denial: &Denial) -> Response<Bytes> {
    let status = denial.status();
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": denial.description(),
    });
    let mut response = Response::new(Bytes::from(problem.to_string()));
    let media_type = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("challenge", &self.challenge)
            .field("problems", &self.problems)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}
