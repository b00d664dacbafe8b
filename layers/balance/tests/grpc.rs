//! tonic's channels as backends, whose servers are killed, restarted and drained under load. A
//! channel that is dead says that it is ready, and fails.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic")]

#[path = "support/server.rs"]
mod server;

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::{ServiceBuilder, service_fn};
use tower_keep_balance::retry::ReplayBody;
use tower_keep_balance::{Backend, Balance, BalanceLayer, Pool, Queue, RetryLayer, Strategy};
use tower_keep_testing::grpc::{Codec, Echo, Replies};

use server::Server;

type Answer = http::Response<Body>;

/// Says what it hears, after a moment.
#[derive(Clone, Default)]
struct Heard {
    heard: Arc<Mutex<HashMap<String, usize>>>,
    is_unavailable: Arc<AtomicBool>,
}

impl Heard {
    fn service(
        &self,
    ) -> Echo<
        impl Fn(tonic::server::Grpc<Codec>, http::Request<Incoming>) -> BoxFuture<'static, Answer>
        + Clone
        + use<>,
    > {
        let heard = self.clone();
        Echo(move |mut grpc: tonic::server::Grpc<Codec>, request: http::Request<Incoming>| {
            let heard = heard.clone();
            let answer: BoxFuture<'static, Answer> = Box::pin(async move {
                match request.uri().path() {
                    "/test.Echo/Read" | "/test.Echo/Order" => {
                        let say = service_fn(move |request| say(heard.clone(), request));
                        grpc.unary(say, request).await
                    }
                    _ => grpc.streaming(service_fn(talk), request).await,
                }
            });
            answer
        })
    }
}

async fn say(echo: Heard, request: Request<String>) -> Result<Response<String>, Status> {
    if echo.is_unavailable.load(SeqCst) {
        return Err(Status::unavailable("not now"));
    }
    let message = request.into_inner();
    *echo.heard.lock().unwrap().entry(message.clone()).or_default() += 1;
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ok(Response::new(message))
}

fn talk(request: Request<Streaming<String>>) -> Ready<Result<Response<Replies>, Status>> {
    ready(Ok(Response::new(request.into_inner().boxed())))
}

fn channel(at: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{at}")).unwrap().connect_lazy()
}

fn pool(servers: &[SocketAddr]) -> Pool<Channel> {
    let backends = servers.iter().map(|at| Backend::new(at.to_string(), channel(*at)));
    Pool::builder().strategy(Strategy::RoundRobin).backends(backends).build().unwrap()
}

/// Reads may be repeated, orders may not.
fn retry() -> RetryLayer {
    let reads = |head: &http::request::Parts| head.uri.path() == "/test.Echo/Read";
    RetryLayer::builder().max_attempts(4).retry_if(reads).build().unwrap()
}

/// How a stack is written for tonic, whose channels take tonic's own body.
macro_rules! client {
    ($pool:expr) => {{
        let uri = http::Uri::from_static("http://pool");
        let service = ServiceBuilder::new()
            .layer(retry())
            .map_request(|request: http::Request<ReplayBody<Body>>| request.map(Body::new))
            .layer(BalanceLayer::http())
            .service($pool);
        Grpc::with_origin(service, uri)
    }};
}

/// One call of `$method` through `$client`.
macro_rules! call {
    ($client:expr, $method:expr, $message:expr) => {{
        let mut client = $client.clone();
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static($method);
        let reply = client.unary(Request::new($message), path, Codec::default()).await;
        reply.map(Response::into_inner)
    }};
}

async fn servers(count: usize) -> (Heard, Vec<Option<Server>>, Pool<Channel>) {
    let echo = Heard::default();
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(Some(Server::start(None, echo.service()).await));
    }
    let addresses: Vec<_> = servers.iter().flatten().map(|server| server.at).collect();
    (echo, servers, pool(&addresses))
}

