//! A tonic server behind the cache layer, over TCP and HTTP/2: calls of every kind, their trailers
//! and their errors arrive as if the layer were not there.

#![allow(clippy::unwrap_used, reason = "clippy lets only the functions marked #[test] unwrap")]

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::server::Grpc;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::service_fn;
use tower_keep::prelude::*;
use tower_keep_testing::grpc::{Codec, Echo, Replies};

type Answer = http::Response<Body>;

/// Counts its calls, so that a test sees whether one was answered by somebody else.
#[derive(Clone, Default)]
struct Scene {
    calls: Arc<AtomicUsize>,
    /// What `Download` waits for before its second message.
    go_on: Arc<Notify>,
}

impl Scene {
    fn service(
        self,
    ) -> Echo<impl Fn(Grpc<Codec>, http::Request<Body>) -> BoxFuture<'static, Answer> + Clone> {
        Echo(move |mut grpc: Grpc<Codec>, request: http::Request<Body>| {
            assert_eq!(request.version(), http::Version::HTTP_2);
            self.calls.fetch_add(1, Ordering::Relaxed);
            let go_on = Arc::clone(&self.go_on);
            let answer: BoxFuture<'static, Answer> = Box::pin(async move {
                match request.uri().path() {
                    "/test.Echo/Say" => grpc.unary(service_fn(say), request).await,
                    "/test.Echo/Download" => {
                        let download = service_fn(move |request| {
                            ready(Ok(download(request, Arc::clone(&go_on))))
                        });
                        grpc.server_streaming(download, request).await
                    }
                    "/test.Echo/Talk" => grpc.streaming(service_fn(talk), request).await,
                    path => Status::unimplemented(path).into_http(),
                }
            });
            answer
        })
    }
}

/// Unary: the message itself, or the error that it asks for.
async fn say(request: Request<String>) -> Result<Response<String>, Status> {
    let message = request.into_inner();
    if message == "nobody" {
        Err(with_everything(Code::NotFound))
    } else {
        Ok(Response::new(message))
    }
}

/// Server streaming: two messages, the second when it is told to, and how the first asks it to end.
fn download(request: Request<String>, go_on: Arc<Notify>) -> Response<Replies> {
    let end = if request.into_inner() == "break" { Code::DataLoss } else { Code::Ok };
    let second = stream::once(async move {
        go_on.notified().await;
        Ok("second".to_owned())
    });
    let replies = stream::iter([Ok("first".to_owned())])
        .chain(second)
        // tonic writes this status, its details and metadata as the trailers.
        .chain(stream::iter([Err(with_everything(end))]));
    Response::new(replies.boxed())
}

/// Bidirectional: an answer to each message as it comes.
async fn talk(request: Request<Streaming<String>>) -> Result<Response<Replies>, Status> {
    let replies = request.into_inner().map(|message| message.map(|text| format!("{text}?")));
    Ok(Response::new(replies.boxed()))
}

fn with_everything(code: Code) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("x-why", MetadataValue::from_static("because"));
    metadata.insert_bin("x-proof-bin", MetadataValue::from_bytes(&[0, 159, 255]));
    Status::with_details_and_metadata(code, "a text", Bytes::from_static(b"\0details"), metadata)
}

fn assert_everything(metadata: &MetadataMap) {
    assert_eq!(metadata.get("x-why").unwrap(), "because");
    assert_eq!(&*metadata.get_bin("x-proof-bin").unwrap().to_bytes().unwrap(), [0, 159, 255]);
}

fn assert_passed(metadata: &MetadataMap) {
    assert_eq!(metadata.get("cache-status").unwrap(), "tower-keep; fwd=method");
}

/// A server with the layer around all of its services, and a client of it.
async fn start(echo: Scene) -> tonic::client::Grpc<Channel> {
    let keep = Store::builder().l1(L1::bytes(1 << 20)).build().unwrap();
    let cache = CacheLayer::builder(keep)
        // Whatever could be stored by mistake, would be.
        .default_ttl(Duration::from_secs(60))
        .build()
        .unwrap();
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().layer(cache).add_service(echo.service());
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    client.ready().await.unwrap();
    client
}

