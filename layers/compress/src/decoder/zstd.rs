//! `zstd`, by the reference library.

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{Codec, Progress};
use crate::error::DecodeError;

/// The largest window that is accepted, as a power of two: 8 MiB (RFC 9659 §3).
const MAX_WINDOW_LOG: u32 = 23;

struct Zstd(Decoder<'static>);

pub(super) fn codec() -> Result<Box<dyn Codec>, DecodeError> {
    let decoder = Decoder::new().and_then(|mut decoder| {
        decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
        Ok(decoder)
    });
    // It has no memory left.
    let decoder = decoder.map_err(|error| DecodeError::Unsupported(format!("zstd: {error}")))?;
    Ok(Box::new(Zstd(decoder)))
}

impl Codec for Zstd {
    fn run(&mut self, input: &[u8], room: &mut [u8]) -> Option<Progress> {
        let mut input = InBuffer::around(input);
        let mut output = OutBuffer::around(room);
        let left = self.0.run(&mut input, &mut output).ok()?;
        Some(Progress { read: input.pos(), written: output.pos(), ended: left == 0 })
    }
}
