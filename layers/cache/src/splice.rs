//! A body made whole: what was stored of it, before or after what the origin sends of it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_keep_compress::poll_bytes;
use tower_keep_store::BoxError;

pin_project! {
    /// The stored part, and the rest as it arrives.
    ///
    /// The rest must be as long as it should be, or the two are not what they seem: too little, or
    /// too much, is an error of the body.
    #[derive(Debug)]
    pub(crate) struct Spliced<B> {
        before: Option<Bytes>,
        #[pin]
        rest: B,
        // How many bytes of the rest are still to come.
        left: u64,
        arrived: bool,
        after: Option<Bytes>,
        trailers: Option<HeaderMap>,
    }
}

/// The origin sent more, or less, of the rest than it said.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the rest of the representation is not as long as it should be")]
struct Mismatch;

impl<B> Spliced<B> {
    /// `rest` is `left` bytes long.
    pub(crate) fn new(before: Bytes, rest: B, left: u64, after: Bytes) -> Self {
        let some = |bytes: Bytes| Some(bytes).filter(|bytes| !bytes.is_empty());
        let (before, after) = (some(before), some(after));
        Self { before, rest, left, arrived: false, after, trailers: None }
    }
}

impl<B> Body for Spliced<B>
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
        let mut this = self.project();
        if let Some(before) = this.before.take() {
            return Poll::Ready(Some(Ok(Frame::data(before))));
        }
        while !*this.arrived {
            match ready!(poll_bytes(this.rest.as_mut(), cx)).transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => {
                    let left = this.left.checked_sub(data.len() as u64);
                    *this.left = left.ok_or(Mismatch)?;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // Held back: what is stored may come after it.
                Some(Err(frame)) => *this.trailers = frame.into_trailers().ok(),
                None if *this.left > 0 => return Poll::Ready(Some(Err(Mismatch.into()))),
                None => *this.arrived = true,
            }
        }
        let after = this.after.take().map(Frame::data);
        Poll::Ready(after.or_else(|| this.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        let stored =
            [&self.before, &self.after].into_iter().flatten().map(Bytes::len).sum::<usize>();
        let mut hint = SizeHint::new();
        // No exact size: trailers may follow.
        hint.set_lower(stored as u64 + self.left);
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    async fn whole(rest: &[&'static str], left: u64) -> Result<String, BoxError> {
        let frames: Vec<Result<_, BoxError>> =
            rest.iter().map(|data| Ok(Frame::data(Bytes::from_static(data.as_bytes())))).collect();
        let rest = StreamBody::new(stream::iter(frames));
        let body = Spliced::new("ab".into(), rest, left, "yz".into());
        Ok(String::from_utf8(body.collect().await?.to_bytes().to_vec())?)
    }

    #[tokio::test]
    async fn the_rest_comes_between_what_was_there() {
        assert_eq!(whole(&["cd", "e"], 3).await.unwrap(), "abcdeyz");
        assert!(whole(&["cd"], 3).await.is_err(), "too little");
        assert!(whole(&["cdef"], 3).await.is_err(), "too much");
    }
}
