//! nginx as an upstream: killed, restarted, stopped and slowed down under constant load.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower_keep_balance::proxy::{Proxy, Upstream};
use tower_keep_balance::retry::Budget;
use tower_keep_balance::{Backend, HealthCheck, OutlierDetection, Pool, RetryLayer, Strategy};
use tower_keep_testing::{NginxServer, Traffic, Way};

use super::support::{serve, until};

const INTERVAL: Duration = Duration::from_millis(200);

const LOCATIONS: &str = "location / { return 200 'ok'; }";

async fn three() -> Vec<NginxServer> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(NginxServer::start(LOCATIONS).await);
    }
    servers
}

fn pool(strategy: Strategy, ports: impl IntoIterator<Item = u16>) -> Pool<Upstream> {
    let backends = ports.into_iter().enumerate().map(|(at, port)| {
        let upstream = Upstream::new(&format!("http://127.0.0.1:{port}")).unwrap();
        Backend::new(at.to_string(), upstream)
    });
    let check = HealthCheck::http("/health").interval(INTERVAL).fall(2).rise(1);
    let outlier = OutlierDetection::new().base_ejection(INTERVAL);
    let pool = Pool::builder().strategy(strategy).backends(backends).health_check(check);
    pool.outlier_detection(outlier).build().unwrap()
}

async fn proxy(pool: Pool<Upstream>) -> SocketAddr {
    let retry = RetryLayer::builder()
        .max_attempts(3)
        .per_try_timeout(Duration::from_secs(1))
        .budget(Budget::new(50, 50));
    serve(Proxy::builder(pool).retry(retry).build().unwrap()).await
}

#[derive(Debug, Default)]
struct Counts {
    reads: AtomicUsize,
    failed_reads: AtomicUsize,
    orders: AtomicUsize,
    /// How long reads took since they were last asked for.
    times: Mutex<Vec<Duration>>,
}

/// Reads, which may be repeated, and orders, which may not, without a pause.
struct Load {
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let (counts, stop) = (Arc::<Counts>::default(), Arc::new(AtomicBool::new(false)));
        let tasks = (0..8).map(|task| {
            let (counts, stop) = (Arc::clone(&counts), Arc::clone(&stop));
            tokio::spawn(async move {
                let client = Client::builder(TokioExecutor::new()).build_http();
                while !stop.load(SeqCst) {
                    let is_order = task % 4 == 0;
                    let request = if is_order {
                        let id = counts.orders.fetch_add(1, SeqCst);
                        Request::post(format!("http://{address}/orders/{id}"))
                    } else {
                        Request::get(format!("http://{address}/"))
                    };
                    let began = Instant::now();
                    let response = client.request(request.body(Full::<Bytes>::default()).unwrap());
                    let response = response.await.unwrap();
                    let is_good = response.status() == 200;
                    let is_good = response.collect().await.is_ok() && is_good;
                    if !is_order {
                        counts.reads.fetch_add(1, SeqCst);
                        counts.failed_reads.fetch_add(usize::from(!is_good), SeqCst);
                        counts.times.lock().unwrap().push(began.elapsed());
                    }
                }
            })
        });
        let tasks = tasks.collect();
        Self { counts, stop, tasks }
    }

    /// Until so many more reads were answered.
    async fn goes_on(&self, more: usize) {
        let wanted = self.counts.reads.load(SeqCst) + more;
        until("it goes on", || async { self.counts.reads.load(SeqCst) >= wanted }).await;
    }

    /// What 99 in a hundred reads took since this was last asked.
    fn p99(&self) -> Duration {
        let mut times = std::mem::take(&mut *self.counts.times.lock().unwrap());
        times.sort_unstable();
        times.get(times.len() * 99 / 100).copied().unwrap_or_default()
    }

    /// Ends it, and no read has failed.
    async fn end(self, pool: &Pool<Upstream>) {
        self.stop.store(true, SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        let (reads, orders) = (self.counts.reads.load(SeqCst), self.counts.orders.load(SeqCst));
        println!("{reads} reads, {orders} orders");
        assert_eq!(self.counts.failed_reads.load(SeqCst), 0, "no read fails");
        until("nothing is counted", || async { pool.status().iter().all(|it| it.in_flight == 0) })
            .await;
    }
}

