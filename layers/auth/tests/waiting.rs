//! Requests whose token can't be judged at once, because its key has to be looked for.

#![allow(clippy::unwrap_used, reason = "clippy lets only the functions marked #[test] unwrap")]

#[path = "support/tokens.rs"]
mod support;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use support::{claims, clock, key, token};
use tokio::sync::Notify;
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_keep_auth::{
    Algorithm, Denial, Issuer, JwtLayer, KeySource, Keys, LookAgain, Looked, Refusal, Require,
    RequireLayer, SigningKey, Verifier, Wanted,
};

fn signing() -> SigningKey {
    key(Algorithm::Es256)
}

fn anonymous() -> Request<Full<Bytes>> {
    Request::post("/s.S/M").body(Full::default()).unwrap()
}

fn with_token() -> Request<Full<Bytes>> {
    let mut request = anonymous();
    let field = format!("Bearer {}", token(&signing(), &claims()));
    request.headers_mut().insert(AUTHORIZATION, field.parse().unwrap());
    request
}

/// Has no keys until it is asked, and then only when it is told to.
struct Late {
    keys: Keys,
    go_on: Arc<Notify>,
    finds: bool,
}

impl KeySource for Late {
    fn keys(&self) -> &Keys {
        &self.keys
    }

    fn look_again(&self, _: Wanted<'_>) -> Option<LookAgain> {
        let (keys, go_on) = (self.keys.clone(), Arc::clone(&self.go_on));
        let finds = self.finds;
        Some(Box::pin(async move {
            go_on.notified().await;
            if finds {
                keys.replace(signing().verifying_key().clone());
            }
            Looked::Asked
        }))
    }
}

fn late(finds: bool) -> (JwtLayer, Arc<Notify>) {
    let go_on = Arc::new(Notify::new());
    let source = Late { keys: Keys::unavailable(), go_on: Arc::clone(&go_on), finds };
    let issuer = Issuer::new(support::ISSUER).key_source(source).audience(support::AUDIENCE);
    let verifier = Verifier::builder().issuer(issuer).clock(clock()).build().unwrap();
    (JwtLayer::builder(verifier).optional().ignore_invalid().build().unwrap(), go_on)
}

#[tokio::test]
async fn while_no_keys_are_known_the_answer_is_to_come_again() {
    let (layer, go_on) = late(false);
    let ask = async |request| {
        go_on.notify_one();
        layer
            .layer(service_fn(async |_| -> Result<Response<Full<Bytes>>, Infallible> {
                unreachable!()
            }))
            .oneshot(request)
            .await
            .unwrap()
    };
    let answer = ask(with_token()).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()[RETRY_AFTER], "5");
    assert!(!answer.headers().contains_key(WWW_AUTHENTICATE));
    let unavailable = Denial::Unavailable(Refusal::KeysUnavailable);
    assert_eq!(answer.extensions().get::<Denial>(), Some(&unavailable));
    let mut call = with_token();
    call.headers_mut().insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
    assert_eq!(ask(call).await.headers()["grpc-status"], "14");
}

/// Panics when it is called unready; no clone is ready.
#[derive(Debug, Default)]
struct Strict {
    is_ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<Full<Bytes>>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called unready");
        std::future::ready(Ok(Response::default()))
    }
}

#[tokio::test]
async fn calls_the_service_that_was_made_ready_at_once_or_when_the_key_was_found() {
    let require = RequireLayer::new(Require::token()).unwrap();
    let (layer, go_on) = late(true);
    let mut service = layer.layer(require.layer(Strict::default()));
    let first = service.ready().await.unwrap().call(with_token());
    // The service goes on without what the first request took with it.
    let anonymous = service.ready().await.unwrap().call(anonymous());
    assert_eq!(anonymous.await.unwrap().status(), StatusCode::UNAUTHORIZED);
    go_on.notify_one();
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
    for _ in 0..3 {
        let again = service.ready().await.unwrap().call(with_token());
        // Not only ready at the first look: called before.
        assert!(format!("{again:?}").contains("Called"));
        assert_eq!(again.await.unwrap().status(), StatusCode::OK);
    }
}

/// Nobody has verified these tokens yet, so whoever sends many of them must not take what others need.
#[tokio::test]
async fn who_waits_for_a_key_holds_no_place_of_the_inner_service() {
    let (layer, go_on) = late(true);
    let answering =
        service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
    let mut service = layer.layer(ConcurrencyLimit::new(answering, 1));
    let mut first = pin!(service.ready().await.unwrap().call(with_token()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let mut other = service.clone();
    assert!(pin!(other.ready()).poll(&mut cx).is_ready(), "the place is free");
    // And it waits for one as everybody does, once its key is there.
    go_on.notify_one();
    assert!(first.as_mut().poll(&mut cx).is_pending());
    drop(other);
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
}
