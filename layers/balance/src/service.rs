//! The service that gives each request to a backend.

use std::fmt;
use std::task::{Context, Poll};

use tower_service::Service;

use crate::affinity::Affinity;
use crate::classify::ErrorsFail;
use crate::future::BalanceFuture;
use crate::pool::Pool;
use crate::queue::Queue;
use crate::track::{Plain, Track};

/// Gives each request to a backend of a [`Pool`] of services.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::convert::Infallible;
/// use tower::{Service, ServiceExt, service_fn};
/// use tower_keep_balance::{Backend, Balance, Pool};
///
/// let double = service_fn(async |number: u64| Ok::<_, Infallible>(2 * number));
/// let pool = Pool::builder().backend(Backend::new("double", double)).build()?;
/// assert_eq!(Balance::new(pool).oneshot(21).await?, 42);
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
///
/// The backend is picked when the call is made, and its service is cloned and made ready in the
/// response future; it counts as in flight until the response is complete. One whose readiness
/// fails is not lost to the pool: that is a failure like another, and since nothing was sent, the
/// next backend is tried at once, each one once.
///
/// # Readiness
///
/// It is always ready. Which backend has to be ready is known only with the request (a hash, those
/// that have failed before), and one that was reserved in `poll_ready` would be lost to others
/// while a clone that isn't called holds it. Instead, requests that no backend has room for wait in
/// a [`Queue`] that is bounded in number and time, and are refused beyond that: what `Buffer` and
/// `LoadShed` would be put around it for, it does itself, and both work around it.
#[must_use]
pub struct Balance<S, T = Plain, A = ()> {
    pool: Pool<S>,
    track: T,
    affinity: A,
    queue: Queue,
}

impl<S> Balance<S> {
    /// Over `pool`, for requests of any kind.
    pub fn new(pool: Pool<S>) -> Self {
        Self::with(pool, Plain { classify: ErrorsFail }, (), Queue::default())
    }
}

impl<S, C, A> Balance<S, Plain<C>, A> {
    /// Says what an answer tells of its backend. Default: [`ErrorsFail`].
    pub fn classify<D>(self, classify: D) -> Balance<S, Plain<D>, A> {
        Balance::with(self.pool, Plain { classify }, self.affinity, self.queue)
    }
}

impl<S, T, A> Balance<S, T, A> {
    pub(crate) fn with(pool: Pool<S>, track: T, affinity: A, queue: Queue) -> Self {
        Self { pool, track, affinity, queue }
    }

    /// Says which requests belong together, for a pool whose strategy is
    /// [`Hash`](crate::Strategy::Hash). Default: none do.
    pub fn affinity<B>(self, affinity: B) -> Balance<S, T, B> {
        Balance::with(self.pool, self.track, affinity, self.queue)
    }

    /// How many requests may wait while no backend has room.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queue = queue;
        self
    }

    /// The pool.
    pub fn pool(&self) -> &Pool<S> {
        &self.pool
    }
}

impl<S, T, A, Request> Service<Request> for Balance<S, T, A>
where
    S: Service<Request> + Clone + Send + Sync + 'static,
    T: Track<Request, S> + Clone,
    A: Affinity<Request>,
{
    type Response = T::Response;
    type Error = T::Error;
    type Future = BalanceFuture<S, T, Request>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let hash = self.affinity.hash(&request);
        BalanceFuture::new(self.pool.clone(), self.track.clone(), request, hash, self.queue)
    }
}

impl<S, T: Clone, A: Clone> Clone for Balance<S, T, A> {
    fn clone(&self) -> Self {
        let (track, affinity) = (self.track.clone(), self.affinity.clone());
        Self::with(self.pool.clone(), track, affinity, self.queue)
    }
}

impl<S, T: fmt::Debug, A> fmt::Debug for Balance<S, T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance")
            .field("pool", &self.pool)
            .field("track", &self.track)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
