//! One face for the encoders of all codings.
//!
//! They are those of `zstd`, `brotli` and `flate2` (with `zlib-rs`), used as they are: write, flush,
//! finish. `async-compression` wraps the same ones, but as readers, which keep back what they have
//! until the inner reader ends (tower-http's issue 292), and which can't be told the length of a body,
//! by which zstd and Brotli take less memory.

#[cfg(feature = "br")]
mod brotli;
#[cfg(any(feature = "gzip", feature = "deflate"))]
mod flate;
#[cfg(feature = "zstd")]
mod zstd;

use std::fmt;

use crate::encoding::Encoding;
use crate::error::EncodeError;
use crate::form::Form;

/// How many bytes are compressed in one go.
pub(crate) const SLICE: usize = 16 * 1024;

/// The window of bodies that are compressed as they are sent, as a power of two: 256 KiB. By
/// themselves, zstd would take 2 MiB and Brotli 4. The window is the smaller part of the memory: with one
/// of 512 KiB, Brotli's level 4 took 5.7 MiB in place of 2.6.
const STREAM_WINDOW: u32 = 18;

/// That of bodies that are stored: 8 MiB. A client needn't have room for more (RFC 9659 §3).
pub(crate) const STORED_WINDOW: u32 = 23;

/// The bytes of output that a codec is offered at a time.
const ROOM: usize = 4 * 1024;

/// What a codec is to do with what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Keep it, and wait for more.
    Continue,
    /// Send it on, so that all that was written can be read.
    Flush,
    /// Nothing more follows.
    Finish,
}

/// What a codec has done in one go.
#[derive(Clone, Copy, Debug)]
struct Progress {
    read: usize,
    written: usize,
    /// Whether it has done what it was to do, so far as it was given input.
    done: bool,
}

/// The encoder of one coding.
trait Codec: Send + Sync {
    /// Reads from `input`, and writes into `room`, as far as both go.
    fn run(&mut self, input: &[u8], then: Then, room: &mut [u8]) -> Result<Progress, String>;
}

/// Compresses one body.
pub(crate) struct Encoder {
    encoding: Encoding,
    level: i32,
    /// What stands before all else.
    head: Vec<u8>,
    /// None when it has finished.
    codec: Option<Box<dyn Codec>>,
}

impl Encoder {
    /// One for a body that is compressed as it is sent, of so many bytes, if that is known; it must be
    /// right then.
    pub(crate) fn streaming(
        form: &Form,
        level: i32,
        len: Option<u64>,
    ) -> Result<Self, EncodeError> {
        Self::new(form, level, len, STREAM_WINDOW)
    }

    pub(crate) fn new(
        form: &Form,
        level: i32,
        len: Option<u64>,
        max_window: u32,
    ) -> Result<Self, EncodeError> {
        let encoding = form.base();
        if !encoding.levels().contains(&level) {
            return Err(EncodeError::Level { encoding, level });
        }
        let codec = match form {
            Form::Coding(encoding) => codec(*encoding, level, len, max_window),
            #[cfg(feature = "dictionary")]
            Form::Delta(delta) => codec_with(delta, level, len, max_window),
        };
        let head = match form {
            Form::Coding(_) => Vec::new(),
            #[cfg(feature = "dictionary")]
            Form::Delta(delta) => delta.head(),
        };
        let codec = codec.ok_or(EncodeError::NotEnabled(encoding))?;
        let codec = codec.map_err(|reason| EncodeError::Failed { encoding, reason })?;
        Ok(Self { encoding, level, head, codec: Some(codec) })
    }

    /// Gives the memory back. Nothing more can be written.
    pub(crate) fn close(&mut self) {
        self.codec = None;
    }

    /// How many bytes may be compressed before others should have the thread: about a millisecond's
    /// work, or one slice where that takes longer.
    pub(crate) fn turn(&self) -> usize {
        let slices = match (self.encoding, self.level) {
            (Encoding::Zstd, ..=3) | (Encoding::Brotli, ..=1) => 8,
            (Encoding::Zstd, ..=7)
            | (Encoding::Brotli, ..=4)
            | (Encoding::Gzip | Encoding::Deflate, ..=5) => 4,
            _ => 1,
        };
        slices * SLICE
    }

    /// Compresses all of the input. What comes of it is appended; some of it may be kept back.
    pub(crate) fn write(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.run(input, Then::Continue, output)
    }

    /// Appends all that is kept back, so that all that was written can be read.
    pub(crate) fn flush(&mut self, output: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.run(&[], Then::Flush, output)
    }

