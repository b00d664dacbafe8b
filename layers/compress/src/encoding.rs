//! The content codings, by name.

use std::fmt;
use std::ops::RangeInclusive;

use http::HeaderValue;

/// A content coding (RFC 9110 §8.4.1), beside `identity`.
///
/// All can be named whatever features are enabled; [`is_enabled`](Self::is_enabled) tells which ones
/// can be written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// `zstd`: Zstandard (RFC 8878) with windows of no more than 8 MiB (RFC 9659).
    Zstd,
    /// `br`: Brotli (RFC 7932).
    Brotli,
    /// `gzip` (RFC 1952), also known as `x-gzip`.
    Gzip,
    /// `deflate`: the zlib format (RFC 1950). Some old clients took it for a bare deflate stream, so
    /// it is the last choice.
    Deflate,
}

impl Encoding {
    /// All of them, in the order in which a server prefers them.
    pub const ALL: [Self; 4] = [Self::Zstd, Self::Brotli, Self::Gzip, Self::Deflate];

    /// The name in `Content-Encoding` and `Accept-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The coding of a name in any case (RFC 9110 §8.4.1), `x-gzip` included (§8.4.1.3).
    ///
    /// ```
    /// use tower_keep_compress::Encoding;
    ///
    /// assert_eq!(Encoding::from_name(b"X-GZIP"), Some(Encoding::Gzip));
    /// assert_eq!(Encoding::from_name(b"identity"), None);
    /// ```
    pub fn from_name(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(b"x-gzip") {
            return Some(Self::Gzip);
        }
        Self::ALL.into_iter().find(|known| name.eq_ignore_ascii_case(known.name().as_bytes()))
    }

    /// Whether it can be written and read: its feature is enabled.
    pub const fn is_enabled(self) -> bool {
        match self {
            Self::Zstd => cfg!(feature = "zstd"),
            Self::Brotli => cfg!(feature = "br"),
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Deflate => cfg!(feature = "deflate"),
        }
    }

    /// Those whose features are enabled, in the order in which a server prefers them.
    pub fn enabled() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|encoding| encoding.is_enabled())
    }

    /// The levels, from the fastest to the densest.
    pub const fn levels(self) -> RangeInclusive<i32> {
        match self {
            Self::Zstd => 1..=19,
            Self::Brotli => 0..=11,
            Self::Gzip | Self::Deflate => 1..=9,
        }
    }

    /// As a value of `Content-Encoding`.
    pub const fn to_header_value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    /// Its place in [`ALL`](Self::ALL).
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
