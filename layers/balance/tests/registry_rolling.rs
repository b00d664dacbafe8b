//! All backends are replaced, one after the other, while requests come: none fails (I9).
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may panic")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tower_keep_balance::registry::{Instance, Memory, Registration, Registry};
use tower_keep_balance::{Outcome, Pool, Strategy};

/// Longer than the test takes: nobody expires, and only what is announced is quick enough.
const TTL: Duration = Duration::from_secs(60);

const COUNT: usize = 10;

/// A server that announces itself.
struct Server {
    id: String,
    registration: Registration,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(registry: &impl Registry, id: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let name = id.clone();
        let answer = async move || {
            // So that there is always something in flight.
            sleep(Duration::from_millis(3)).await;
            name
        };
        let app = Router::new().route("/", get(answer));
        let task = tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap() };
            axum::serve(listener, app).with_graceful_shutdown(stopped).await.unwrap();
        });
        let instance = Instance::new(id.as_str(), address.to_string());
        let registration = registry.register("shop", instance, TTL).unwrap();
        registration.registered().await.unwrap();
        Self { id, registration, stop, task }
    }

    /// Takes itself out, waits until nothing comes any more, and finishes what it has.
    async fn end<T>(self, pools: &[Pool<T>]) {
        self.registration.deregister().await.unwrap();
        let comes = |pool: &Pool<T>| pool.status().iter().any(|it| *it.name == *self.id);
        until(|| !pools.iter().any(comes)).await;
        self.stop.send(()).unwrap();
        timeout(Duration::from_secs(60), self.task).await.unwrap().unwrap();
    }
}

async fn until(done: impl Fn() -> bool) {
    let waits = async {
        while !done() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(60), waits).await.unwrap();
}

/// Where a server is, and the connections to it.
struct Target {
    address: SocketAddr,
    client: Client<HttpConnector, Body>,
}

impl Target {
    fn new(instance: &Instance) -> Result<Self, std::net::AddrParseError> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { address: instance.address().parse()?, client })
    }

    async fn ask(&self) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let request = Request::get(format!("http://{}/", self.address)).body(Body::empty())?;
        let response = self.client.request(request).await?;
        let content = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(content.to_vec())?)
    }
}

/// One request, without another try.
async fn one(pool: &Pool<Target>) -> Result<(), String> {
    let pick = pool.pick().map_err(|error| error.to_string())?;
    let answer = pick.ask().await.map_err(|error| format!("{}: {error:?}", pick.name()))?;
    assert_eq!(answer, pick.name());
    pick.finish(Outcome::Success);
    Ok(())
}

/// `seen_by` are what those who ask are told by: two processes, for a registry between machines.
async fn replace_all<R: Registry>(registry: R, seen_by: [R; 2]) {
    let mut servers = Vec::new();
    for number in 0..COUNT {
        servers.push(Server::start(&registry, format!("old-{number}")).await);
    }
    let mut pools = Vec::new();
    for seen_by in &seen_by {
        let pool = Pool::builder().strategy(Strategy::LeastConnections).build().unwrap();
        let following = pool.follow(seen_by, "shop", |instance| {
            Target::new(instance).map(|target| instance.backend(target))
        });
        following.ready().await;
        pools.push(pool);
    }
    until(|| pools.iter().all(|pool| pool.status().len() == COUNT)).await;

    let (ended, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..16)
        .map(|number: usize| {
            let (ended, done) = (Arc::clone(&ended), Arc::clone(&done));
            let pool = pools[number % 2].clone();
            tokio::spawn(async move {
                let mut failures = Vec::new();
                while !ended.load(SeqCst) {
                    match one(&pool).await {
                        Ok(()) => _ = done.fetch_add(1, SeqCst),
                        Err(error) => failures.push(error),
                    }
                }
                failures
            })
        })
        .collect();
    let began = Instant::now();
    let mut new = Vec::new();
    for (number, old) in servers.into_iter().enumerate() {
        // Some requests with each set of servers.
        let so_far = done.load(SeqCst);
        until(|| done.load(SeqCst) > so_far + 100).await;
        new.push(Server::start(&registry, format!("new-{number}")).await);
        old.end(&pools).await;
    }
    let so_far = done.load(SeqCst);
    until(|| done.load(SeqCst) > so_far + 100).await;
    ended.store(true, SeqCst);
    let mut failures = Vec::new();
    for task in load {
        failures.extend(task.await.unwrap());
    }
    let (done, took) = (done.load(SeqCst), began.elapsed());
    println!("{COUNT} replaced in {took:?}: {done} requests, {} failed", failures.len());
    assert!(failures.is_empty(), "{:?}", failures.first());
    for pool in &pools {
        let names: Vec<_> = pool.status().iter().map(|it| it.name.to_string()).collect();
        assert!(names.len() == COUNT && names.iter().all(|it| it.starts_with("new-")), "{names:?}");
    }
    for server in new {
        server.end(&pools).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_all_backends_are_replaced() {
    let registry = Memory::new();
    replace_all(registry.clone(), [registry.clone(), registry]).await;
}

#[cfg(feature = "registry-redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_all_backends_are_replaced_across_machines() {
    use tower_keep_balance::registry::Redis;

    let server = tower_keep_testing::RedisServer::start().await;
    let connect = || Redis::new(&server.url()).unwrap();
    replace_all(connect(), [connect(), connect()]).await;
}
