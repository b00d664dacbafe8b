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

use super::connections::Http1Lease;
use super::error::{ErrorKind, UpstreamError};
use super::hop;
use super::upstream::Upstream;
use crate::pick::{Outcome, Pick};

/// The body of an [`Upstream`]'s response. While it isn't over, the request is in flight there; if it
/// is dropped before, the request is cancelled.
pub struct UpstreamBody {
    content: Incoming,
    /// What ends with it.
    held: Held,
    /// How long it may be silent.
    timeout: Option<Duration>,
    silence: Option<Pin<Box<Sleep>>>,
    is_silent: bool,
}

/// What a response holds until it is over.
#[derive(Default)]
struct Held {
    lease: Option<Http1Lease>,
    pick: Option<(Pick<Upstream>, Outcome)>,
}

impl UpstreamBody {
    pub(super) fn new(
        content: Incoming,
        lease: Option<Http1Lease>,
        timeout: Option<Duration>,
    ) -> Self {
        let held = Held { lease, pick: None };
        let mut body = Self { content, held, timeout, silence: None, is_silent: false };
        if body.content.is_end_stream() {
            body.held.done();
        }
        body
    }

    /// Counts as in flight until it is over, and says then that it went as `outcome` says.
    pub(super) fn hold(&mut self, pick: Pick<Upstream>, outcome: Outcome) {
        self.held.pick = Some((pick, outcome));
        if self.content.is_end_stream() {
            self.held.done();
        }
    }

    /// Keeps what it holds after its end: protocols are changed, and the connection goes on.
    pub(super) fn hold_on(&mut self, pick: Pick<Upstream>, outcome: Outcome) {
        self.held.pick = Some((pick, outcome));
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

impl Held {
    fn done(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        if let Some((pick, outcome)) = self.pick.take() {
            pick.finish(outcome);
        }
    }

    fn failed(&mut self) {
        self.lease = None;
        if let Some((pick, _)) = self.pick.take() {
            pick.finish(Outcome::Failure);
        }
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
                    self.held.done();
                }
                Poll::Ready(Some(Ok(hop::clean_trailers(frame))))
            }
            Poll::Ready(Some(Err(error))) => {
                self.held.failed();
                Poll::Ready(Some(Err(UpstreamError::body(error))))
            }
            Poll::Ready(None) => {
                self.held.done();
                Poll::Ready(None)
            }
            Poll::Pending if self.poll_silence(cx).is_ready() => {
                self.held.failed();
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
