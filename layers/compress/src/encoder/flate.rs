//! `gzip` and `deflate`, by `flate2` over `zlib-rs`.
//!
//! A stream takes about 350 KiB, whatever its level.

use flate2::{Compress, Compression, FlushCompress, Status};

use super::{Codec, Progress, Then};

/// 32 KiB, all that the formats know.
#[cfg(feature = "gzip")]
const WINDOW_BITS: u8 = 15;

struct Flate(Compress);

#[cfg(feature = "gzip")]
pub(super) fn gzip(level: i32) -> Box<dyn Codec> {
    Box::new(Flate(Compress::new_gzip(compression(level), WINDOW_BITS)))
}

#[cfg(feature = "deflate")]
pub(super) fn zlib(level: i32) -> Box<dyn Codec> {
    Box::new(Flate(Compress::new(compression(level), true)))
}

fn compression(level: i32) -> Compression {
    // The level was checked.
    Compression::new(level.try_into().unwrap_or(6))
}

impl Codec for Flate {
    fn run(&mut self, input: &[u8], then: Then, room: &mut [u8]) -> Result<Progress, String> {
        let flush = match then {
            Then::Continue => FlushCompress::None,
            Then::Flush => FlushCompress::Sync,
            Then::Finish => FlushCompress::Finish,
        };
        let (read, written) = (self.0.total_in(), self.0.total_out());
        let status = self.0.compress(input, room, flush).map_err(|error| error.to_string())?;
        let read = usize::try_from(self.0.total_in() - read).unwrap_or_default();
        let written = usize::try_from(self.0.total_out() - written).unwrap_or_default();
        let done = match then {
            // zlib's manual: a flush is complete when there is room left.
            Then::Continue | Then::Flush => written < room.len(),
            Then::Finish => status == Status::StreamEnd,
        };
        Ok(Progress { read, written, done })
    }
}
