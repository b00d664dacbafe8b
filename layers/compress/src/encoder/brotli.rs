//! `br`, by the `brotli` crate.

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{BrotliEncoderOperation, BrotliEncoderStateStruct};

use super::{Codec, Progress, STORED_WINDOW, Then};

/// The smallest window that is used, as a power of two: 128 KiB. Below, the encoder's levels from 5 on
/// take twenty times as long: 7 ms rather than 0.4 for 10 KiB.
const MIN_WINDOW: u32 = 17;

/// From this length on, the encoder takes tables of 4 MiB. A body that is sent while it is compressed is
/// taken for a shorter one.
const LONG: u64 = 1 << 20;

/// The length that the encoder is told.
fn size_hint(len: u64, max_window: u32) -> usize {
    let told = if max_window < STORED_WINDOW { len.min(LONG - 1) } else { len };
    told.try_into().unwrap_or(0)
}

struct Brotli {
    encoder: BrotliEncoderStateStruct<StandardAlloc>,
    /// How much more may be written, where it must fit beside a dictionary.
    left: Option<u64>,
}

pub(super) fn codec(
    level: i32,
    len: Option<u64>,
    max_window: u32,
) -> Result<Box<dyn Codec>, String> {
    let mut encoder = BrotliEncoderStateStruct::new(StandardAlloc::default());
    let params = &mut encoder.params;
    params.quality = level;
    // The smallest of them that holds all of it.
    let needed = len.map_or(max_window, |len| u64::BITS - len.saturating_sub(1).leading_zeros());
    let window = needed.clamp(MIN_WINDOW, max_window);
    params.lgwin = window.try_into().map_err(|_| "there is no such window")?;
    params.size_hint = len.map_or(0, |len| size_hint(len, max_window));
    Ok(Box::new(Brotli { encoder, left: None }))
}

/// The encoder keeps the dictionary in its window, before the content. What it writes is the same as if
/// it stood outside (as RFC 9842 §4 has it) for as long as both fit.
#[cfg(feature = "dictionary")]
pub(super) fn codec_with(
    dictionary: &[u8],
    level: i32,
    len: u64,
    max_window: u32,
) -> Result<Box<dyn Codec>, String> {
    /// What of the window can't be used (RFC 7932 §9.1).
    const GAP: u64 = 16;
    /// Below, the encoder doesn't use dictionaries.
    const LEAST_LEVEL: i32 = 2;
    let mut encoder = BrotliEncoderStateStruct::new(StandardAlloc::default());
    let all = len.saturating_add(dictionary.len() as u64).saturating_add(GAP);
    let window = (u64::BITS - all.saturating_sub(1).leading_zeros()).max(MIN_WINDOW);
    encoder.params.quality = level.max(LEAST_LEVEL);
    encoder.params.lgwin = window.try_into().map_err(|_| "there is no such window")?;
    encoder.params.size_hint = size_hint(len, max_window);
    encoder.set_custom_dictionary(dictionary.len(), dictionary);
    Ok(Box::new(Brotli { encoder, left: Some(len) }))
}

impl Codec for Brotli {
    fn run(&mut self, input: &[u8], then: Then, room: &mut [u8]) -> Result<Progress, String> {
        let operation = match then {
            Then::Continue => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
            Then::Flush => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
            Then::Finish => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
        };
        let (mut read, mut written) = (0, 0);
        let fine = self.encoder.compress_stream(
            operation,
            &mut input.len(),
            input,
            &mut read,
            &mut room.len(),
            room,
            &mut written,
            &mut None,
            &mut |_, _, _, _| (),
        );
        if !fine {
            return Err("the encoder failed".to_owned());
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(read as u64).ok_or("the body is longer than it said")?;
        }
        let done = match then {
            Then::Continue | Then::Flush => !self.encoder.has_more_output(),
            Then::Finish => self.encoder.is_finished(),
        };
        Ok(Progress { read, written, done })
    }
}
