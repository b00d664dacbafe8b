//! The removals of single keys that are on their way to the second tier.
//!
//! Until one is there, what lies at its key is just what it is about: on this node, on which it is in
//! force, nobody reads that.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::key::{KeyRef, Prehashed};

/// How many there are, by the hash of their keys. One that shares its hash is merely not read either.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending(Arc<Mutex<HashMap<u64, u32, Prehashed>>>);

impl Pending {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, u32, Prehashed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A removal of `key` begins. It is over when what this returns is dropped.
    pub(crate) fn begin(&self, key: KeyRef<'_>) -> UnderWay {
        let hash = key.hash();
        *self.lock().entry(hash).or_default() += 1;
        UnderWay { pending: self.clone(), hash }
    }

    /// Whether a removal of `key` is on its way.
    pub(crate) fn has(&self, key: KeyRef<'_>) -> bool {
        self.lock().contains_key(&key.hash())
    }
}

/// A removal that is on its way.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pending: Pending,
    hash: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.pending.lock().entry(self.hash) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_again_once_all_its_removals_are_over() {
        let (pending, key) = (Pending::default(), KeyRef::new(b"a"));
        let both = [pending.begin(key), pending.begin(key)];
        assert!(pending.has(key) && !pending.has(KeyRef::new(b"b")));
        let [first, second] = both;
        drop(first);
        assert!(pending.has(key));
        drop(second);
        assert!(!pending.has(key) && pending.lock().is_empty());
    }
}
