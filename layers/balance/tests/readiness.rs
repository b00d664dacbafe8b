//! No service is called that isn't ready, cloned ones included, and one whose readiness fails is
//! left for another, but not for good.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, poll_fn, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::{Layer, Service, ServiceExt};
use tower_keep_balance::{
    Backend, Balance, BalanceError, BalanceLayer, PickError, Pool, Queue, RetryLayer, Strategy,
};

/// Panics when it is called unready. A clone isn't ready, as with tower's own; each one becomes so
/// at the second look.
#[derive(Default)]
struct Strict {
    looks: usize,
    is_broken: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        let (is_broken, calls) = (Arc::clone(&self.is_broken), Arc::clone(&self.calls));
        Self { looks: 0, is_broken, calls }
    }
}

impl Strict {
    fn look(&mut self, cx: &Context<'_>) -> Poll<Result<(), fmt::Error>> {
        if self.is_broken.load(SeqCst) {
            return Poll::Ready(Err(fmt::Error));
        }
        self.looks += 1;
        if self.looks < 2 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn begin(&mut self) {
        assert!(self.looks >= 2, "called unready");
        self.looks = 0;
        self.calls.fetch_add(1, SeqCst);
    }
}

impl Service<u32> for Strict {
    type Response = u32;
    type Error = fmt::Error;
    type Future = Ready<Result<u32, fmt::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), fmt::Error>> {
        self.look(cx)
    }

    fn call(&mut self, number: u32) -> Self::Future {
        self.begin();
        ready(Ok(number))
    }
}

/// The same for HTTP: each second call answers 503.
#[derive(Clone, Default)]
struct StrictHttp(Strict);

impl<B> Service<Request<B>> for StrictHttp {
    type Response = Response<Full<Bytes>>;
    type Error = std::io::Error;
    type Future = Ready<Result<Response<Full<Bytes>>, std::io::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        self.0.look(cx).map_err(std::io::Error::other)
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        self.0.begin();
        let mut response = Response::new(Full::from("ok"));
        if self.0.calls.load(SeqCst) % 2 == 1 {
            *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        }
        ready(Ok(response))
    }
}

fn pool<S: Clone>(services: &[S]) -> Pool<S> {
    let named = |(at, service): (usize, &S)| Backend::new(at.to_string(), service.clone());
    let backends = services.iter().enumerate().map(named);
    Pool::builder().strategy(Strategy::RoundRobin).backends(backends).build().unwrap()
}

#[tokio::test]
async fn a_backend_is_called_only_when_it_is_ready() {
    let mut balance = Balance::new(pool(&[Strict::default(), Strict::default()]));
    for number in 0..10 {
        assert_eq!(balance.ready().await.unwrap().call(number).await, Ok(number));
        assert_eq!(balance.clone().oneshot(number).await, Ok(number));
    }
}

#[tokio::test]
async fn retries_call_only_what_is_ready() {
    let strict = StrictHttp::default();
    let retry = RetryLayer::builder().build().unwrap();
    let balanced = retry.layer(Balance::http(pool(&[strict.clone(), strict.clone()])));
    let direct = retry.layer(strict);
    for _ in 0..10 {
        let response = balanced.clone().oneshot(Request::new(Full::<Bytes>::default()));
        assert_eq!(response.await.unwrap().status(), 200);
        let direct = direct.clone();
        let response = direct.oneshot(Request::new(Full::<Bytes>::default()));
        assert_eq!(response.await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn one_whose_readiness_fails_is_left_for_another_and_used_again_later() {
    let services = [Strict::default(), Strict::default(), Strict::default()];
    let balance = Balance::new(pool(&services));
    let calls = |at: usize| services[at].calls.load(SeqCst);
    services[0].is_broken.store(true, SeqCst);
    services[1].is_broken.store(true, SeqCst);
    for number in 0..9 {
        assert_eq!(balance.clone().oneshot(number).await, Ok(number));
    }
    assert_eq!((calls(0), calls(1), calls(2)), (0, 0, 9));
    services[2].is_broken.store(true, SeqCst);
    let error = balance.clone().oneshot(0).await;
    assert_eq!(error, Err(BalanceError::Backend(fmt::Error)), "each was tried once");
    for service in &services {
        service.is_broken.store(false, SeqCst);
    }
    for number in 0..9 {
        assert_eq!(balance.clone().oneshot(number).await, Ok(number));
    }
    assert!(calls(0) >= 3 && calls(1) >= 3, "they are back");
    assert!(balance.pool().status().iter().all(|backend| backend.in_flight == 0));
}

#[tokio::test]
async fn a_backend_that_is_not_ready_counts_as_in_use_meanwhile() {
    let never = tower::util::BoxCloneSyncService::new(Never);
    let balance = Balance::new(pool(&[never]));
    let mut call = std::pin::pin!(balance.clone().oneshot(()));
    assert!(futures_util::poll!(&mut call).is_pending());
    assert_eq!(balance.pool().status()[0].in_flight, 1);
}

#[derive(Clone)]
struct Never;

impl Service<()> for Never {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn call(&mut self, (): ()) -> Self::Future {
        panic!("called unready")
    }
}

#[tokio::test]
async fn limits_and_load_shedding_work_around_it_and_in_its_backends() {
    let strict = Strict::default();
    let limited = ConcurrencyLimit::new(strict, 1);
    let balance = BalanceLayer::new().queue(Queue::none()).layer(pool(&[limited]));
    let mut shed = LoadShed::new(ConcurrencyLimit::new(balance, 1));
    let held = {
        let service = shed.ready().await.unwrap();
        service.call(1)
    };
    poll_fn(|cx| shed.poll_ready(cx)).await.unwrap();
    let error = Service::call(&mut shed, 2).await.unwrap_err();
    assert!(error.is::<tower::load_shed::error::Overloaded>(), "{error}");
    assert_eq!(held.await.unwrap(), 1);
    assert_eq!(shed.ready().await.unwrap().call(3).await.unwrap(), 3);
}

#[tokio::test]
async fn a_buffer_works_around_it() {
    let balance = Balance::new(pool(&[Strict::default(), Strict::default()]));
    let buffer = tower::buffer::Buffer::new(balance, 16);
    for number in 0..10 {
        assert_eq!(buffer.clone().oneshot(number).await.unwrap(), number);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_pool_is_waited_for_and_then_refused() {
    let pool = pool::<Strict>(&[]);
    let balance = Balance::new(pool.clone());
    let began = tokio::time::Instant::now();
    let refused = balance.clone().oneshot(1).await;
    assert_eq!(refused, Err(BalanceError::Pick(PickError::Empty)));
    assert_eq!(began.elapsed().as_millis() / 10, 100, "a second");
    let call = tokio::spawn(balance.oneshot(2));
    tokio::time::sleep(Duration::from_millis(500)).await;
    pool.insert(Backend::new("late", Strict::default()));
    assert_eq!(call.await.unwrap(), Ok(2));
    let response = Balance::http(self::pool::<StrictHttp>(&[]));
    let response = response.oneshot(Request::new(Full::<Bytes>::default())).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
}