fn path(method: &'static str) -> http::uri::PathAndQuery {
    http::uri::PathAndQuery::from_static(method)
}

/// The next message, which must not have to wait for those after it.
async fn next(replies: &mut Streaming<String>) -> Result<Option<String>, Status> {
    timeout(Duration::from_secs(10), replies.message()).await.unwrap()
}

#[tokio::test]
async fn unary_calls_all_reach_the_service() {
    let echo = Scene::default();
    let mut client = start(echo.clone()).await;
    // Larger than the windows of HTTP/2, both ways.
    for message in ["same".to_owned(), "same".to_owned(), "x".repeat(1 << 20)] {
        let request = Request::new(message.clone());
        let reply = client.unary(request, path("/test.Echo/Say"), Codec::default()).await.unwrap();
        assert_passed(reply.metadata());
        assert_eq!(reply.metadata().get("grpc-status").unwrap(), "0");
        assert_eq!(reply.into_inner(), message);
        client.ready().await.unwrap();
    }
    assert_eq!(echo.calls.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn an_error_keeps_its_code_text_details_and_metadata() {
    let mut client = start(Scene::default()).await;
    let request = Request::new("nobody".to_owned());
    let status = client.unary(request, path("/test.Echo/Say"), Codec::default()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "a text"));
    assert_eq!(status.details(), b"\0details");
    assert_everything(status.metadata());
    assert_passed(status.metadata());

    client.ready().await.unwrap();
    let request = Request::new(String::new());
    let status = client.unary(request, path("/test.Echo/None"), Codec::default()).await;
    assert_eq!(status.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_server_stream_arrives_as_it_is_sent_with_its_trailers() {
    let echo = Scene::default();
    let mut client = start(echo.clone()).await;
    let request = Request::new("end".to_owned());
    let reply = client.server_streaming(request, path("/test.Echo/Download"), Codec::default());
    let reply = reply.await.unwrap();
    assert_passed(reply.metadata());
    let mut replies = reply.into_inner();
    assert_eq!(next(&mut replies).await.unwrap().unwrap(), "first");
    echo.go_on.notify_one();
    assert_eq!(next(&mut replies).await.unwrap().unwrap(), "second");
    assert_eq!(next(&mut replies).await.unwrap(), None);
    let trailers = replies.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    assert_everything(&trailers);
}

#[tokio::test]
async fn a_server_stream_that_breaks_says_why() {
    let echo = Scene::default();
    let mut client = start(echo.clone()).await;
    let request = Request::new("break".to_owned());
    let reply = client.server_streaming(request, path("/test.Echo/Download"), Codec::default());
    let mut replies = reply.await.unwrap().into_inner();
    assert_eq!(next(&mut replies).await.unwrap().unwrap(), "first");
    echo.go_on.notify_one();
    assert_eq!(next(&mut replies).await.unwrap().unwrap(), "second");
    let status = next(&mut replies).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DataLoss, "a text"));
    assert_eq!(status.details(), b"\0details");
    assert_everything(status.metadata());
}

#[tokio::test]
async fn a_conversation_goes_to_and_fro() {
    let mut client = start(Scene::default()).await;
    let (ask, questions) = mpsc::channel(1);
    let request = Request::new(ReceiverStream::new(questions));
    let reply = client.streaming(request, path("/test.Echo/Talk"), Codec::default());
    let reply = reply.await.unwrap();
    assert_passed(reply.metadata());
    let mut replies = reply.into_inner();
    for word in ["who", "what", "why"] {
        // Each is sent only once the one before it has been answered.
        ask.send(word.to_owned()).await.unwrap();
        assert_eq!(next(&mut replies).await.unwrap().unwrap(), format!("{word}?"));
    }
    drop(ask);
    assert_eq!(next(&mut replies).await.unwrap(), None);
    let trailers = replies.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
}
