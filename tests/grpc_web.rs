//! Tokens of gRPC-Web: a real client over HTTP/1.1, and the bytes that a browser gets, with the layer on
//! either side of what translates.

#![allow(clippy::unwrap_used, reason = "clippy lets only the functions marked #[test] unwrap")]

use std::net::SocketAddr;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_web::{GrpcWebClientLayer, GrpcWebLayer};
use tower::{Layer, service_fn};
use tower_keep::auth::{
    Algorithm, AuthRequest, Grant, JwtLayer, JwtManager, Require, RequireLayer, SigningKey,
};
use tower_keep_testing::grpc::{Codec, Echo};

const PATH: &str = "/test.Echo/Say";

#[derive(Clone, Copy, Debug)]
enum Order {
    AuthOutside,
    AuthInside,
}

fn manager() -> JwtManager {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    JwtManager::builder("https://id.example.com").key(key).audience("api").build().unwrap()
}

async fn serve(manager: &JwtManager, order: Order) -> SocketAddr {
    let auth = JwtLayer::builder(manager.verifier().clone()).build().unwrap();
    let require = RequireLayer::new(Require::scope("say")).unwrap();
    let say = async |request: Request<String>| {
        let who = request.identity().unwrap().subject().unwrap().to_owned();
        Ok::<_, Status>(Response::new(format!("{who}: {}", request.into_inner())))
    };
    let echo = Echo(move |mut grpc: tonic::server::Grpc<Codec>, request| async move {
        grpc.unary(service_fn(say), request).await
    });
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (incoming, web) = (TcpListenerStream::new(listener), GrpcWebLayer::new());
    let server = Server::builder().accept_http1(true);
    match order {
        Order::AuthOutside => {
            let server = server.layer(auth).layer(require).layer(web).add_service(echo);
            tokio::spawn(server.serve_with_incoming(incoming));
        }
        Order::AuthInside => {
            let server = server.layer(web).layer(auth).layer(require).add_service(echo);
            tokio::spawn(server.serve_with_incoming(incoming));
        }
    }
    address
}

async fn call(address: SocketAddr, token: Option<&str>) -> Result<String, Status> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let client = GrpcWebClientLayer::new().layer(client);
    let origin = format!("http://{address}").parse().unwrap();
    let mut client = tonic::client::Grpc::with_origin(client, origin);
    client.ready().await.unwrap();
    let mut request = Request::new("hello".to_owned());
    if let Some(token) = token {
        let field = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
        request.metadata_mut().insert("authorization", field);
    }
    let path = PathAndQuery::from_static(PATH);
    client.unary(request, path, Codec::default()).await.map(Response::into_inner)
}

#[tokio::test]
async fn a_client_gets_its_answer_or_the_status_in_either_order() {
    let manager = manager();
    let token = |scope| manager.issue(Grant::new("user:1").scope(scope)).unwrap().token;
    for order in [Order::AuthOutside, Order::AuthInside] {
        let address = serve(&manager, order).await;
        let good = call(address, Some(&token("say"))).await;
        assert_eq!(good.unwrap(), "user:1: hello", "{order:?}");
        for (token, code, message) in [
            (None, Code::Unauthenticated, "a token is needed"),
            (Some("a.b.c"), Code::Unauthenticated, "the token is invalid"),
            (Some(&*token("hear")), Code::PermissionDenied, "the token doesn't permit this"),
        ] {
            let status = call(address, token).await.unwrap_err();
            assert_eq!((status.code(), status.message()), (code, message), "{order:?}");
        }
    }
}

/// A status without a body has its place in the head in gRPC-Web as well, and in its text form.
#[tokio::test]
async fn a_browser_gets_the_status_in_the_head_and_in_the_media_type_that_it_sent() {
    let manager = manager();
    for order in [Order::AuthOutside, Order::AuthInside] {
        let address = serve(&manager, order).await;
        for media_type in ["application/grpc-web+proto", "application/grpc-web-text"] {
            let stream = TcpStream::connect(address).await.unwrap();
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let request = http::Request::post(PATH)
                .header("host", "api.example.com")
                .header("origin", "https://shop.example.com")
                .header("content-type", media_type)
                .header("accept", media_type)
                .header("x-grpc-web", "1")
                .body(Full::new(Bytes::from_static(&[0, 0, 0, 0, 0])))
                .unwrap();
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            let field = |name: &str| head.headers.get(name).map(|it| it.to_str().unwrap());
            assert_eq!(head.status, 200);
            assert_eq!(field("grpc-status"), Some("16"), "{order:?}");
            assert_eq!(field("grpc-message"), Some("a token is needed"));
            assert!(field("content-type").unwrap().starts_with("application/grpc-web"));
            assert_eq!(field("cache-control"), Some("no-store"));
            // Where the answer is translated, the end of the body may say it once more.
            let body = body.collect().await.unwrap().to_bytes();
            assert!(body.is_empty() || matches!(order, Order::AuthInside), "{body:?}");
        }
    }
}
