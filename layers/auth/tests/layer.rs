//! Requests through `JwtLayer` and `RequireLayer`: who is let through, what inner services see, and
//! what the others are told.

#![allow(clippy::unwrap_used, reason = "clippy lets only the functions marked #[test] unwrap")]

#[path = "support/tokens.rs"]
mod support;

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, VARY, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::json;
use support::{claims, clock, issuer, key, token, with};
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_auth::{
    Algorithm, AuthBody, BuildError, Denial, Identity, Issuer, JwtLayer, JwtLayerBuilder, Require,
    RequireLayer, SigningKey, Verified, Verifier,
};

#[derive(Debug, Deserialize)]
struct Account {
    #[serde(default)]
    tenant: u64,
}

fn signing() -> SigningKey {
    key(Algorithm::Es256)
}

fn verifier() -> Verifier<Account> {
    let issuer = issuer(&signing());
    Verifier::builder().issuer(issuer).clock(clock()).typed().build().unwrap()
}

fn builder() -> JwtLayerBuilder<Account> {
    JwtLayer::builder(verifier()).cookie("session").query("access_token")
}

fn good() -> String {
    let claims = with(with(claims(), "scope", "a b"), "roles", json!(["editor"]));
    token(&signing(), &with(claims, "tenant", 7))
}

fn expired() -> String {
    token(&signing(), &with(claims(), "exp", support::NOW - 60))
}

/// Says who asks, and what it sees of the request.
async fn who(request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let field = |name| request.headers().get(name).map_or("", |it| it.to_str().unwrap());
    let who = Verified::<Account>::of(request.extensions());
    let identity = Identity::of(request.extensions());
    assert_eq!(who.is_some(), identity.is_some());
    let text = format!(
        "{} {} {} cookie={} auth={} cc={}",
        who.as_ref().map_or("nobody", |who| who.subject().unwrap()),
        identity.map_or(0, |it| it.extra::<Account>().unwrap().tenant),
        request.uri(),
        field("cookie"),
        field("authorization").split(' ').next().unwrap(),
        field("cache-control"),
    );
    Ok(Response::new(Full::from(text)))
}

struct Answer {
    head: Response<()>,
    body: String,
}

impl Answer {
    fn field(&self, name: impl http::header::AsHeaderName) -> &str {
        self.head.headers().get(name).map_or("", |it| it.to_str().unwrap())
    }

    fn denial(&self) -> &Denial {
        self.head.extensions().get().unwrap()
    }
}

async fn read(response: Response<AuthBody<Full<Bytes>>>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answer { head: Response::from_parts(head, ()), body }
}

