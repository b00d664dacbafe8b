//! Tokens that were accepted, by the digest of all their bytes.
//!
//! The digest must be one for which nobody can find a second token: whoever did would be taken for
//! whom the first one speaks of. So it is SHA-256, and it is over the whole token. The signature
//! alone would not do, although each is as good as unique: a token with other claims and a known
//! signature would be found, and accepted, without anybody having signed it.
//!
//! `quick_cache` holds them rather than moka, whose lookup would take longer than all the rest here.

use std::hash::{BuildHasherDefault, Hasher};

use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use ring::digest::{SHA256, digest as hash};

use crate::verified::Verified;

pub(super) type Digest = [u8; 32];

/// What an entry takes beside what its payload does.
const OVERHEAD: u64 = 512;

pub(super) fn digest(token: &[u8]) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash(&SHA256, token).as_ref());
    bytes
}

pub(super) struct Seen<C> {
    cache: Cache<Digest, Verified<C>, ByPayload, BuildHasherDefault<Prefix>>,
}

impl<C> Seen<C> {
    pub(super) fn new(bytes: u64) -> Self {
        // A guess, which only decides how large tables are made at first.
        let entries = usize::try_from(bytes / 2048).unwrap_or(usize::MAX).min(4096);
        let cache = Cache::with(
            entries,
            bytes,
            ByPayload,
            BuildHasherDefault::default(),
            DefaultLifecycle::default(),
        );
        Self { cache }
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<Verified<C>> {
        self.cache.get(digest)
    }

    pub(super) fn insert(&self, digest: Digest, verified: Verified<C>) {
        self.cache.insert(digest, verified);
    }

    pub(super) fn remove(&self, digest: &Digest) {
        self.cache.remove(digest);
    }
}

/// The payload is kept, and again in parts as claims of either kind.
#[derive(Clone)]
struct ByPayload;

impl<C> Weighter<Digest, Verified<C>> for ByPayload {
    fn weight(&self, _: &Digest, verified: &Verified<C>) -> u64 {
        OVERHEAD + 3 * verified.payload().len() as u64
    }
}

/// A digest is as good a hash as any, so eight bytes of it are the hash.
#[derive(Default)]
struct Prefix(u64);

impl Hasher for Prefix {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(prefix) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*prefix);
        }
    }

    // The length that an array writes before its bytes says nothing.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