    /// Appends all that is kept back, and what ends the encoded form.
    pub(crate) fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.run(&[], Then::Finish, output)?;
        self.close();
        Ok(())
    }

    fn run(
        &mut self,
        mut input: &[u8],
        then: Then,
        output: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let failed = |reason| EncodeError::Failed { encoding: self.encoding, reason };
        output.append(&mut self.head);
        let codec = self.codec.as_mut().ok_or_else(|| failed("it has ended".to_owned()))?;
        let mut room = [0; ROOM];
        while then != Then::Continue || !input.is_empty() {
            let Progress { read, written, done } =
                codec.run(input, then, &mut room).map_err(failed)?;
            input = input.get(read..).unwrap_or_default();
            output.extend_from_slice(room.get(..written).unwrap_or_default());
            if done && input.is_empty() {
                break;
            }
            if read == 0 && written == 0 {
                return Err(failed("it makes no progress".to_owned()));
            }
        }
        Ok(())
    }
}

type NewCodec = Result<Box<dyn Codec>, String>;

/// The codec of a coding; none if its feature isn't enabled.
fn codec(encoding: Encoding, level: i32, len: Option<u64>, max_window: u32) -> Option<NewCodec> {
    match encoding {
        #[cfg(feature = "zstd")]
        Encoding::Zstd => Some(zstd::codec(level, len, max_window)),
        #[cfg(feature = "br")]
        Encoding::Brotli => Some(brotli::codec(level, len, max_window)),
        #[cfg(feature = "gzip")]
        Encoding::Gzip => Some(Ok(flate::gzip(level))),
        #[cfg(feature = "deflate")]
        Encoding::Deflate => Some(Ok(flate::zlib(level))),
        #[allow(unreachable_patterns, reason = "with all features there is no other")]
        _ => {
            let _ = (level, len, max_window);
            None
        }
    }
}

/// The same with a dictionary.
#[cfg(feature = "dictionary")]
fn codec_with(
    delta: &crate::dictionary::Delta,
    level: i32,
    len: Option<u64>,
    max_window: u32,
) -> Option<NewCodec> {
    match delta.coding().base() {
        #[cfg(feature = "zstd")]
        Encoding::Zstd => Some(zstd::codec_with(delta.prepared(level), len, max_window)),
        #[cfg(feature = "br")]
        Encoding::Brotli => {
            let len = len.filter(|_| delta.suits(len));
            let content = delta.dictionary().content();
            Some(
                len.ok_or_else(|| "it would not fit into the window".to_owned())
                    .and_then(|len| brotli::codec_with(content, level, len, max_window)),
            )
        }
        _ => {
            let _ = (level, len, max_window);
            None
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("encoding", &self.encoding)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// The encoded form of `content`, for whoever stores it. It takes long at the
/// [denser levels](crate::Levels::stored), 1 MiB of text at br 11 about two seconds: on a runtime, run
/// it with `spawn_blocking`.
///
/// ```
/// use tower_keep_compress::{Encoding, Levels, Limits, decode_all, encode_all};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let content = "All work and no play. ".repeat(100);
/// let level = Levels::stored().of(Encoding::Gzip);
/// let encoded = encode_all(content.as_bytes(), Encoding::Gzip, level)?;
/// assert!(encoded.len() < 100);
/// assert_eq!(decode_all(&encoded, &[Encoding::Gzip], Limits::default())?, content.as_bytes());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// If the feature of the coding isn't enabled, if the level is none of [`Encoding::levels`], or if
/// there is no memory.
pub fn encode_all(content: &[u8], encoding: Encoding, level: i32) -> Result<Vec<u8>, EncodeError> {
    let form = Form::Coding(encoding);
    let mut encoder = Encoder::new(&form, level, Some(content.len() as u64), STORED_WINDOW)?;
    let mut encoded = Vec::with_capacity(content.len() / 4);
    encoder.write(content, &mut encoded)?;
    encoder.finish(&mut encoded)?;
    encoded.shrink_to_fit();
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_codings_that_are_not_there_are_refused() {
        for encoding in Encoding::ALL {
            let beyond = encoding.levels().end() + 1;
            assert!(matches!(encode_all(b"", encoding, beyond), Err(EncodeError::Level { .. })));
            let level = *encoding.levels().start();
            assert_eq!(encode_all(b"", encoding, level).is_ok(), encoding.is_enabled());
        }
    }

    #[test]
    fn nothing_is_written_after_the_end() {
        for encoding in Encoding::enabled() {
            let mut encoder = Encoder::streaming(&Form::Coding(encoding), 1, None).unwrap();
            encoder.finish(&mut Vec::new()).unwrap();
            assert!(encoder.write(b"more", &mut Vec::new()).is_err());
        }
    }
}
