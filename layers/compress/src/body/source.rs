//! The inner service's body, of which the beginning may have been looked at.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::Capture;
use crate::error::BoxError;
use crate::frame::poll_bytes;

/// A body that arrives as if nobody had looked at it.
///
/// It is in a box, since it can't be moved any more once it was looked at, and goes from the future
/// into the response then.
#[derive(Debug)]
pub(crate) struct Source<B> {
    body: Pin<Box<B>>,
    seen: Option<Box<Seen>>,
    capture: Option<Box<Capture>>,
}

/// What was seen of a body, and not handed on yet.
#[derive(Debug, Default)]
struct Seen {
    data: VecDeque<Bytes>,
    len: usize,
    last: Last,
}

/// What followed the data that was seen.
#[derive(Debug, Default)]
enum Last {
    /// Not known.
    #[default]
    Open,
    Trailers(HeaderMap),
    Error(BoxError),
    Ended,
}

/// What a look at a body shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// All of it is there: so many bytes.
    Whole(usize),
    /// There is more of it, or may be.
    More,
}

impl<B> Source<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// `capture` is shown what comes of the body.
    pub(crate) fn new(body: B, capture: Option<Capture>) -> Self {
        Self { body: Box::pin(body), seen: None, capture: capture.map(Box::new) }
    }

    /// Takes in what is there already, without waiting, up to so many bytes.
    pub(crate) fn look(&mut self, cx: &mut Context<'_>, max: usize) -> Look {
        let mut seen = self.seen.take().unwrap_or_default();
        while matches!(seen.last, Last::Open) && seen.len < max {
            if self.body.is_end_stream() {
                seen.last = Last::Ended;
                break;
            }
            match self.poll_body(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => seen.last = Last::Ended,
                Poll::Ready(Some(Err(error))) => seen.last = Last::Error(error),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        seen.len = seen.len.saturating_add(data.len());
                        if !data.is_empty() {
                            seen.data.push_back(data);
                        }
                    }
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => seen.last = Last::Trailers(trailers),
                        // There are no other kinds of frames.
                        Err(_) => break,
                    },
                },
            }
        }
        // What came last may have been the end, and known to be.
        if matches!(seen.last, Last::Open) && self.body.is_end_stream() {
            seen.last = Last::Ended;
        }
        let look = match seen.last {
            Last::Ended | Last::Trailers(_) => Look::Whole(seen.len),
            Last::Open | Last::Error(_) => Look::More,
        };
        self.seen = Some(seen);
        look
    }

    /// The next frame of the body itself.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = poll_bytes(self.body.as_mut(), cx);
        if let (Some(capture), Poll::Ready(frame)) = (&mut self.capture, &frame) {
            match frame {
                Some(Ok(frame)) => capture.frame(frame, self.body.is_end_stream()),
                Some(Err(_)) => self.capture = None,
                None => capture.end(),
            }
        }
        frame
    }

    /// The data that was seen.
    pub(crate) fn seen(&self) -> impl Iterator<Item = &Bytes> {
        self.seen.iter().flat_map(|seen| &seen.data)
    }

    /// The trailers, if they were seen.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        let seen = self.seen.as_mut()?;
        match std::mem::replace(&mut seen.last, Last::Ended) {
            Last::Trailers(trailers) => Some(trailers),
            other => {
                seen.last = other;
                None
            }
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(seen) = &mut self.seen {
            if let Some(data) = seen.data.pop_front() {
                seen.len = seen.len.saturating_sub(data.len());
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            match std::mem::replace(&mut seen.last, Last::Ended) {
                Last::Open => self.seen = None,
                Last::Trailers(trailers) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Last::Error(error) => return Poll::Ready(Some(Err(error))),
                Last::Ended => return Poll::Ready(None),
            }
        }
        self.poll_body(cx)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match &self.seen {
            Some(seen) if !seen.data.is_empty() => false,
            Some(seen) => match seen.last {
                Last::Ended => true,
                Last::Open => self.body.is_end_stream(),
                Last::Trailers(_) | Last::Error(_) => false,
            },
            None => self.body.is_end_stream(),
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let Some(seen) = &self.seen else { return self.body.size_hint() };
        let ahead = seen.len as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(ahead);
        match seen.last {
            Last::Ended => hint.set_upper(ahead),
            Last::Open => {
                let rest = self.body.size_hint();
                hint.set_lower(ahead.saturating_add(rest.lower()));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(ahead.saturating_add(upper));
                }
            }
            // An exact size would promise that nothing follows.
            Last::Trailers(_) | Last::Error(_) => {}
        }
        hint
    }
}
