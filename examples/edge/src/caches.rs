//! The store, and the cache layers over it, of which those that a reload doesn't change stay.

use tower_keep::cache::CacheLayer;
use tower_keep::store::Store;

use crate::config::{Cache, CacheSettings, Tier};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
pub(crate) struct Caches {
    tier: Tier,
    pub(crate) store: Store,
    layers: Vec<(CacheSettings, CacheLayer)>,
}

impl Caches {
    pub(crate) fn new(config: &Cache, before: Option<&Self>) -> Result<Self, Error> {
        let store = match before.filter(|before| before.tier == config.tier) {
            Some(before) => before.store.clone(),
            None => config.tier.open()?,
        };
        Ok(Self { tier: config.tier.clone(), store, layers: Vec::new() })
    }

    pub(crate) fn layer(
        &mut self,
        settings: CacheSettings,
        before: Option<&Self>,
    ) -> Result<CacheLayer, Error> {
        let before = before.filter(|before| before.tier == self.tier);
        let before = before.into_iter().flat_map(|before| &before.layers);
        let known = self.layers.iter().chain(before).find(|(it, _)| *it == settings);
        let layer = match known {
            Some((_, layer)) => layer.clone(),
            None => settings.layer(self.store.clone())?,
        };
        self.layers.push((settings, layer.clone()));
        Ok(layer)
    }
}
