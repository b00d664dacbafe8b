//! Services of gRPC whose messages are texts, written by hand, so that no build needs `protoc`: prost
//! takes `google.protobuf.StringValue` for a `String`.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::BoxStream;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// Of texts both ways.
pub type Codec = ProstCodec<String, String>;

/// A stream of texts.
pub type Replies = BoxStream<'static, Result<String, Status>>;

/// The service `test.Echo`, each call of which is answered by a function: it gets what speaks gRPC,
/// and the request, whose path names the method.
#[derive(Clone)]
pub struct Echo<F>(pub F);

impl<F> NamedService for Echo<F> {
    const NAME: &'static str = "test.Echo";
}

impl<F, Fut, B> Service<Request<B>> for Echo<F>
where
    F: Fn(Grpc<Codec>, Request<B>) -> Fut,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = (self.0)(Grpc::new(Codec::default()), request);
        Box::pin(async move { Ok(answer.await) })
    }
}

impl<F> fmt::Debug for Echo<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Echo")
    }
}
