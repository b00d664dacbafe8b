//! The dictionaries that there are, in bounded memory.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::asked::Found;
use super::capture::Kept;
use super::room::Room;
use super::uses::Use;
use super::{Dictionary, MIN_LEN};
use crate::error::ConfigError;

/// Of how many resources it is remembered which version was seen last.
const RESOURCES: usize = 4096;

/// How long a response that names no version is taken for the one that was seen before.
const UNNAMED: Duration = Duration::from_secs(10);

/// The dictionaries of a [`CompressLayer`](crate::CompressLayer), or of several: clones share them.
///
/// They are known by the SHA-256 of their content, each for the hosts and paths that it was served by. The
/// layer puts in what passes, and is for everybody; [`add`](Self::add) puts in what is known beforehand,
/// so that clients that come back after a restart get differences, too.
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
    known: Cache<[u8; 32], Arc<Dictionary>, ByWeight>,
    /// The version of each resource that was made a dictionary last.
    versions: Cache<Name, Version>,
    /// What is put in, or taken out because its time is over, one at a time.
    changing: Mutex<()>,
    max_len: usize,
    /// Responses that are being kept while they are sent, or made dictionaries.
    room: Room<Kept>,
    /// How many are made at the same time, each on a thread of its own.
    turns: Arc<Semaphore>,
}

/// A digest of what names something, which may be long.
pub(super) type Name = [u8; 16];

/// A version of a resource.
#[derive(Clone, Copy, Debug)]
struct Version {
    /// Its validator, if it has one.
    validator: Option<Name>,
    hash: [u8; 32],
    len: usize,
    seen: Instant,
    lifetime: Duration,
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<[u8; 32], Arc<Dictionary>> for ByWeight {
    fn weight(&self, _: &[u8; 32], dictionary: &Arc<Dictionary>) -> u64 {
        dictionary.weight() as u64
    }
}

impl Dictionaries {
    /// Settings.
    pub fn builder() -> DictionariesBuilder {
        DictionariesBuilder { max_bytes: 64 << 20, max_len: 2 << 20 }
    }

    /// Puts a dictionary in, or its host and pattern, if its content is there already. One that is longer
    /// than [`max_len`](DictionariesBuilder::max_len) is put in, too; only
    /// [`max_bytes`](DictionariesBuilder::max_bytes) holds for it.
    pub fn add(&self, dictionary: Dictionary) {
        let _turn = self.changing();
        match self.inner.known.peek(&dictionary.hash) {
            Some(known) => known.uses.add_all(dictionary.uses),
            None => self.inner.known.insert(dictionary.hash, Arc::new(dictionary)),
        }
    }

    /// A use of what is there, or else it is given back.
    fn add_use(&self, hash: &[u8; 32], new: Use) -> Result<(), Use> {
        let _turn = self.changing();
        match self.inner.known.peek(hash) {
            Some(known) => {
                known.uses.add(new);
                Ok(())
            }
            None => Err(new),
        }
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// What a client has that names this hash, and asks this host for this path.
    pub(super) fn get(&self, host: &str, hash: [u8; 32], path: &str) -> Option<Arc<Dictionary>> {
        let found = self.inner.known.get(&hash)?;
        if found.uses.name(host, path) {
            return Some(found);
        }
        if found.uses.are_over() {
            let _turn = self.changing();
            // Nobody adds to it now; somebody may have just before.
            let is_over = |it: &Arc<Dictionary>| Arc::ptr_eq(it, &found) && it.uses.are_over();
            self.inner.known.remove_if(&hash, is_over);
        }
        None
    }

    /// Whether a response is known, so that it need not be kept. It lasts as long as it says then.
    pub(crate) fn knows(&self, found: &Found) -> bool {
        let Some(version) = self.inner.versions.get(&found.resource) else { return false };
        let Some(known) = self.inner.known.peek(&version.hash) else { return false };
        let is_same = match (version.validator, found.validator) {
            (Some(known), Some(this)) => known == this,
            (None, None) => {
                version.seen.elapsed() < UNNAMED && found.len.is_none_or(|it| it == version.len)
            }
            _ => false,
        };
        if is_same && found.validator.is_some() {
            let until = Instant::now() + found.lifetime;
            if !known.uses.renew(&found.host, &found.pattern, until) {
                return self.add_use(&version.hash, found.to_use()).is_ok();
            }
        }
        is_same
    }

    /// A client keeps what it has of a resource, by a 304 that names this version: for as long as `last`
    /// says, given for how long it was.
    pub(crate) fn renew(
        &self,
        host: &str,
        resource: &Name,
        validator: Name,
        last: impl FnOnce(Duration) -> Option<Duration>,
    ) {
        let version = self.inner.versions.get(resource);
        let version = version.filter(|version| version.validator == Some(validator));
        let Some(version) = version else { return };
        let known = self.inner.known.peek(&version.hash);
        if let (Some(known), Some(lifetime)) = (known, last(version.lifetime)) {
            known.uses.renew_all(host, Instant::now() + lifetime);
        }
    }

    /// Whether a response of this length can be a dictionary, as far as it is known.
    pub(crate) fn takes(&self, len: Option<u64>) -> bool {
        len.is_none_or(|len| (MIN_LEN as u64..=self.max_len() as u64).contains(&len))
    }

    pub(super) fn max_len(&self) -> usize {
        self.inner.max_len
    }

    /// The room for responses that are kept while they are sent.
    pub(super) fn room(&self) -> &Room<Kept> {
        &self.inner.room
    }

    /// Makes a dictionary of what was kept, on a thread for blocking work.
    pub(super) fn make(&self, kept: Kept) {
        if kept.content.len() < MIN_LEN {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let dictionaries = self.clone();
        runtime.spawn(async move {
            let turns = Arc::clone(&dictionaries.inner.turns);
            // It is never closed.
            let turn = turns.acquire_owned().await;
            let making = spawn_blocking(move || {
                dictionaries.insert(kept);
                drop(turn);
            });
            drop(making.await);
        });
    }

    fn insert(&self, mut kept: Kept) {
        let hash: [u8; 32] = Sha256::digest(&kept.content).into();
        let Found { resource, validator, lifetime, .. } = kept.found;
        let (len, seen) = (kept.content.len(), Instant::now());
        let version = Version { validator, hash, len, seen, lifetime };
        self.inner.versions.insert(resource, version);
        // To prepare it is what takes long.
        let Err(first) = self.add_use(&hash, kept.found.to_use()) else { return };
        let content = std::mem::take(&mut kept.content);
        tracing::debug!(host = first.host, len, "a response becomes a dictionary");
        self.add(Dictionary::prepare(content.into_boxed_slice().into(), hash, first));
    }
}

/// A digest of these, in this order.
pub(super) fn name<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Name {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    let digest: [u8; 32] = digest.finalize().into();
    let (first, _) = digest.split_at(size_of::<Name>());
    first.try_into().unwrap_or_default()
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
    /// taken by copies of responses that are on their way to become dictionaries; those on the way for
    /// longest are let go when there is no room for others.
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
            changing: Mutex::default(),
            max_len,
            room: Room::new(max_bytes),
            turns: Arc::new(Semaphore::new(processors.div_ceil(2))),
        };
        Ok(Dictionaries { inner: Arc::new(inner) })
    }
}
