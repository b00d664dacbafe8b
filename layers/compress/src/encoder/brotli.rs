//! `br`, by the `brotli` crate.

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{BrotliEncoderOperation, BrotliEncoderStateStruct};

use super::{Codec, Progress, Then};

/// The smallest window that is used, as a power of two: 128 KiB. Below, the encoder's levels from 5 on
/// take twenty times as long: 7 ms rather than 0.4 for 10 KiB.
const MIN_WINDOW: u32 = 17;

struct Brotli(BrotliEncoderStateStruct<StandardAlloc>);

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
    params.size_hint = len.and_then(|len| len.try_into().ok()).unwrap_or(0);
    Ok(Box::new(Brotli(encoder)))
}

impl Codec for Brotli {
    fn run(&mut self, input: &[u8], then: Then, room: &mut [u8]) -> Result<Progress, String> {
        let operation = match then {
            Then::Continue => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
            Then::Flush => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
            Then::Finish => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
        };
        let (mut read, mut written) = (0, 0);
        let fine = self.0.compress_stream(
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
        let done = match then {
            Then::Continue | Then::Flush => !self.0.has_more_output(),
            Then::Finish => self.0.is_finished(),
        };
        Ok(Progress { read, written, done })
    }
}
