//! The encoder of one body, and what goes into and comes out of it.

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Frame;

use crate::encoder::{Encoder, SLICE};
use crate::error::EncodeError;
use crate::fields::remove_digests;

/// So many bytes of output are sent on before more is read.
const ENOUGH: usize = 8 * 1024;

/// What there is to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// This goes to the client.
    Frame(Frame<Bytes>),
    /// The next frame of the inner body is needed.
    NeedsInput,
    /// Others should have the thread for a moment.
    Yield,
    /// Nothing more follows.
    Ended,
    Failed(EncodeError),
}

/// Compresses what it is given, a slice at a time.
///
/// It starts with no encoder: one is made when the first byte comes, or the end. It reads no further
/// than it must before it hands on what it has, so what it holds is the encoder's memory, one frame
/// of the inner body, and the output of one slice.
#[derive(Debug)]
pub(crate) struct Encode {
    encoder: Encoder,
    input: Bytes,
    output: Vec<u8>,
    trailers: Option<HeaderMap>,
    state: State,
    /// What the encoder holds back since the last flush.
    unflushed: bool,
    flushes: bool,
    /// How many bytes of input are still to come, and were in all, if that was said.
    announced: Option<Announced>,
    /// How many bytes of input may be compressed before others have their turn, and have been.
    turn: usize,
    done: usize,
}

#[derive(Clone, Copy, Debug)]
struct Announced {
    left: u64,
    all: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    /// There is no more input, but output.
    Ending,
    /// All data is out.
    Trailing,
}

impl Encode {
    /// `flushes`: whether a pause of the inner body sends on what there is. `len`: how long that body
    /// says it is.
    pub(crate) fn new(encoder: Encoder, flushes: bool, len: Option<u64>) -> Self {
        let turn = encoder.turn();
        Self {
            encoder,
            input: Bytes::new(),
            output: Vec::new(),
            trailers: None,
            state: State::Reading,
            unflushed: false,
            flushes,
            announced: len.map(|all| Announced { left: all, all }),
            turn,
            done: 0,
        }
    }

    /// Takes a frame, when [`Step::NeedsInput`] asked for one.
    pub(super) fn take(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => self.input = data,
            Err(frame) => {
                if let Ok(mut trailers) = frame.into_trailers() {
                    remove_digests(&mut trailers);
                    self.trailers = Some(trailers).filter(|trailers| !trailers.is_empty());
                    self.end();
                }
            }
        }
    }

    /// There is no more input.
    pub(super) fn end(&mut self) {
        self.state = State::Ending;
    }

    /// The inner body failed: nothing more comes out.
    pub(super) fn stop(&mut self) {
        self.state = State::Trailing;
        self.output = Vec::new();
        self.trailers = None;
        self.encoder.close();
    }

    pub(super) fn step(&mut self) -> Step {
        loop {
            if self.output.len() >= ENOUGH {
                return self.frame();
            }
            match self.state {
                State::Reading if self.input.is_empty() => return Step::NeedsInput,
                State::Reading if self.done >= self.turn => {
                    self.done = 0;
                    return Step::Yield;
                }
                State::Reading => {
                    let len = self.input.len().min(SLICE);
                    let slice = self.input.split_to(len);
                    let written = self
                        .count(len as u64)
                        .and_then(|()| self.encoder.write(slice.chunk(), &mut self.output));
                    if let Err(error) = written {
                        self.stop();
                        return Step::Failed(error);
                    }
                    self.done += len;
                    self.unflushed = true;
                }
                State::Ending => {
                    let finished =
                        self.is_all().and_then(|()| self.encoder.finish(&mut self.output));
                    self.state = State::Trailing;
                    // Its memory isn't needed while a slow client reads the rest.
                    self.encoder.close();
                    if let Err(error) = finished {
                        self.stop();
                        return Step::Failed(error);
                    }
                }
                State::Trailing if !self.output.is_empty() => return self.frame(),
                State::Trailing => {
                    let trailers = self.trailers.take().map(Frame::trailers);
                    return trailers.map_or(Step::Ended, Step::Frame);
                }
            }
        }
    }

    /// The inner body has nothing to say for now: so what there is goes out.
    pub(super) fn idle(&mut self) -> Step {
        self.done = 0;
        if self.flushes
            && std::mem::take(&mut self.unflushed)
            && let Err(error) = self.encoder.flush(&mut self.output)
        {
            self.stop();
            return Step::Failed(error);
        }
        if self.output.is_empty() { Step::NeedsInput } else { self.frame() }
    }

    /// Takes note of so many bytes of input.
    fn count(&mut self, len: u64) -> Result<(), EncodeError> {
        let Some(Announced { left, all }) = &mut self.announced else { return Ok(()) };
        *left = left.checked_sub(len).ok_or(EncodeError::Length { announced: *all })?;
        Ok(())
    }

    /// Refuses to end what isn't there as a whole.
    fn is_all(&self) -> Result<(), EncodeError> {
        match self.announced {
            Some(Announced { left: 1.., all }) => Err(EncodeError::Length { announced: all }),
            _ => Ok(()),
        }
    }

    fn frame(&mut self) -> Step {
        Step::Frame(Frame::data(Bytes::from(std::mem::take(&mut self.output))))
    }

    /// Whether nothing more comes out.
    pub(super) fn is_ended(&self) -> bool {
        self.state == State::Trailing && self.output.is_empty() && self.trailers.is_none()
    }
}
