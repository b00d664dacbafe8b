//! The whole pipeline: a token that was seen before, a response that is stored, its compressed form.

use std::time::Duration;

use axum::http::header::{ACCEPT_ENCODING, AUTHORIZATION, HOST};
use axum::http::{HeaderValue, Request};
use tower_keep::cache::CacheLayer;
use tower_keep::store::Store;
use tower_keep_auth::{Algorithm, Grant, Issuer, JwtLayer, JwtManager, SigningKey, Verifier};
use tower_keep_compress::CompressLayer;

use crate::BoxError;
use crate::products::json;
use crate::site::{Handler, Site};

const ISSUER: &str = "https://id.example.com";
const AUDIENCE: &str = "shop";

/// Both sides know it, so that the client can issue what the server verifies.
const SECRET: &[u8] = b"32 random bytes, not these ones.";

/// What is behind the layers: a page of JSON, so many bytes of it as the site says.
pub fn handler(site: Site) -> Handler {
    Handler::new(site).with_json(json(site.size))
}

/// What lets requests through that have a token.
///
/// # Errors
///
/// If the settings are wrong.
pub fn auth() -> Result<JwtLayer, BoxError> {
    let issuer = Issuer::new(ISSUER)
        .keys(key()?.verifying_key().clone())
        .algorithms([Algorithm::Hs256])
        .audience(AUDIENCE);
    Ok(JwtLayer::builder(Verifier::builder().issuer(issuer).build()?).build()?)
}

/// The cache, which keeps compressed forms.
///
/// # Errors
///
/// If the settings are wrong.
pub fn forms(store: Store) -> Result<CacheLayer, BoxError> {
    let compress = CompressLayer::builder().min_size(256).build()?;
    Ok(CacheLayer::builder(store).compress(&compress).build()?)
}

/// All of them, the outermost first.
///
/// # Errors
///
/// If the settings are wrong.
pub fn layers(store: Store) -> Result<(JwtLayer, CacheLayer), BoxError> {
    Ok((auth()?, forms(store)?))
}

/// The fields of a request for the compressed form, by somebody who has a token.
///
/// # Errors
///
/// If no token can be issued.
pub fn fields() -> Result<[String; 2], BoxError> {
    Ok([format!("authorization: Bearer {}", token()?), "accept-encoding: br".to_owned()])
}

/// A request with a token, for the compressed form.
///
/// # Errors
///
/// If the token can't be in a field.
pub fn request<B: Default>(token: &str) -> Result<Request<B>, BoxError> {
    let mut request = Request::new(B::default());
    *request.uri_mut() = "/products/1".try_into()?;
    let fields = request.headers_mut();
    fields.insert(HOST, HeaderValue::from_static("shop.example.com"));
    fields.insert("user-agent", HeaderValue::from_static("bench/1.0"));
    fields.insert("accept", HeaderValue::from_static("*/*"));
    fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("br"));
    fields.insert(AUTHORIZATION, format!("Bearer {token}").try_into()?);
    Ok(request)
}

/// One that is good for an hour.
///
/// # Errors
///
/// If it can't be issued.
pub fn token() -> Result<String, BoxError> {
    let manager = JwtManager::builder(ISSUER).key(key()?).audience(AUDIENCE);
    let manager = manager.ttl(Duration::from_hours(1)).build()?;
    let grant = Grant::new("user:1").client("web").scope("products:read orders:write profile");
    Ok(manager.issue(grant)?.token)
}

fn key() -> Result<SigningKey, BoxError> {
    Ok(SigningKey::hmac(Algorithm::Hs256, SECRET)?.with_kid("shop"))
}
