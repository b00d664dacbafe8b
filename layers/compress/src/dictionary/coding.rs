//! The content codings that need a dictionary.

use std::fmt;

use http::HeaderValue;

use crate::encoding::Encoding;

/// A content coding whose data can be read by who has the dictionary alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DictionaryCoding {
    /// `dcz` (RFC 9842 §5): Zstandard. Needs the feature `zstd`.
    Dcz,
    /// `dcb` (RFC 9842 §4): Brotli. Needs the feature `br`.
    Dcb,
}

impl DictionaryCoding {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Dcz, Self::Dcb];

    /// The name in `Content-Encoding` and `Accept-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dcz => "dcz",
            Self::Dcb => "dcb",
        }
    }

    /// The coding without a dictionary that it is made of.
    pub const fn base(self) -> Encoding {
        match self {
            Self::Dcz => Encoding::Zstd,
            Self::Dcb => Encoding::Brotli,
        }
    }

    /// The one that is made of a coding without a dictionary.
    pub const fn of(base: Encoding) -> Option<Self> {
        match base {
            Encoding::Zstd => Some(Self::Dcz),
            Encoding::Brotli => Some(Self::Dcb),
            Encoding::Gzip | Encoding::Deflate => None,
        }
    }

    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|known| name.eq_ignore_ascii_case(known.name().as_bytes()))
    }

    pub(crate) const fn to_header_value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    /// Its place in [`ALL`](Self::ALL).
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// What stands before the dictionary's hash, at the beginning of the data.
    pub(crate) const fn magic(self) -> &'static [u8] {
        match self {
            // The head of a skippable frame of 32 bytes (RFC 8878 §3.1.2).
            Self::Dcz => &[0x5e, 0x2a, 0x4d, 0x18, 0x20, 0, 0, 0],
            Self::Dcb => &[0xff, 0x44, 0x43, 0x42],
        }
    }
}

impl fmt::Display for DictionaryCoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
