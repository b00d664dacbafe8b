//! One request and its answer over a connection of its own.
//!
//! A fresh connection each time: an old one would say nothing about whether new ones are accepted,
//! and what a probe leaves behind is gone with it.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::connect::Connection;
use super::probe::ProbeError;

/// What came: the head, the beginning of the body, and its trailers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Parts,
    pub(super) body: Bytes,
    #[cfg_attr(not(feature = "probe-grpc"), expect(dead_code, reason = "only gRPC needs them"))]
    pub(super) trailers: Option<HeaderMap>,
}

/// What is answered to `request`, of whose body not more than `limit` bytes are read.
pub(super) async fn ask<B>(
    connection: Connection,
    request: Request<B>,
    limit: usize,
) -> Result<Answer, ProbeError>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let io = TokioIo::new(connection.io);
    if connection.is_http2 {
        let hands = http2::handshake(TokioExecutor::new(), io);
        let (mut sender, connection) = hands.await.map_err(broken)?;
        let answered = async { sender.send_request(request).await };
        drive(connection, read(answered, limit)).await
    } else {
        let (mut sender, connection) = http1::handshake(io).await.map_err(broken)?;
        let answered = async { sender.send_request(request).await };
        drive(connection, read(answered, limit)).await
    }
}

/// Awaits `answer` while `connection` does its work.
async fn drive<T>(
    connection: impl Future,
    answer: impl Future<Output = Result<T, ProbeError>>,
) -> Result<T, ProbeError> {
    let connection = async {
        connection.await;
        // What has arrived by then can still be read; what hasn't is an error there.
        pending::<Infallible>().await
    };
    let (answer, connection) = (pin!(answer), pin!(connection));
    tokio::select! {
        answer = answer => answer,
        never = connection => match never {},
    }
}

/// Reads an answer, and not more of its body than `limit` bytes.
async fn read(
    answered: impl Future<Output = hyper::Result<http::Response<Incoming>>>,
    limit: usize,
) -> Result<Answer, ProbeError> {
    let (head, mut incoming) = answered.await.map_err(broken)?.into_parts();
    let (mut body, mut trailers) = (BytesMut::new(), None);
    while body.len() < limit {
        let Some(frame) = incoming.frame().await else { break };
        match frame.map_err(broken)?.into_data() {
            Ok(data) => body.extend_from_slice(&data.chunk()[..data.len().min(limit - body.len())]),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Answer { head, body: body.freeze(), trailers })
}

fn broken(error: hyper::Error) -> ProbeError {
    ProbeError::Exchange(Arc::new(error))
}
