//! The body of a response, for whose length its backend counts as in use.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::classify::Verdict;
use crate::failures::ClassifyEnd;
use crate::in_use::InUse;

pin_project! {
    /// A backend's body as it is, or none where the balancer has answered. When it ends, breaks off
    /// or is dropped, the backend is no longer in use by it.
    pub struct BalanceBody<B, S, C> {
        #[pin]
        body: Option<B>,
        in_use: Option<InUse<S>>,
        // What to say at the end, if that is known.
        verdict: Verdict,
        classify: Option<C>,
    }
}

impl<B, S, C> BalanceBody<B, S, C> {
    /// `verdict` is what the head has said.
    pub(crate) fn new(body: B, in_use: InUse<S>, verdict: Verdict, classify: C) -> Self {
        Self { body: Some(body), in_use: Some(in_use), verdict, classify: Some(classify) }
    }
}

impl<B: Body, S, C: ClassifyEnd> BalanceBody<B, S, C> {
    /// Ends the use if nothing will follow, as one who knows that doesn't ask again.
    pub(crate) fn ends(mut self) -> Self {
        if self.body.as_ref().is_some_and(Body::is_end_stream) {
            end(&mut self.in_use, self.verdict, self.classify.as_ref(), None);
        }
        self
    }
}

/// Ends the use after the last frame.
fn end<S, C: ClassifyEnd>(
    in_use: &mut Option<InUse<S>>,
    verdict: Verdict,
    classify: Option<&C>,
    trailers: Option<&HeaderMap>,
) {
    let Some(in_use) = in_use.take() else { return };
    in_use.finish(match (verdict, classify) {
        (Verdict::AtEnd, Some(classify)) => classify.classify_end(trailers),
        _ => verdict,
    });
}

impl<B, S, C> Default for BalanceBody<B, S, C> {
    fn default() -> Self {
        Self { body: None, in_use: None, verdict: Verdict::Unknown, classify: None }
    }
}

impl<B: Body, S, C: ClassifyEnd> Body for BalanceBody<B, S, C> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(mut body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let frame = ready!(body.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let trailers = frame.trailers_ref();
                if trailers.is_some() || body.is_end_stream() {
                    end(this.in_use, *this.verdict, this.classify.as_ref(), trailers);
                }
            }
            Some(Err(_)) => {
                if let Some(in_use) = this.in_use.take() {
                    in_use.finish(Verdict::Failure);
                }
            }
            None => end(this.in_use, *this.verdict, this.classify.as_ref(), None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: fmt::Debug, S, C> fmt::Debug for BalanceBody<B, S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_use = self.in_use.is_some();
        f.debug_struct("BalanceBody")
            .field("body", &self.body)
            .field("in_use", &in_use)
            .finish_non_exhaustive()
    }
}
