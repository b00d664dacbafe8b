//! A server with a proxy in it, and what the tests ask for most.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{Service, service_fn};
use tower_keep_balance::proxy::interim::{InterimIo, Interims};
use tower_keep_balance::proxy::{Proxy, Upstream};
use tower_keep_balance::{Backend, Peer, Pool, Strategy};

pub(crate) use tower_keep_testing::http::{Client, Origin, field, get};

/// A proxy before one server of HTTP/1.1, with the default settings.
pub(crate) fn proxy(origin: SocketAddr) -> Proxy {
    Proxy::new(pool(&[origin]))
}

pub(crate) fn pool(origins: &[SocketAddr]) -> Pool<Upstream> {
    let upstreams = origins.iter().map(|it| Upstream::new(&format!("http://{it}")).unwrap());
    pool_of(upstreams)
}

pub(crate) fn pool_of(upstreams: impl IntoIterator<Item = Upstream>) -> Pool<Upstream> {
    let backends = upstreams.into_iter().enumerate();
    let backends = backends.map(|(at, upstream)| Backend::new(at.to_string(), upstream));
    Pool::builder().strategy(Strategy::RoundRobin).backends(backends).build().unwrap()
}

/// A server of HTTP/1.1 and HTTP/2 that answers with `proxy`.
pub(crate) async fn serve<S, B>(proxy: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, client) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let interims = Interims::default();
            let io = TokioIo::new(InterimIo::new(stream, interims.clone()));
            let proxy = proxy.clone();
            let service = service_fn(move |mut request: Request<Incoming>| {
                let turn = interims.turn(request.version());
                request.extensions_mut().insert(Peer::new(client));
                if let Some(turn) = &turn {
                    request.extensions_mut().insert(turn.sink());
                }
                let mut proxy = proxy.clone();
                async move {
                    std::future::poll_fn(|cx| proxy.poll_ready(cx)).await?;
                    let response = proxy.call(request).await;
                    drop(turn);
                    response
                }
            });
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http2().enable_connect_protocol();
            let service = TowerToHyperService::new(service);
            tokio::spawn(async move {
                drop(server.serve_connection_with_upgrades(io, service).await);
            });
        }
    });
    address
}

/// A real server.
pub(crate) async fn serve_axum(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// Waits until it is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    for _ in 0..2000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is not so: {what}");
}
