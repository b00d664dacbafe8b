//! The body of every response that comes out of the layer.

#[cfg(not(feature = "dictionary"))]
mod capture;
mod encode;
mod source;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

#[cfg(not(feature = "dictionary"))]
pub(crate) use self::capture::Capture;
pub(crate) use self::encode::Encode;
use self::encode::Step;
pub(crate) use self::source::{Look, Source};
#[cfg(feature = "dictionary")]
pub(crate) use crate::dictionary::Capture;
use crate::error::BoxError;
use crate::frame::poll_bytes;

pin_project! {
    /// A response body: as the inner service made it, or compressed.
    ///
    /// Its errors are the inner body's, boxed, or an [`EncodeError`](crate::EncodeError).
    ///
    /// While it is compressed, it holds the memory of its encoder (see
    /// [the crate's documentation](crate#memory)), and one frame of the inner body.
    #[derive(Debug)]
    pub struct CompressBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<B> {
        Whole { data: Option<Bytes>, trailers: Option<HeaderMap> },
        Unsent,
        Plain { #[pin] body: B },
        Seen { source: Source<B> },
        // The encoder is large, and most bodies have none.
        Encoded { source: Source<B>, encode: Box<Encode> },
    }
}

impl<B> CompressBody<B> {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self::whole(Bytes::new(), None)
    }

    /// All of it, and the trailers that follow.
    pub(crate) fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self { kind: Kind::Whole { data: Some(data).filter(|data| !data.is_empty()), trailers } }
    }

    /// What a response to `HEAD` has in place of a body that would be compressed. Servers announce the
    /// length that a body says it has, and how long this one would be isn't known.
    pub(crate) fn unsent() -> Self {
        Self { kind: Kind::Unsent }
    }

    /// The inner service's, as it is.
    pub(crate) fn plain(body: B) -> Self {
        Self { kind: Kind::Plain { body } }
    }

    /// The same, after a look at it.
    pub(crate) fn seen(source: Source<B>) -> Self {
        Self { kind: Kind::Seen { source } }
    }

    /// The inner service's, compressed.
    pub(crate) fn encoded(source: Source<B>, encode: Encode) -> Self {
        Self { kind: Kind::Encoded { source, encode: Box::new(encode) } }
    }
}

impl<B> Default for CompressBody<B> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<B> Body for CompressBody<B>
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
            KindProj::Whole { data, trailers } => {
                let frame =
                    data.take().map(Frame::data).or_else(|| trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
            KindProj::Unsent => Poll::Ready(None),
            KindProj::Plain { body } => poll_bytes(body, cx),
            KindProj::Seen { source } => source.poll_frame(cx),
            KindProj::Encoded { source, encode } => loop {
                match encode.step() {
                    Step::Frame(frame) => return Poll::Ready(Some(Ok(frame))),
                    Step::Failed(error) => return Poll::Ready(Some(Err(error.into()))),
                    Step::Ended => return Poll::Ready(None),
                    Step::Yield => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Step::NeedsInput => {}
                }
                let frame = source.poll_frame(cx);
                if frame.is_pending() {
                    return match encode.idle() {
                        Step::Frame(frame) => Poll::Ready(Some(Ok(frame))),
                        Step::Failed(error) => Poll::Ready(Some(Err(error.into()))),
                        _ => Poll::Pending,
                    };
                }
                match ready!(frame) {
                    Some(Ok(frame)) => encode.take(frame),
                    Some(Err(error)) => {
                        encode.stop();
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => encode.end(),
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole { data, trailers } => data.is_none() && trailers.is_none(),
            Kind::Unsent => true,
            Kind::Plain { body } => body.is_end_stream(),
            Kind::Seen { source } => source.is_end_stream(),
            Kind::Encoded { encode, .. } => encode.is_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole { data, trailers } => {
                let len = data.as_ref().map_or(0, |data| data.len() as u64);
                let mut hint = SizeHint::new();
                hint.set_lower(len);
                // An exact size would promise that nothing follows.
                if trailers.is_none() {
                    hint.set_upper(len);
                }
                hint
            }
            Kind::Plain { body } => body.size_hint(),
            Kind::Seen { source } => source.size_hint(),
            Kind::Encoded { encode, .. } if encode.is_ended() => SizeHint::with_exact(0),
            Kind::Unsent | Kind::Encoded { .. } => SizeHint::new(),
        }
    }
}
