//! What the tests share: keys, an issuer, and tokens of any form, right or wrong.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tower_keep_auth::{Algorithm, Clock, Issuer, NumericDate, SigningKey};

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
