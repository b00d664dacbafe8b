//! The published keys, over axum.

#[path = "support/tokens.rs"]
mod support;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use support::key;
use tower::ServiceExt;
use tower_keep_auth::{Algorithm, JwtManager, KeySet};

#[tokio::test]
async fn keys_are_published_with_their_type_and_how_long_they_may_be_kept() {
    let manager = JwtManager::builder(support::ISSUER)
        .key(key(Algorithm::Es256))
        .audience(support::AUDIENCE)
        .build()
        .unwrap();
    let app: Router = Router::new().route("/.well-known/jwks.json", manager.jwks_route());
    let request = || Request::get("/.well-known/jwks.json").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/jwk-set+json");
    assert_eq!(response.headers()["cache-control"], "public, max-age=300");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(KeySet::from_jwks(&body).unwrap().keys().len(), 1);
    manager.rotate(key(Algorithm::EdDsa)).unwrap();
    let body = app.oneshot(request()).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(KeySet::from_jwks(body.to_bytes()).unwrap().keys().len(), 2);
}
