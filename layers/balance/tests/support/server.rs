//! A server that can be killed, with all its connections, and started again at the same address.
#![allow(dead_code, reason = "each test uses a part")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tower::Service;

pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// At `at`, or anywhere.
    pub(crate) async fn start<S, B>(at: Option<SocketAddr>, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let at = at.unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
        let listener = TcpListener::bind(at).await.unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let (mut connections, graceful) = (JoinSet::new(), GracefulShutdown::new());
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = &mut stopped => break,
                };
                let Ok((stream, _)) = accepted else { continue };
                let service = TowerToHyperService::new(service.clone());
                let builder = Builder::new(TokioExecutor::new());
                let connection = builder.serve_connection(TokioIo::new(stream), service);
                let connection = graceful.watch(connection.into_owned());
                connections.spawn(async move {
                    let _ = connection.await;
                });
            }
            drop(listener);
            graceful.shutdown().await;
        });
        Self { at, stop: Some(stop), task }
    }

    /// Cuts all connections, as when a process is killed.
    pub(crate) async fn kill(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.at
    }

    /// Takes no more connections, and finishes what it has.
    pub(crate) async fn drain(mut self) -> SocketAddr {
        drop(self.stop.take());
        tokio::time::timeout(Duration::from_secs(20), &mut self.task).await.unwrap().unwrap();
        self.at
    }
}
