//! Tokens, and the key that verifies them, in the forms that all of the ways read.

use std::error::Error;

use serde_json::{Value, json};
use tower_keep_auth::{Algorithm, Grant, Issuer, JwtManager, SigningKey};

/// What is compared.
pub const ALGORITHMS: [&str; 4] = ["HS256", "RS256", "ES256", "EdDSA"];

pub(super) const ISSUER: &str = "https://id.example.com";
pub(super) const AUDIENCE: &str = "orders";
pub(super) const SCOPE: &str = "orders:write";

/// The key has 2,048 bits, as most that sign tokens have. It is one of the tests'.
const RSA: &str = include_str!("../../../../layers/auth/tests/keys/rsa2048.pem");

const SECRET: &[u8] = b"32 random bytes, not these ones.";
/// The same in base64url.
const SECRET_TEXT: &str = "MzIgcmFuZG9tIGJ5dGVzLCBub3QgdGhlc2Ugb25lcy4";

#[derive(Clone, Debug)]
pub(super) struct Issuance {
    pub(super) algorithm: &'static str,
    key: SigningKey,
    pub(super) tokens: Vec<String>,
    /// A set of the one key that verifies them.
    pub(super) jwks: String,
}

impl Issuance {
    pub(super) fn new(algorithm: &'static str, tokens: usize) -> Result<Self, Box<dyn Error>> {
        let secret = json!({"kty": "oct", "alg": "HS256", "kid": "HS256", "k": SECRET_TEXT});
        let key = match algorithm {
            "HS256" => SigningKey::hmac(Algorithm::Hs256, SECRET)?,
            "RS256" => SigningKey::from_pem(Algorithm::Rs256, RSA)?,
            "ES256" => SigningKey::generate(Algorithm::Es256)?,
            _ => SigningKey::generate(Algorithm::EdDsa)?,
        };
        let key = key.with_kid(algorithm);
        let manager = JwtManager::builder(ISSUER).key(key.clone()).audience(AUDIENCE).build()?;
        let grant = |number| {
            Grant::new(format!("user:{number}"))
                .client("web")
                .scope(format!("orders:read {SCOPE} profile"))
        };
        let tokens = (0..tokens).map(|number| Ok(manager.issue(grant(number))?.token));
        Ok(Self {
            algorithm,
            key,
            tokens: tokens.collect::<Result<_, Box<dyn Error>>>()?,
            jwks: match algorithm {
                "HS256" => json!({"keys": [secret]}).to_string(),
                _ => manager.jwks(),
            },
        })
    }

    /// That key as JSON.
    pub(super) fn jwk(&self) -> Result<Value, Box<dyn Error>> {
        let set: Value = serde_json::from_str(&self.jwks)?;
        Ok(set["keys"][0].clone())
    }

    /// What our verifier is to trust.
    pub(super) fn issuer(&self) -> Issuer {
        let key = self.key.verifying_key().clone();
        Issuer::new(ISSUER).keys(key).algorithms([self.key.algorithm()]).audience(AUDIENCE)
    }
}
