//! Real servers that are killed, paused and restarted under constant load.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic")]

#[path = "support/server.rs"]
mod server;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_balance::retry::{ReplayBody, RetryBuilder};
use tower_keep_balance::{Backend, Balance, Pool, RetryLayer, Strategy};

use server::Server;

type Forward = BoxCloneSyncService<Request<ReplayBody<Full<Bytes>>>, Response<Incoming>, Error>;

/// What the backends have seen: how often each order came.
#[derive(Clone)]
struct Seen {
    orders: Arc<Mutex<HashMap<usize, usize>>>,
    is_paused: watch::Receiver<bool>,
}

/// Answers after a moment, so that there is always something in flight.
fn app(seen: Seen) -> Router {
    let read = async |State(mut seen): State<Seen>| {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let _ = seen.is_paused.wait_for(|is_paused| !is_paused).await;
        "read"
    };
    let order = async |State(mut seen): State<Seen>, Path(id): Path<usize>| {
        *seen.orders.lock().unwrap().entry(id).or_default() += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
        let _ = seen.is_paused.wait_for(|is_paused| !is_paused).await;
        "ordered"
    };
    Router::new().route("/", get(read)).route("/orders/{id}", post(order)).with_state(seen)
}

/// Sends requests on to the server at `at`.
fn forward(at: SocketAddr) -> Forward {
    forward_by(Client::builder(TokioExecutor::new()).build_http(), at)
}

/// The same over HTTP/2.
fn forward_h2(at: SocketAddr) -> Forward {
    forward_by(Client::builder(TokioExecutor::new()).http2_only(true).build_http(), at)
}

fn forward_by(client: Client<HttpConnector, ReplayBody<Full<Bytes>>>, at: SocketAddr) -> Forward {
    Forward::new(service_fn(move |mut request: Request<ReplayBody<Full<Bytes>>>| {
        let path = request.uri().path_and_query().unwrap().as_str();
        *request.uri_mut() = format!("http://{at}{path}").parse::<Uri>().unwrap();
        let sent: BoxFuture<'static, _> = Box::pin(client.request(request));
        sent
    }))
}

/// Three servers under the load of reads, which may be repeated, and orders, which may not.
struct Scene {
    pool: Pool<Forward>,
    seen: Seen,
    pauses: watch::Sender<bool>,
    servers: Vec<Option<Server>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    reads: AtomicUsize,
    failed_reads: AtomicUsize,
    orders: AtomicUsize,
    failed_orders: AtomicUsize,
}

