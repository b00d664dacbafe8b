//! What the tests share: keys, an issuer, and tokens of any form, right or wrong.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tower_keep_auth::{
    Algorithm, Clock, Issuer, JwtManager, KeySource, NumericDate, SigningKey, Verifier,
};

#[cfg(feature = "jwks")]
pub(crate) mod fake;
#[cfg(feature = "jwks")]
pub(crate) mod site;

pub(crate) const ISSUER: &str = "https://id.example.com";
pub(crate) const AUDIENCE: &str = "orders";
pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const SECRET: &[u8] =
    b"a secret of the tests, with more than 64 bytes so that it does for HS512";

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

pub(crate) fn clock() -> Clock {
    Clock::manual(NumericDate::from_secs(NOW))
}

/// The key of the tests for `algorithm`, named after it.
pub(crate) fn key(algorithm: Algorithm) -> SigningKey {
    let pem = match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
            return SigningKey::hmac(algorithm, SECRET).unwrap().with_kid(algorithm.as_str());
        }
        Algorithm::Es256 => include_str!("../keys/p256.pem"),
        Algorithm::Es384 => include_str!("../keys/p384.pem"),
        Algorithm::EdDsa => include_str!("../keys/ed25519.pem"),
        _ => include_str!("../keys/rsa2048.pem"),
    };
    SigningKey::from_pem(algorithm, pem).unwrap().with_kid(algorithm.as_str())
}

/// The issuer of the tests, with `key`.
pub(crate) fn issuer(key: &SigningKey) -> Issuer {
    Issuer::new(ISSUER)
        .keys(key.verifying_key().clone())
        .algorithms([key.algorithm()])
        .audience(AUDIENCE)
}

pub(crate) fn header(key: &SigningKey) -> Value {
    json!({"alg": key.algorithm().as_str(), "typ": "JWT", "kid": key.kid()})
}

/// Claims that are accepted, for ten minutes.
pub(crate) fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "user:1", "aud": AUDIENCE, "iat": NOW, "exp": NOW + 600})
}

/// `claims` with a member set, or taken out by null.
pub(crate) fn with(mut object: Value, name: &str, value: impl Into<Value>) -> Value {
    let value = value.into();
    let members = object.as_object_mut().unwrap();
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
    object
}

/// A token with these parts, whatever they are, signed by `key`.
pub(crate) fn sign(key: &SigningKey, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = key.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", encode(signature))
}

/// A token with these claims.
pub(crate) fn token(key: &SigningKey, claims: &Value) -> String {
    sign(key, header(key).to_string(), claims.to_string())
}

/// New keys, each with a name of its own.
pub(crate) fn keys<const N: usize>() -> [SigningKey; N] {
    std::array::from_fn(|_| SigningKey::generate(Algorithm::EdDsa).unwrap())
}

/// A set of the public parts of `keys`.
pub(crate) fn jwks(keys: &[&SigningKey]) -> String {
    let Some((first, rest)) = keys.split_first() else { return r#"{"keys":[]}"#.to_owned() };
    let mut manager = JwtManager::builder(ISSUER).key((*first).clone()).audience("any");
    for key in rest {
        manager = manager.trust(key.verifying_key().clone());
    }
    manager.build().unwrap().jwks()
}

/// A token of `key` that no other is like.
pub(crate) fn fresh(key: &SigningKey) -> String {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    token(key, &with(claims(), "jti", count.to_string()))
}

/// A verifier of tokens of the tests' issuer, whose keys are those of `source`.
pub(crate) fn trusting(source: impl KeySource) -> Verifier {
    let issuer = Issuer::new(ISSUER).key_source(source).audience(AUDIENCE);
    Verifier::builder().issuer(issuer).clock(clock()).build().unwrap()
}

/// Waits until `done`, and panics if that takes too long.
#[cfg(any(feature = "file", feature = "jwks"))]
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = tokio::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "not in time: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
