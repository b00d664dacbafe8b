//! Frames of bodies whose data may be of any kind.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};

use crate::error::BoxError;

/// The next frame of a body, its data as `Bytes`: for bodies that pass on those of others.
pub fn poll_bytes<B>(
    body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BoxError>>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    Poll::Ready(match ready!(body.poll_frame(cx)) {
        // `copy_to_bytes` hands a `Bytes` on as it is.
        Some(Ok(frame)) => {
            Some(Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))))
        }
        Some(Err(error)) => Some(Err(error.into())),
        None => None,
    })
}
