//! Compressed forms of stored responses: made once, and sent as they are.
//!
//! A form is an entry of its own, at the key of the response and its coding, and holds the encoded
//! content alone. It belongs to a response by the digest of the content that it was made of, so one that
//! was made of something else is never sent, whatever became of either entry; and one that was made of
//! the same, by another node or before the response was validated, will do. A form can be made again, and a
//! response has to be fetched: so of those that are asked for as often, memory is taken from forms first,
//! and one that was not kept isn't made again at once.
//!
//! Nobody waits for a form: until it is there, the response is sent as it is. It is made on Tokio's
//! threads for blocking work, a few at a time, at a fast level first. Of one that is still asked for
//! after that, a denser one is made.

mod dress;
mod make;
mod offered;
mod plain;
mod ready;
mod settings;
mod tried;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};
use tower_keep_compress::Encoding;
#[cfg(feature = "dictionary")]
use tower_keep_compress::{Delta, DictionaryCoding};
use tower_keep_store::KeyBuf;

pub(crate) use self::dress::Dress;
pub(crate) use self::make::Made;
pub(crate) use self::offered::Remembered;
pub(crate) use self::plain::{Undress, is_hit_unreadable, readable};
pub(crate) use self::ready::ReadyForms;
pub use self::settings::CompressedForms;
pub(crate) use self::settings::Forms;
use crate::stored::StoredResponse;

/// What tells the content of one response from all others.
pub(crate) type Digest = [u8; 32];

pub(crate) fn digest(content: &[u8]) -> Digest {
    Sha256::digest(content).into()
}

/// In which coding a form is.
#[derive(Clone, Debug)]
pub(crate) enum Coding {
    Encoded(Encoding),
    /// By a dictionary.
    #[cfg(feature = "dictionary")]
    Delta(Delta),
    /// None: of a response that came encoded.
    Plain,
}

impl Coding {
    /// How it is written in keys and in the second tier.
    pub(crate) fn letter(&self) -> u8 {
        match self {
            Self::Encoded(Encoding::Brotli) => b'b',
            Self::Encoded(Encoding::Deflate) => b'd',
            Self::Encoded(Encoding::Gzip) => b'g',
            Self::Encoded(Encoding::Zstd) => b'z',
            #[cfg(feature = "dictionary")]
            Self::Delta(delta) => match delta.coding() {
                DictionaryCoding::Dcb => b'B',
                DictionaryCoding::Dcz => b'Z',
            },
            Self::Plain => b'p',
        }
    }

    /// Whether it is one by a dictionary.
    fn is_delta(&self) -> bool {
        match self {
            #[cfg(feature = "dictionary")]
            Self::Delta(_) => true,
            Self::Encoded(_) | Self::Plain => false,
        }
    }

    /// Of how many bytes the work is to make it.
    fn effort(&self, len: usize) -> usize {
        match self {
            #[cfg(feature = "dictionary")]
            Self::Delta(delta) => len.saturating_add(delta.dictionary().content().len()),
            Self::Encoded(_) | Self::Plain => len,
        }
    }

    /// The key of this form of the response at `key`. What names a variant there begins with a random
    /// number.
    fn key(&self, key: &KeyBuf) -> KeyBuf {
        let mut key = key.clone();
        key.push(&[b'\n', b'#', self.letter()]);
        #[cfg(feature = "dictionary")]
        if let Self::Delta(delta) = self {
            key.push(delta.dictionary().hash());
        }
        key
    }
}

/// The content of a response in another coding.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) letter: u8,
    /// Of what it was made.
    pub(crate) of: Digest,
    /// Whether it was made at the denser level.
    pub(crate) is_dense: bool,
    /// Nothing, if it isn't smaller.
    pub(crate) content: Option<Bytes>,
    /// The head that goes with it, as last made.
    head: ArcSwapOption<Head>,
}

/// The head of a form, by which settings it was made, and the [serial](StoredResponse::serial) of the
/// response that it was made for.
#[derive(Debug)]
struct Head {
    by: u64,
    serial: u64,
    headers: HeaderMap,
}

impl Form {
    pub(crate) fn new(letter: u8, of: Digest, is_dense: bool, content: Option<Bytes>) -> Self {
        Self { letter, of, is_dense, content, head: ArcSwapOption::empty() }
    }

    /// Whether it can be sent in place of the content with this digest.
    fn suits(&self, coding: &Coding, of: &Digest) -> bool {
        self.letter == coding.letter() && self.of == *of
    }

    /// The head of `stored` in this form.
    fn head(&self, forms: &Forms, coding: &Coding, stored: &StoredResponse) -> HeaderMap {
        let Forms { id: by, policy, .. } = forms;
        let there = self.head.load();
        let is_it = |head: &Head| head.serial == stored.serial && head.by == *by;
        if let Some(head) = there.as_ref().filter(|head| is_it(head)) {
            return head.headers.clone();
        }
        let mut headers = stored.headers.clone();
        match coding {
            Coding::Encoded(encoding) => policy.make_encoded(&mut headers, *encoding),
            #[cfg(feature = "dictionary")]
            Coding::Delta(delta) => policy.make_delta(&mut headers, delta),
            Coding::Plain => {}
        }
        // In HTTP/1.1, no trailers follow content whose length is announced.
        if stored.trailers.is_none() {
            let len = self.content.as_ref().map_or(0, Bytes::len);
            headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
        }
        let head = Head { by: *by, serial: stored.serial, headers };
        let headers = head.headers.clone();
        self.head.store(Some(Arc::new(head)));
        headers
    }

    /// About how many bytes it takes, with a head of usual size.
    pub(crate) fn weight(&self) -> usize {
        /// Some fifteen fields.
        const HEAD: usize = 2 * 1024;
        size_of::<Self>() + HEAD + self.content.as_ref().map_or(0, Bytes::len)
    }
}
