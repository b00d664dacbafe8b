//! The dictionaries that there are, in bounded memory.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::asked::Found;
use super::{Dictionary, MIN_LEN};
use crate::error::ConfigError;

/// Of how many resources it is remembered which version was seen last.
const RESOURCES: usize = 4096;

/// The dictionaries of a [`CompressLayer`](crate::CompressLayer), or of several: clones share them.
///
/// They are known by their host and the SHA-256 of their content. The layer puts in what passes, and is
/// for everybody; [`add`](Self::add) puts in what is known beforehand, so that clients that come back
/// after a restart get differences, too.
///
/// ```
/// use std::time::Duration;
///
/// use tower_keep_compress::{CompressLayer, Dictionaries, Dictionary};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dictionaries = Dictionaries::builder().max_bytes(16 << 20).build()?;
/// # let last_version = "console.log('All work and no play.');\n".repeat(10);
/// let year = Duration::from_secs(31_536_000);
/// dictionaries.add(Dictionary::new("example.com", "/app/*.js", last_version, year)?);
/// let layer = CompressLayer::builder().dictionaries(dictionaries).build()?;
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Dictionaries {
    inner: Arc<Inner>,
}

struct Inner {
    known: Cache<([u8; 32], String), Arc<Dictionary>, ByWeight>,
    /// The version of each resource that was made a dictionary last, and its hash.
    versions: Cache<String, (HeaderValue, [u8; 32])>,
    max_bytes: usize,
    max_len: usize,
    /// Bytes of responses that are being kept while they are sent, or made dictionaries.
    in_flight: AtomicUsize,
    /// How many are made at the same time, each on a thread of its own.
    turns: Arc<Semaphore>,
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<([u8; 32], String), Arc<Dictionary>> for ByWeight {
    fn weight(&self, (_, host): &([u8; 32], String), dictionary: &Arc<Dictionary>) -> u64 {
        (host.len() + dictionary.weight()) as u64
    }
}

impl Dictionaries {
    /// Settings.
    pub fn builder() -> DictionariesBuilder {
        DictionariesBuilder { max_bytes: 64 << 20, max_len: 2 << 20 }
    }

    /// Puts a dictionary in. One that is longer than [`max_len`](DictionariesBuilder::max_len) is put in,
    /// too; only [`max_bytes`](DictionariesBuilder::max_bytes) holds for it.
    pub fn add(&self, dictionary: Dictionary) {
        let key = (dictionary.hash, dictionary.host.clone());
        self.inner.known.insert(key, Arc::new(dictionary));
    }