fn request(uri: &str, fields: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::get(uri).body(Full::default()).unwrap();
    for (name, value) in fields {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

async fn ask(layer: &JwtLayer<Account>, request: Request<Full<Bytes>>) -> Answer {
    read(layer.layer(service_fn(who)).oneshot(request).await.unwrap()).await
}

fn bearer(token: &str) -> [(&'static str, String); 1] {
    [("authorization", format!("Bearer {token}"))]
}

async fn ask_by(layer: &JwtLayer<Account>, token: &str) -> Answer {
    let [(name, value)] = bearer(token);
    ask(layer, request("/x", &[(name, &value)])).await
}

#[tokio::test]
async fn a_right_token_is_let_through_and_inner_services_see_it_in_one_place() {
    let layer = builder().build().unwrap();
    let answer = ask_by(&layer, &good()).await;
    assert_eq!(answer.body, "user:1 7 /x cookie= auth=Bearer cc=");
    assert_eq!(answer.field(VARY), "authorization, cookie");

    let cookie = format!("a=b; session={}", good());
    let answer = ask(&layer, request("/x", &[("cookie", &cookie)])).await;
    assert_eq!(answer.body, "user:1 7 /x cookie=a=b auth=Bearer cc=");

    let uri = format!("/x?a=b&access_token={}", good());
    let answer = ask(&layer, request(&uri, &[])).await;
    assert_eq!(answer.body, "user:1 7 /x?a=b cookie= auth=Bearer cc=");
    assert_eq!(answer.field(CACHE_CONTROL), "private, no-store");
    assert_eq!(answer.field(VARY), "*");
    assert_eq!(layer.stats().accepted, 3);
}

#[tokio::test]
async fn a_stripped_token_is_nowhere_and_what_comes_of_it_is_not_stored() {
    let layer = builder().strip().build().unwrap();
    let answer = ask_by(&layer, &good()).await;
    assert_eq!(answer.body, "user:1 7 /x cookie= auth= cc=no-store");
    let uri = format!("/x?access_token={}", good());
    let answer = ask(&layer, request(&uri, &[])).await;
    assert_eq!(answer.body, "user:1 7 /x cookie= auth= cc=no-store");
}

#[tokio::test]
async fn what_is_refused_is_told_no_more_than_the_rfc_has_words_for() {
    let layer = builder().realm("orders").build().unwrap();
    let realm = "Bearer realm=\"orders\"";
    let answer = ask(&layer, request("/x", &[])).await;
    assert_eq!(answer.head.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.field(WWW_AUTHENTICATE), realm);
    assert_eq!((answer.field(CACHE_CONTROL), &*answer.body), ("no-store", ""));

    for (token, text) in
        [(expired(), "the token has expired"), ("a.b.c".into(), "the token is invalid")]
    {
        let answer = ask_by(&layer, &token).await;
        assert_eq!(answer.head.status(), StatusCode::UNAUTHORIZED);
        let expected = format!("{realm}, error=\"invalid_token\", error_description=\"{text}\"");
        assert_eq!(answer.field(WWW_AUTHENTICATE), expected);
    }

    let twice = format!("/x?access_token={}", good());
    let [(name, value)] = bearer(&good());
    let answer = ask(&layer, request(&twice, &[(name, &value)])).await;
    assert_eq!(answer.head.status(), StatusCode::BAD_REQUEST);
    assert!(answer.field(WWW_AUTHENTICATE).contains("error=\"invalid_request\""));

    let denied = layer.stats().denied;
    assert_eq!(
        denied.into_iter().collect::<Vec<_>>(),
        [("base64", 1), ("expired", 1), ("malformed_request", 1), ("no_token", 1)]
    );
}

#[tokio::test]
async fn optional_lets_nobody_through_and_refuses_who_is_not_who_he_says() {
    let layer = builder().optional().build().unwrap();
    let basic = [("authorization", "Basic YTpi")];
    assert!(ask(&layer, request("/x", &[])).await.body.starts_with("nobody"));
    assert!(ask(&layer, request("/x", &basic)).await.body.ends_with("auth=Basic cc="));
    assert_eq!(ask_by(&layer, &expired()).await.head.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(layer.stats().anonymous, 2);

    let layer = builder().optional().ignore_invalid().build().unwrap();
    assert_eq!(ask_by(&layer, &expired()).await.body, "nobody 0 /x cookie= auth= cc=");
    assert!(ask_by(&layer, &good()).await.body.starts_with("user:1"));
    // Of two layers, the inner one has the last word.
    let outer = builder().build().unwrap();
    let other = Issuer::new("https://other.example").any_audience();
    let other = other.keys(signing().verifying_key().clone());
    let other = Verifier::builder().issuer(other).typed::<Account>().build().unwrap();
    let inner = JwtLayer::builder(other).optional().ignore_invalid().build().unwrap();
    let [(name, value)] = bearer(&good());
    let both = outer.layer(inner.layer(service_fn(who)));
    let response = both.oneshot(request("/x", &[(name, &value)])).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"nobody"));
}

#[tokio::test]
async fn what_is_required_is_told_by_its_scopes_and_refused_without_it() {
    let ask = async |require: Require| {
        let layer = builder().require(require).build().unwrap();
        let answer = ask_by(&layer, &good()).await;
        (answer.head.status(), answer.field(WWW_AUTHENTICATE).to_owned())
    };
    let permitted = [
        Require::token(),
        Require::scope("a"),
        Require::all_scopes(["a", "b"]),
        Require::any_scope(["z", "b"]),
        Require::role("editor").and(Require::scope("b")),
        Require::role("admin").or(Require::audience(support::AUDIENCE)),
        Require::claim("tenant", 7).and(Require::issuer(support::ISSUER)),
        Require::when(|identity| identity.extra::<Account>().is_some_and(|it| it.tenant == 7)),
    ];
    for require in permitted {
        assert_eq!(ask(require.clone()).await.0, StatusCode::OK, "{require:?}");
    }
    let refused = [
        (Require::scope("A"), "scope=\"A\""),
        (Require::all_scopes(["a", "z"]), "scope=\"a z\""),
        (Require::any_scope(["y", "z"]), "scope=\"y\""),
        (Require::role("admin").and(Require::scope("a")), "scope=\"a\""),
        (Require::claim("tenant", "7"), "error_description=\"the token doesn't permit this\""),
        (Require::group("editor").or(Require::when(|_| false)), "error=\"insufficient_scope\""),
    ];
    for (require, says) in refused {
        let (status, field) = ask(require.clone()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{require:?}");
        assert!(field.contains("error=\"insufficient_scope\"") && field.contains(says), "{field}");
    }
}

#[tokio::test]
async fn a_route_asks_for_more_and_never_lets_anybody_through_unguarded() {
    let optional = builder().optional().build().unwrap();
    let route = RequireLayer::new(Require::scope("a")).unwrap();
    let route = route.method("/s.S/M", Require::scope("z")).unwrap();
    let service = optional.layer(route.layer(service_fn(who)));
    let status = async |uri: &str, token: Option<String>| {
        let mut request = request(uri, &[]);
        if let Some(token) = token {
            let field = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert(AUTHORIZATION, field);
        }
        service.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(status("/x", Some(good())).await, StatusCode::OK);
    assert_eq!(status("/x", None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("/s.S/M", Some(good())).await, StatusCode::FORBIDDEN);
    assert_eq!(optional.stats().denied["insufficient"], 1);

    let [(name, value)] = bearer(&good());
    let alone = route.layer(service_fn(who)).oneshot(request("/x", &[(name, &value)]));
    let answer = read(alone.await.unwrap()).await;
    assert_eq!(answer.head.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.denial(), &Denial::Unguarded);
}

#[tokio::test]
async fn calls_of_grpc_are_answered_by_a_status_in_the_head() {
    let layer = builder().require(Require::scope("z")).build().unwrap();
    for media_type in ["application/grpc", "application/grpc-web+proto"] {
        for (fields, code) in
            [(vec![], "16"), (bearer(&good()).to_vec(), "7"), (bearer("x").to_vec(), "16")]
        {
            let mut request = request("/s.S/M", &[("content-type", media_type)]);
            *request.method_mut() = Method::POST;
            for (name, value) in &fields {
                request.headers_mut().append(*name, value.parse().unwrap());
            }
            let answer = ask(&layer, request).await;
            assert_eq!(answer.head.status(), StatusCode::OK);
            assert_eq!(answer.field("grpc-status"), code);
            assert_eq!(answer.field("content-type"), media_type);
            assert!(!answer.field("grpc-message").is_empty() && answer.body.is_empty());
        }
    }
}

/// Who asks on behalf of others, as nginx does by `auth_request`, asks by GET, passes their fields on
/// and takes each 200 for a yes.
#[tokio::test]
async fn what_is_called_grpc_and_can_not_be_is_refused_as_all_else() {
    let layer = builder().build().unwrap();
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT] {
        let mut request = request("/auth", &[("content-type", "application/grpc")]);
        *request.method_mut() = method.clone();
        let answer = ask(&layer, request).await;
        assert_eq!(answer.head.status(), StatusCode::UNAUTHORIZED, "{method}");
        assert!(
            !answer.field(WWW_AUTHENTICATE).is_empty() && answer.field("grpc-status").is_empty()
        );
    }
}

/// What inner services may take for a token is one that was verified, or isn't there.
#[tokio::test]
async fn nothing_that_looks_like_a_token_passes_by_unverified() {
    let layer = builder().optional().build().unwrap();
    for field in
        ["Bearer\ta.b.c", "Bearer,a.b.c", "bearer=a.b.c", "BEARER\"a.b.c\"", "Bearer:a.b.c"]
    {
        let answer = ask(&layer, request("/x", &[("authorization", field)])).await;
        assert_eq!(answer.head.status(), StatusCode::BAD_REQUEST, "{field}");
    }
    // HTTP/2 leaves white space at the ends to whoever reads the field.
    let mut spaced = request("/x", &[]);
    let field = http::HeaderValue::from_bytes(b" Bearer a.b.c").unwrap();
    spaced.headers_mut().insert(AUTHORIZATION, field);
    assert_eq!(ask(&layer, spaced).await.head.status(), StatusCode::UNAUTHORIZED);
    let other = ask(&layer, request("/x", &[("authorization", "Bearer-Like a.b.c")])).await;
    assert!(other.body.starts_with("nobody"));
}

/// Not even what a secret could be guessed by.
#[test]
fn nothing_of_a_secret_is_shown() {
    let key = key(Algorithm::Hs256);
    let verifier = Verifier::builder().issuer(issuer(&key)).build().unwrap();
    let layer = JwtLayer::builder(verifier).build().unwrap();
    let keys = tower_keep_auth::Keys::new(key.verifying_key().clone());
    for shown in [format!("{layer:?}"), format!("{keys:?}"), format!("{key:?}")] {
        assert!(shown.contains("HS256") && !shown.contains("identity"), "{shown}");
    }
}

#[tokio::test]
async fn refusals_have_a_body_if_wanted_and_never_to_head() {
    let layer = builder().problem_details().build().unwrap();
    let answer = ask_by(&layer, &expired()).await;
    assert_eq!(answer.field("content-type"), "application/problem+json");
    let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["status"], 401);
    assert_eq!(problem["detail"], "the token has expired");
    let mut head = request("/x", &[]);
    *head.method_mut() = Method::HEAD;
    assert_eq!(ask(&layer, head).await.body, "");

    let layer = builder().render(|denial, mut response| {
        *response.body_mut() = Bytes::from(denial.as_str());
        response.headers_mut().insert(CACHE_CONTROL, "private".parse().unwrap());
        response
    });
    let answer = ask_by(&layer.build().unwrap(), &expired()).await;
    assert_eq!((&*answer.body, answer.field(CACHE_CONTROL)), ("expired", "private"));
    assert!(answer.field(WWW_AUTHENTICATE).starts_with("Bearer"));
}

#[test]
fn settings_that_can_not_work_say_what_to_change() {
    let says = |result: Result<_, BuildError>, text: &str| {
        let error: BuildError = result.map(|_: JwtLayer<Account>| ()).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    };
    says(builder().ignore_invalid().build(), "add `optional`");
    says(builder().optional().require(Require::token()).build(), "leave out one");
    says(builder().require(Require::scope("a b")).build(), "give each one by itself");
    says(builder().require(Require::any_role(<[&str; 0]>::default())).build(), "empty list");
    says(builder().realm("a\nb").build(), "realm");
    says(builder().cookie("a;b").build(), "cookie");
    says(builder().query("").build(), "not empty");
    says(builder().resource_metadata("/x").build(), "whole URL");
    let layer = || RequireLayer::new(Require::token()).unwrap();
    assert!(layer().method("Place", Require::token()).is_err());
    assert!(RequireLayer::new(Require::role("")).is_err());
}
