//! The body of a request of which a part may have been read.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A request body that arrives as if nobody had read it: first what was, with its trailers or the
    /// error that it ended in, and then the rest.
    ///
    /// Its errors are the inner body's own.
    pub struct ReplayBody<B>
    where
        B: Body,
    {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B>
    where
        B: Body,
    {
        Untouched { #[pin] body: B },
        Read { read: Read<B> },
    }
}

/// What was read of a body, and what is left of it.
pub(super) struct Read<B: Body> {
    /// What arrived within the bounds.
    pub(super) data: Bytes,
    /// What was beyond them.
    pub(super) excess: Bytes,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) error: Option<B::Error>,
    /// Nothing, if it has ended.
    pub(super) rest: Option<Pin<Box<B>>>,
}

impl<B: Body> ReplayBody<B> {
    /// A body of which nothing was read.
    pub(super) fn untouched(body: B) -> Self {
        Self { kind: Kind::Untouched { body } }
    }

    pub(super) fn read(read: Read<B>) -> Self {
        Self { kind: Kind::Read { read } }
    }
}

type PolledFrame<E> = Poll<Option<Result<Frame<Bytes>, E>>>;

fn poll_inner<B: Body>(body: Pin<&mut B>, cx: &mut Context<'_>) -> PolledFrame<B::Error> {
    // `copy_to_bytes` hands a `Bytes` on as it is.
    let to_bytes =
        |frame: Frame<B::Data>| frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
    Poll::Ready(ready!(body.poll_frame(cx)).map(|frame| frame.map(to_bytes)))
}

impl<B: Body> Read<B> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame<B::Error> {
        for data in [&mut self.data, &mut self.excess] {
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(data)))));
            }
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match &mut self.rest {
            Some(rest) => poll_inner(rest.as_mut(), cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty()
            && self.excess.is_empty()
            && self.trailers.is_none()
            && self.error.is_none()
            && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = (self.data.len() + self.excess.len()) as u64;
        let rest = match &self.rest {
            Some(rest) => rest.size_hint(),
            None => SizeHint::with_exact(0),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(ahead.saturating_add(rest.lower()));
        // An exact size would promise that nothing follows.
        if self.trailers.is_none()
            && self.error.is_none()
            && let Some(upper) = rest.upper()
        {
            hint.set_upper(ahead.saturating_add(upper));
        }
        hint
    }
}

impl<B: Body> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Untouched { body } => poll_inner(body, cx),
            KindProj::Read { read } => read.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Untouched { body } => body.is_end_stream(),
            Kind::Read { read } => read.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Untouched { body } => body.size_hint(),
            Kind::Read { read } => read.size_hint(),
        }
    }
}

impl<B: Body> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Untouched { .. } => "Untouched",
            Kind::Read { .. } => "Read",
        };
        f.debug_tuple("ReplayBody").field(&kind).finish()
    }
}
