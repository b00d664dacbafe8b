//! The bodies of requests, within their bounds, and those of responses.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use pin_project_lite::pin_project;
use tower_keep::auth::AuthBody;
use tower_keep::cache::CacheBody;
use tower_keep::compress::CompressBody;
use tower_keep_balance::BalanceBody;
use tower_keep_balance::proxy::{ProxyBody, Upstream, UpstreamBody, UpstreamFailures};

use crate::exchange::Exchange;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Whether a request's content has turned out too long.
#[derive(Clone, Debug, Default)]
pub(crate) struct TooLong(Arc<AtomicBool>);

impl TooLong {
    pub(crate) fn is_so(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// The content of a request, which breaks off where it is too long.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Incoming,
    /// What is left of its bound.
    bound: Option<(u64, TooLong)>,
}

impl RequestBody {
    pub(crate) fn new(body: Incoming, bound: Option<(u64, TooLong)>) -> Self {
        Self { body, bound }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let length =
            frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref().map(Bytes::len));
        if let (Some((left, too_long)), Some(length)) = (&mut self.bound, length) {
            let Some(rest) = left.checked_sub(length as u64) else {
                too_long.0.store(true, Relaxed);
                return Poll::Ready(Some(Err("the content is too long".into())));
            };
            *left = rest;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a backend says.
pub(crate) type Forwarded = ProxyBody<BalanceBody<UpstreamBody, Upstream, UpstreamFailures>>;

pin_project! {
    /// What a route has to say.
    #[project = AnswerProj]
    pub(crate) enum Answer {
        Cached { #[pin] body: CacheBody<Forwarded> },
        Forwarded { #[pin] body: Forwarded },
        Own { #[pin] body: Full<Bytes> },
    }
}

/// The same, or compressed.
pub(crate) type Packed = Either<Answer, CompressBody<Answer>>;

/// The same, or what somebody without the right token gets.
pub(crate) type Content = Either<Packed, AuthBody<Packed>>;

/// The edge's own.
pub(crate) fn own(text: impl Into<Bytes>) -> Content {
    Either::Left(Either::Left(Answer::own(text)))
}

pin_project! {
    /// The content of a response. Its exchange is over when it is dropped.
    pub(crate) struct ResponseBody {
        #[pin]
        content: Content,
        exchange: Exchange,
    }
}

impl ResponseBody {
    pub(crate) fn new(content: Content, exchange: Exchange) -> Self {
        let mut body = Self { content, exchange };
        // hyper asks no body for its end that has none.
        body.exchange.ends(body.content.is_end_stream());
        body
    }
}

impl Answer {
    /// The edge's own.
    pub(crate) fn own(text: impl Into<Bytes>) -> Self {
        Self::Own { body: Full::new(text.into()) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project() {
            AnswerProj::Cached { body } => body.poll_frame(cx).map_err(Into::into),
            AnswerProj::Forwarded { body } => body.poll_frame(cx).map_err(Into::into),
            AnswerProj::Own { body } => body.poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Cached { body } => body.is_end_stream(),
            Self::Forwarded { body } => body.is_end_stream(),
            Self::Own { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Cached { body } => body.size_hint(),
            Self::Forwarded { body } => body.size_hint(),
            Self::Own { body } => body.size_hint(),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let frame = ready!(this.content.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => this.exchange.sent(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(_)) => {}
            None => this.exchange.ends(true),
        }
        this.exchange.ends(this.content.is_end_stream());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}
