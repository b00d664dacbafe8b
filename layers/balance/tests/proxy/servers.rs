//! Servers in processes of their own that are killed, stopped and started again under constant load.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::extract::Path as Param;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tower_keep_balance::proxy::{Protocol, Proxy, Upstream};
use tower_keep_balance::retry::Budget;
use tower_keep_balance::{Backend, HealthCheck, OutlierDetection, Pool, RetryLayer, Strategy};
use tower_keep_testing::{Employer, Worker};

use super::support::{serve, until};

const INTERVAL: Duration = Duration::from_millis(200);

/// A server in a process of its own: this very program, run as [`is_a_server_when_told_so`].
struct Server {
    process: Worker,
    address: SocketAddr,
}

impl Server {
    /// At `address`; if its port is 0, at any.
    async fn start(address: SocketAddr, orders: &Path) -> Self {
        let job = format!("{address} {}", orders.display());
        let mut process = Worker::start("servers::is_a_server_when_told_so", &job).await;
        let address = process.hear().await.parse().unwrap();
        Self { process, address }
    }
}

/// Answers after a moment, so that there is always something in flight.
#[tokio::test(flavor = "multi_thread")]
async fn is_a_server_when_told_so() {
    let Some(mut employer) = Employer::find().await else { return };
    // At which address it is to serve, and where it is to write down its orders.
    let (address, orders) = employer.job().split_once(' ').unwrap();
    let orders = OpenOptions::new().append(true).create(true).open(orders).unwrap();
    let orders = Arc::new(orders);
    let order = async move |Param(id): Param<usize>| {
        // One write, at the end of what all processes have written.
        (&*orders).write_all(format!("{id}\n").as_bytes()).unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        "ordered"
    };
    let read = async || {
        tokio::time::sleep(Duration::from_millis(2)).await;
        "read"
    };
    let router = Router::new()
        .route("/", get(read))
        .route("/health", get(async || ()))
        .route("/orders/{id}", post(order));
    let listener = TcpListener::bind(address).await.unwrap();
    employer.tell(&listener.local_addr().unwrap().to_string()).await;
    axum::serve(listener, router).await.unwrap();
}

#[derive(Debug, Default)]
struct Counts {
    reads: AtomicUsize,
    failed_reads: AtomicUsize,
    orders: AtomicUsize,
    failed_orders: AtomicUsize,
}

/// Three servers behind a proxy, which gets reads, that may be repeated, and orders, that may not.
struct Scene {
    servers: Vec<Server>,
    pool: Pool<Upstream>,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    orders: PathBuf,
}

impl Scene {
    async fn start(name: &str, protocol: Protocol) -> Self {
        let orders = format!("tower-keep-orders-{name}-{}", std::process::id());
        let orders = std::env::temp_dir().join(orders);
        let any = ([127, 0, 0, 1], 0).into();
        let servers = [(); 3].map(|()| Server::start(any, &orders));
        let servers = join_all(servers).await;
        let check = HealthCheck::http("/health").interval(INTERVAL).fall(2).rise(1);
        let backends = servers.iter().map(|server| {
            let url = format!("http://{}", server.address);
            let upstream = Upstream::builder(&url).protocol(protocol).build().unwrap();
            Backend::new(url, upstream)
        });
        let pool = Pool::builder()
            .strategy(Strategy::RoundRobin)
            .backends(backends.collect::<Vec<_>>())
            .health_check(check)
            .outlier_detection(OutlierDetection::new().base_ejection(INTERVAL))
            .build()
            .unwrap();
        let retry = RetryLayer::builder()
            .max_attempts(3)
            .per_try_timeout(Duration::from_secs(1))
            .budget(Budget::new(50, 50));
        let proxy = Proxy::builder(pool.clone()).retry(retry).build().unwrap();
        let address = serve(proxy).await;
        let (counts, stop) = (Arc::<Counts>::default(), Arc::new(AtomicBool::new(false)));
        let next = Arc::new(AtomicUsize::new(0));
        let tasks = (0..12).map(|task| {
            let (counts, next) = (Arc::clone(&counts), Arc::clone(&next));
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let client = Client::builder(TokioExecutor::new()).build_http();
                while !stop.load(SeqCst) {
                    let is_order = task % 4 == 0;
                    let id = next.fetch_add(1, SeqCst);
                    let request = if is_order {
                        Request::post(format!("http://{address}/orders/{id}"))
                    } else {
                        Request::get(format!("http://{address}/"))
                    };
                    let request = request.body(Full::<Bytes>::default()).unwrap();
                    let response = client.request(request).await.unwrap();
                    let status = response.status();
                    let is_good = response.collect().await.is_ok() && status == 200;
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
        Self { servers, pool, counts, stop, tasks, orders }
    }

    /// Until so many more reads were answered.
    async fn goes_on(&self, more: usize) {
        let before = self.counts.reads.load(SeqCst);
        until("it goes on", || async { self.counts.reads.load(SeqCst) >= before + more }).await;
    }

    async fn restart(&mut self, at: usize) {
        let address = self.servers[at].address;
        self.servers[at] = Server::start(address, &self.orders).await;
    }

    /// Until that server is or isn't used, and for how long it wasn't so.
    async fn is(&self, at: usize, is_up: bool) -> Duration {
        let began = Instant::now();
        until("it is noticed", || async { self.pool.status()[at].is_up == is_up }).await;
        began.elapsed()
    }

    /// Stops the load, and says what came of it.
    async fn end(self) {
        self.stop.store(true, SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        println!("{:?}", self.counts);
        assert_eq!(self.counts.failed_reads.load(SeqCst), 0, "no read fails");
        let mut came = HashMap::<_, usize>::new();
        for order in fs::read_to_string(&self.orders).unwrap().lines() {
            *came.entry(order.to_owned()).or_default() += 1;
        }
        fs::remove_file(&self.orders).unwrap();
        assert!(came.values().all(|count| *count == 1), "no order comes twice");
        let pool = &self.pool;
        until("nothing is counted", || async { pool.status().iter().all(|it| it.in_flight == 0) })
            .await;
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_is_healthy_no_read_fails_and_no_order_comes_twice() {
    kill_and_stop(Scene::start("killed", Protocol::Http1).await).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_over_http_2() {
    kill_and_stop(Scene::start("killed-2", Protocol::Http2).await).await;
}

async fn kill_and_stop(mut scene: Scene) {
    for round in 0..4 {
        let (one, other) = (round % 3, (round + 1) % 3);
        scene.goes_on(100).await;
        scene.servers[one].process.kill();
        let killed = scene.is(one, false).await;
        scene.goes_on(50).await;
        // From here on one is left, and this one doesn't even refuse.
        scene.servers[other].process.pause();
        let stopped = scene.is(other, false).await;
        scene.goes_on(100).await;
        scene.restart(one).await;
        scene.servers[other].process.resume();
        let back = (scene.is(one, true).await, scene.is(other, true).await);
        println!("killed: out after {killed:?}; stopped: after {stopped:?}; back after {back:?}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_can_be_restarted_one_after_the_other() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut scene = Scene::start("restarted", protocol).await;
        for at in 0..3 {
            scene.goes_on(100).await;
            scene.servers[at].process.kill();
            scene.is(at, false).await;
            scene.restart(at).await;
            scene.is(at, true).await;
        }
        scene.goes_on(100).await;
        scene.end().await;
    }
}
