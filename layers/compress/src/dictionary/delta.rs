//! A form that is told by a dictionary, and its encoders.

use std::sync::Arc;

use super::{Dictionary, DictionaryCoding};
use crate::encoder::{Encoder, STORED_WINDOW};
use crate::error::EncodeError;
use crate::form::Form;

/// The level at which differences are made while clients wait, by what was prepared.
#[cfg(feature = "zstd")]
const PREPARED_LEVEL: i32 = 3;

/// Brotli has no dictionaries that are prepared: each body hashes it again, which takes about a
/// millisecond for 100 KiB. So longer ones aren't used while clients wait.
const MAX_UNPREPARED: u64 = 64 * 1024;

/// The longest content that is sent as a difference while it is made. The window holds all of it, so that
/// it counts as memory: no stream takes more than the guide says.
const MAX_STREAMED: u64 = 2 << 20;

/// The same for Brotli, with the dictionary, which has to be there as well.
const MAX_STREAMED_BROTLI: u64 = (512 << 10) - 16;

/// The largest window of Brotli, without the 16 bytes that can't be used (RFC 7932 §9.1). Its encoder
/// keeps the dictionary there.
const BROTLI_ROOM: u64 = (1 << 24) - 16;

/// zstd would take content that begins so for one of its own dictionaries (RFC 8878 §5).
#[cfg(feature = "zstd")]
const ZSTD_DICTIONARY: [u8; 4] = 0xec30_a437_u32.to_le_bytes();

#[cfg(feature = "zstd")]
pub(super) fn prepare(content: &[u8]) -> Option<Arc<zstd::dict::EncoderDictionary<'static>>> {
    (!content.starts_with(&ZSTD_DICTIONARY))
        .then(|| Arc::new(zstd::dict::EncoderDictionary::copy(content, PREPARED_LEVEL)))
}

/// A coding with the dictionary that its data is told by.
#[derive(Clone, Debug)]
pub struct Delta {
    coding: DictionaryCoding,
    dictionary: Arc<Dictionary>,
}

impl Delta {
    /// A coding with this dictionary; `None` if its feature isn't enabled, or the dictionary can't be used
    /// with it.
    pub fn new(coding: DictionaryCoding, dictionary: Arc<Dictionary>) -> Option<Self> {
        let is_possible = match coding {
            #[cfg(feature = "zstd")]
            DictionaryCoding::Dcz => dictionary.prepared.is_some(),
            #[cfg(not(feature = "zstd"))]
            DictionaryCoding::Dcz => false,
            DictionaryCoding::Dcb => cfg!(feature = "br"),
        };
        is_possible.then_some(Self { coding, dictionary })
    }

    /// The coding.
    pub fn coding(&self) -> DictionaryCoding {
        self.coding
    }

    /// The dictionary.
    pub fn dictionary(&self) -> &Arc<Dictionary> {
        &self.dictionary
    }

    /// Whether content of this length can be told so.
    pub fn suits(&self, len: Option<u64>) -> bool {
        match self.coding {
            DictionaryCoding::Dcz => true,
            // All must fit into the window, beside the dictionary.
            DictionaryCoding::Dcb => {
                let dictionary = self.dictionary.content.len() as u64;
                len.and_then(|len| len.checked_add(dictionary))
                    .is_some_and(|all| all <= BROTLI_ROOM)
            }
        }
    }

    /// The same, while a client waits.
    pub(crate) fn suits_now(&self, len: Option<u64>) -> bool {
        let dictionary = self.dictionary.content.len() as u64;
        let is_cheap = match self.coding {
            // Without a length, the window is as small as without a dictionary.
            DictionaryCoding::Dcz => len.is_none_or(|len| len <= MAX_STREAMED),
            DictionaryCoding::Dcb => {
                dictionary <= MAX_UNPREPARED
                    && len.is_some_and(|len| len <= MAX_STREAMED_BROTLI - dictionary)
            }
        };
        is_cheap && self.suits(len)
    }

    /// What stands before the encoded data (RFC 9842 §4, §5).
    pub(crate) fn head(&self) -> Vec<u8> {
        [self.coding.magic(), &self.dictionary.hash].concat()
    }

    /// What was prepared for zstd, and is good for this level.
    #[cfg(feature = "zstd")]
    pub(crate) fn prepared(&self, level: i32) -> Arc<zstd::dict::EncoderDictionary<'static>> {
        match &self.dictionary.prepared {
            Some(prepared) if level == PREPARED_LEVEL => Arc::clone(prepared),
            _ => Arc::new(zstd::dict::EncoderDictionary::copy(&self.dictionary.content, level)),
        }
    }

    /// The level while a client waits, of which `level` is the one without a dictionary.
    pub(crate) fn level_now(&self, level: i32) -> i32 {
        match self.coding {
            #[cfg(feature = "zstd")]
            DictionaryCoding::Dcz => PREPARED_LEVEL,
            _ => level,
        }
    }
}

/// `content` as its difference from a dictionary, for whoever stores it: as
/// [`encode_all`](crate::encode_all), the coding's head included. Brotli needs seconds for each megabyte of
/// the dictionary at level 11.
///
/// # Errors
///
/// If the level is none of the coding's [`base`](DictionaryCoding::base), if the content is too
/// [long](Delta::suits), or if there is no memory.
pub fn encode_delta(content: &[u8], delta: &Delta, level: i32) -> Result<Vec<u8>, EncodeError> {
    let form = Form::Delta(delta.clone());
    let mut encoder = Encoder::new(&form, level, Some(content.len() as u64), STORED_WINDOW)?;
    let mut encoded = Vec::new();
    encoder.write(content, &mut encoded)?;
    encoder.finish(&mut encoded)?;
    encoded.shrink_to_fit();
    Ok(encoded)
}
