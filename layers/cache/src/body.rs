//! The body of every response that comes out of the layer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_keep_compress::poll_bytes;
use tower_keep_store::BoxError;

use crate::capture::Capture;
use crate::shared::Reader;
use crate::splice::Spliced;

pin_project! {
    /// A response body: stored, shared with others while it arrives, or the inner service's own.
    ///
    /// Its errors are the inner body's, boxed.
    #[derive(Debug)]
    pub struct CacheBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<B> {
        // Boxed, since trailers are rare, and every hit moves the enum.
        Stored { data: Option<Bytes>, trailers: Option<Box<HeaderMap>> },
        Shared { reader: Reader },
        Inner { #[pin] body: B },
        // These two are rare and large, and every hit moves the enum.
        Spliced { body: Pin<Box<Spliced<B>>> },
        Captured { #[pin] body: B, capture: Option<Box<Capture>> },
    }
}

impl<B> CacheBody<B> {
    /// No body, such as a response to `HEAD` has.
    pub(crate) fn empty() -> Self {
        Self::stored(Bytes::new(), None)
    }

    /// A whole body, and the trailers that follow it.
    pub(crate) fn stored(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        let data = Some(data).filter(|data| !data.is_empty());
        Self { kind: Kind::Stored { data, trailers: trailers.map(Box::new) } }
    }

    /// What is stored, if it is that, and not empty.
    pub(crate) fn whole(&self) -> Option<&Bytes> {
        match &self.kind {
            Kind::Stored { data, .. } => data.as_ref(),
            _ => None,
        }
    }

    /// Puts other content in the place of what is stored, and changes the trailers to suit. Whether
    /// there are some.
    pub(crate) fn replace(&mut self, content: Bytes, change: impl FnOnce(&mut HeaderMap)) -> bool {
        let Kind::Stored { data, trailers } = &mut self.kind else { return false };
        *data = Some(content).filter(|content| !content.is_empty());
        let Some(trailers) = trailers else { return false };
        change(trailers);
        true
    }

    /// A body that is still arriving.
    pub(crate) fn shared(reader: Reader) -> Self {
        Self { kind: Kind::Shared { reader } }
    }

    /// The inner service's body, as it is.
    pub(crate) fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    /// The inner service's body, and what was missing of it.
    pub(crate) fn spliced(body: Spliced<B>) -> Self {
        Self { kind: Kind::Spliced { body: Box::pin(body) } }
    }

    /// The inner service's body as it is, of which a copy is kept.
    pub(crate) fn captured(body: B, capture: Capture) -> Self {
        Self { kind: Kind::Captured { body, capture: Some(Box::new(capture)) } }
    }
}

impl<B> Default for CacheBody<B> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<B> Body for CacheBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().kind.project() {
            KindProj::Stored { data, trailers } => {
                let last = || trailers.take().map(|trailers| Frame::trailers(*trailers));
                let frame = data.take().map(Frame::data).or_else(last);
                Poll::Ready(frame.map(Ok))
            }
            KindProj::Shared { reader } => reader.poll_frame(cx),
            KindProj::Inner { body } => poll_bytes(body, cx),
            KindProj::Spliced { body } => body.as_mut().poll_frame(cx),
            KindProj::Captured { body, capture } => {
                let frame = ready!(poll_bytes(body, cx));
                let goes_on = match (&frame, capture.as_mut()) {
                    (Some(Ok(frame)), Some(capture)) => match frame.data_ref() {
                        Some(data) => capture.push(data) && !capture.is_complete(),
                        // Parts with trailers are not kept.
                        None => false,
                    },
                    (Some(Err(_)) | None, _) => false,
                    (_, None) => true,
                };
                if !goes_on {
                    // Not at the end of the body: who knows its length may not ask for that.
                    if let Some(capture) = capture.take().filter(|capture| capture.is_complete()) {
                        capture.finish();
                    }
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Stored { data, trailers } => data.is_none() && trailers.is_none(),
            Kind::Shared { reader } => reader.is_end_stream(),
            Kind::Inner { body } | Kind::Captured { body, .. } => body.is_end_stream(),
            Kind::Spliced { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Stored { data, trailers } => {
                let len = data.as_ref().map_or(0, |data| data.len() as u64);
                let mut hint = SizeHint::new();
                hint.set_lower(len);
                // An exact size would promise that nothing follows.
                if trailers.is_none() {
                    hint.set_upper(len);
                }
                hint
            }
            Kind::Shared { reader } => reader.size_hint(),
            Kind::Inner { body } | Kind::Captured { body, .. } => body.size_hint(),
            Kind::Spliced { body } => body.size_hint(),
        }
    }
}