    /// How many there are, those included whose time is over and that nobody has asked for since.
    pub fn len(&self) -> usize {
        self.inner.known.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes they take.
    pub fn weight(&self) -> u64 {
        self.inner.known.weight()
    }

    pub(super) fn get(&self, host: &str, hash: [u8; 32]) -> Option<Arc<Dictionary>> {
        let key = (hash, host.to_owned());
        let found = self.inner.known.get(&key)?;
        if found.is_fresh() {
            return Some(found);
        }
        self.inner.known.remove(&key);
        None
    }

    /// Whether this version of a resource is there already, and stays about as long as it should.
    pub(crate) fn has(&self, found: &Found) -> bool {
        let Some((resource, version)) = &found.version else { return false };
        let Some((known, hash)) = self.inner.versions.get(resource) else { return false };
        known == *version
            && self.get(&found.host, hash).is_some_and(|dictionary| {
                let now = tokio::time::Instant::now();
                let left = dictionary.until.saturating_duration_since(now);
                left >= found.until.saturating_duration_since(now) / 2
            })
    }

    /// Room for a response that is kept while it is sent.
    pub(super) fn reserve(&self) -> Reserved {
        Reserved { dictionaries: self.clone(), len: 0 }
    }

    /// Makes a dictionary of what was found, on a thread for blocking work.
    pub(super) fn keep(&self, found: Found, parts: Vec<Bytes>, reserved: Reserved) {
        if reserved.len < MIN_LEN {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let dictionaries = self.clone();
        runtime.spawn(async move {
            let turns = Arc::clone(&dictionaries.inner.turns);
            // It is never closed.
            let turn = turns.acquire_owned().await;
            let making = spawn_blocking(move || {
                let content = joined(parts, reserved.len);
                dictionaries.insert(found, content);
                drop((reserved, turn));
            });
            drop(making.await);
        });
    }

    fn insert(&self, found: Found, content: Bytes) {
        let hash: [u8; 32] = Sha256::digest(&content).into();
        let Found { host, pattern, until, version } = found;
        if let Some((resource, version)) = version {
            self.inner.versions.insert(resource, (version, hash));
        }
        if let Some(known) = self.get(&host, hash) {
            // To prepare it is what takes long.
            self.add(known.renewed(pattern, until));
            return;
        }
        tracing::debug!(host, len = content.len(), "a response becomes a dictionary");
        self.add(Dictionary::prepare(host, pattern, content, hash, until));
    }
}

/// The parts as one, in a buffer of its own: theirs may be much larger.
fn joined(parts: Vec<Bytes>, len: usize) -> Bytes {
    let mut all = BytesMut::with_capacity(len);
    for part in parts {
        all.extend_from_slice(&part);
    }
    all.freeze()
}

/// Bytes that count as in flight until it is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    dictionaries: Dictionaries,
    len: usize,
}

impl Reserved {
    /// Whether there is room for so many more.
    pub(super) fn add(&mut self, more: usize) -> bool {
        let inner = &self.dictionaries.inner;
        let len = self.len.saturating_add(more);
        if len > inner.max_len {
            return false;
        }
        let before = inner.in_flight.fetch_add(more, Ordering::Relaxed);
        self.len = len;
        before.saturating_add(more) <= inner.max_bytes
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.dictionaries.inner.in_flight.fetch_sub(self.len, Ordering::Relaxed);
    }
}

impl fmt::Debug for Dictionaries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionaries")
            .field("len", &self.len())
            .field("weight", &self.weight())
            .finish_non_exhaustive()
    }
}

/// Settings of [`Dictionaries`].
///
/// | setting | default |
/// | --- | --- |
/// | [`max_bytes`](Self::max_bytes) | 64 MiB |
/// | [`max_len`](Self::max_len) | 2 MiB |
#[derive(Clone, Debug)]
#[must_use]
pub struct DictionariesBuilder {
    max_bytes: usize,
    max_len: usize,
}

impl DictionariesBuilder {
    /// How much memory all of them take, with what is prepared of each for zstd: about as much again as
    /// its content, and half a megabyte. What was asked for least is let go first. As much again may be
    /// taken by responses that are on their way to become dictionaries.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The longest response that becomes a dictionary, in bytes.
    pub fn max_len(mut self, bytes: usize) -> Self {
        self.max_len = bytes;
        self
    }

    /// Builds them.
    ///
    /// # Errors
    ///
    /// If not even one dictionary of the greatest length would fit.
    pub fn build(self) -> Result<Dictionaries, ConfigError> {
        let Self { max_bytes, max_len } = self;
        if max_len < MIN_LEN || max_bytes / 4 < max_len {
            return Err(ConfigError::new(format!(
                "dictionaries of {max_len} bytes don't fit into {max_bytes}: `max_bytes` must be four \
                 times `max_len` or more, and that {MIN_LEN} or more"
            )));
        }
        let options = OptionsBuilder::new()
            // One that is as large as all others together must fit.
            .shards(1)
            .estimated_items_capacity(64)
            .weight_capacity(max_bytes as u64)
            .build()
            .map_err(|error| ConfigError::new(error.to_string()))?;
        let known = Cache::with_options(
            options,
            ByWeight,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        );
        let processors = available_parallelism().map_or(1, usize::from);
        let inner = Inner {
            known,
            versions: Cache::new(RESOURCES),
            max_bytes,
            max_len,
            in_flight: AtomicUsize::new(0),
            turns: Arc::new(Semaphore::new(processors.div_ceil(2))),
        };
        Ok(Dictionaries { inner: Arc::new(inner) })
    }
}
