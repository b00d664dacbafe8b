//! `zstd`, by the reference library.

use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

use super::{Codec, Progress, Then};

struct Zstd(Encoder<'static>);

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
    Ok(Box::new(Zstd(encoder)))
}

impl Codec for Zstd {
    fn run(&mut self, input: &[u8], then: Then, room: &mut [u8]) -> Result<Progress, String> {
        let mut input = InBuffer::around(input);
        let mut output = OutBuffer::around(room);
        let left = match then {
            Then::Continue => self.0.run(&mut input, &mut output),
            Then::Flush => self.0.flush(&mut output),
            Then::Finish => self.0.finish(&mut output, true),
        };
        let left = left.map_err(|error| error.to_string())?;
        let done = then == Then::Continue || left == 0;
        Ok(Progress { read: input.pos(), written: output.pos(), done })
    }
}
