//! Compression of large values in the second tier.
//!
//! Zstandard rather than LZ4. Measured on JSON of 10 KiB, 100 KiB and 1 MiB: level 1 leaves 24, 21
//! and 20 % of it, in 29, 169 and 1,990 µs, and takes 15, 69 and 650 µs to read; `lz4_flex` leaves
//! 39, 34 and 33 %, in 8, 81 and 1,330 µs, and takes 3, 27 and 370 µs. What is saved is memory and
//! traffic of the second tier, for months; what it costs is less than the round trip. Level 3 leaves
//! 23, 20 and 19 %, for a tenth more time.

use crate::error::Error;
use crate::frame::BadFrame;
use crate::payload::MAX_PACKED_LEN;

/// What is smaller hardly ever gets smaller still.
const LEAST_MIN_SIZE: usize = 256;

/// Below so many bytes, and up to this level, it takes less than about 100 µs. The higher ones take up to
/// a hundred times as long, and some of it for any length.
const QUICK: usize = 64 * 1024;
const QUICK_LEVEL: i32 = 3;

/// Whether and how large values are compressed in the second tier: for
/// [`StoreBuilder::compress`](crate::StoreBuilder::compress).
///
/// ```
/// use tower_keep_store::Compression;
///
/// let compression = Compression::zstd().level(3).min_size(16 * 1024);
/// # let _ = compression;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Compression {
    level: i32,
    min_size: usize,
}

impl Compression {
    /// Zstandard (RFC 8878), level 1, for values of 4 KiB or more.
    pub fn zstd() -> Self {
        Self { level: 1, min_size: 4 * 1024 }
    }

    /// From 1, the fastest, to 19, which leaves three quarters as much, and takes more than a hundred
    /// times as long: 0.3 s for 1 MiB of JSON. Reading takes less for the higher ones. Default: 1.
    pub fn level(mut self, level: i32) -> Self {
        self.level = level;
        self
    }

    /// The least bytes of an encoded value, its body included, that are worth it: 256 or more.
    /// Default: 4 KiB.
    pub fn min_size(mut self, bytes: usize) -> Self {
        self.min_size = bytes;
        self
    }

    pub(crate) fn check(self) -> Result<Self, Error> {
        let broken = if !(1..=19).contains(&self.level) {
            "a compression level is from 1 to 19"
        } else if self.min_size < LEAST_MIN_SIZE {
            "Compression::min_size is 256 bytes or more: what is smaller gets no smaller"
        } else if self.min_size > MAX_PACKED_LEN {
            "Compression::min_size is more than 64 MiB, the largest values that are compressed: leave `compress` out instead"
        } else {
            return Ok(self);
        };
        Err(Error::Config(broken.into()))
    }

    /// Whether a value of so many bytes is to be compressed, if it gets smaller.
    pub(crate) fn wants(self, len: usize) -> bool {
        (self.min_size..=MAX_PACKED_LEN).contains(&len)
    }

    /// Whether it takes so little time that it may be done where others wait.
    pub(crate) fn is_quick(self, len: usize) -> bool {
        self.level <= QUICK_LEVEL && len < QUICK
    }

    /// The compressed form of `value`, if that is no longer than `most`.
    pub(crate) fn pack(self, value: &[u8], most: usize) -> Option<Vec<u8>> {
        let mut packed = Vec::with_capacity(most);
        let mut compressor = zstd::bulk::Compressor::new(self.level).ok()?;
        // It fails when there is no more room.
        compressor.compress_to_buffer(value, &mut packed).ok()?;
        Some(packed)
    }
}

/// The value, of `len` bytes, that `packed` is the compressed form of.
pub(crate) fn unpack(packed: &[u8], len: usize) -> Result<Vec<u8>, BadFrame> {
    let mut value = Vec::new();
    value.try_reserve_exact(len).map_err(|_| BadFrame::Length)?;
    // It writes no further than there is room.
    let read = zstd::bulk::Decompressor::new()
        .and_then(|mut decompressor| decompressor.decompress_to_buffer(packed, &mut value));
    match read {
        Ok(read) if read == len => Ok(value),
        Ok(_) => Err(BadFrame::Length),
        Err(_) => Err(BadFrame::Compression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_quick_at_low_levels_only() {
        assert!(Compression::zstd().is_quick(60_000) && Compression::zstd().level(3).is_quick(0));
        assert!(!Compression::zstd().is_quick(70_000));
        assert!(!Compression::zstd().level(9).is_quick(4096), "it takes 1 ms and more");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let refused = |compression: Compression| compression.check().unwrap_err().to_string();
        for level in [i32::MIN, 0, 20] {
            assert!(refused(Compression::zstd().level(level)).contains("from 1 to 19"));
        }
        assert!(refused(Compression::zstd().min_size(255)).contains("256"));
        assert!(refused(Compression::zstd().min_size(usize::MAX)).contains("leave `compress` out"));
        assert!(Compression::zstd().level(19).min_size(256).check().is_ok());
    }
}
