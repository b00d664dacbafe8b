//! The proxy calls what is ready, and counts what it has given away, whenever it is cancelled.

use std::convert::Infallible;
use std::future::{Future, Ready, poll_fn, ready};
use std::io::Write;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use proptest::prelude::*;
use tower::{Service, ServiceExt};
use tower_keep_balance::proxy::Proxy;

use super::support::{Origin, pool, until};

/// Panics when it is called before it is ready. A clone isn't ready.
#[derive(Default)]
struct Strict {
    polls: usize,
    is_ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<Empty<Bytes>>> for Strict {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.polls += 1;
        if self.polls.is_multiple_of(2) {
            self.is_ready = true;
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "it was called before it was ready");
        ready(Ok(Response::new(Empty::new())))
    }
}

fn request() -> Request<Empty<Bytes>> {
    Request::get("http://example.com/").body(Empty::new()).unwrap()
}

#[tokio::test]
async fn the_inner_service_is_called_when_it_is_ready() {
    let mut proxy = Proxy::around(Strict::default()).build().unwrap();
    for _ in 0..3 {
        poll_fn(|cx| Service::<Request<Empty<Bytes>>>::poll_ready(&mut proxy, cx)).await.unwrap();
        // What has been cloned from one that is ready isn't.
        let clone = proxy.clone();
        assert_eq!(proxy.call(request()).await.unwrap().status(), 200);
        assert_eq!(clone.oneshot(request()).await.unwrap().status(), 200);
    }
}

/// Never ready again.
#[derive(Clone)]
struct Broken;

impl Service<Request<Empty<Bytes>>> for Broken {
    type Response = Response<Empty<Bytes>>;
    type Error = std::io::Error;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Err(std::io::Error::other("broken")))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        panic!("it was called, and is broken");
    }
}

#[tokio::test]
async fn an_inner_service_that_is_broken_is_an_answer() {
    let proxy = Proxy::around(Broken).name("p").build().unwrap();
    let response = proxy.oneshot(request()).await.unwrap();
    assert_eq!(response.status(), 500);
    assert_eq!(response.headers()["proxy-status"], "p; error=proxy_internal_error");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn nothing_is_counted_of_what_was_given_up(polls in prop::collection::vec(0_usize..12, 1..12)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let origin = Origin::new(|_, stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").unwrap();
                std::thread::yield_now();
                stream.write_all(b"lf").is_ok()
            });
            let pool = pool(&[origin.address, origin.address]);
            for limit in polls {
                let mut call = Box::pin(async {
                    let response = Proxy::new(pool.clone()).oneshot(request()).await.unwrap();
                    response.into_body().collect().await.unwrap().to_bytes()
                });
                for _ in 0..limit {
                    let poll = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
                    if poll.is_ready() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_micros(50)).await;
                }
            }
            until("nothing is counted", || async {
                pool.status().iter().all(|it| it.in_flight == 0)
            })
            .await;
        });
    }
}
