//! Moves a response body from the inner service to those who read it, and keeps it while it may.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Buf;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::time::{Instant, sleep_until};
use tower_keep_store::{BoxError, Lead, Seen};

use crate::landing::Landing;
use crate::shared::SharedBody;

/// How the reading of a body is bounded.
pub(crate) struct Bounds {
    /// The body goes on beyond it, but is not stored.
    pub(crate) deadline: Instant,
    /// Whether a body that nobody reads is read to its end, to be stored.
    pub(crate) finish: bool,
    /// How long one reader may keep the others waiting.
    pub(crate) max_lag: Duration,
}

/// Pumps until the end of `body`. Returns its trailers, if any, when it ended well and whole;
/// nothing when it is not to be stored.
#[allow(clippy::option_option, reason = "whether it ended well, and whether it had trailers")]
pub(crate) async fn pump<B>(
    body: B,
    shared: &SharedBody,
    lead: &Lead<Landing>,
    seen: &Seen,
    bounds: &Bounds,
) -> Option<Option<HeaderMap>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let _ended = Ended(shared);
    let mut body = pin!(body);
    let mut trailers = None;
    let mut kept = true;
    let mut too_slow = pin!(sleep_until(bounds.deadline));
    loop {
        let frame = tokio::select! {
            biased;
            () = unread(shared, lead), if !kept || !bounds.finish => return None,
            frame = poll_fn(|cx| body.as_mut().poll_frame(cx).map_err(Into::into)) => frame,
            () = too_slow.as_mut(), if kept => {
                // It won't be stored; those who read it go on.
                shared.forget();
                lead.close();
                seen.passes();
                kept = false;
                continue;
            }
        };
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(mut data))) => {
                let bytes = data.copy_to_bytes(data.remaining());
                if !bytes.is_empty() && !shared.write(bytes, bounds.max_lag).await && kept {
                    kept = false;
                    lead.close();
                    seen.passes();
                }
            }
            Some(Ok(Err(frame))) => trailers = frame.into_trailers().ok().or(trailers),
            Some(Err(error)) => {
                lead.close();
                shared.fail(error);
                return None;
            }
            None => {
                shared.complete(trailers.clone());
                // Also when nothing was ever waited for.
                let in_time = Instant::now() < bounds.deadline;
                return (kept && in_time).then_some(trailers);
            }
        }
    }
}

/// Waits until nobody reads the body, and nobody who has been told of it is about to.
async fn unread(shared: &SharedBody, lead: &Lead<Landing>) {
    loop {
        shared.abandoned().await;
        lead.unfollowed().await;
        if !shared.is_read() {
            // Those who ask from here on start anew.
            lead.close();
            if lead.followers() == 0 && !shared.is_read() {
                return;
            }
        }
    }
}

/// Ends a body whose pump is gone: it returned early, its task was dropped, or the inner body
/// panicked. Nobody may be left waiting.
struct Ended<'a>(&'a SharedBody);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fail("it was abandoned before its end".into());
    }
}
