//! Tokens that were accepted.
//!
//! What is kept of a token is what was signed, and the SHA-256 of the signature: a token is the same
//! if both are. Nobody who reads this process's memory can send a request with that. The digest finds
//! the entry; alone, it would not do, though each signature is as good as unique: a token with other
//! claims and a known signature would be found and accepted, without anybody having signed it.
//!
//! A digest of the whole token would be simpler, and too slow: of 800 bytes, it takes longer than all
//! the rest together. For the same reason `quick_cache` holds the entries, rather than moka.

use std::hash::{BuildHasherDefault, Hasher};

use memchr::memrchr;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use ring::digest::{SHA256, digest};

use crate::revocation::Standing;
use crate::verified::Verified;

/// What an entry takes beside what its claims do.
const OVERHEAD: u64 = 512;

/// A token as it is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought<'t> {
    pub(super) digest: [u8; 32],
    signed: &'t [u8],
}

impl<'t> Sought<'t> {
    /// None if it isn't a token at all.
    pub(super) fn new(token: &'t [u8]) -> Option<Self> {
        let (signed, signature) = token.split_at_checked(memrchr(b'.', token)?)?;
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, signature).as_ref());
        Some(Self { digest: bytes, signed })
    }
}

/// A token that was accepted, and that it wasn't revoked.
pub(super) struct Known<C> {
    pub(super) verified: Verified<C>,
    /// None if nothing is revoked here.
    pub(super) standing: Option<Standing>,
}

impl<C> Clone for Known<C> {
    fn clone(&self) -> Self {
        Self { verified: self.verified.clone(), standing: self.standing.clone() }
    }
}

pub(super) struct Seen<C> {
    cache: Cache<[u8; 32], Known<C>, ByLength, BuildHasherDefault<Prefix>>,
}

impl<C> Seen<C> {
    pub(super) fn new(bytes: u64) -> Self {
        // A guess, which only decides how large tables are made at first.
        let entries = usize::try_from(bytes / 2048).unwrap_or(usize::MAX).min(4096);
        let cache = Cache::with(
            entries,
            bytes,
            ByLength,
            BuildHasherDefault::default(),
            DefaultLifecycle::default(),
        );
        Self { cache }
    }

    pub(super) fn get(&self, sought: &Sought<'_>) -> Option<Known<C>> {
        self.cache.get(&sought.digest).filter(|known| known.verified.signed() == sought.signed)
    }

    pub(super) fn insert(&self, digest: [u8; 32], known: Known<C>) {
        self.cache.insert(digest, known);
    }

    pub(super) fn remove(&self, digest: &[u8; 32]) {
        self.cache.remove(digest);
    }
}

/// What was signed is kept as it is, decoded, and in parts as claims of either kind.
#[derive(Clone)]
struct ByLength;

impl<C> Weighter<[u8; 32], Known<C>> for ByLength {
    fn weight(&self, _: &[u8; 32], known: &Known<C>) -> u64 {
        OVERHEAD + 3 * known.verified.signed().len() as u64
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
