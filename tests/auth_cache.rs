//! Authentication and the cache, in every order: no user ever gets another's response.

#![allow(clippy::unwrap_used, reason = "clippy lets only the functions marked #[test] unwrap")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use futures_util::future::join_all;
use http::header::CACHE_CONTROL;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde::Serialize;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_keep::auth::{
    Algorithm, Grant, Identity, Issuer, JwtManager, RequireLayer, SigningKey, Verifier,
};
use tower_keep::cache::{Credentials, KeyPolicy};
use tower_keep::prelude::*;

type App = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

const ISSUER: &str = "https://id.example.com";

/// The users, of whom the first two are of one tenant.
const USERS: usize = 3;

#[derive(Serialize)]
struct Account {
    tenant: usize,
}

fn tenant(user: usize) -> usize {
    user / 2
}

struct Issuing {
    verifier: Verifier,
    tokens: Vec<String>,
}

impl Issuing {
    fn new() -> Self {
        let key = SigningKey::generate(Algorithm::EdDsa).unwrap().with_kid("a");
        let trusted = Issuer::new(ISSUER).keys(key.verifying_key().clone()).audience("api");
        let verifier = Verifier::builder().issuer(trusted).build().unwrap();
        let manager = JwtManager::builder(ISSUER).key(key).audience("api").build().unwrap();
        let token = |user| {
            let grant = Grant::new(format!("user:{user}"));
            let grant = grant.claims(&Account { tenant: tenant(user) });
            manager.issue(grant).unwrap().token
        };
        Self { verifier, tokens: (0..USERS).map(token).collect() }
    }

    fn auth(&self, optional: bool) -> JwtLayer {
        let layer = JwtLayer::builder(self.verifier.clone()).cookie("session").query("token");
        let layer = if optional { layer.optional() } else { layer };
        layer.build().unwrap()
    }
}

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    User(usize),
    Impostor,
}

const WAYS: [&str; 3] = ["header", "cookie", "query"];

fn senders() -> Vec<(Who, &'static str)> {
    let users = [Who::User(0), Who::User(2)].into_iter();
    let mut senders: Vec<_> = users.flat_map(|who| WAYS.map(|way| (who, way))).collect();
    senders.extend([(Who::User(1), "header"), (Who::Nobody, "header")]);
    senders.extend([(Who::Impostor, "header"), (Who::Impostor, "query")]);
    senders
}

impl Issuing {
    fn request(&self, path: &str, (who, way): (Who, &str)) -> Request<Body> {
        let token = match who {
            Who::Nobody => return Request::get(path).body(Body::empty()).unwrap(),
            Who::User(user) => self.tokens[user].clone(),
            // The claims of the first user, and the signature of another.
            Who::Impostor => {
                let (claims, _) = self.tokens[0].rsplit_once('.').unwrap();
                format!("{claims}.{}", self.tokens[1].rsplit_once('.').unwrap().1)
            }
        };
        let request = match way {
            "header" => Request::get(path).header("authorization", format!("Bearer {token}")),
            "cookie" => Request::get(path).header("cookie", format!("a=b; session={token}")),
            _ => Request::get(format!("{path}?token={token}")),
        };
        request.body(Body::empty()).unwrap()
    }
}

/// What differs between the caches that are tried.
#[derive(Clone, Copy, Debug)]
struct Setting {
    order: &'static str,
    credentials: Credentials,
    key: &'static str,
    optional: bool,
}

fn settings() -> impl Iterator<Item = Setting> {
    let orders = ["auth cache", "cache auth", "auth cache auth", "cache auth cache"];
    let keys = ["", "no query", "subject", "tenant"];
    orders.into_iter().flat_map(move |order| {
        keys.into_iter().flat_map(move |key| {
            [Credentials::Cautious, Credentials::Rfc9111].into_iter().flat_map(move |credentials| {
                [false, true].map(|optional| Setting { order, credentials, key, optional })
            })
        })
    })
}

fn cache(setting: Setting) -> CacheLayer {
    let keep = Store::builder().l1(L1::bytes(1 << 22)).build().unwrap();
    let key = match setting.key {
        "no query" => KeyPolicy::new().ignore_query(),
        "subject" => {
            KeyPolicy::new().identity("user", |head| Identity::subject_key(head.extensions()))
        }
        "tenant" => KeyPolicy::new()
            .identity("tenant", |head| Identity::claim_key(head.extensions(), "tenant")),
        _ => KeyPolicy::new(),
    };
    CacheLayer::builder(keep)
        .key(key)
        .credentials(setting.credentials)
        // Whatever could be stored by mistake, would be.
        .default_ttl(Duration::from_secs(60))
        .build()
        .unwrap()
}

fn boxed<S, B>(service: S) -> App
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    App::new(service.map_response(|response: Response<B>| response.map(Body::new)))
}

/// Says who asks, or of which tenant he is: `/public` to all, the rest to those it is for. No request
/// gets here in a target that tells its token.
fn handler(calls: Arc<AtomicUsize>) -> App {
    boxed(service_fn(move |request: Request<Body>| {
        calls.fetch_add(1, Ordering::Relaxed);
        let path = request.uri().to_string();
        assert!(!path.contains("token"), "{path}");
        let identity = Identity::of(request.extensions());
        let text = match identity {
            None => "nobody".to_owned(),
            Some(identity) if path.starts_with("/tenant") => {
                format!("tenant:{}", identity.claim("tenant").unwrap())
            }
            Some(identity) => identity.subject().unwrap().to_owned(),
        };
        let control = if path.starts_with("/public") { "public, max-age=60" } else { "max-age=60" };
        async move {
            // So that requests meet.
            tokio::task::yield_now().await;
            let response = Response::builder().header(CACHE_CONTROL, control);
            Ok(response.body(Body::from(text)).unwrap())
        }
    }))
}

