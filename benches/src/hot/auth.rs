//! `JwtLayer` with tokens that were seen before, and what is behind it where all is used.

use std::rc::Rc;

use http::HeaderValue;
use tokio::runtime::Runtime;
use tower::Layer;
use tower_keep::auth::{
    Algorithm, Grant, Issuer, JwtLayer, JwtManager, Require, RequireLayer, SigningKey, Verifier,
};

use super::service::{KIB, bare, request_with, send, sends};
use super::{HOT, below, cache};
use crate::Way;

const ISSUER: &str = "https://id.example.com";
const AUDIENCE: &str = "orders";
const SCOPE: &str = "orders:write";

const SECRET: &[u8] = b"32 random bytes, not these ones.";

/// One of the tests'.
const RSA: &str = include_str!("../../../layers/auth/tests/keys/rsa2048.pem");

/// How many users there are.
const TOKENS: u64 = 16;

fn hs256() -> SigningKey {
    SigningKey::hmac(Algorithm::Hs256, SECRET).unwrap().with_kid("shop")
}

/// A layer that has seen tokens, and the fields that hold them.
fn seen(key: SigningKey) -> (JwtLayer, Vec<HeaderValue>) {
    let issuer = Issuer::new(ISSUER)
        .keys(key.verifying_key().clone())
        .algorithms([key.algorithm()])
        .audience(AUDIENCE);
    let verifier = Verifier::builder().issuer(issuer).build().unwrap();
    let manager = JwtManager::builder(ISSUER).key(key).audience(AUDIENCE).build().unwrap();
    let fields = (0..TOKENS).map(|number| {
        let scope = format!("orders:read {SCOPE} profile");
        let grant = Grant::new(format!("user:{number}")).client("web").scope(scope);
        let token = manager.issue(grant).unwrap().token;
        verifier.verify_now(&token).unwrap();
        format!("Bearer {token}").try_into().unwrap()
    });
    let fields = fields.collect();
    (JwtLayer::builder(verifier).build().unwrap(), fields)
}

fn sees(key: SigningKey) -> Box<dyn Way> {
    let (layer, fields) = seen(key);
    let service = layer.layer(bare(KIB));
    assert!(send(&service, request_with(0, "authorization", &fields[0])).status().is_success());
    let (mut id, mut fields) = (below(HOT), fields.into_iter().cycle());
    sends(service, move || request_with(id(), "authorization", &fields.next().unwrap()))
}

pub(super) fn seen_hs256() -> Box<dyn Way> {
    sees(hs256())
}

pub(super) fn seen_rs256() -> Box<dyn Way> {
    sees(SigningKey::from_pem(Algorithm::Rs256, RSA).unwrap().with_kid("shop"))
}

pub(super) fn required() -> Box<dyn Way> {
    let (layer, fields) = seen(hs256());
    let require = RequireLayer::new(Require::scope(SCOPE)).unwrap();
    let service = layer.layer(require.layer(bare(KIB)));
    assert!(send(&service, request_with(0, "authorization", &fields[0])).status().is_success());
    let (mut id, mut fields) = (below(HOT), fields.into_iter().cycle());
    sends(service, move || request_with(id(), "authorization", &fields.next().unwrap()))
}

/// A token that was seen before, around a cache that has the response in the client's coding.
pub(super) fn pipeline(runtime: &Rc<Runtime>) -> Box<dyn Way> {
    let (layer, fields) = seen(hs256());
    let service = layer.layer(cache::forms().layer(bare(KIB)));
    let ask = move |id: u64, field: &HeaderValue| {
        let mut request = request_with(id, "authorization", field);
        request.headers_mut().insert("accept-encoding", HeaderValue::from_static("br"));
        request
    };
    cache::compressed(runtime, &service, HOT, &|id| ask(id, &fields[0]));
    let (mut id, mut fields) = (below(HOT), fields.into_iter().cycle());
    sends(service, move || ask(id(), &fields.next().unwrap()))
}
