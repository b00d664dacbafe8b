//! Responses of the proxy's own.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::error::{BoxError, ErrorKind, kind_of, of_pick};
use super::pseudonym::Pseudonym;
use crate::answer::{Answer, Refusal};
use crate::grpc;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Why the proxy answers itself: in the extensions of such a response, for those who log, or answer
/// in another way. Nothing of it is sent but what [`kind`](Self::kind) tells.
#[derive(Clone, Debug)]
pub struct Failure {
    kind: ErrorKind,
    error: Option<Arc<BoxError>>,
}

impl Failure {
    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The error, if there was one.
    pub fn error(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.error.as_deref().map(|error| &**error)
    }
}

/// In which way a client is told of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// By a status.
    Http,
    /// By a status of gRPC, since its clients would take a text for a message.
    Grpc,
}

impl Manner {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if grpc::is_grpc(headers) { Self::Grpc } else { Self::Http }
    }
}

/// No upstream answers.
pub(super) fn failed(error: BoxError, manner: Manner, pseudonym: &Pseudonym) -> Response<Bytes> {
    let kind = kind_of(&*error);
    let mut chain = error.to_string();
    let mut source = error.source();
    while let Some(it) = source {
        chain.push_str(": ");
        chain.push_str(&it.to_string());
        source = it.source();
    }
    tracing::warn!(kind = kind.as_str(), error = chain, "a request has no response");
    answer(kind, Some(error), manner, pseudonym)
}

/// No upstream was asked, or none has answered in time, and `response` says so.
pub(super) fn refused<B>(
    response: Response<B>,
    why: Refusal,
    pseudonym: &Pseudonym,
) -> Response<Bytes> {
    let kind = match why {
        Refusal::Pick(why) => of_pick(why),
        Refusal::Deadline => ErrorKind::ResponseTimeout,
    };
    tracing::warn!(kind = kind.as_str(), "a request has no response");
    let text = match Manner::of(response.headers()) {
        Manner::Http => text(response.status()),
        Manner::Grpc => "",
    };
    let mut response = response.map(|_| Bytes::from_static(text.as_bytes()));
    if !text.is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
    }
    sign(response, kind, None, pseudonym)
}

/// The request has been here before.
pub(super) fn looped(manner: Manner, pseudonym: &Pseudonym) -> Response<Bytes> {
    answer(ErrorKind::Loop, None, manner, pseudonym)
}

fn answer(
    kind: ErrorKind,
    error: Option<BoxError>,
    manner: Manner,
    pseudonym: &Pseudonym,
) -> Response<Bytes> {
    let status = kind.status();
    let text = text(status);
    let response = match manner {
        Manner::Http => plain(status, text),
        Manner::Grpc => grpc(status, text),
    };
    sign(response, kind, error, pseudonym)
}

fn text(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "The request broke off.\n",
        StatusCode::SERVICE_UNAVAILABLE => "No origin can take the request.\n",
        StatusCode::GATEWAY_TIMEOUT => "The origin does not answer in time.\n",
        StatusCode::LOOP_DETECTED => "The origin leads back here.\n",
        StatusCode::INTERNAL_SERVER_ERROR => "The proxy failed.\n",
        _ => "The origin does not answer.\n",
    }
}

/// Says what went wrong: to everybody the kind of it, and the rest to the program.
fn sign(
    mut response: Response<Bytes>,
    kind: ErrorKind,
    error: Option<BoxError>,
    pseudonym: &Pseudonym,
) -> Response<Bytes> {
    let value = format!("{}; error={}", pseudonym.as_str(), kind.as_str());
    // RFC 9209 §2: a name that begins with a letter is an item as it is; others are quoted.
    let value = match pseudonym.as_str().bytes().next() {
        Some(first) if first.is_ascii_alphabetic() => value,
        _ => format!("\"{}\"; error={}", pseudonym.as_str(), kind.as_str()),
    };
    if let Ok(value) = HeaderValue::from_maybe_shared(value) {
        response.headers_mut().insert(PROXY_STATUS, value);
    }
    response.extensions_mut().insert(Failure { kind, error: error.map(Arc::new) });
    response
}

/// A response of gRPC without a message; the status as gRPC maps those of HTTP.
fn grpc(status: StatusCode, text: &'static str) -> Response<Bytes> {
    let code = match status {
        StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR => grpc::INTERNAL,
        _ => grpc::UNAVAILABLE,
    };
    let text = text.trim_ascii_end();
    Answer { status, code, text, retry_after: None, why: None }.response(true)
}

/// The request could be understood in two ways.
pub(super) fn faulty(fault: &'static str, version: Version) -> Response<Bytes> {
    tracing::debug!(fault, "a request is refused");
    let mut response = plain(StatusCode::BAD_REQUEST, "The request is not well-formed.\n");
    if version <= Version::HTTP_11 {
        // RFC 9112 §6.3: who knows what comes behind it.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// This is no proxy for tunnels (RFC 9110 §9.3.6).
pub(super) fn no_tunnel() -> Response<Bytes> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not for here.\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    response
}

/// What may be asked here: all that is handed on.
pub(super) const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";

fn plain(status: StatusCode, text: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

pin_project! {
    /// The body of a [`Proxy`](super::Proxy)'s response: an upstream's, or the proxy's own.
    pub struct ProxyBody<B> {
        #[pin]
        state: State<B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<B> {
        Upstream { #[pin] body: B },
        Own { content: Option<Bytes> },
    }
}

impl<B> ProxyBody<B> {
    pub(super) fn upstream(body: B) -> Self {
        Self { state: State::Upstream { body } }
    }

    pub(super) fn own(content: Bytes) -> Self {
        let content = (!content.is_empty()).then_some(content);
        Self { state: State::Own { content } }
    }
}

impl<B: Body<Data = Bytes>> Body for ProxyBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().state.project() {
            StateProj::Upstream { body } => body.poll_frame(cx),
            StateProj::Own { content } => {
                Poll::Ready(content.take().map(|content| Ok(Frame::data(content))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Upstream { body } => body.is_end_stream(),
            State::Own { content } => content.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Upstream { body } => body.size_hint(),
            State::Own { content } => {
                SizeHint::with_exact(content.as_ref().map_or(0, Bytes::len) as u64)
            }
        }
    }
}

impl<B> fmt::Debug for ProxyBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Upstream { .. } => "Upstream",
            State::Own { .. } => "Own",
        };
        f.debug_tuple("ProxyBody").field(&state).finish()
    }
}
