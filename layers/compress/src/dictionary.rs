//! Compression dictionaries (RFC 9842): what a client has already is the dictionary of what it asks for
//! next, so that a new version of a script is sent as its difference from the one before.

mod asked;
mod capture;
mod clean;
mod coding;
mod delta;
mod offer;
mod pattern;
mod room;
mod settings;
mod store;
mod uses;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

pub use self::asked::AskedDictionary;
pub(crate) use self::asked::available;
pub(crate) use self::capture::Capture;
pub use self::coding::DictionaryCoding;
pub use self::delta::{Delta, encode_delta};
pub(crate) use self::pattern::Pattern;
pub(crate) use self::settings::DictionarySettings;
pub use self::store::{Dictionaries, DictionariesBuilder};
use self::uses::{MAX_HOST, Use, Uses};
use crate::error::ConfigError;

/// RFC 9842 §2.1
pub(crate) const USE_AS_DICTIONARY: HeaderName = HeaderName::from_static("use-as-dictionary");
/// RFC 9842 §2.2
pub(crate) const AVAILABLE_DICTIONARY: HeaderName = HeaderName::from_static("available-dictionary");

/// Shorter content is no dictionary: there is nothing to gain.
const MIN_LEN: usize = 128;

/// The longest time that is told from never (RFC 9111 §1.2.2): 68 years.
const FOR_EVER: Duration = Duration::from_secs(1 << 31);

/// Content that clients have, as far as we know: what later responses are told by.
///
/// [`Dictionaries`] makes them of responses that pass. One whose content is known beforehand, such as
/// the last version of a script that is on disk, is put there by [`Dictionaries::add`].
pub struct Dictionary {
    hash: [u8; 32],
    content: Bytes,
    uses: Uses,
    #[cfg(feature = "zstd")]
    prepared: Option<std::sync::Arc<zstd::dict::EncoderDictionary<'static>>>,
}

impl Dictionary {
    /// Content that was served by `host` (`example.com`, or with a port where that isn't the usual one),
    /// and is a dictionary for requests there whose path matches `pattern`, for as long as clients keep
    /// it fresh.
    ///
    /// It takes about 15 ms for each megabyte: on a runtime, run it with `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// If the pattern isn't a path with `*` for any characters (`/app/*/main.js`), or if the content has
    /// less than 128 bytes, or the host more than any has.
    pub fn new(
        host: &str,
        pattern: &str,
        content: impl Into<Bytes>,
        fresh: Duration,
    ) -> Result<Self, ConfigError> {
        let pattern = Pattern::parse_path(pattern)?;
        let content = content.into();
        if content.len() < MIN_LEN {
            return Err(ConfigError::new(format!(
                "a dictionary of {} bytes saves nothing: leave it out, it needs {MIN_LEN} at the least",
                content.len()
            )));
        }
        if host.len() > MAX_HOST {
            return Err(ConfigError::new(format!(
                "a host has {MAX_HOST} bytes at the most, its port included, and this has {}",
                host.len()
            )));
        }
        let hash = Sha256::digest(&content).into();
        let until = Instant::now() + fresh.min(FOR_EVER);
        let first = Use::new(host.to_ascii_lowercase(), pattern, until).lasting();
        Ok(Self::prepare(content, hash, first))
    }

    fn prepare(content: Bytes, hash: [u8; 32], first: Use) -> Self {
        Self {
            #[cfg(feature = "zstd")]
            prepared: delta::prepare(&content),
            hash,
            content,
            uses: Uses::of(first),
        }
    }

    /// The SHA-256 of its content, by which clients name it.
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Its content.
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    /// About how many bytes it takes.
    fn weight(&self) -> usize {
        #[cfg(not(feature = "zstd"))]
        let prepared = 0;
        #[cfg(feature = "zstd")]
        let prepared = self.prepared.as_ref().map_or(0, |it| it.as_cdict().sizeof());
        size_of::<Self>() + Uses::WEIGHT + self.content.len() + prepared
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary")
            .field("len", &self.content.len())
            .field("uses", &self.uses)
            .finish_non_exhaustive()
    }
}
