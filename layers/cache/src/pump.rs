//! Moves a response body from the inner service to those who read it, and keeps it while it may.

use std::future::poll_fn;
use std::pin::pin;

use bytes::Buf;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::time::sleep;
use tower_keep_store::{BoxError, Lead};

use crate::core::Settings;
use crate::landing::Landing;
use crate::shared::SharedBody;

/// Pumps until the end of `body`. Returns its trailers, if any, when it ended well and whole;
/// nothing when it is not to be stored.
#[allow(clippy::option_option, reason = "whether it ended well, and whether it had trailers")]
pub(crate) async fn pump<B>(
    body: B,
    shared: &SharedBody,
    lead: &Lead<Landing>,
    settings: &Settings,
) -> Option<Option<HeaderMap>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let _ended = Ended(shared);
    let mut body = pin!(body);
    let mut trailers = None;
    let mut kept = true;
    let mut too_slow = pin!(sleep(settings.max_fill));
    loop {
        let frame = tokio::select! {
            biased;
            () = shared.abandoned(), if !kept || !settings.finish_abandoned => return None,
            frame = poll_fn(|cx| body.as_mut().poll_frame(cx).map_err(Into::into)) => frame,
            () = too_slow.as_mut(), if kept => {
                // It won't be stored; those who read it go on.
                shared.forget();
                lead.close();
                kept = false;
                continue;
            }
        };
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(mut data))) => {
                let bytes = data.copy_to_bytes(data.remaining());
                if !bytes.is_empty() && !shared.write(bytes).await && kept {
                    kept = false;
                    lead.close();
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
                return kept.then_some(trailers);
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
