//! Caches that count what they hold in bytes, all by the same weights.

use std::sync::Arc;

use futures_util::FutureExt;
use moka::policy::EvictionPolicy;
use tower_keep::store::{BoxError as StoreError, Codec, Encoded, L1, Store, Ttl, Typed};

use super::Object;
use crate::BoxError;

/// Who takes part.
pub(super) const NAMES: [&str; 4] = ["tower-keep", "moka, TinyLFU", "moka, LRU", "quick_cache"];

/// One of them, with room for so many bytes; an object takes `weight` beside its own.
pub(super) fn cache(name: &str, bytes: u64, weight: u32) -> Result<Box<dyn Cache>, BoxError> {
    Ok(match name {
        "tower-keep" => Box::new(Keep::of(bytes)?),
        "moka, TinyLFU" => Box::new(Moka::of(bytes, weight, EvictionPolicy::tiny_lfu())),
        "moka, LRU" => Box::new(Moka::of(bytes, weight, EvictionPolicy::lru())),
        _ => {
            let items = usize::try_from(bytes / 16_384)?;
            let cache = quick_cache::sync::Cache::with_weighter(items, bytes, ByWeight(weight));
            Box::new(Quick(cache))
        }
    })
}

/// What tower-keep counts an entry as beside its content.
pub(super) fn weight() -> Result<u32, BoxError> {
    let store = Store::builder().l1(L1::bytes(1 << 20)).build()?;
    Keep(store.typed_with("v", Weighed)).has(Object { key: 0, bytes: 0 })?;
    Ok(u32::try_from(store.l1_size().1)?)
}

/// Stands for content of its length.
#[derive(Clone, Copy, Debug)]
struct Content(u32);

/// Weighs it so.
struct Weighed;

impl Codec<Content> for Weighed {
    fn id(&self) -> u8 {
        64
    }

    fn encode(&self, _: &Content) -> Result<Encoded, StoreError> {
        Err("it is for the first tier alone".into())
    }

    fn decode(&self, _: Encoded) -> Result<Content, StoreError> {
        Err("it is for the first tier alone".into())
    }

    fn weigh(&self, content: &Content, _: &Encoded) -> usize {
        content.0 as usize
    }

    fn weighs_encoded(&self) -> bool {
        false
    }
}

/// A cache that counts bytes.
pub(super) trait Cache {
    /// Whether it has the object; else it is put in.
    fn has(&self, object: Object) -> Result<bool, BoxError>;
}

/// Keys of one length weigh the same.
fn key(number: u64) -> String {
    format!("{number:016x}")
}

struct Keep(Typed<String, Content>);

impl Keep {
    fn of(bytes: u64) -> Result<Self, BoxError> {
        Ok(Self(Store::builder().l1(L1::bytes(bytes)).build()?.typed_with("v", Weighed)))
    }
}

impl Cache for Keep {
    fn has(&self, object: Object) -> Result<bool, BoxError> {
        let key = key(object.key);
        if self.0.get(&key).now_or_never().ok_or("a lookup waits")?.is_some() {
            return Ok(true);
        }
        let set = self.0.set(&key, Content(object.bytes), Ttl::secs(86_400));
        set.now_or_never().ok_or("a set waits")??;
        Ok(false)
    }
}

struct Moka(moka::sync::Cache<String, Arc<Content>>);

impl Moka {
    fn of(bytes: u64, weight: u32, policy: EvictionPolicy) -> Self {
        let cache = moka::sync::Cache::builder().max_capacity(bytes).eviction_policy(policy);
        Self(cache.weigher(move |_, content: &Arc<Content>| content.0 + weight).build())
    }
}

impl Cache for Moka {
    fn has(&self, object: Object) -> Result<bool, BoxError> {
        let key = key(object.key);
        let found = self.0.get(&key).is_some();
        if !found {
            self.0.insert(key, Arc::new(Content(object.bytes)));
        }
        Ok(found)
    }
}

#[derive(Clone)]
struct ByWeight(u32);

impl quick_cache::Weighter<String, Arc<Content>> for ByWeight {
    fn weight(&self, _: &String, content: &Arc<Content>) -> u64 {
        u64::from(content.0 + self.0)
    }
}

struct Quick(quick_cache::sync::Cache<String, Arc<Content>, ByWeight>);

impl Cache for Quick {
    fn has(&self, object: Object) -> Result<bool, BoxError> {
        let key = key(object.key);
        let found = self.0.get(&key).is_some();
        if !found {
            self.0.insert(key, Arc::new(Content(object.bytes)));
        }
        Ok(found)
    }
}
