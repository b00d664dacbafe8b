//! gRPC passes as if the layer were not there, with its trailers, its errors and its streams.
#![cfg(all(feature = "br", feature = "deflate", feature = "gzip", feature = "zstd"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::uri::PathAndQuery;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};
use tower_keep_compress::CompressLayer;

type Codec = ProstCodec<String, String>;
type Replies = BoxStream<'static, Result<String, Status>>;

/// Written by hand, so that no build needs `protoc`; prost takes `google.protobuf.StringValue` for a
/// `String`.
#[derive(Clone, Default)]
struct Echo {
    /// What `Download` waits for before its second message.
    go_on: Arc<Notify>,
}

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let go_on = Arc::clone(&self.go_on);
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Codec::default());
            let download = service_fn(move |_: Request<String>| {
                let go_on = Arc::clone(&go_on);
                let second = stream::once(async move {
                    go_on.notified().await;
                    Ok("second".to_owned())
                });
                let first = stream::iter([Ok("first".to_owned())]);
                let last = stream::iter([Err(Status::data_loss("gone"))]);
                let replies: Replies = first.chain(second).chain(last).boxed();
                async { Ok(Response::new(replies)) }
            });
            Ok(match request.uri().path() {
                "/test.Echo/Say" => grpc.unary(service_fn(say), request).await,
                _ => grpc.server_streaming(download, request).await,
            })
        })
    }
}

async fn say(request: Request<String>) -> Result<Response<String>, Status> {
    let message = request.into_inner();
    if message.is_empty() { Err(Status::not_found("nobody")) } else { Ok(Response::new(message)) }
}

async fn start(echo: Echo) -> tonic::client::Grpc<Channel> {
    // A client of tonic's doesn't say what it accepts, so it is said for it.
    let accepting = tower::util::MapRequestLayer::new(|mut request: http::Request<Body>| {
        request.headers_mut().insert("accept-encoding", "gzip, br".parse().unwrap());
        request
    });
    let compress = CompressLayer::builder().min_size(0).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().layer(accepting).layer(compress).add_service(echo);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    client.ready().await.unwrap();
    client
}

#[tokio::test]
async fn calls_and_their_errors_pass() {
    let mut client = start(Echo::default()).await;
    let path = PathAndQuery::from_static("/test.Echo/Say");
    let message = "x".repeat(100_000);
    let reply = client.unary(Request::new(message.clone()), path.clone(), Codec::default());
    let reply = reply.await.unwrap();
    assert_eq!(reply.metadata().get("grpc-status").unwrap(), "0");
    assert!(reply.metadata().get("content-encoding").is_none());
    assert_eq!(reply.into_inner(), message);

    client.ready().await.unwrap();
    let status = client.unary(Request::new(String::new()), path, Codec::default()).await;
    let status = status.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "nobody"));
}

#[tokio::test]
async fn a_stream_arrives_as_it_is_sent_and_ends_with_its_status() {
    let echo = Echo::default();
    let mut client = start(echo.clone()).await;
    let path = PathAndQuery::from_static("/test.Echo/Download");
    let reply = client.server_streaming(Request::new(String::new()), path, Codec::default());
    let mut replies = reply.await.unwrap().into_inner();
    assert_eq!(replies.message().await.unwrap().unwrap(), "first");
    echo.go_on.notify_one();
    assert_eq!(replies.message().await.unwrap().unwrap(), "second");
    let status: Status = replies.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DataLoss, "gone"));
}
