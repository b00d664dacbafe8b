//! A body that is decoded as it is read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::decoder::{Decoded, Decoder, Limits, SLICE};
use crate::encoding::Encoding;
use crate::error::{BoxError, DecodeError};
use crate::fields::remove_digests;
use crate::frame::poll_bytes;
use crate::request::Verdict;

/// How many decoded bytes are handed out before others should have the thread: about a millisecond's
/// work.
const TURN: usize = 16 * SLICE;

/// What it costs to begin with another member of gzip, in bytes that could be decoded meanwhile.
const BEGINNING: usize = SLICE / 4;

pin_project! {
    /// A body that is decoded as it is read, within [`Limits`], or one that passes as it is.
    ///
    /// Its errors are the inner body's, boxed, or a [`DecodeError`]. It holds the memory of its
    /// decoders (see [the crate's documentation](crate#memory)), 16 KiB, and one frame of the inner
    /// body.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::{BodyExt, Full};
    /// use tower_keep_compress::{DecodeBody, Encoding, Limits, encode_all};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let sent = Full::new(Bytes::from(encode_all(b"hello", Encoding::Gzip, 6)?));
    /// let body = DecodeBody::new(sent, &[Encoding::Gzip], Limits::default())?;
    /// assert_eq!(body.collect().await?.to_bytes(), "hello");
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Debug)]
    pub struct DecodeBody<B> {
        #[pin]
        body: B,
        // None, if it passes as it is.
        decode: Option<Box<Decode>>,
    }
}

#[derive(Debug)]
struct Decode {
    decoder: Decoder,
    room: Box<[u8]>,
    state: State,
    trailers: Option<HeaderMap>,
    /// How many bytes were handed out since others had the thread, and what was like it.
    done: usize,
    /// Where it is left word of what the client did wrong.
    verdict: Option<Verdict>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The decoder may have more to say.
    Decoding,
    /// It needs input.
    Reading,
    /// All data is out.
    Trailing,
}

impl<B> DecodeBody<B> {
    /// Decodes a body to which these codings were applied, in this order (see
    /// [`content_encodings`](crate::content_encodings)). The fields of its message are yours to change.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Unsupported`], if the feature of a coding isn't enabled, or there are more than
    /// three.
    pub fn new(body: B, encodings: &[Encoding], limits: Limits) -> Result<Self, DecodeError> {
        if encodings.is_empty() {
            return Ok(Self::plain(body));
        }
        let decode = Decode {
            decoder: Decoder::new(encodings, limits)?,
            room: vec![0; SLICE].into(),
            state: State::Decoding,
            trailers: None,
            done: 0,
            verdict: None,
        };
        Ok(Self { body, decode: Some(Box::new(decode)) })
    }

    /// A body that passes as it is.
    pub fn plain(body: B) -> Self {
        Self { body, decode: None }
    }

    /// Leaves word of what is wrong with it.
    pub(crate) fn judged_by(mut self, verdict: Verdict) -> Self {
        if let Some(decode) = &mut self.decode {
            decode.verdict = Some(verdict);
        }
        self
    }
}

impl Decode {
    /// What it has to say without more input.
    fn step(&mut self) -> Result<Option<Frame<Bytes>>, DecodeError> {
        let decoded = self.decoder.pull(&mut self.room)?;
        let begun = self.decoder.take_begun().saturating_mul(BEGINNING);
        self.done = self.done.saturating_add(begun);
        match decoded {
            Decoded::Data(0) => Ok(None),
            Decoded::Data(len) => {
                self.done = self.done.saturating_add(len);
                let data = self.room.get(..len).unwrap_or_default();
                Ok(Some(Frame::data(Bytes::copy_from_slice(data))))
            }
            Decoded::NeedsInput => {
                self.state = State::Reading;
                Ok(None)
            }
            Decoded::Ended => {
                self.state = State::Trailing;
                Ok(None)
            }
        }
    }

    fn fail(&mut self, error: DecodeError) -> BoxError {
        self.state = State::Trailing;
        self.trailers = None;
        if let Some(verdict) = &self.verdict {
            verdict.pass(&error);
        }
        error.into()
    }
}

impl<B> Body for DecodeBody<B>
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
        let Some(decode) = this.decode else { return poll_bytes(this.body, cx) };
        loop {
            match decode.state {
                State::Decoding if decode.done >= TURN => {
                    decode.done = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Decoding => match decode.step() {
                    Ok(None) => {}
                    Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                    Err(error) => return Poll::Ready(Some(Err(decode.fail(error)))),
                },
                State::Reading => {
                    let frame = poll_bytes(this.body.as_mut(), cx);
                    if frame.is_pending() {
                        decode.done = 0;
                    }
                    match ready!(frame).transpose()? {
                        None => decode.decoder.end(),
                        Some(frame) => match frame.into_data() {
                            Ok(data) => decode.decoder.take(data),
                            Err(frame) => {
                                decode.trailers = frame.into_trailers().ok();
                                decode.trailers.iter_mut().for_each(remove_digests);
                                decode.decoder.end();
                            }
                        },
                    }
                    decode.state = State::Decoding;
                }
                State::Trailing => {
                    let trailers = decode.trailers.take().filter(|trailers| !trailers.is_empty());
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.decode {
            Some(decode) => decode.state == State::Trailing && decode.trailers.is_none(),
            None => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.decode {
            Some(_) => SizeHint::new(),
            None => self.body.size_hint(),
        }
    }
}
