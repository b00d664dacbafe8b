//! Accepts connections until it is told to stop, and then sees them through.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tower::Service;
use tower_keep_balance::proxy::Pseudonym;
use tower_keep_balance::proxy::interim::{InterimIo, Interims};

use crate::front::front;

/// How long a shutdown waits for the responses that are under way.
const GRACE: Duration = Duration::from_secs(30);

/// Serves until `stop` is done, and all connections are.
pub(crate) async fn serve<S, B, P, D>(
    listener: TcpListener,
    service: S,
    direct: P,
    pseudonym: Pseudonym,
    stop: impl Future<Output = ()>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    P: Service<Request<Incoming>, Response = Response<D>, Error = Infallible>,
    P: Clone + Send + 'static,
    P::Future: Send,
    D: Body<Data = Bytes> + Send + 'static,
    D::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http2().enable_connect_protocol();
    let connections = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, client) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // Such as too many open files: others may close theirs, which takes a moment.
                Err(error) => {
                    eprintln!("edge: accept: {error}");
                    sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
            () = stop.as_mut() => break,
        };
        // An interim response and the final one are two small writes: neither is to wait for the
        // acknowledgement of the other. If this can't be set, they do.
        let _ = stream.set_nodelay(true);
        let interims = Interims::default();
        let io = TokioIo::new(InterimIo::new(stream, interims.clone()));
        let (service, direct) = (service.clone(), direct.clone());
        let service = front(service, direct, pseudonym.clone(), client, interims);
        let service = TowerToHyperService::new(service);
        let connection = server.serve_connection_with_upgrades(io, service);
        let connection = connections.watch(connection.into_owned());
        // What a client does to its connection is no news.
        tokio::spawn(async move { drop(connection.await) });
    }
    drop(listener);
    if timeout(GRACE, connections.shutdown()).await.is_err() {
        eprintln!("edge: some clients have not taken their responses, and are left");
    }
}
