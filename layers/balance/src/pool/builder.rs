//! Settings of a pool, checked when it is built.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use super::{Pool, Shared, keeper};
use crate::backend::Backend;
use crate::error::BuildError;
use crate::health::HealthCheck;
use crate::health::checker::Checks;
use crate::health::probe::Probe;
use crate::lanes::Lanes;
use crate::member::Common;
use crate::outlier::OutlierDetection;
use crate::slow_start::SlowStart;
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
/// | [`health_check`](Self::health_check) | none |
/// | [`outlier_detection`](Self::outlier_detection) | none, or that of a `Proxy` over the pool |
/// | [`slow_start`](Self::slow_start) | none |
#[derive(Clone, Debug)]
#[must_use]
pub struct PoolBuilder<T> {
    backends: Vec<Backend<T>>,
    strategy: Strategy,
    when_none_healthy: WhenNoneHealthy,
    checks: Option<Checks<T>>,
    outlier: Option<OutlierDetection>,
    /// Whether nothing has been said of it.
    takes_outliers: bool,
    slow_start: Option<SlowStart>,
    /// If there is something to keep.
    keeper: Option<keeper::Start<T>>,
    /// The first setting that can't work.
    error: Option<BuildError>,
}

impl<T> Default for PoolBuilder<T> {
    fn default() -> Self {
        let (strategy, when_none_healthy) = (Strategy::default(), WhenNoneHealthy::default());
        Self {
            backends: Vec::new(),
            strategy,
            when_none_healthy,
            checks: None,
            outlier: None,
            takes_outliers: true,
            slow_start: None,
            keeper: None,
            error: None,
        }
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

    /// Asks the backends at intervals whether they could serve, and gives nothing to those that
    /// can't. Runs in tasks, so the pool has to be built within a tokio runtime.
    pub fn health_check<P>(mut self, check: HealthCheck<P>) -> Self
    where
        P: Probe<T> + 'static,
        T: Send + Sync + 'static,
    {
        self.note(check.timing.validate().and_then(|()| check.probe.validate()));
        self.checks = Some(Checks::new(Arc::new(check.probe), check.timing));
        self.keeper = Some(keeper::start);
        self
    }

    /// Gives nothing for a while to backends that fail where others don't. Runs in a task, so the
    /// pool has to be built within a tokio runtime. `None` is for a pool that is to have none even
    /// with a `Proxy`, which brings the default settings where nothing is said here.
    pub fn outlier_detection(mut self, settings: impl Into<Option<OutlierDetection>>) -> Self
    where
        T: Send + Sync + 'static,
    {
        (self.outlier, self.takes_outliers) = (settings.into(), false);
        if let Some(settings) = self.outlier {
            self.note(settings.validate());
            self.keeper = Some(keeper::start);
        }
        self
    }

    /// Gives those that come, or come back, their share little by little. None by default: what
    /// doesn't compile just in time, and has no cache to fill, needs none.
    pub fn slow_start(mut self, settings: SlowStart) -> Self {
        self.note(settings.validate());
        self.slow_start = Some(settings);
        self
    }

    fn note(&mut self, validity: Result<(), BuildError>) {
        self.error = self.error.take().or(validity.err());
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
        if let Some(error) = self.error {
            return Err(error);
        }
        let runtime = Handle::try_current();
        if self.keeper.is_some() && runtime.is_err() {
            let text = "health checks and outlier detection run in tasks; build the pool within a \
                        tokio runtime";
            return Err(BuildError::Setting(text));
        }
        let is_hash = matches!(self.strategy, Strategy::Hash(_));
        let counts = matches!(self.strategy, Strategy::Hash(Hash { bound: Some(_) }));
        let mut common = Common::new();
        common.decay = decay;
        common.in_flight = counts.then(AtomicU64::default);
        let compares_all = self.strategy == Strategy::LeastConnections;
        common.lanes = compares_all.then(Lanes::default);
        common.slow_start = self.slow_start.filter(|_| !is_hash);
        if let Some(settings) = self.outlier {
            common.outlier = OnceLock::from(settings);
        }
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(Table::empty()),
            common: Arc::new(common),
            counter: AtomicUsize::new(0),
            second_counter: AtomicUsize::new(0),
            strategy: self.strategy,
            uses_unhealthy: self.when_none_healthy == WhenNoneHealthy::UseAll,
            checks: self.checks.zip(runtime.as_ref().ok().cloned()),
            takes_outliers: self.takes_outliers,
            keeper: OnceLock::new(),
            follower: Mutex::default(),
            roster: Mutex::default(),
        });
        if let (Some(start), Ok(runtime)) = (self.keeper, &runtime) {
            shared.keeper.get_or_init(|| start(runtime, &shared));
        }
        let pool = Pool(shared);
        pool.update(self.backends);
        Ok(pool)
    }
}
