//! Tokens at real servers: axum over HTTP/1.1, tonic over HTTP/2.

#![allow(clippy::unwrap_used, reason = "clippy lets only the functions marked #[test] unwrap")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{OriginalUri, Request};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataValue;
use tonic::server::NamedService;
use tonic::transport::{Channel, Server};
use tonic::{Code, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};
use tower_keep::auth::{
    Algorithm, AuthRequest, Grant, Identity, JwtManager, RequireLayer, SigningKey, Verified,
};
use tower_keep::prelude::*;

#[derive(Debug, Serialize, Deserialize)]
struct Account {
    tenant: u64,
}

fn manager() -> JwtManager<Account> {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap().with_kid("a");
    let builder = JwtManager::builder("https://id.example.com").key(key).audience("api");
    builder.typed::<Account>().build().unwrap()
}

fn token(manager: &JwtManager<Account>, scope: &str) -> String {
    let grant = Grant::new("user:1").scope(scope).claims(&Account { tenant: 7 });
    manager.issue(grant).unwrap().token
}

async fn mine(account: Verified<Account>) -> Json<(String, u64)> {
    Json((account.subject().unwrap().to_owned(), account.extra().tenant))
}

async fn maybe(account: Option<Verified<Account>>) -> &'static str {
    if account.is_some() { "somebody" } else { "nobody" }
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Status, challenge and content of the response.
async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
) -> (u16, String, String) {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path).header("host", "h");
    if let Some(token) = token {
        request = request.header("authorization", format!("bearer {token}"));
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let challenge = head.headers.get("www-authenticate").map(|it| it.to_str().unwrap().to_owned());
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    (head.status.as_u16(), challenge.unwrap_or_default(), body)
}

#[tokio::test]
async fn handlers_of_axum_get_the_claims_of_who_may_call_them() {
    let manager = manager();
    let auth = JwtLayer::builder(manager.verifier().clone()).query("token").optional();
    let auth = auth.build().unwrap();
    let nested = Router::new().route("/uri", get(async |OriginalUri(sent)| format!("{sent}")));
    let write = RequireLayer::new(Require::scope("orders:write")).unwrap();
    let app = Router::new()
        .route("/orders", post(async |identity: Identity| identity.subject().unwrap().to_owned()))
        .route_layer(write)
        .route("/mine", get(mine))
        .route("/maybe", get(maybe))
        .nest("/nested", nested)
        .layer(auth.clone())
        .route("/unguarded", get(mine));
    let address = serve(app).await;
    let (reads, writes) = (token(&manager, "orders:read"), token(&manager, "orders:write"));

    assert_eq!(send(address, "GET", "/mine", Some(&reads)).await.2, r#"["user:1",7]"#);
    assert_eq!(send(address, "GET", "/maybe", Some(&reads)).await.2, "somebody");
    assert_eq!(send(address, "GET", "/maybe", None).await.2, "nobody");
    assert_eq!(send(address, "POST", "/orders", Some(&writes)).await.2, "user:1");
    let uri = format!("/nested/uri?a=b&token={reads}");
    assert_eq!(send(address, "GET", &uri, None).await.2, "/nested/uri?a=b");

    let realm = "Bearer realm=\"api\"";
    let (status, challenge, _) = send(address, "GET", "/mine", None).await;
    assert_eq!((status, &*challenge), (401, realm));
    let (status, challenge, _) = send(address, "POST", "/orders", Some(&reads)).await;
    assert_eq!(status, 403);
    assert!(challenge.ends_with("scope=\"orders:write\""), "{challenge}");
    let (status, challenge, body) = send(address, "GET", "/maybe", Some("a.b.c")).await;
    assert_eq!((status, &*body), (401, ""));
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    assert_eq!(send(address, "GET", "/unguarded", Some(&reads)).await.0, 500);
    assert_eq!(auth.stats().denied["insufficient"], 1);
}

#[tokio::test]
async fn a_verifier_of_another_type_than_the_handler_s_lets_nobody_in() {
    let manager = manager();
    let app = Router::new().route("/mine", get(async |_: Verified<u64>| "never"));
    let auth = JwtLayer::builder(manager.verifier().clone()).build().unwrap();
    let address = serve(app.layer(auth)).await;
    assert_eq!(send(address, "GET", "/mine", Some(&token(&manager, "a"))).await.0, 500);
}

type Codec = ProstCodec<String, String>;
type Replies = BoxStream<'static, Result<String, Status>>;

#[derive(Clone)]
struct Orders;

impl NamedService for Orders {
    const NAME: &'static str = "shop.Orders";
}

impl Service<http::Request<tonic::body::Body>> for Orders {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Codec::default());
            Ok(match request.uri().path() {
                "/shop.Orders/Talk" => grpc.streaming(service_fn(talk), request).await,
                _ => grpc.unary(service_fn(place), request).await,
            })
        })
    }
}

