//! A request's content on its way to an upstream.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::error::BoxError;
use super::expect::Gate;
use super::hop;

type Boxed = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// A request's content. It is boxed, unless there is none, so that an upstream's connections can be
/// shared by all who send requests, whatever their bodies are.
pub(super) struct Content {
    body: Option<Boxed>,
    /// Holds it back.
    gate: Option<Gate>,
    /// Told when some of it is taken.
    moved: Option<Moved>,
}

impl Content {
    pub(super) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let is_empty = body.is_end_stream();
        let body = (!is_empty).then(|| Box::pin(Erased { body }) as Boxed);
        Self { body, gate: None, moved: None }
    }

    pub(super) fn hold(&mut self, gate: Gate) {
        self.gate = Some(gate);
    }

    /// Holds it back no longer.
    pub(super) fn let_go(&mut self) {
        self.gate = None;
    }

    /// Watches it go; if there is any.
    pub(super) fn watch(&mut self) -> Option<Moved> {
        self.body.as_ref()?;
        Some(self.moved.insert(Moved::default()).clone())
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.poll_open(cx));
            self.gate = None;
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(body.as_mut().poll_frame(cx));
        if let Some(moved) = &self.moved {
            moved.0.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("is_held", &self.gate.is_some()).finish_non_exhaustive()
    }
}

/// Whether some of a request's content has been taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Moved(Arc<AtomicBool>);

impl Moved {
    /// Since this was asked last.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

pin_project! {
    /// A body whose type is to be forgotten.
    struct Erased<B> {
        #[pin]
        body: B,
    }
}

impl<B> Body for Erased<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.project().body.poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(hop::clean_request_trailers).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
