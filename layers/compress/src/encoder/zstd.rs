//! `zstd`, by the reference library.

use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

#[cfg(feature = "dictionary")]
use super::STORED_WINDOW;
use super::{Codec, Progress, Then};

/// The least that zstd knows, as a power of two: 1 KiB.
#[cfg(feature = "dictionary")]
const MIN_WINDOW: u32 = 10;

struct Zstd {
    encoder: Encoder<'static>,
    /// The encoder refers to it.
    #[cfg(feature = "dictionary")]
    _dictionary: Option<std::sync::Arc<::zstd::dict::EncoderDictionary<'static>>>,
}

pub(super) fn codec(
    level: i32,
    len: Option<u64>,
    max_window: u32,
) -> Result<Box<dyn Codec>, String> {
    let mut encoder = Encoder::new(level).map_err(|error| error.to_string())?;
    if len.is_none_or(|len| len > 1 << max_window) {
        let window = CParameter::WindowLog(max_window);
        encoder.set_parameter(window).map_err(|error| error.to_string())?;
    }
    // By the length, the tables get as small as they can be, and the window with them.
    encoder.set_pledged_src_size(len).map_err(|error| error.to_string())?;
    Ok(Box::new(Zstd {
        encoder,
        #[cfg(feature = "dictionary")]
        _dictionary: None,
    }))
}

/// The level is that at which the dictionary was prepared.
#[cfg(feature = "dictionary")]
pub(super) fn codec_with(
    dictionary: std::sync::Arc<::zstd::dict::EncoderDictionary<'static>>,
    len: Option<u64>,
    max_window: u32,
) -> Result<Box<dyn Codec>, String> {
    let encoder = Encoder::with_prepared_dictionary(&dictionary);
    let mut encoder = encoder.map_err(|error| error.to_string())?;
    // The dictionary is of use until more was written than the window holds (RFC 9842 §5), so that a
    // known length gets one that holds all of it, up to what every client has room for.
    let needed = |len: u64| u64::BITS - len.saturating_sub(1).leading_zeros();
    let window = len.map_or(max_window, |len| needed(len).clamp(MIN_WINDOW, STORED_WINDOW));
    let window = CParameter::WindowLog(window);
    encoder.set_parameter(window).map_err(|error| error.to_string())?;
    encoder.set_pledged_src_size(len).map_err(|error| error.to_string())?;
    Ok(Box::new(Zstd { encoder, _dictionary: Some(dictionary) }))
}

impl Codec for Zstd {
    fn run(&mut self, input: &[u8], then: Then, room: &mut [u8]) -> Result<Progress, String> {
        let mut input = InBuffer::around(input);
        let mut output = OutBuffer::around(room);
        let left = match then {
            Then::Continue => self.encoder.run(&mut input, &mut output),
            Then::Flush => self.encoder.flush(&mut output),
            Then::Finish => self.encoder.finish(&mut output, true),
        };
        let left = left.map_err(|error| error.to_string())?;
        let done = then == Then::Continue || left == 0;
        Ok(Progress { read: input.pos(), written: output.pos(), done })
    }
}
