//! The future of a call: a backend is picked, made ready, and called.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::attempt::{Attempt, Backends, Mark};
use crate::classify::Verdict;
use crate::error::PickError;
use crate::in_use::InUse;
use crate::pick::{Pick, Wish};
use crate::pool::Pool;
use crate::queue::{Queue, can_wait};
use crate::track::Track;

type Queued<S> = Pin<Box<dyn Future<Output = Result<Pick<S>, PickError>> + Send>>;

pin_project! {
    /// The future of [`Balance`](crate::Balance).
    ///
    /// Dropped at any time, it leaves nothing counted. Only a request that has to wait for room is
    /// boxed.
    pub struct BalanceFuture<S, T, Request>
    where
        S: Service<Request>,
        T: Track<Request, S>,
    {
        #[pin]
        state: State<S, S::Future>,
        pool: Pool<S>,
        track: T,
        memo: T::Memo,
        request: Option<Request>,
        hash: Option<u64>,
        // Those that couldn't be made ready.
        failed: Backends,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F> {
        // No backend has room.
        Queued { queued: Queued<S> },
        Refused { why: PickError },
        // A backend has been picked, which may have to become ready.
        Readying { service: S, id: crate::BackendId, in_use: Option<InUse<S>> },
        Called { #[pin] future: F, in_use: Option<InUse<S>> },
    }
}

impl<S, F> State<S, F> {
    /// Of a backend that has just been picked.
    fn readying(pick: Pick<S>, attempt: Option<&Attempt>) -> Self
    where
        S: Clone,
    {
        let (service, id) = (pick.target().clone(), pick.id());
        Self::Readying { service, id, in_use: Some(InUse::new(pick, attempt.cloned())) }
    }
}

impl<S, T, Request> BalanceFuture<S, T, Request>
where
    S: Service<Request> + Clone + Send + Sync + 'static,
    T: Track<Request, S>,
{
    pub(crate) fn new(
        pool: Pool<S>,
        track: T,
        request: Request,
        hash: Option<u64>,
        queue: Queue,
    ) -> Self {
        let memo = track.memo(&request);
        let attempt = T::attempt(&memo);
        let avoid = attempt.map_or(&[][..], Attempt::avoid);
        let state = match pool.pick_by(Wish { hash, avoid }) {
            Ok(pick) => State::readying(pick, attempt),
            Err(why) if can_wait(why) && queue.requests > 0 => {
                let (pool, avoid) = (pool.clone(), Backends::from_slice(avoid));
                let queued = async move { pool.queued(Wish { hash, avoid: &avoid }, queue).await };
                State::Queued { queued: Box::pin(queued) }
            }
            Err(why) => State::Refused { why },
        };
        let failed = Backends::new();
        Self { state, pool, track, memo, request: Some(request), hash, failed }
    }
}

impl<S, T, Request> Future for BalanceFuture<S, T, Request>
where
    S: Service<Request> + Clone,
    T: Track<Request, S>,
{
    type Output = Result<T::Response, T::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let attempt = T::attempt(this.memo);
            let next = match this.state.as_mut().project() {
                StateProj::Queued { queued } => match ready!(queued.as_mut().poll(cx)) {
                    Ok(pick) => State::readying(pick, attempt),
                    Err(why) => State::Refused { why },
                },
                StateProj::Refused { why } => {
                    if let Some(attempt) = attempt {
                        attempt.mark(Mark::Refused);
                    }
                    return Poll::Ready(this.track.refuse(this.memo, *why));
                }
                StateProj::Readying { service, id, in_use } => {
                    match ready!(service.poll_ready(cx)) {
                        Ok(()) => {
                            // None only after it was done.
                            let Some(request) = this.request.take() else { return Poll::Pending };
                            if let Some(attempt) = attempt {
                                attempt.mark(Mark::Called);
                            }
                            State::Called { future: service.call(request), in_use: in_use.take() }
                        }
                        Err(error) => {
                            if let Some(in_use) = in_use.take() {
                                tracing::debug!(backend = in_use.name(), "can't be made ready");
                                in_use.finish(Verdict::Failure);
                            }
                            this.failed.push(*id);
                            let mut avoid = this.failed.clone();
                            avoid.extend_from_slice(attempt.map_or(&[][..], Attempt::avoid));
                            match this.pool.pick_by(Wish { hash: *this.hash, avoid: &avoid }) {
                                Ok(pick) if !this.failed.contains(&pick.id()) => {
                                    State::readying(pick, attempt)
                                }
                                _ => return Poll::Ready(Err(this.track.unready(error))),
                            }
                        }
                    }
                }
                StateProj::Called { future, in_use } => {
                    let result = ready!(future.poll(cx));
                    // None only after it was done.
                    let Some(in_use) = in_use.take() else { return Poll::Pending };
                    return Poll::Ready(this.track.answered(this.memo, result, in_use));
                }
            };
            this.state.set(next);
        }
    }
}

impl<S, T, Request> fmt::Debug for BalanceFuture<S, T, Request>
where
    S: Service<Request>,
    T: Track<Request, S>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Queued { .. } => "Queued",
            State::Refused { .. } => "Refused",
            State::Readying { .. } => "Readying",
            State::Called { .. } => "Called",
        };
        f.debug_tuple("BalanceFuture").field(&state).finish()
    }
}
