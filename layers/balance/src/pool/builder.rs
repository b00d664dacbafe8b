//! Settings of a pool, checked when it is built.

use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use super::{Pool, Shared};
use crate::backend::Backend;
use crate::error::BuildError;
use crate::member::Common;
use crate::strategy::ewma::Decay;
use crate::strategy::{Hash, Strategy};
use crate::table::Table;

/// What to do while no backend is healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenNoneHealthy {
    /// Use all of them: it may be the health check that is wrong. [`Pool::panics`] says so
    /// meanwhile, and a warning is logged. Envoy calls it panic mode; here, it never begins while one
    /// is healthy.
    #[default]
    UseAll,
    /// Use none: [`PickError::Unhealthy`](crate::PickError::Unhealthy).
    Refuse,
}

/// Settings of a [`Pool`].
///
/// | setting | default |
/// | --- | --- |
/// | [`strategy`](Self::strategy) | [`Strategy::PeakEwma`] |
/// | [`when_none_healthy`](Self::when_none_healthy) | [`WhenNoneHealthy::UseAll`] |
#[derive(Clone, Debug)]
#[must_use]
pub struct PoolBuilder<T> {
    backends: Vec<Backend<T>>,
    strategy: Strategy,
    when_none_healthy: WhenNoneHealthy,
}

impl<T> Default for PoolBuilder<T> {
    fn default() -> Self {
        let (strategy, when_none_healthy) = (Strategy::default(), WhenNoneHealthy::default());
        Self { backends: Vec::new(), strategy, when_none_healthy }
    }
}

impl<T> PoolBuilder<T> {
    /// By which rule it picks.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// A backend to begin with. More can come and go later.
    pub fn backend(mut self, backend: Backend<T>) -> Self {
        self.backends.push(backend);
        self
    }

    /// Backends to begin with.
    pub fn backends(mut self, backends: impl IntoIterator<Item = Backend<T>>) -> Self {
        self.backends.extend(backends);
        self
    }

    /// What to do while no backend is healthy.
    pub fn when_none_healthy(mut self, then: WhenNoneHealthy) -> Self {
        self.when_none_healthy = then;
        self
    }

    /// The pool. It may be empty.
    ///
    /// # Errors
    ///
    /// [`BuildError`], with what to change, if the settings can't work.
    pub fn build(self) -> Result<Pool<T>, BuildError> {
        let mut names = HashSet::new();
        if let Some(twice) = self.backends.iter().find(|backend| !names.insert(&*backend.name)) {
            return Err(BuildError::DuplicateName(twice.name.to_string()));
        }
        let decay = match self.strategy {
            Strategy::PeakEwma(settings) if settings.decay.is_zero() => {
                let text = "a decay of zero forgets every answer at once; the default is 10 s";
                return Err(BuildError::Setting(text));
            }
            Strategy::PeakEwma(settings) => Some(Decay::new(settings)),
            _ => None,
        };
        let counts = matches!(self.strategy, Strategy::Hash(Hash { bound: Some(_) }));
        let uses_unhealthy = self.when_none_healthy == WhenNoneHealthy::UseAll;
        let shared = Shared {
            table: ArcSwap::from_pointee(Table::empty()),
            common: Arc::new(Common::new(decay, counts)),
            counter: AtomicUsize::new(0),
            strategy: self.strategy,
            uses_unhealthy,
            entries: Mutex::default(),
        };
        let pool = Pool(Arc::new(shared));
        pool.update(self.backends);
        Ok(pool)
    }
}
