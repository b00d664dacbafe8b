//! `Expect: 100-continue` (RFC 9110 §10.1.1).
//!
//! hyper's server sends 100 as soon as somebody reads the request's content, and its client reads
//! it at once. So the content is held back until the origin asks for it, and an origin that
//! refuses a request by its head alone doesn't make the client send the rest.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::EXPECT;
use http::{Request, Version};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

/// How long an origin may take to ask. One that doesn't know the expectation never does
/// (RFC 9110 §10.1.1: a client "SHOULD NOT wait for an indefinite period").
const PATIENCE: Duration = Duration::from_secs(1);

/// A request's content, which may be held back.
#[derive(Debug)]
pub(crate) struct Held {
    content: Incoming,
    gate: Option<Gate>,
}

#[derive(Debug)]
struct Gate {
    asked: oneshot::Receiver<()>,
    timeout: Pin<Box<Sleep>>,
}

impl Gate {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // An error means that the final response has come, or is out of the question. The client
        // should get it instead of a 100, so its content is not asked for right now.
        if let Poll::Ready(Ok(())) = poll_unless_done(&mut self.asked, cx) {
            return Poll::Ready(());
        }
        self.timeout.as_mut().poll(cx)
    }
}

fn poll_unless_done(
    asked: &mut oneshot::Receiver<()>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), oneshot::error::RecvError>> {
    // A receiver that has returned its error must not be polled again.
    if asked.is_terminated() { Poll::Pending } else { Pin::new(asked).poll(cx) }
}

/// Holds a request's content back, if the client expects to be asked for it. The sender, if there is
/// one, lets it go.
pub(crate) fn hold(request: Request<Incoming>) -> (Request<Held>, Option<oneshot::Sender<()>>) {
    let expects = request.headers().get(EXPECT);
    let expects =
        expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let mut request = request.map(|content| Held { content, gate: None });
    // RFC 9110 §10.1.1: of an HTTP/1.0 client, the expectation is ignored.
    if request.version() == Version::HTTP_10 {
        request.headers_mut().remove(EXPECT);
        return (request, None);
    }
    if !expects || request.body().is_end_stream() {
        return (request, None);
    }
    let (go, asked) = oneshot::channel();
    request.body_mut().gate = Some(Gate { asked, timeout: Box::pin(sleep(PATIENCE)) });
    (request, Some(go))
}

impl Body for Held {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(gate) = &mut self.gate {
            if gate.poll_open(cx).is_pending() {
                return Poll::Pending;
            }
            self.gate = None;
        }
        Pin::new(&mut self.content).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}
