//! gRPC of every kind between real clients and servers of tonic, over HTTP/2 without TLS.

use futures_util::StreamExt;
use http::uri::PathAndQuery;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::service_fn;
use tower_keep_balance::proxy::{Protocol, Proxy, Upstream};
use tower_keep_testing::grpc::{Codec, Echo, Replies};

use super::support::{pool_of, serve};

async fn answer(
    mut grpc: tonic::server::Grpc<Codec>,
    request: http::Request<Body>,
) -> http::Response<Body> {
    match request.uri().path() {
        "/test.Echo/Say" => grpc.unary(service_fn(say), request).await,
        "/test.Echo/Talk" => grpc.streaming(service_fn(talk), request).await,
        path => Status::unimplemented(path).into_http(),
    }
}

async fn say(request: Request<String>) -> Result<Response<String>, Status> {
    assert!(request.metadata().get("via").unwrap().to_str().unwrap().starts_with("2.0 "));
    let message = request.into_inner();
    if message == "nobody" {
        let mut status = Status::not_found("nobody is here");
        status.metadata_mut().insert("x-why", MetadataValue::from_static("because"));
        return Err(status);
    }
    Ok(Response::new(message))
}

async fn talk(request: Request<Streaming<String>>) -> Result<Response<Replies>, Status> {
    let replies = request.into_inner().map(|message| match message?.as_str() {
        "break" => Err(Status::data_loss("as you wish")),
        text => Ok(format!("{text}?")),
    });
    Ok(Response::new(replies.boxed()))
}

async fn client() -> Grpc<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder().add_service(Echo(answer));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let upstream = Upstream::builder(&url).protocol(Protocol::Http2).build().unwrap();
    let address = serve(Proxy::new(pool_of([upstream]))).await;
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = Grpc::new(channel.connect().await.unwrap());
    client.ready().await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unary_calls_and_their_errors_arrive() {
    let mut client = client().await;
    let path = PathAndQuery::from_static("/test.Echo/Say");
    let reply = client.unary(Request::new("hi".to_owned()), path.clone(), Codec::default()).await;
    assert_eq!(reply.unwrap().into_inner(), "hi");
    client.ready().await.unwrap();
    let status = client.unary(Request::new("nobody".to_owned()), path, Codec::default()).await;
    let status = status.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "nobody is here"));
    assert_eq!(status.metadata().get("x-why").unwrap(), "because");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_stream_at_the_same_time() {
    let mut client = client().await;
    let path = PathAndQuery::from_static("/test.Echo/Talk");
    let (say, said) = mpsc::channel(1);
    let request = Request::new(ReceiverStream::new(said));
    let mut replies = client.streaming(request, path, Codec::default()).await.unwrap().into_inner();
    for n in 0..100 {
        // Each is answered before the next is said.
        say.send(n.to_string()).await.unwrap();
        assert_eq!(replies.message().await.unwrap().unwrap(), format!("{n}?"));
    }
    say.send("break".to_owned()).await.unwrap();
    let status = replies.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DataLoss, "as you wish"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_is_down_is_unavailable() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let upstream = Upstream::builder(&format!("http://{nobody}")).protocol(Protocol::Http2);
    let address = serve(Proxy::new(pool_of([upstream.build().unwrap()]))).await;
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = Grpc::new(channel.connect().await.unwrap());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Echo/Say");
    let status = client.unary(Request::new("hi".to_owned()), path, Codec::default()).await;
    assert_eq!(status.unwrap_err().code(), Code::Unavailable);
}
