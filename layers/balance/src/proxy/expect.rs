//! `Expect: 100-continue` (RFC 9110 §10.1.1).
//!
//! hyper's server sends 100 as soon as somebody reads the request's content, and its client reads
//! it at once. So the content is held back until the upstream asks for it, and an upstream that
//! refuses a request by its head alone doesn't make the client send the rest.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::EXPECT;
use http::{Request, Version};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::content::Content;

/// How long an upstream may take to ask. One that doesn't know the expectation never does
/// (RFC 9110 §10.1.1: a client "SHOULD NOT wait for an indefinite period").
const PATIENCE: Duration = Duration::from_secs(1);

/// What holds content back.
#[derive(Debug)]
pub(super) struct Gate {
    asked: oneshot::Receiver<()>,
    timeout: Pin<Box<Sleep>>,
}

impl Gate {
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // An error means that the final response has come, or is out of the question. The client
        // should get it instead of a 100, so its content is not asked for right now. And a receiver
        // that has returned its error must not be polled again.
        if !self.asked.is_terminated()
            && let Poll::Ready(Ok(())) = Pin::new(&mut self.asked).poll(cx)
        {
            return Poll::Ready(());
        }
        self.timeout.as_mut().poll(cx)
    }
}

/// Holds a request's content back, if the client expects to be asked for it. The sender, if there is
/// one, lets it go.
pub(super) fn hold(request: &mut Request<Content>) -> Option<oneshot::Sender<()>> {
    let expects = request.headers().get(EXPECT)?;
    let expects = expects.as_bytes().eq_ignore_ascii_case(b"100-continue");
    // RFC 9110 §10.1.1: of an HTTP/1.0 client, the expectation is ignored.
    if request.version() == Version::HTTP_10 {
        request.headers_mut().remove(EXPECT);
        return None;
    }
    if !expects || request.body().is_end_stream() {
        return None;
    }
    let (go, asked) = oneshot::channel();
    request.body_mut().hold(Gate { asked, timeout: Box::pin(sleep(PATIENCE)) });
    Some(go)
}