async fn place(request: tonic::Request<String>) -> Result<Response<String>, Status> {
    let identity = request.require(&Require::claim("tenant", 7))?;
    let tenant = request.verified::<Account>().unwrap().extra().tenant;
    Ok(Response::new(format!("{} of {tenant}", identity.subject().unwrap())))
}

async fn talk(request: tonic::Request<Streaming<String>>) -> Result<Response<Replies>, Status> {
    let who = request.identity().unwrap().subject().unwrap().to_owned();
    let replies = request.into_inner().map(move |text| text.map(|text| format!("{who}: {text}")));
    Ok(Response::new(replies.boxed()))
}

async fn client(manager: &JwtManager<Account>) -> tonic::client::Grpc<Channel> {
    let auth = JwtLayer::builder(manager.verifier().clone()).build().unwrap();
    let write = RequireLayer::new(Require::token()).unwrap();
    let write = write.method("/shop.Orders/Place", Require::scope("orders:write")).unwrap();
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().layer(auth).layer(write).add_service(Orders);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    client.ready().await.unwrap();
    client
}

fn with<T>(message: T, token: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let field = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", field);
    request
}

#[tokio::test]
async fn calls_of_tonic_get_the_claims_or_the_status_that_clients_understand() {
    let manager = manager();
    let mut client = client(&manager).await;
    let mut place = async |request: tonic::Request<String>| {
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/shop.Orders/Place");
        let response = client.unary(request, path, Codec::default()).await;
        response.map(Response::into_inner)
    };
    let (reads, writes) = (token(&manager, "orders:read"), token(&manager, "orders:write"));
    let text = || "an order".to_owned();
    assert_eq!(place(with(text(), &writes)).await.unwrap(), "user:1 of 7");
    let status = place(tonic::Request::new(text())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "a token is needed"));
    let status = place(with(text(), &reads)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(status.message(), "the token doesn't permit this");
    assert_eq!(place(with(text(), "a.b.c")).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn streams_of_tonic_pass_as_they_come() {
    let manager = manager();
    let mut client = client(&manager).await;
    let path = || http::uri::PathAndQuery::from_static("/shop.Orders/Talk");
    let words = || stream::iter(["a".to_owned(), "b".to_owned()]);
    let request = with(words(), &token(&manager, "orders:read"));
    let replies = client.streaming(request, path(), Codec::default()).await.unwrap();
    let replies: Vec<_> = replies.into_inner().map(Result::unwrap).collect().await;
    assert_eq!(replies, ["user:1: a", "user:1: b"]);
    client.ready().await.unwrap();
    let refused = client.streaming(tonic::Request::new(words()), path(), Codec::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn plain_requests_have_the_claims_in_their_extensions() {
    let manager = manager();
    let auth = JwtLayer::builder(manager.verifier().clone()).build().unwrap();
    let plain = service_fn(async |request: Request<Body>| {
        let verified = Verified::<Account>::of(request.extensions()).unwrap();
        let text = verified.subject().unwrap().to_owned();
        Ok::<_, Infallible>(http::Response::new(Body::from(text)))
    });
    let service = tower::ServiceBuilder::new().layer(auth).service(plain);
    let address = serve(Router::new().fallback_service(service)).await;
    assert_eq!(send(address, "GET", "/", Some(&token(&manager, "a"))).await.2, "user:1");
}

/// Browsers can't give a WebSocket fields, so its token is in the target or in a cookie.
#[tokio::test]
async fn a_connection_is_upgraded_for_who_has_a_token() {
    let manager = manager();
    let auth = JwtLayer::builder(manager.verifier().clone()).query("token").cookie("session");
    let echo = service_fn(async |mut request: Request<Body>| {
        assert_eq!(request.uri(), "/echo?a=b");
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
            tokio::io::copy(&mut read, &mut write).await
        });
        let response = http::Response::builder().status(101);
        let response = response.header("connection", "upgrade").header("upgrade", "echo");
        Ok::<_, Infallible>(response.body(Body::empty()).unwrap())
    });
    let service = tower::ServiceBuilder::new().layer(auth.build().unwrap()).service(echo);
    let address = serve(Router::new().fallback_service(service)).await;
    let token = token(&manager, "a");
    for (target, cookie, status) in [
        ("/echo?a=b".to_owned(), String::new(), "401"),
        (format!("/echo?a=b&token={token}"), String::new(), "101"),
        ("/echo?a=b".to_owned(), format!("cookie: session={token}\r\n"), "101"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: echo\r\n{cookie}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap().into());
        }
        assert_eq!(head.split(' ').nth(1), Some(status), "{head}");
        if status == "101" {
            stream.write_all(b"hello").await.unwrap();
            let mut back = [0; 5];
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(&back, b"hello");
        }
    }
}
