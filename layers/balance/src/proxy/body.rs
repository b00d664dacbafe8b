//! An upstream's response body.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::connections::Lease;
use super::error::{ErrorKind, UpstreamError};
use super::hop;

/// The body of an [`Upstream`](super::Upstream)'s response. If it is dropped before it is over, the
/// request is cancelled.
pub struct UpstreamBody {
    content: Incoming,
    /// The connection, or the place on it, until it is over.
    lease: Option<Lease>,
    /// How long it may be silent.
    timeout: Option<Duration>,
    silence: Option<Pin<Box<Sleep>>>,
    is_silent: bool,
}

impl UpstreamBody {
    pub(super) fn new(content: Incoming, lease: Lease, timeout: Option<Duration>) -> Self {
        let mut body = Self::holding(content, Some(lease), timeout);
        if body.content.is_end_stream() {
            body.done();
        }
        body
    }

    /// Without content. What it holds is given back when it is dropped, and not before.
    pub(super) fn holding(
        content: Incoming,
        lease: Option<Lease>,
        timeout: Option<Duration>,
    ) -> Self {
        Self { content, lease, timeout, silence: None, is_silent: false }
    }

    /// The connection can be used again.
    fn done(&mut self) {
        if let Some(Lease::Http1(lease)) = self.lease.take() {
            lease.give_back();
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timeout) = self.timeout else { return Poll::Pending };
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if !self.is_silent {
            // It counts from when there was nothing to read, and not while nobody wanted to.
            self.is_silent = true;
            if let Some(end) = Instant::now().checked_add(timeout) {
                silence.as_mut().reset(end);
            }
        }
        silence.as_mut().poll(cx)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        match Pin::new(&mut self.content).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.is_silent = false;
                // Those who read no further than the last byte are done as well.
                if self.content.is_end_stream() {
                    self.done();
                }
                Poll::Ready(Some(Ok(hop::clean_trailers(frame))))
            }
            Poll::Ready(Some(Err(error))) => {
                self.lease = None;
                Poll::Ready(Some(Err(UpstreamError::body(error))))
            }
            Poll::Ready(None) => {
                self.done();
                Poll::Ready(None)
            }
            Poll::Pending if self.poll_silence(cx).is_ready() => {
                self.lease = None;
                Poll::Ready(Some(Err(UpstreamError::new(ErrorKind::ReadTimeout))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBody").field("content", &self.content).finish_non_exhaustive()
    }
}
