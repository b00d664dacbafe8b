//! How hard each coding tries.

use crate::encoding::Encoding;
use crate::error::ConfigError;

/// A level for each coding, from the fastest to the densest of [`Encoding::levels`].
///
/// ```
/// use tower_keep_compress::{Encoding, Levels};
///
/// let levels = Levels::dynamic().with(Encoding::Brotli, 5);
/// assert_eq!(levels.of(Encoding::Brotli), 5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Levels([i32; Encoding::ALL.len()]);

impl Levels {
    /// For bodies that are compressed while a client waits.
    ///
    /// What they make of 100 KiB, of JSON and of HTML, and the least time of 40 tries on a core that
    /// also had other work:
    ///
    /// | coding | level | JSON | HTML |
    /// | --- | --- | --- | --- |
    /// | zstd | 3 | 22.5 %, 0.22 ms | 29.3 %, 0.24 ms |
    /// | br | 4 | 23.8 %, 1.18 ms | 28.0 %, 1.42 ms |
    /// | gzip, deflate | 5 | 22.0 %, 0.99 ms | 28.3 %, 1.02 ms |
    ///
    /// One level more: zstd 22.9 %, 0.24 ms and 29.2 %, 0.28 ms; br 21.4 %, 2.03 ms and 26.4 %,
    /// 2.23 ms; gzip 21.0 %, 2.17 ms and 28.2 %, 1.30 ms.
    pub const fn dynamic() -> Self {
        Self([3, 4, 5, 5])
    }

    /// For bodies that are compressed once and sent often.
    ///
    /// | coding | level |
    /// | --- | --- |
    /// | zstd | 19 |
    /// | br | 11 |
    /// | gzip, deflate | 9 |
    pub const fn stored() -> Self {
        Self([19, 11, 9, 9])
    }

    /// With another level for a coding.
    pub fn with(mut self, encoding: Encoding, level: i32) -> Self {
        if let Some(place) = self.0.get_mut(encoding.index()) {
            *place = level;
        }
        self
    }

    /// The level of a coding.
    pub fn of(&self, encoding: Encoding) -> i32 {
        self.0.get(encoding.index()).copied().unwrap_or(1)
    }

    /// Refuses levels that no codec has, or that hold up a runtime's thread.
    pub(crate) fn check_dynamic(self) -> Result<Self, ConfigError> {
        for encoding in Encoding::ALL {
            let (level, allowed) = (self.of(encoding), dynamic_levels(encoding));
            if !allowed.contains(&level) {
                return Err(ConfigError::new(format!(
                    "the level of {encoding} is {level}; while clients wait it can be {} to {}: \
                     denser ones are for stored bodies (`encode_all`)",
                    allowed.start(),
                    allowed.end()
                )));
            }
        }
        Ok(self)
    }
}

/// Those at which a codec is done with a block within a few milliseconds: it compresses none in part.
/// A block is 128 KiB for zstd and 64 KiB for Brotli; from 9 on Brotli is ten times slower.
fn dynamic_levels(encoding: Encoding) -> std::ops::RangeInclusive<i32> {
    match encoding {
        Encoding::Zstd => 1..=9,
        Encoding::Brotli => 0..=8,
        Encoding::Gzip | Encoding::Deflate => encoding.levels(),
    }
}

impl Default for Levels {
    fn default() -> Self {
        Self::dynamic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_one_of_its_coding() {
        for levels in [Levels::dynamic(), Levels::stored()] {
            assert!(Encoding::ALL.into_iter().all(|one| one.levels().contains(&levels.of(one))));
        }
        assert!(Levels::dynamic().check_dynamic().is_ok());
    }

    #[test]
    fn levels_that_hold_up_a_runtime_are_refused() {
        for (encoding, level) in [(Encoding::Brotli, 9), (Encoding::Zstd, 10), (Encoding::Gzip, 0)]
        {
            let error = Levels::dynamic().with(encoding, level).check_dynamic().unwrap_err();
            assert!(error.to_string().contains(&format!("the level of {encoding} is {level}")));
        }
    }
}
