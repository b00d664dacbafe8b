//! The bodies of requests, within their bounds, and those of responses.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_keep::auth::AuthBody;
use tower_keep::cache::CacheBody;
use tower_keep::compress::CompressBody;
use tower_keep_balance::BalanceBody;
use tower_keep_balance::proxy::{ProxyBody, Upstream, UpstreamBody, UpstreamFailures};

use crate::claims::OurFields;
use crate::exchange::Exchange;
use crate::pace::Pace;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How the content of a request comes, as those see it who wait for the response. All clones are the
/// same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upload(Arc<Progress>);

#[derive(Debug, Default)]
struct Progress {
    too_long: AtomicBool,
    too_slow: AtomicBool,
    answered: AtomicBool,
}

impl Upload {
    pub(crate) fn is_too_long(&self) -> bool {
        self.0.too_long.load(Relaxed)
    }

    pub(crate) fn is_too_slow(&self) -> bool {
        self.0.too_slow.load(Relaxed)
    }

    fn is_answered(&self) -> bool {
        self.0.answered.load(Relaxed)
    }

    /// The head of the response is there: from now on, the client may have nothing to say for as long
    /// as it likes, as in calls of gRPC in which both sides stream.
    pub(crate) fn answered(&self) {
        self.0.answered.store(true, Relaxed);
    }
}

/// The content of a request, which breaks off where it is too long, or comes too slowly.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Incoming,
    upload: Upload,
    /// What is left of its bound.
    left: Option<u64>,
    pace: Pace,
    /// Since when nothing comes, and when that is over.
    since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
    /// What it can't say in trailers.
    kept_out: Option<Arc<OurFields>>,
}

impl RequestBody {
    pub(crate) fn new(
        body: Incoming,
        bound: Option<u64>,
        pace: Pace,
        kept_out: Option<Arc<OurFields>>,
    ) -> Self {
        let upload = Upload::default();
        Self { body, upload, left: bound, pace, since: None, alarm: None, kept_out }
    }

    pub(crate) fn upload(&self) -> Upload {
        self.upload.clone()
    }

    /// Ready when it has been waited for too long.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_new = self.since.is_none();
        let since = *self.since.get_or_insert_with(Instant::now);
        let alarm = match &mut self.alarm {
            Some(alarm) => {
                if is_new {
                    alarm.as_mut().reset(since + self.pace.left());
                }
                alarm
            }
            None => self.alarm.insert(Box::pin(sleep(self.pace.left()))),
        };
        loop {
            ready!(alarm.as_mut().poll(cx));
            if !self.upload.is_answered() {
                return Poll::Ready(());
            }
            self.pace.reset();
            alarm.as_mut().reset(Instant::now() + self.pace.left());
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            ready!(self.poll_alarm(cx));
            self.upload.0.too_slow.store(true, Relaxed);
            return Poll::Ready(Some(Err("the content comes too slowly".into())));
        };
        let waited = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        let Some(Ok(mut frame)) = frame else {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        };
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.pace.came(length, waited);
        if let Some(left) = &mut self.left {
            let Some(rest) = left.checked_sub(length as u64) else {
                self.upload.0.too_long.store(true, Relaxed);
                return Poll::Ready(Some(Err("the content is too long".into())));
            };
            *left = rest;
        }
        if let (Some(trailers), Some(kept_out)) = (frame.trailers_mut(), &self.kept_out) {
            kept_out.remove_from(trailers);
        }
        Poll::Ready(Some(Ok(frame)))
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
