//! Who has answered a request, as its extensions tell.

#![allow(clippy::unwrap_used, reason = "clippy lets only the functions marked #[test] unwrap")]

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_balance::retry::Backoff;
use tower_keep_balance::{Backend, Balance, Pool, RetryLayer, ServedBy, Strategy};

type Body = Empty<Bytes>;
type Server<B> = BoxCloneSyncService<Request<B>, Response<Body>, Infallible>;

/// Backends that answer with these statuses, in turn.
fn pool<B: Send + 'static>(statuses: &[u16]) -> Pool<Server<B>> {
    let backend = |(n, status): (usize, &u16)| {
        let status = *status;
        let server = service_fn(move |_: Request<B>| async move {
            Ok(Response::builder().status(status).body(Body::new()).unwrap())
        });
        Backend::new(format!("server {n}"), BoxCloneSyncService::new(server))
    };
    let backends = statuses.iter().enumerate().map(backend);
    Pool::builder().strategy(Strategy::RoundRobin).backends(backends).build().unwrap()
}

#[tokio::test]
async fn the_backend_that_answers_is_told() {
    let balance = Balance::http(pool(&[200, 200]));
    for name in ["server 0", "server 1", "server 0"] {
        let served_by = ServedBy::default();
        let mut request = Request::new(Body::new());
        request.extensions_mut().insert(served_by.clone());
        assert_eq!(served_by.name(), None);
        let response = balance.clone().oneshot(request).await.unwrap();
        assert_eq!(served_by.name().as_deref(), Some(name), "{}", response.status());
    }
}

#[tokio::test]
async fn of_several_attempts_it_is_the_last() {
    let retry = RetryLayer::builder().backoff(Backoff::none()).build().unwrap();
    let service = retry.layer(Balance::http(pool(&[503, 200])));
    let served_by = ServedBy::default();
    let mut request = Request::new(Body::new());
    request.extensions_mut().insert(served_by.clone());
    assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
    assert_eq!(served_by.name().as_deref(), Some("server 1"));
}

#[tokio::test]
async fn where_nobody_was_asked_there_is_none() {
    let served_by = ServedBy::default();
    let mut request = Request::new(Body::new());
    request.extensions_mut().insert(served_by.clone());
    let balance = Balance::http(pool(&[])).queue(tower_keep_balance::Queue::none());
    assert_eq!(balance.oneshot(request).await.unwrap().status(), 503);
    assert_eq!(served_by.name(), None);
}