async fn counts_to(count: &AtomicUsize, more: usize) {
    let wanted = count.load(SeqCst) + more;
    let waits = async {
        while count.load(SeqCst) < wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waits).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_killed_and_restarted_fail_no_read_and_get_no_order_twice() {
    let (echo, mut servers, pool) = servers(3).await;
    let client = client!(pool.clone());
    let (stop, reads, orders) = (
        <Arc<AtomicBool>>::default(),
        <Arc<AtomicUsize>>::default(),
        <Arc<AtomicUsize>>::default(),
    );
    let tasks: Vec<_> = (0..12)
        .map(|task| {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            let (reads, orders) = (Arc::clone(&reads), Arc::clone(&orders));
            tokio::spawn(async move {
                let mut failed = (0, Vec::new());
                for at in 0.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let message = format!("{task}.{at}");
                    if task % 4 == 0 {
                        failed.0 +=
                            usize::from(call!(client, "/test.Echo/Order", message).is_err());
                        orders.fetch_add(1, SeqCst);
                    } else {
                        failed.1.extend(call!(client, "/test.Echo/Read", message).err());
                        reads.fetch_add(1, SeqCst);
                    }
                }
                (task % 4 == 0, failed)
            })
        })
        .collect();
    for round in 0..6 {
        let (one, other) = (round % 3, (round + 1) % 3);
        counts_to(&reads, 50).await;
        let at_one = servers[one].take().unwrap().kill().await;
        counts_to(&reads, 50).await;
        let at_other = servers[other].take().unwrap().kill().await;
        counts_to(&reads, 100).await;
        counts_to(&orders, 10).await;
        servers[one] = Some(Server::start(Some(at_one), echo.service()).await);
        servers[other] = Some(Server::start(Some(at_other), echo.service()).await);
    }
    stop.store(true, SeqCst);
    let mut failed_orders = 0;
    let mut is_order = HashMap::new();
    for (task, ended) in tasks.into_iter().enumerate() {
        let (orders, failed) = ended.await.unwrap();
        failed_orders += failed.0;
        is_order.insert(task.to_string(), orders);
        assert!(failed.1.is_empty(), "no read fails: {:?}", failed.1);
    }
    println!("{reads:?} reads, none failed; {failed_orders} of {orders:?} orders failed");
    // In flight when their server was killed.
    assert!(failed_orders <= 12 * 3, "{failed_orders}");
    for (message, count) in &*echo.heard.lock().unwrap() {
        let task = message.split('.').next().unwrap();
        assert!(!is_order[task] || *count == 1, "{message} came {count} times");
    }
    assert!(pool.status().iter().all(|backend| backend.in_flight == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_a_server_leaves_unprocessed_go_elsewhere_even_orders() {
    let (echo, mut servers, pool) = servers(2).await;
    let client = client!(pool);
    let (stop, orders) = (<Arc<AtomicBool>>::default(), <Arc<AtomicUsize>>::default());
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (client, stop, orders) = (client.clone(), Arc::clone(&stop), Arc::clone(&orders));
            tokio::spawn(async move {
                for at in 0.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let message = format!("{task}.{at}");
                    let reply = call!(client, "/test.Echo/Order", message.clone());
                    assert_eq!(reply.unwrap(), message);
                    orders.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for round in 0..10 {
        counts_to(&orders, 40).await;
        // GOAWAY, and the listener is closed.
        let at = servers[round % 2].take().unwrap().drain().await;
        counts_to(&orders, 40).await;
        servers[round % 2] = Some(Server::start(Some(at), echo.service()).await);
    }
    stop.store(true, SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    println!("{orders:?} orders");
    assert!(echo.heard.lock().unwrap().values().all(|count| *count == 1));
}

#[tokio::test]
async fn a_status_in_the_head_is_tried_again_where_that_is_allowed() {
    let (one, other) = (Heard::default(), Heard::default());
    one.is_unavailable.store(true, SeqCst);
    let bad = Server::start(None, one.service()).await;
    let good = Server::start(None, other.service()).await;
    let client = client!(pool(&[bad.at, good.at]));
    for at in 0..10 {
        assert_eq!(call!(client, "/test.Echo/Read", format!("{at}")).unwrap(), format!("{at}"));
    }
    let orders: Vec<_> = stream::iter(0..10)
        .then(async |_| call!(client, "/test.Echo/Order", "x".to_owned()))
        .collect()
        .await;
    let failed = orders.iter().filter_map(|order| order.as_ref().err());
    assert!(failed.clone().all(|status| status.code() == Code::Unavailable));
    assert!((1..10).contains(&failed.count()));
}

#[tokio::test]
async fn a_stream_both_ways_passes_through_and_counts_until_its_end() {
    let (_, _servers, pool) = servers(1).await;
    let mut client = client!(pool.clone());
    client.ready().await.unwrap();
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let messages = tokio_stream::wrappers::ReceiverStream::new(receive);
    let path = PathAndQuery::from_static("/test.Echo/Talk");
    let reply = client.streaming(Request::new(messages), path, Codec::default()).await.unwrap();
    let mut replies = reply.into_inner();
    // Much more than is kept for a retry.
    let text = "x".repeat(10_000);
    for _ in 0..50 {
        send.send(text.clone()).await.unwrap();
        assert_eq!(replies.message().await.unwrap().as_ref(), Some(&text));
        assert_eq!(pool.status()[0].in_flight, 1);
    }
    drop(send);
    assert_eq!(replies.message().await.unwrap(), None);
    assert_eq!(pool.status()[0].in_flight, 0);
}

#[tokio::test]
async fn a_pool_without_room_says_so_in_the_status() {
    let pool = Pool::<Channel>::builder().build().unwrap();
    let mut client = Grpc::new(Balance::http(pool).queue(Queue::none()));
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Echo/Read");
    let reply = client.unary(Request::new(String::new()), path, Codec::default()).await;
    assert_eq!(reply.unwrap_err().code(), Code::Unavailable);
}