impl Scene {
    async fn start(builder: RetryBuilder) -> Self {
        let (pauses, _) = watch::channel(false);
        let (_, never) = watch::channel(false);
        let mut seen = Seen { orders: Arc::default(), is_paused: never };
        let mut servers = Vec::new();
        for at in 0..3 {
            // Only the first one is ever paused.
            let seen = match at {
                0 => Seen { is_paused: pauses.subscribe(), ..seen.clone() },
                _ => seen.clone(),
            };
            servers.push(Some(Server::start(None, app(seen)).await));
        }
        seen.is_paused = pauses.subscribe();
        let backends: Vec<_> = servers
            .iter()
            .flatten()
            .map(|server| Backend::new(server.at.to_string(), forward(server.at)))
            .collect();
        let pool = Pool::builder().strategy(Strategy::RoundRobin).backends(backends);
        let pool = pool.build().unwrap();
        let retry = builder.max_attempts(4).build().unwrap().layer(Balance::http(pool.clone()));
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let next = Arc::new(AtomicUsize::new(0));
        let tasks = (0..16).map(|task| {
            let (retry, stop) = (retry.clone(), Arc::clone(&stop));
            let (counts, next) = (Arc::clone(&counts), Arc::clone(&next));
            tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    let is_order = task % 4 == 0;
                    let request = if is_order {
                        Request::post(format!("/orders/{}", next.fetch_add(1, SeqCst)))
                    } else {
                        Request::get("/")
                    };
                    let response = retry.clone().oneshot(request.body(Full::default()).unwrap());
                    let is_good = match response.await {
                        Ok(response) => {
                            let is_good = response.status() == 200;
                            response.collect().await.is_ok() && is_good
                        }
                        Err(_) => false,
                    };
                    let (all, failed) = if is_order {
                        (&counts.orders, &counts.failed_orders)
                    } else {
                        (&counts.reads, &counts.failed_reads)
                    };
                    all.fetch_add(1, SeqCst);
                    failed.fetch_add(usize::from(!is_good), SeqCst);
                }
            })
        });
        let tasks = tasks.collect();
        Self { pool, seen, pauses, servers, stop, tasks, counts }
    }

    /// Until so many more reads and orders were answered.
    async fn goes_on(&self, more: usize) {
        let count = || (self.counts.reads.load(SeqCst), self.counts.orders.load(SeqCst));
        let before = count();
        let waits = async {
            while count().0 < before.0 + more || count().1 < before.1 + more / 10 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waits).await.unwrap();
    }

    async fn restart(&mut self, at: usize, address: SocketAddr) {
        let server = Server::start(Some(address), app(self.seen.clone())).await;
        self.servers[at] = Some(server);
    }

    /// Stops the load, and says what came of it.
    async fn end(self) -> Arc<Counts> {
        self.stop.store(true, SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        println!("{:?}", self.counts);
        assert_eq!(self.counts.failed_reads.load(SeqCst), 0, "no read fails");
        let orders = self.seen.orders.lock().unwrap();
        assert!(orders.values().all(|count| *count == 1), "no order comes twice");
        assert!(self.pool.status().iter().all(|backend| backend.in_flight == 0));
        self.counts
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_killed_fail_no_read_and_get_no_order_twice() {
    let mut scene = Scene::start(RetryLayer::builder()).await;
    for round in 0..9 {
        let (one, other) = (round % 3, (round + 1) % 3);
        scene.goes_on(50).await;
        let at_one = scene.servers[one].take().unwrap().kill().await;
        scene.goes_on(50).await;
        // From here on one is left.
        let at_other = scene.servers[other].take().unwrap().kill().await;
        let failed = scene.counts.failed_orders.load(SeqCst);
        scene.goes_on(100).await;
        println!("{} orders have failed", scene.counts.failed_orders.load(SeqCst) - failed);
        scene.restart(one, at_one).await;
        scene.restart(other, at_other).await;
    }
    let counts = scene.end().await;
    // Four orders are in flight at a time, and a kill breaks off no more than those.
    assert!(counts.failed_orders.load(SeqCst) <= 18 * 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_fails_no_read_and_gets_no_order_twice() {
    let times = RetryLayer::builder().per_try_timeout(Duration::from_millis(500));
    let scene = Scene::start(times.budget(tower_keep_balance::retry::Budget::new(50, 50))).await;
    scene.goes_on(100).await;
    scene.pauses.send(true).unwrap();
    scene.goes_on(60).await;
    scene.pauses.send(false).unwrap();
    scene.goes_on(100).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_drains_fails_nothing_at_all() {
    let mut scene = Scene::start(RetryLayer::builder()).await;
    for round in 0..6 {
        scene.goes_on(50).await;
        let at = round % 3;
        // Drained in the pool first, as one who takes a server out of service does.
        let name = scene.servers[at].as_ref().unwrap().at.to_string();
        let removed = scene.pool.remove(&name).unwrap();
        removed.drained().await;
        let address = scene.servers[at].take().unwrap().drain().await;
        scene.goes_on(50).await;
        scene.restart(at, address).await;
        scene.pool.insert(Backend::new(address.to_string(), forward(address)));
    }
    let counts = scene.end().await;
    assert_eq!(counts.failed_orders.load(SeqCst), 0, "nor does an order");
}

#[tokio::test]
async fn a_stream_that_was_refused_is_sent_elsewhere_even_an_order() {
    let (refusing, refused) = tower_keep_testing::http2::refusing().await;
    let (_, is_paused) = watch::channel(false);
    let seen = Seen { orders: Arc::default(), is_paused };
    let good = Server::start(None, app(seen.clone())).await;
    let backends = [refusing, good.at].map(|at| Backend::new(at.to_string(), forward_h2(at)));
    let pool = Pool::builder().strategy(Strategy::RoundRobin).backends(backends).build().unwrap();
    let retry = RetryLayer::builder().build().unwrap().layer(Balance::http(pool));
    for id in 0..10 {
        let order = Request::post(format!("/orders/{id}")).body(Full::from("content")).unwrap();
        assert_eq!(retry.clone().oneshot(order).await.unwrap().status(), 200);
    }
    assert!(refused.load(SeqCst) >= 5);
    assert!(seen.orders.lock().unwrap().values().all(|count| *count == 1));
}

#[tokio::test]
async fn routers_in_the_same_process_are_backends_like_others() {
    let (_, is_paused) = watch::channel(false);
    let good = app(Seen { orders: Arc::default(), is_paused });
    let bad = Router::new().fallback(async || http::StatusCode::BAD_GATEWAY);
    let pool = Pool::builder()
        .strategy(Strategy::RoundRobin)
        .backends([Backend::new("bad", bad), Backend::new("good", good)])
        .build()
        .unwrap();
    let retry = RetryLayer::builder().build().unwrap().layer(Balance::http(pool.clone()));
    for _ in 0..10 {
        let request = Request::get("/").body(Full::<Bytes>::default()).unwrap();
        let response = retry.clone().oneshot(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "read");
    }
    // And the whole stack is a service that a router takes.
    let outer: Router = Router::new().fallback_service(
        tower::ServiceBuilder::new()
            .map_request(|request: Request<axum::body::Body>| request)
            .service(RetryLayer::builder().build().unwrap().layer(Balance::http(pool))),
    );
    let response = outer.oneshot(Request::new(axum::body::Body::empty())).await.unwrap();
    assert_eq!(response.status(), 200);
}
