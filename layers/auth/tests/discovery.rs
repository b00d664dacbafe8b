//! Keys that are found by what an issuer says of itself.
#![allow(clippy::unwrap_used)]

#[path = "support/tokens.rs"]
mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::header::IF_NONE_MATCH;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Value, json};
use support::site::{Server, Site};
use support::{fresh, jwks, keys, trusting, until};
use tower_keep_auth::{HttpsClient, KeySource, RemoteKeys, RemoteKeysBuilder};

const OPENID: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";
const SHORT: Duration = Duration::from_millis(20);

/// What an issuer says of itself; null is a server that fails.
type Metadata = Arc<Mutex<Value>>;

fn saying(metadata: &Metadata, path: &str) -> Router {
    let metadata = Arc::clone(metadata);
    let answer = move || async move {
        match &*metadata.lock().unwrap() {
            Value::Null => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            metadata => metadata.to_string().into_response(),
        }
    };
    Router::new().route(path, get(answer))
}

fn often(builder: RemoteKeysBuilder) -> RemoteKeysBuilder {
    builder
        .allow_http()
        .refresh(SHORT)
        .refresh_between(SHORT, SHORT)
        .retry(SHORT, SHORT)
        .look_interval(SHORT)
}

#[tokio::test]
async fn keys_are_found_where_either_standard_has_them() {
    let [key] = keys();
    let site = Site::of(&[&key]);
    let metadata = Metadata::default();
    let router = site
        .router()
        .merge(saying(&metadata, &format!("/shop{OPENID}")))
        .merge(saying(&metadata, &format!("{OAUTH}/shop")));
    let server = Server::start(router).await;
    let issuer = server.url("/shop");
    *metadata.lock().unwrap() = json!({"issuer": issuer, "jwks_uri": server.url("/jwks")});
    for builder in [RemoteKeys::openid(&issuer), RemoteKeys::oauth(&issuer)] {
        let source = builder.allow_http().build().unwrap();
        source.ready().await.unwrap();
        assert!(trusting(source).verify_now(&fresh(&key)).is_ok());
    }
}

#[tokio::test]
async fn metadata_of_another_issuer_is_of_no_use() {
    let [key] = keys();
    let site = Site::of(&[&key]);
    let metadata = Metadata::default();
    let server = Server::start(site.router().merge(saying(&metadata, OPENID))).await;
    let (issuer, jwks) = (server.url(""), server.url("/jwks"));
    for (said, class) in [
        (json!({"issuer": "https://other.example", "jwks_uri": jwks}), "issuer_mismatch"),
        (json!({"issuer": format!("{issuer}/"), "jwks_uri": jwks}), "issuer_mismatch"),
        (json!({"issuer": issuer}), "metadata"),
        (json!({"issuer": issuer, "jwks_uri": "ftp://id.example.com"}), "metadata"),
        (json!([]), "metadata"),
        (Value::Null, "status"),
    ] {
        *metadata.lock().unwrap() = said.clone();
        let source = RemoteKeys::openid(&issuer).allow_http().build().unwrap();
        assert_eq!(source.ready().await.unwrap_err().as_str(), class, "{said}");
    }
    assert_eq!(site.asked(), 0);
}

#[tokio::test]
async fn an_issuer_with_tls_has_keys_with_tls() {
    let [key] = keys();
    let site = Site::of(&[&key]);
    let metadata = Metadata::default();
    let router = site.router().merge(saying(&metadata, OPENID));
    let plain = Server::start(site.router()).await;
    let (server, authority) = Server::start_tls(router).await;
    let issuer = server.https_url("");
    let build = || {
        let client = HttpsClient::trusting(&authority).unwrap();
        RemoteKeys::openid(&issuer).client(client).build().unwrap()
    };
    *metadata.lock().unwrap() = json!({"issuer": issuer, "jwks_uri": plain.url("/jwks")});
    let error = build().ready().await.unwrap_err();
    assert!(error.to_string().contains("https"), "{error}");
    assert_eq!(site.asked(), 0);
    *metadata.lock().unwrap() = json!({"issuer": issuer, "jwks_uri": server.https_url("/jwks")});
    let source = build();
    source.ready().await.unwrap();
    assert!(trusting(source).verify_now(&fresh(&key)).is_ok());
}

#[tokio::test]
async fn keys_that_move_are_followed() {
    let [old, new] = keys();
    let site = Site::of(&[&old]);
    site.published().validates = true;
    let here = Server::start(site.router()).await;
    // Whoever knows a set by name is told that nothing has changed.
    let set = jwks(&[&new]);
    let answer = move |fields: HeaderMap| async move {
        if fields.contains_key(IF_NONE_MATCH) {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        set.into_response()
    };
    let there = Server::start(Router::new().route("/jwks", get(answer))).await;
    let metadata = Metadata::default();
    let server = Server::start(saying(&metadata, OPENID)).await;
    let issuer = server.url("");
    *metadata.lock().unwrap() = json!({"issuer": issuer, "jwks_uri": here.url("/jwks")});
    let source = often(RemoteKeys::openid(&issuer)).build().unwrap();
    let verifier = trusting(source.clone());
    assert!(verifier.verify(&fresh(&old)).await.is_ok());
    *metadata.lock().unwrap() = json!({"issuer": issuer, "jwks_uri": there.url("/jwks")});
    until("the new set", || verifier.verify_now(&fresh(&new)).is_ok()).await;
    assert!(verifier.verify_now(&fresh(&old)).is_err());
}

#[tokio::test]
async fn metadata_that_cannot_be_read_again_still_holds() {
    let [old, new] = keys();
    let site = Site::of(&[&old]);
    let metadata = Metadata::default();
    let server = Server::start(site.router().merge(saying(&metadata, OPENID))).await;
    let issuer = server.url("");
    *metadata.lock().unwrap() = json!({"issuer": issuer, "jwks_uri": server.url("/jwks")});
    let source = often(RemoteKeys::openid(&issuer)).build().unwrap();
    let verifier = trusting(source.clone());
    assert!(verifier.verify(&fresh(&old)).await.is_ok());
    for bad in [Value::Null, json!({"issuer": "https://other.example"}), json!(1)] {
        *metadata.lock().unwrap() = bad;
        site.publish(&[&new]);
        until("the set is fetched all the same", || verifier.verify_now(&fresh(&new)).is_ok())
            .await;
        site.publish(&[&old]);
        until("and again", || verifier.verify_now(&fresh(&old)).is_ok()).await;
        assert!(source.health().is_usable());
    }
}
