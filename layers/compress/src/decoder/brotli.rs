//! `br`, by the `brotli` crate.

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};

use super::{Codec, Progress};

struct Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>);

pub(super) fn codec() -> Box<dyn Codec> {
    // Strict: with the "large windows" that RFC 7932 doesn't know, a few bytes could ask for a buffer
    // of a gigabyte. So it is 16 MiB at the most.
    Box::new(Brotli(Box::new(BrotliState::new_strict(
        StandardAlloc::default(),
        StandardAlloc::default(),
        StandardAlloc::default(),
    ))))
}

impl Codec for Brotli {
    fn run(&mut self, input: &[u8], room: &mut [u8]) -> Option<Progress> {
        let (mut read, mut written) = (0, 0);
        let result = BrotliDecompressStream(
            &mut input.len(),
            &mut read,
            input,
            &mut room.len(),
            &mut written,
            room,
            &mut 0,
            &mut self.0,
        );
        let ended = match result {
            BrotliResult::ResultFailure => return None,
            BrotliResult::ResultSuccess => true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => false,
        };
        Some(Progress { read, written, ended })
    }
}
