//! `gzip` and `deflate`, by `flate2` over `zlib-rs`.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Codec, Progress};

struct Flate(Decompress);

impl Codec for Flate {
    fn run(&mut self, input: &[u8], room: &mut [u8]) -> Option<Progress> {
        let (read, written) = (self.0.total_in(), self.0.total_out());
        let status = self.0.decompress(input, room, FlushDecompress::None).ok()?;
        Some(Progress {
            read: usize::try_from(self.0.total_in() - read).ok()?,
            written: usize::try_from(self.0.total_out() - written).ok()?,
            ended: status == Status::StreamEnd,
        })
    }
}

#[cfg(feature = "gzip")]
pub(super) fn gzip() -> Box<dyn Codec> {
    /// 32 KiB, all that the format knows.
    const WINDOW_BITS: u8 = 15;
    Box::new(Flate(Decompress::new_gzip(WINDOW_BITS)))
}

#[cfg(feature = "deflate")]
pub(super) use self::deflate::deflate;

#[cfg(feature = "deflate")]
mod deflate {
    //! The zlib format, and what was sent in its place.

    use super::{Codec, Decompress, Flate, Progress};

    /// RFC 9110 §8.4.1.2: some send a bare deflate stream where it should be in the zlib format. Which
    /// one it is, the first two bytes tell.
    enum Deflate {
        /// Nothing, or the first byte.
        Unknown(Option<u8>),
        Known(Flate),
    }

    pub(in super::super) fn deflate() -> Box<dyn Codec> {
        Box::new(Deflate::Unknown(None))
    }

    /// Whether these two bytes begin a stream in the zlib format (RFC 1950 §2.2): the method is 8,
    /// and the two make a multiple of 31.
    fn is_zlib(first: u8, second: u8) -> bool {
        first & 0x0f == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31)
    }

    impl Codec for Deflate {
        fn run(&mut self, input: &[u8], room: &mut [u8]) -> Option<Progress> {
            let first = match self {
                Self::Known(flate) => return flate.run(input, room),
                Self::Unknown(first) => *first,
            };
            let (head, second) = match (first, input) {
                (None, [only]) => {
                    *self = Self::Unknown(Some(*only));
                    return Some(Progress { read: 1, written: 0, ended: false });
                }
                (None, [first, second, ..]) => (*first, *second),
                (Some(first), [second, ..]) => (first, *second),
                (_, []) => return Some(Progress { read: 0, written: 0, ended: false }),
            };
            let mut flate = Flate(Decompress::new(is_zlib(head, second)));
            if let Some(first) = first {
                // One byte says nothing yet in either format.
                flate.run(&[first], &mut [0])?;
            }
            *self = Self::Known(flate);
            self.run(input, room)
        }
    }
}