/// Until the backend is or isn't used, and for how long it wasn't so.
async fn comes_to(pool: &Pool<Upstream>, at: usize, is_up: bool) -> Duration {
    let began = Instant::now();
    until("it is noticed", || async { pool.status()[at].is_up == is_up }).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_killed_or_stopped_fails_no_read_and_gets_no_order_twice() {
    let mut servers = three().await;
    let pool = pool(Strategy::RoundRobin, servers.iter().map(NginxServer::port));
    let load = Load::start(proxy(pool.clone()).await);
    for round in 0..3 {
        let (one, other) = (round % 3, (round + 1) % 3);
        load.goes_on(100).await;
        servers[one].kill();
        let killed = comes_to(&pool, one, false).await;
        load.goes_on(50).await;
        // From here on one is left, and this one doesn't even refuse.
        servers[other].pause();
        let stopped = comes_to(&pool, other, false).await;
        load.goes_on(100).await;
        servers[one].restart().await;
        let restarted = comes_to(&pool, one, true).await;
        servers[other].resume();
        let resumed = comes_to(&pool, other, true).await;
        println!("killed: out after {killed:?}, back {restarted:?} after it was there again");
        println!("stopped: out after {stopped:?}, back {resumed:?} after it went on");
    }
    load.goes_on(100).await;
    load.end(&pool).await;
    let mut came = HashMap::<_, usize>::new();
    for request in servers.iter().flat_map(NginxServer::requests) {
        if request.starts_with("POST ") {
            *came.entry(request).or_default() += 1;
        }
    }
    assert!(came.values().all(|count| *count == 1), "no order comes twice");
    assert!(came.len() > 10);
}

/// How many of the requests that come meanwhile each of the servers gets.
async fn shares(load: &Load, servers: &[NginxServer], reads: usize) -> Vec<usize> {
    let count = |server: &NginxServer| {
        server.requests().iter().filter(|request| *request == "GET /").count()
    };
    let before: Vec<_> = servers.iter().map(count).collect();
    load.goes_on(reads).await;
    servers.iter().zip(before).map(|(server, before)| count(server) - before).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_becomes_slow_gets_little_and_its_share_again_when_it_is_not() {
    let servers = three().await;
    let mut ways = Vec::new();
    for server in &servers {
        ways.push(Way::open(server.port()).await);
    }
    // Slow enough to hurt, not to fail its checks.
    let lag = INTERVAL / 2;
    let settings = tower_keep_balance::PeakEwma::default().decay(Duration::from_secs(2));
    let pool = pool(Strategy::PeakEwma(settings), ways.iter().map(Way::port));
    let load = Load::start(proxy(pool.clone()).await);
    load.goes_on(300).await;
    load.p99();
    let equal = shares(&load, &servers, 1_000).await;
    let fast = load.p99();
    ways[0].set(Traffic::Lags(lag));
    load.goes_on(300).await;
    load.p99();
    let slow = shares(&load, &servers, 2_000).await;
    let p99 = load.p99();
    println!(
        "equal: {equal:?}; one slowed down by {lag:?}: {slow:?}, p99 {p99:?} ({fast:?} before)"
    );
    let all: usize = slow.iter().sum();
    assert!(slow[0] * 10 < all, "the slow one gets less than a tenth: {slow:?}");
    assert!(pool.status()[0].is_up, "nothing was wrong with it");
    ways[0].set(Traffic::Flows);
    until("it gets its share again", || async {
        let now = shares(&load, &servers, 500).await;
        now[0] * 5 > now.iter().sum()
    })
    .await;
    load.end(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_slower_than_its_checks_allow_is_left_alone_until_it_is_not() {
    let servers = three().await;
    let mut ways = Vec::new();
    for server in &servers {
        ways.push(Way::open(server.port()).await);
    }
    let pool = pool(Strategy::RoundRobin, ways.iter().map(Way::port));
    let load = Load::start(proxy(pool.clone()).await);
    load.goes_on(300).await;
    ways[2].set(Traffic::Lags(INTERVAL * 4));
    let out = comes_to(&pool, 2, false).await;
    load.goes_on(300).await;
    ways[2].set(Traffic::Flows);
    let back = comes_to(&pool, 2, true).await;
    println!("slower than its checks allow: out after {out:?}; back after {back:?}");
    load.goes_on(300).await;
    load.end(&pool).await;
}
