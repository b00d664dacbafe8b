//! The layer.

use tower_layer::Layer;

use crate::pool::Pool;
use crate::queue::Queue;
use crate::service::Balance;
use crate::track::Plain;

/// Makes a [`Balance`] of a [`Pool`] of services, where a stack of layers is written down:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::convert::Infallible;
/// use tower::{ServiceBuilder, service_fn};
/// use tower_keep_balance::{Backend, BalanceLayer, Pool};
///
/// let echo = service_fn(async |text: String| Ok::<_, Infallible>(text));
/// let pool = Pool::builder().backend(Backend::new("echo", echo)).build()?;
/// let service = ServiceBuilder::new().layer(BalanceLayer::new()).service(pool);
/// # let _ = service;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct BalanceLayer<T = Plain, A = ()> {
    track: T,
    affinity: A,
    queue: Queue,
}

impl BalanceLayer {
    /// For requests of any kind.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<C, A> BalanceLayer<Plain<C>, A> {
    /// Says what an answer tells of its backend. Default: [`ErrorsFail`](crate::ErrorsFail).
    pub fn classify<D>(self, classify: D) -> BalanceLayer<Plain<D>, A> {
        BalanceLayer { track: Plain { classify }, affinity: self.affinity, queue: self.queue }
    }
}

impl<T, A> BalanceLayer<T, A> {
    /// For requests and responses that are followed by `track`.
    pub fn of(track: T) -> Self
    where
        A: Default,
    {
        Self { track, affinity: A::default(), queue: Queue::default() }
    }

    /// Says which requests belong together, for a pool whose strategy is
    /// [`Hash`](crate::Strategy::Hash). Default: none do.
    pub fn affinity<B>(self, affinity: B) -> BalanceLayer<T, B> {
        BalanceLayer { track: self.track, affinity, queue: self.queue }
    }

    /// How many requests may wait while no backend has room.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queue = queue;
        self
    }
}

impl<S, T: Clone, A: Clone> Layer<Pool<S>> for BalanceLayer<T, A> {
    type Service = Balance<S, T, A>;

    fn layer(&self, pool: Pool<S>) -> Self::Service {
        Balance::with(pool, self.track.clone(), self.affinity.clone(), self.queue)
    }
}
