//! `tower::balance::p2c`: whole calls of a service that does nothing, as its picks can't be had
//! alone. It isn't to be shared: threads that share one take turns by a mutex here. (What its docs
//! advise instead is `Buffer`, a task and a channel, which costs more.)

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::tower::Service;
use ::tower::balance::p2c::Balance;
use ::tower::discover::ServiceList;
use ::tower::load::{CompleteOnResponse, Load, PeakEwma, PendingRequests};

use super::Way;

/// A service that does nothing, at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nothing;

impl Service<()> for Nothing {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

pub(super) fn ways(backends: usize) -> Vec<Way> {
    // The settings that ours have by default.
    let (initial, decay) = (Duration::from_millis(30), 10e9);
    let done = CompleteOnResponse::default;
    let ewma = (0..backends).map(|_| PeakEwma::new(Nothing, initial, decay, done()));
    let pending = (0..backends).map(|_| PendingRequests::new(Nothing, done()));
    vec![
        by("tower: p2c, peak EWMA, a call", ewma.collect()),
        by("tower: p2c, pending requests, a call", pending.collect()),
    ]
}

fn by<S>(name: &'static str, services: Vec<S>) -> Way
where
    S: Service<(), Error = Infallible> + Load + Send + 'static,
    S::Future: Send,
    S::Metric: std::fmt::Debug,
{
    let balance = Balance::new(ServiceList::new::<()>(services));
    let balance = Arc::new(Mutex::new(balance));
    let other = Arc::clone(&balance);
    let call = |balance: &mut Balance<ServiceList<Vec<S>>, ()>| {
        let mut cx = Context::from_waker(Waker::noop());
        if balance.poll_ready(&mut cx).is_ready() {
            let answer = pin!(balance.call(()));
            let _ = black_box(answer.poll(&mut cx).is_ready());
        }
    };
    Way {
        name,
        alone: Arc::new(move |times| {
            let mut balance = balance.lock().unwrap_or_else(PoisonError::into_inner);
            (0..times).for_each(|_| call(&mut balance));
        }),
        shared: Arc::new(move |times| {
            for _ in 0..times {
                call(&mut other.lock().unwrap_or_else(PoisonError::into_inner));
            }
        }),
    }
}
