//! What is tried again, where, and how often.

use std::collections::HashSet;
use std::io;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request};
use http_body::Frame;
use http_body_util::StreamBody;
use tower::{Layer, ServiceExt};
use tower_keep_balance::Balance;
use tower_keep_balance::retry::Budget;

use super::support::{Step, backends, builder, first, request, send};

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_sent_again_only_if_its_method_is_idempotent() {
    for step in
        [Step::Status(502), Step::Status(503), Step::Status(504), Step::Reset, Step::Grpc(14)]
    {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(
                send(builder(), 2, method, first(step)).await,
                (200, vec![0, 1]),
                "{step:?}"
            );
        }
        for method in
            [Method::POST, Method::PATCH, Method::CONNECT, Method::from_bytes(b"X").unwrap()]
        {
            let (_, seen) = send(builder(), 2, method, first(step)).await;
            assert_eq!(seen, [0], "{step:?}");
        }
        let posts = builder().retry_if(|head| head.uri.path() == "/");
        assert_eq!(send(posts, 2, Method::POST, first(step)).await.1, [0, 1]);
    }
    for step in [Step::Status(200), Step::Status(404), Step::Status(500), Step::Grpc(13)] {
        assert_eq!(send(builder(), 2, Method::GET, first(step)).await.1, [0], "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_sent_elsewhere_until_each_backend_was_tried() {
    for step in [Step::Unsent, Step::MarkedUnsent] {
        let last = move |at| if at < 4 { step } else { Step::Status(200) };
        let strict = || builder().max_attempts(1).budget(Budget::none());
        assert_eq!(send(strict(), 5, Method::POST, last).await, (200, vec![0, 1, 2, 3, 4]));
        let (_, seen) = send(strict(), 5, Method::POST, move |_| step).await;
        assert_eq!(seen.len(), 6, "{seen:?}: the last pick says that all were tried");
        assert_eq!(seen[..5].iter().collect::<HashSet<_>>().len(), 5, "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_counts_where_it_is_heeded() {
    for (builder, calls) in [(builder(), 1), (builder().idempotency_key(), 2)] {
        let (pool, log) = backends(2, first(Step::Reset));
        let retry = builder.build().unwrap().layer(Balance::http(pool));
        let mut request = request(Method::POST, "x");
        request.headers_mut().insert("idempotency-key", "\"8e03978e\"".parse().unwrap());
        let _ = retry.oneshot(request).await;
        assert_eq!(log.lock().unwrap().len(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_and_the_last_response_is_passed_on() {
    for attempts in 1..5 {
        let (status, seen) =
            send(builder().max_attempts(attempts), 8, Method::GET, |_| Step::Status(503)).await;
        assert_eq!((status, seen.len()), (503, attempts as usize));
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len(), "each elsewhere");
    }
    assert_eq!(send(builder(), 2, Method::GET, |_| Step::Reset).await.0, 0, "an error stays one");
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_what_is_sent_again() {
    let (pool, log) = backends(2, |_| Step::Status(503));
    let layer = builder().budget(Budget::new(20, 1)).build().unwrap();
    let retry = layer.layer(Balance::http(pool));
    for _ in 0..1_000 {
        let response = retry.clone().oneshot(request(Method::GET, "")).await.unwrap();
        assert_eq!(response.status(), 503);
    }
    assert_eq!(log.lock().unwrap().len(), 1_000 + 200 + 10);
}

#[tokio::test(start_paused = true)]
async fn a_body_is_sent_again_as_a_whole_up_to_the_limit() {
    for (limit, seen_is) in [(6, vec!["abcdef"; 2]), (5, vec!["abcdef"])] {
        let (pool, log) = backends(2, first(Step::Reset));
        let retry = builder().replay_limit(limit).build().unwrap().layer(Balance::http(pool));
        let chunks =
            ["ab", "cd", "ef"].map(|data| Ok::<_, io::Error>(Frame::data(Bytes::from(data))));
        let body = StreamBody::new(stream::iter(chunks));
        let _ = retry.oneshot(Request::put("/").body(body).unwrap()).await;
        let log = log.lock().unwrap();
        assert_eq!(log.iter().map(|(_, body, _)| body.clone()).collect::<Vec<_>>(), seen_is);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_read_in_part_goes_on_where_it_was() {
    let (pool, log) = backends(2, first(Step::ResetAfter(2)));
    let retry = builder().build().unwrap().layer(Balance::http(pool));
    let chunks = ["ab", "cd", "ef"].map(|data| Ok::<_, io::Error>(Frame::data(Bytes::from(data))));
    let body = StreamBody::new(
        stream::iter(chunks)
            .then(async |chunk| {
                tokio::task::yield_now().await;
                chunk
            })
            .boxed(),
    );
    let response = retry.oneshot(Request::put("/").body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let log = log.lock().unwrap();
    assert_eq!(log.iter().map(|(_, body, _)| body.clone()).collect::<Vec<_>>(), ["abcd", "abcdef"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_its_client_broke_off_is_not_tried_again() {
    let (pool, log) = backends(2, |_| Step::Status(200));
    let retry = builder().build().unwrap().layer(Balance::http(pool));
    let chunks = [Ok(Frame::data(Bytes::from("ab"))), Err(io::Error::other("gone"))];
    let body = StreamBody::new(stream::iter(chunks));
    assert!(retry.oneshot(Request::put("/").body(body).unwrap()).await.is_err());
    assert_eq!(log.lock().unwrap().len(), 1);
}