fn app(issuing: &Issuing, setting: Setting) -> (App, Arc<AtomicUsize>) {
    let calls = Arc::default();
    let inner = handler(Arc::clone(&calls));
    let app = setting.order.rsplit(' ').fold(inner, |inner, layer| match layer {
        "cache" => boxed(cache(setting).layer(inner)),
        _ => boxed(issuing.auth(setting.optional).layer(inner)),
    });
    (app, calls)
}

async fn check(app: App, request: Request<Body>, sender: (Who, &str), setting: Setting) {
    let (who, way) = sender;
    let path = request.uri().path().to_owned();
    let response = app.oneshot(request).await.unwrap();
    let status = response.status();
    let said = response.headers().get("cache-status").map(|it| it.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let case = format!("{who:?} at {path}, {setting:?}: {status} {body} {said:?}");
    // What is refused comes of the layer each time.
    let is_hit = said.is_some_and(|said| said.contains("hit"));
    assert!(status == StatusCode::OK || !is_hit, "{case}");
    // A cache that is told to leave out of its key what decides who asks can't know; then, who has
    // a token gets what nobody in particular got, and never what somebody did.
    let is_left_out = setting.key == "no query" && way == "query";
    let for_all = setting.optional
        && (setting.order.ends_with("cache") || setting.order.starts_with("cache") && is_left_out);
    if for_all && body == "nobody" {
        assert!(who != Who::Impostor || is_left_out, "{case}");
        return;
    }
    match who {
        Who::Impostor => assert_eq!(status, StatusCode::UNAUTHORIZED, "{case}"),
        Who::Nobody if !setting.optional => {
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{case}");
        }
        Who::Nobody => assert_eq!(body, "nobody", "{case}"),
        Who::User(user) => {
            let expected = if path.starts_with("/tenant") {
                format!("tenant:{}", tenant(user))
            } else {
                format!("user:{user}")
            };
            assert_eq!(body, expected, "{case}");
        }
    }
}

/// Where the handler's own layer is the one that knows who asks, `public` is no mistake either.
fn paths(setting: Setting) -> Vec<&'static str> {
    let mut paths = vec![if setting.key == "tenant" { "/tenant" } else { "/mine" }];
    if setting.order == "cache auth" {
        paths.push("/public");
    }
    paths
}

#[tokio::test]
async fn nobody_gets_what_is_another_s_whoever_asked_before() {
    let issuing = Issuing::new();
    for setting in settings() {
        let (app, _) = app(&issuing, setting);
        for path in paths(setting) {
            for (a, first) in senders().into_iter().enumerate() {
                for (b, second) in senders().into_iter().enumerate() {
                    let path = format!("{path}/{a}/{b}");
                    for sender in [first, second] {
                        let request = issuing.request(&path, sender);
                        check(app.clone(), request, sender, setting).await;
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn nobody_gets_what_is_another_s_who_asks_at_the_same_time() {
    let issuing = Issuing::new();
    for setting in settings() {
        let (app, _) = app(&issuing, setting);
        for path in paths(setting) {
            for turn in 0..senders().len() {
                let mut senders = senders();
                senders.rotate_left(turn);
                let path = format!("{path}/{turn}");
                let all = senders.into_iter().map(|sender| {
                    check(app.clone(), issuing.request(&path, sender), sender, setting)
                });
                join_all(all).await;
            }
        }
    }
}

#[tokio::test]
async fn a_cache_that_tells_users_or_tenants_apart_stores_what_is_theirs() {
    let issuing = Issuing::new();
    for (key, path, expected) in
        [("subject", "/mine", 3), ("tenant", "/tenant", 2), ("", "/mine", 9)]
    {
        let (order, optional) = ("auth cache", false);
        let setting = Setting { order, credentials: Credentials::Cautious, key, optional };
        let (app, calls) = app(&issuing, setting);
        for user in 0..USERS {
            for way in WAYS {
                let request = issuing.request(path, (Who::User(user), way));
                check(app.clone(), request, (Who::User(user), way), setting).await;
            }
        }
        assert_eq!(calls.load(Ordering::Relaxed), expected, "{key}");
    }
}

#[tokio::test]
async fn what_is_stripped_or_not_permitted_is_never_stored() {
    let issuing = Issuing::new();
    let setting =
        Setting { order: "", credentials: Credentials::Rfc9111, key: "no query", optional: false };
    let auth = JwtLayer::builder(issuing.verifier.clone()).cookie("session").query("token");
    let auth = auth.strip().build().unwrap();
    let stripped = boxed(auth.layer(cache(setting).layer(handler(Arc::default()))));
    let require = RequireLayer::new(Require::claim("tenant", 1)).unwrap();
    let route = require.layer(handler(Arc::default()));
    let required = boxed(cache(setting).layer(issuing.auth(false).layer(route)));
    for (user, way) in (0..USERS).flat_map(|user| WAYS.map(|way| (user, way))) {
        let sender = (Who::User(user), way);
        check(stripped.clone(), issuing.request("/mine", sender), sender, setting).await;
        for path in ["/mine", "/public"] {
            let response = required.clone().oneshot(issuing.request(path, sender)).await.unwrap();
            let permitted = tenant(user) == 1;
            let status = if permitted { StatusCode::OK } else { StatusCode::FORBIDDEN };
            assert_eq!(response.status(), status, "{sender:?} {path}");
        }
    }
}
