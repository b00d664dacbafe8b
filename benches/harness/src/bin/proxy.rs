//! Reverse proxies on hyper's server, one thread each: `proxy KIND ADDRESS UPSTREAM...`.
//!
//! | kind | what it is |
//! | --- | --- |
//! | `keep` | tower-keep's `Proxy`, with the default settings |
//! | `keep-mt` | the same, on tokio's runtime of many threads with one worker |
//! | `client` | hyper-util's pooled client, as in the examples of axum and hyper |
//! | `floor` | hyper's server and client connections and a stack of idle ones: what the libraries cost |
//!
//! The last two change nothing of a message but what they must.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use harness::BoxError;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tower::Service;
use tower_keep_balance::proxy::Proxy;
use tower_keep_balance::{Backend, Peer, Pool};

/// nginx and HAProxy bring allocators of their own, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, address, upstreams @ ..] = &arguments[..] else {
        return Err("proxy KIND ADDRESS UPSTREAM...".into());
    };
    let mut runtime = match kind.as_str() {
        "keep-mt" => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        match kind.as_str() {
            // The accepting task is to be a worker's, too.
            "keep-mt" => tokio::spawn(keep(listener, upstreams.to_vec())).await?,
            "keep" => keep(listener, upstreams.to_vec()).await,
            "client" => client(listener, upstreams.to_vec()).await,
            "floor" => LocalSet::new().run_until(floor(listener, upstreams.to_vec())).await,
            _ => Err("there is no such kind of proxy".into()),
        }
    })
}

async fn accept(listener: &TcpListener) -> Result<(TokioIo<TcpStream>, SocketAddr), BoxError> {
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((TokioIo::new(stream), peer))
}

async fn keep(listener: TcpListener, upstreams: Vec<String>) -> Result<(), BoxError> {
    let backends: Result<Vec<_>, _> =
        upstreams.iter().map(|upstream| Backend::http(&format!("http://{upstream}"))).collect();
    let proxy = Proxy::new(Pool::builder().backends(backends?).build()?);
    loop {
        let (io, peer) = accept(&listener).await?;
        let proxy = proxy.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer::new(peer));
            // `Proxy` is always ready.
            proxy.clone().call(request)
        });
        let connection = http1::Builder::new().serve_connection(io, service).with_upgrades();
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn client(listener: TcpListener, upstreams: Vec<String>) -> Result<(), BoxError> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    let upstreams: Vec<Authority> =
        upstreams.iter().map(|upstream| upstream.parse()).collect::<Result<_, _>>()?;
    let turn = Arc::new(AtomicUsize::new(0));
    loop {
        let (io, _) = accept(&listener).await?;
        let (client, upstreams, turn) = (client.clone(), upstreams.clone(), Arc::clone(&turn));
        let service = service_fn(move |mut request: Request<Incoming>| {
            let at = turn.fetch_add(1, Relaxed) % upstreams.len();
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.scheme = Some(Scheme::HTTP);
            parts.authority = upstreams.get(at).cloned();
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
            client.request(request)
        });
        let connection = http1::Builder::new().serve_connection(io, service);
        tokio::spawn(async move { drop(connection.await) });
    }
}

type Idle = RefCell<Vec<SendRequest<Incoming>>>;

async fn floor(listener: TcpListener, upstreams: Vec<String>) -> Result<(), BoxError> {
    let upstreams: Rc<[(String, Idle)]> =
        upstreams.into_iter().map(|upstream| (upstream, Idle::default())).collect();
    let turn = Rc::new(Cell::new(0));
    loop {
        let (io, _) = accept(&listener).await?;
        let (upstreams, turn) = (Rc::clone(&upstreams), Rc::clone(&turn));
        let service = service_fn(move |request| {
            let (upstreams, turn) = (Rc::clone(&upstreams), Rc::clone(&turn));
            async move {
                turn.set(turn.get() + 1);
                let (address, idle) = &upstreams[turn.get() % upstreams.len()];
                Ok::<_, Infallible>(if let Ok(response) = forward(request, address, idle).await {
                    response.map(Either::Left)
                } else {
                    let mut response = Response::new(Either::Right(Empty::<Bytes>::new()));
                    *response.status_mut() = http::StatusCode::BAD_GATEWAY;
                    response
                })
            }
        });
        let connection = http1::Builder::new().serve_connection(io, service);
        tokio::task::spawn_local(async move { drop(connection.await) });
    }
}

/// Gives the connection back as soon as there is a head: the origin's answers come as a whole.
async fn forward(
    request: Request<Incoming>,
    address: &str,
    idle: &Idle,
) -> Result<Response<Incoming>, BoxError> {
    let kept = idle.borrow_mut().pop();
    let mut sender = match kept {
        Some(sender) => sender,
        None => connect(address).await?,
    };
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    idle.borrow_mut().push(sender);
    Ok(response)
}

async fn connect(address: &str) -> Result<SendRequest<Incoming>, BoxError> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}
