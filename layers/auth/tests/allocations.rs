//! What a token that was seen before allocates, and what is remembered of tokens takes. Allocations are
//! counted on the thread of the test, where all of it runs; so this is a binary of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/tokens.rs"]
mod support;

use std::convert::Infallible;
use std::future::ready;

use allocation_counter::measure;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::Empty;
use support::{claims, clock, issuer, key, sign, token, with};
use tower::{Layer, Service, service_fn};
use tower_keep_auth::{
    Algorithm, Identity, JwtLayer, Require, RequireLayer, SigningKey, Verified, Verifier,
};

const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

type Body = Empty<bytes::Bytes>;

fn verifier(key: &SigningKey, remember: u64) -> Verifier {
    let issuer = issuer(key);
    Verifier::builder().issuer(issuer).clock(clock()).remember(remember).build().unwrap()
}

#[test]
fn a_seen_token_is_verified_without_an_allocation() {
    for algorithm in ALGORITHMS {
        let key = key(algorithm);
        let (verifier, token) = (verifier(&key, 1 << 20), token(&key, &claims()));
        assert!(verifier.verify_now(&token).is_ok());
        let seen = measure(|| drop(verifier.verify_now(&token).unwrap()));
        assert_eq!(seen.count_total, 0, "{algorithm:?}");
    }
}

/// What is behind the layers. Its response has a field already, as any has.
fn bare() -> impl Service<
    Request<Body>,
    Response = Response<Body>,
    Error = Infallible,
    Future = std::future::Ready<Result<Response<Body>, Infallible>>,
> + Clone {
    service_fn(|_| {
        let mut response = Response::new(Empty::new());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        ready(Ok(response))
    })
}

/// How many allocations a call takes, its request left out.
fn count<S, B>(mut service: S, field: &HeaderValue) -> u64
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    let mut request = Request::new(Empty::new());
    request.headers_mut().insert(AUTHORIZATION, field.clone());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let counted = measure(|| {
        let mut call = std::pin::pin!(service.call(request));
        assert!(call.as_mut().poll(&mut context).is_ready());
    });
    counted.count_total
}

/// The map of extensions, its table, and what is in it: the same three whatever is asked inside.
#[test]
fn a_seen_token_is_let_through_with_three_allocations() {
    for algorithm in ALGORITHMS {
        let key = key(algorithm);
        let verifier = verifier(&key, 1 << 20);
        let token = token(&key, &with(claims(), "scope", "a b"));
        assert!(verifier.verify_now(&token).is_ok());
        let field = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        let alone = count(bare(), &field);

        let layer = JwtLayer::builder(verifier).build().unwrap();
        let scope = RequireLayer::new(Require::scope("b")).unwrap();
        assert_eq!(count(layer.layer(bare()), &field), alone + 3, "{algorithm:?}");
        let asking = service_fn(|request: Request<Body>| {
            let verified = Verified::<tower_keep_auth::Untyped>::of(request.extensions());
            assert_eq!(verified.unwrap().subject(), Some("user:1"));
            assert!(Identity::of(request.extensions()).unwrap().claims().has_scope("a"));
            bare().call(request)
        });
        assert_eq!(count(layer.layer(scope.layer(asking)), &field), alone + 3, "{algorithm:?}");
    }
}

/// Sends `many` tokens, no two the same, and says how many bytes are held afterwards, and how many
/// tokens `remember` has room for.
fn flood(many: u32, remember: u64, algorithm: Algorithm) -> (u64, u64) {
    let key = key(algorithm);
    let verifier = verifier(&key, remember);
    let header = support::header(&key).to_string();
    let token =
        |n: u32| sign(&key, &header, with(claims(), "jti", format!("{n:032x}")).to_string());
    let length = token(0).rfind('.').unwrap() as u64;
    let held = measure(|| {
        for n in 0..many {
            let verified = verifier.verify_now(&token(n)).unwrap();
            assert_eq!(verified.claims().jti.as_deref(), Some(&*format!("{n:032x}")));
        }
    });
    (held.bytes_current.unsigned_abs(), remember / (512 + 3 * length))
}

#[test]
fn many_tokens_are_held_in_no_more_bytes_than_they_may_take() {
    const REMEMBER: u64 = 1 << 20;
    let (held, room) = flood(3_000, REMEMBER, Algorithm::Hs256);
    assert!(room < 1_000, "three times as many came as there was room for");
    assert!(held <= REMEMBER, "{held}");
    assert!(held > REMEMBER / 2, "what is taken for a token is far from what it needs: {held}");
}

/// `cargo test --release -p tower-keep-auth --test allocations -- --ignored --nocapture`
#[test]
#[ignore = "takes a while, to say how much an entry needs"]
fn a_million_tokens_are_held_in_no_more_bytes_than_they_may_take() {
    for (remember, algorithm) in [
        (1 << 20, Algorithm::Hs256),
        (16 << 20, Algorithm::Hs256),
        (1 << 34, Algorithm::Hs256),
        (16 << 20, Algorithm::EdDsa),
    ] {
        // Signing takes most of the time.
        let many = if algorithm == Algorithm::Hs256 { 1_000_000 } else { 100_000 };
        let (held, room) = flood(many, remember, algorithm);
        let each = held / room.min(many.into());
        println!("{algorithm:?}: remember {remember}, held {held}, room {room}, {each} bytes each");
        assert!(held <= remember);
    }
}
