//! The listener for operators: what they can ask, and do.
//!
//! | request | what it does |
//! | --- | --- |
//! | `GET /health` | 200; without a token |
//! | `GET /pools` | how the backends stand |
//! | `GET /jwt` | how the keys of each issuer are |
//! | `POST /purge/tag/TAG` | what carries the tag is not served any more |
//! | `POST /purge/all` | nothing that is stored is |
//! | `POST /revoke/NAME?subject=ID` | tokens of `[jwt.NAME]` that the subject has now are refused; likewise `token`, `session`, `client` |
//!
//! With `?soft`, a purge leaves what is stored to be served stale, where it may be.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use tower_keep::store::{Reach, Store};

use crate::body::Content;
use crate::front::own;
use crate::revoke;
use crate::state::State;

/// Answers a request of one who knows `token`.
pub(crate) async fn answer<B>(
    state: &State,
    token: &str,
    request: &Request<B>,
) -> Response<Content> {
    let (method, path) = (request.method(), request.uri().path());
    if path == "/health" {
        return own(StatusCode::OK, "ok\n");
    }
    if !is_allowed(request, token) {
        let mut response = own(StatusCode::UNAUTHORIZED, "A bearer token is needed.\n");
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    let is_soft =
        request.uri().query().is_some_and(|query| query.split('&').any(|it| it == "soft"));
    let store = &state.caches.store;
    if let (&Method::POST, Some(name)) = (method, path.strip_prefix("/revoke/")) {
        let query = request.uri().query().unwrap_or_default();
        return revoke::answer(&state.guards, name, query).await;
    }
    match (method, path.strip_prefix("/purge/tag/")) {
        (&Method::POST, Some(tag)) => purge_tag(store, tag, is_soft).await,
        (&Method::POST, None) if path == "/purge/all" => {
            let reach = if is_soft { store.expire_all().await } else { store.clear().await };
            purged(reach)
        }
        (&Method::GET, None) if path == "/pools" => pools(state),
        (&Method::GET, None) if path == "/jwt" => keys(state),
        _ => own(
            StatusCode::NOT_FOUND,
            "GET /health, GET /pools, GET /jwt, POST /purge/tag/TAG, POST /purge/all, \
                POST /revoke/NAME?subject=ID\n",
        ),
    }
}

/// By `Authorization: Bearer` (RFC 6750 §2.1).
fn is_allowed<B>(request: &Request<B>, token: &str) -> bool {
    let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let given = given.and_then(|given| given.split_at_checked("Bearer ".len()));
    given.is_some_and(|(scheme, given)| {
        // How long that takes tells nothing of the token.
        let is_same = subtle::ConstantTimeEq::ct_eq(given, token.as_bytes());
        scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(is_same)
    })
}

async fn purge_tag(store: &Store, tag: &str, is_soft: bool) -> Response<Content> {
    let Some(tag) = decoded(tag) else {
        return own(StatusCode::BAD_REQUEST, "The tag's escapes can't be read.\n");
    };
    let purge =
        if is_soft { store.expire_tag(&tag).await } else { store.invalidate_tag(&tag).await };
    match purge {
        Ok(reach) => purged(reach),
        Err(error) => own(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

/// Without the escapes of a URL (RFC 3986 §2.1).
fn decoded(tag: &str) -> Option<Cow<'_, str>> {
    percent_encoding::percent_decode_str(tag).decode_utf8().ok()
}

fn purged(reach: Reach) -> Response<Content> {
    match reach {
        Reach::Everywhere => own(StatusCode::OK, "It is done everywhere.\n"),
        // Redis is out of reach: the others are told when it is back.
        Reach::ThisNode => {
            own(StatusCode::ACCEPTED, "It is done here, and elsewhere when Redis is back.\n")
        }
    }
}

fn pools(state: &State) -> Response<Content> {
    let pools = state.upstreams.0.iter().map(|(name, entry)| {
        let (stats, status) = (entry.pool.stats(), entry.pool.status());
        let backend = |it: &tower_keep_balance::Status| {
            json!({
                "name": &*it.name,
                "weight": it.weight,
                "priority": it.priority,
                "up": it.is_up,
                "state": it.state.as_str(),
                "in_flight": it.in_flight,
            })
        };
        let pool = json!({
            "backends": status.iter().map(backend).collect::<Vec<_>>(),
            "panics": entry.pool.panics(),
            "checks": stats.checks,
            "failed_checks": stats.failed_checks,
            "ejections": stats.ejections,
        });
        (name.clone(), pool)
    });
    object(pools)
}

fn keys(state: &State) -> Response<Content> {
    object(state.guards.verifiers().map(|(name, verifier)| {
        let issuers = verifier.health().map(|(issuer, health)| {
            let health = json!({
                "keys": health.keys,
                "age": health.age.map(|age| age.as_secs()),
                "stale": health.stale,
                "failure": health.failure,
            });
            (issuer.to_owned(), health)
        });
        (name.to_owned(), issuers.collect::<serde_json::Map<_, _>>().into())
    }))
}

fn object(members: impl Iterator<Item = (String, serde_json::Value)>) -> Response<Content> {
    let object = serde_json::Value::Object(members.collect());
    let mut response = own(StatusCode::OK, object.to_string());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
