//! In what a body is sent.

use http::HeaderValue;

use crate::accept::{AcceptEncoding, Weight};
#[cfg(feature = "dictionary")]
use crate::dictionary::{Delta, DictionaryCoding};
use crate::encoding::Encoding;
use crate::level::Levels;

/// A coding, with its dictionary if it needs one.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    Coding(Encoding),
    #[cfg(feature = "dictionary")]
    Delta(Delta),
}

impl Form {
    /// The coding, or what it is made of.
    pub(crate) fn base(&self) -> Encoding {
        match self {
            Self::Coding(encoding) => *encoding,
            #[cfg(feature = "dictionary")]
            Self::Delta(delta) => delta.coding().base(),
        }
    }

    /// The level while a client waits.
    pub(crate) fn level_now(&self, levels: &Levels) -> i32 {
        let level = levels.of(self.base());
        match self {
            Self::Coding(_) => level,
            #[cfg(feature = "dictionary")]
            Self::Delta(delta) => delta.level_now(level),
        }
    }

    /// As a value of `Content-Encoding`.
    pub(crate) fn to_header_value(&self) -> HeaderValue {
        match self {
            Self::Coding(encoding) => encoding.to_header_value(),
            #[cfg(feature = "dictionary")]
            Self::Delta(delta) => delta.coding().to_header_value(),
        }
    }

    /// What its entity tag ends with.
    pub(crate) fn mark(&self) -> Mark {
        match self {
            Self::Coding(encoding) => Mark::Coding(*encoding),
            #[cfg(feature = "dictionary")]
            Self::Delta(delta) => Mark::of(delta),
        }
    }
}

/// What the entity tag of an encoded form has that the plain one's doesn't. With a dictionary it tells
/// which one, since the bytes depend on it: `dcz-0123456789abcdef`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Coding(Encoding),
    #[cfg(feature = "dictionary")]
    Delta(DictionaryCoding, [u8; 8]),
}

impl Mark {
    #[cfg(feature = "dictionary")]
    fn of(delta: &Delta) -> Self {
        let first = delta.dictionary().hash().first_chunk().copied().unwrap_or_default();
        Self::Delta(delta.coding(), first)
    }

    /// Reads one.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let known = Encoding::ALL.into_iter().find(|known| text == known.name().as_bytes());
        if let Some(encoding) = known {
            return Some(Self::Coding(encoding));
        }
        #[cfg(feature = "dictionary")]
        for coding in DictionaryCoding::ALL {
            let digits = text.strip_prefix(coding.name().as_bytes());
            let Some(digits) = digits.and_then(|text| text.strip_prefix(b"-")) else { continue };
            let digits = std::str::from_utf8(digits).ok().filter(|text| text.len() == 16);
            let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
            return Some(Self::Delta(coding, u64::from_str_radix(digits, 16).ok()?.to_be_bytes()));
        }
        None
    }

    pub(crate) fn text(self) -> String {
        match self {
            Self::Coding(encoding) => encoding.name().to_owned(),
            #[cfg(feature = "dictionary")]
            Self::Delta(coding, hash) => format!("{coding}-{:016x}", u64::from_be_bytes(hash)),
        }
    }

    /// How much a client wants such a form.
    pub(crate) fn weight(self, accept: &AcceptEncoding) -> Weight {
        match self {
            Self::Coding(encoding) => accept.weight(encoding),
            #[cfg(feature = "dictionary")]
            Self::Delta(coding, _) => accept.weight_with_dictionary(coding),
        }
    }

    /// The coding, or what it is made of.
    pub(crate) fn base(self) -> Encoding {
        match self {
            Self::Coding(encoding) => encoding,
            #[cfg(feature = "dictionary")]
            Self::Delta(coding, _) => coding.base(),
        }
    }
}
