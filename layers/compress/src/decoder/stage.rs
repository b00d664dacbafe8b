//! One decoder among those that are applied one after the other.

use std::fmt;

use bytes::{Buf, Bytes};

use super::{Codec, Progress, SLICE};
use crate::encoding::Encoding;
use crate::error::DecodeError;

/// How much of the output of one stage is taken at a time as the input of the next.
const BETWEEN: usize = 4 * 1024;

/// A decoder, and what it hasn't read yet.
pub(super) struct Stage {
    encoding: Encoding,
    codec: Box<dyn Codec>,
    input: Bytes,
    state: State,
    /// Whether no more input comes.
    closed: bool,
    /// It filled all the room that it had, so it may have more to say.
    full: bool,
    /// How many bytes have come out.
    decoded: u64,
    /// How often it began again.
    begun: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has been read.
    Empty,
    /// In the midst of it.
    Open,
    /// At the end, unless another begins.
    Ended,
}

/// What comes of a stage.
pub(super) enum Pulled {
    /// These many bytes, at the beginning of the room. None, if it ended without saying anything and
    /// something follows: whoever pulls decides how long it goes on like that.
    Data(usize),
    NeedsInput,
    Ended,
}

impl Stage {
    pub(super) fn new(encoding: Encoding) -> Result<Self, DecodeError> {
        Ok(Self {
            encoding,
            codec: codec(encoding)?,
            input: Bytes::new(),
            state: State::Empty,
            closed: false,
            full: false,
            decoded: 0,
            begun: 0,
        })
    }

    pub(super) fn take(&mut self, input: Bytes) {
        self.input = input;
    }

    pub(super) fn end(&mut self) {
        self.closed = true;
    }

    /// How often it began again since this was last asked.
    pub(super) fn take_begun(&mut self) -> usize {
        std::mem::take(&mut self.begun)
    }

    /// Decodes what there is; `None` if more is needed for that.
    fn run(&mut self, room: &mut [u8]) -> Result<Option<usize>, DecodeError> {
        while !self.input.is_empty() || self.full {
            if self.state == State::Ended {
                self.begin_again()?;
            }
            let input = self.input.get(..self.input.len().min(SLICE)).unwrap_or_default();
            let Progress { read, written, ended } =
                self.codec.run(input, room).ok_or(DecodeError::Corrupt(self.encoding))?;
            let stuck = read == 0 && written == 0 && !input.is_empty();
            self.input.advance(read);
            self.full = written == room.len() && !ended;
            self.decoded = self.decoded.saturating_add(written as u64);
            self.state = if ended { State::Ended } else { State::Open };
            if written > 0 || (ended && !self.input.is_empty()) {
                return Ok(Some(written));
            }
            if stuck && !ended {
                return Err(DecodeError::Corrupt(self.encoding));
            }
        }
        Ok(None)
    }

    /// Something follows the end: another of the kind where the format has that, and else garbage.
    fn begin_again(&mut self) -> Result<(), DecodeError> {
        match self.encoding {
            // RFC 1952 §2.2, RFC 8878 §3.1: members, and frames, one after the other.
            Encoding::Gzip => {
                self.begun += 1;
                self.codec = codec(self.encoding)?;
                Ok(())
            }
            // This decoder begins again by itself.
            Encoding::Zstd => {
                self.begun += 1;
                Ok(())
            }
            Encoding::Brotli | Encoding::Deflate => Err(DecodeError::Trailing(self.encoding)),
        }
    }
}

/// What the last of these stages puts out, each of which reads what the one before it does.
/// `check` is told how much each has put out in all: the ones in between count, too, since what they
/// swell to has to be read.
pub(super) fn pull(
    stages: &mut [Stage],
    room: &mut [u8],
    check: &mut dyn FnMut(u64) -> Result<(), DecodeError>,
) -> Result<Pulled, DecodeError> {
    let Some((stage, before)) = stages.split_last_mut() else { return Ok(Pulled::Ended) };
    loop {
        if let Some(len) = stage.run(room)? {
            check(stage.decoded)?;
            return Ok(Pulled::Data(len));
        }
        if !stage.closed && !before.is_empty() {
            let mut between = [0; BETWEEN];
            match pull(before, &mut between, check)? {
                Pulled::Data(0) => return Ok(Pulled::Data(0)),
                Pulled::Data(len) => {
                    stage.take(Bytes::copy_from_slice(between.get(..len).unwrap_or_default()));
                    continue;
                }
                Pulled::NeedsInput => return Ok(Pulled::NeedsInput),
                Pulled::Ended => stage.end(),
            }
        }
        return match (stage.closed, stage.state) {
            (false, _) => Ok(Pulled::NeedsInput),
            // Messages without content say what it would have been encoded in.
            (true, State::Empty | State::Ended) => Ok(Pulled::Ended),
            (true, State::Open) => Err(DecodeError::Truncated(stage.encoding)),
        };
    }
}

fn codec(encoding: Encoding) -> Result<Box<dyn Codec>, DecodeError> {
    match encoding {
        #[cfg(feature = "zstd")]
        Encoding::Zstd => super::zstd::codec(),
        #[cfg(feature = "br")]
        Encoding::Brotli => Ok(super::brotli::codec()),
        #[cfg(feature = "gzip")]
        Encoding::Gzip => Ok(super::flate::gzip()),
        #[cfg(feature = "deflate")]
        Encoding::Deflate => Ok(super::flate::deflate()),
        #[allow(unreachable_patterns, reason = "with all features there is no other")]
        other => Err(DecodeError::Unsupported(other.to_string())),
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("encoding", &self.encoding)
            .field("state", &self.state)
            .field("decoded", &self.decoded)
            .finish_non_exhaustive()
    }
}
