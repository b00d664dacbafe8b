//! Checks over the network: real servers that are killed, stopped, slowed down and restarted.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and say what it measured"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::routing::any;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic_health::ServingStatus;
use tower_keep_balance::health::{Address, Grpc, Http, Probe, ProbeError, Tcp};
use tower_keep_balance::{Backend, HealthCheck, Outcome, OutlierDetection, Pool, Strategy};
use tower_keep_testing::{Employer, Worker};

const MS: Duration = Duration::from_millis(1);
const INTERVAL: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_millis(250);

/// What a busy machine may add to what was promised.
const MARGIN: Duration = Duration::from_secs(5);

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Serves again where something has served before.
async fn rebind(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => sleep(10 * MS).await,
        }
    }
}

fn serve(listener: TcpListener, router: Router) -> JoinHandle<()> {
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

async fn ask<T>(probe: impl Probe<T>, target: T) -> Result<(), ProbeError> {
    timeout(Duration::from_secs(20), probe.probe(&target)).await.unwrap()
}

fn quick<P>(check: HealthCheck<P>) -> HealthCheck<P> {
    check.interval(INTERVAL).timeout(TIMEOUT).fall(3).rise(2)
}

/// Waits until the backend `name` is up, or down, and says how long that took.
async fn until(pool: &Pool<SocketAddr>, name: &str, is_up: bool) -> Duration {
    let began = Instant::now();
    let stands = || pool.status().iter().any(|it| &*it.name == name && it.is_up == is_up);
    while !stands() {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", pool.status());
        sleep(2 * MS).await;
    }
    began.elapsed()
}

#[tokio::test]
async fn http_passes_by_status_body_and_path() {
    let status = Arc::new(AtomicU16::new(200));
    let answer = |Shared(status): Shared<Arc<AtomicU16>>, method: Method, headers: HeaderMap| async move {
        assert!(headers.contains_key("host") && headers.contains_key("user-agent"));
        let status = StatusCode::from_u16(status.load(SeqCst)).unwrap();
        let host = headers["host"].to_str().unwrap();
        (status, format!("{method} {host} {:?}: all is well", headers.get("x-check")))
    };
    let router = Router::new().route("/health", any(answer)).with_state(Arc::clone(&status));
    let (listener, address) = bind().await;
    let _server = serve(listener, router);
    ask(Http::get("/health"), address).await.unwrap();
    ask(Http::get("/health?deep=1"), format!("http://{address}/base")).await.unwrap();
    let error = ask(Http::get("/missing"), address).await.unwrap_err();
    assert!(matches!(error, ProbeError::Status(404)), "{error}");
    let well = Http::get("/health").body_contains("all is well");
    ask(well.clone(), address).await.unwrap();
    let error = ask(well.clone().body_contains("nothing"), address).await.unwrap_err();
    assert!(matches!(error, ProbeError::Body), "{error}");
    let special = Http::get("/health")
        .method(Method::OPTIONS)
        .host(HeaderValue::from_static("shop.example"))
        .header(HeaderName::from_static("x-check"), HeaderValue::from_static("1"))
        .port(address.port())
        .body_contains("OPTIONS shop.example Some(\"1\")");
    ask(special, "127.0.0.1:1").await.unwrap();
    status.store(503, SeqCst);
    let error = ask(Http::get("/health"), address).await.unwrap_err();
    assert!(matches!(error, ProbeError::Status(503)), "{error}");
    ask(Http::get("/health").status(200..=299).status(503..=503), address).await.unwrap();
    let error = ask(Http::get("/health").status(200..=204), address).await.unwrap_err();
    assert!(matches!(error, ProbeError::Status(503)), "{error}");
}

#[tokio::test]
async fn what_is_not_http_fails_and_says_why() {
    let (listener, address) = bind().await;
    let server = tokio::spawn(async move {
        for answer in ["SSH-2.0-OpenSSH_9.6\r\n", "", "HTTP/1.1 200 OK\r\nContent-Le"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1_024]).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    for _ in 0..3 {
        let error = ask(Http::get("/"), address).await.unwrap_err();
        assert!(matches!(error, ProbeError::Exchange(_)), "{error}");
    }
    server.await.unwrap();
    let error = ask(Http::get("/"), address).await.unwrap_err();
    assert!(matches!(error, ProbeError::Connect(_)), "{error}");
    let error = ask(Tcp::new(), address).await.unwrap_err();
    assert!(matches!(error, ProbeError::Connect(_)), "{error}");
    let error = ask(Http::get("/"), "https://127.0.0.1:1").await.unwrap_err();
    assert!(error.to_string().contains("by TLS"), "{error}");
    let error = ask(Http::get("/"), "/nowhere").await.unwrap_err();
    assert!(matches!(error, ProbeError::Address(_)), "{error}");
}

#[tokio::test]
async fn an_endless_body_is_not_read_to_its_end() {
    let (listener, address) = bind().await;
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1_024]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b'x'; 4_096]).await.is_ok() {
            counter.fetch_add(4_096, SeqCst);
        }
    });
    let error = ask(Http::get("/").body_contains("y"), address).await.unwrap_err();
    assert!(matches!(error, ProbeError::Body), "{error}");
    timeout(Duration::from_secs(20), server).await.unwrap().unwrap();
    assert!(sent.load(SeqCst) < 32 << 20, "what fits into the kernel's buffers at most");
}

#[tokio::test]
async fn a_connector_of_ones_own_is_used() {
    let (listener, address) = bind().await;
    let _server = serve(listener, Router::new().route("/", any(|| async {})));
    let connector = move |uri: &Uri| {
        assert_eq!(uri.to_string(), "https://a.example:443/");
        TcpStream::connect(address)
    };
    ask(Http::get("/").connector(connector), "https://a.example").await.unwrap();
}

#[test]
fn a_path_without_a_slash_is_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    for path in ["health", "", "/a b", "http://a.example/"] {
        let pool = Pool::<SocketAddr>::builder().health_check(HealthCheck::http(path)).build();
        assert!(pool.unwrap_err().to_string().contains("slash"), "{path}");
    }
}

struct GrpcServer {
    reporter: tonic_health::server::HealthReporter,
    task: JoinHandle<()>,
}

fn serve_grpc(listener: TcpListener) -> GrpcServer {
    let (reporter, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder().add_service(health);
    let task = tokio::spawn(async move {
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    GrpcServer { reporter, task }
}

#[tokio::test]
async fn grpc_passes_by_what_the_health_service_says() {
    let (listener, address) = bind().await;
    let server = serve_grpc(listener);
    ask(Grpc::service(""), address).await.unwrap();
    server.reporter.set_service_status("shop.Orders", ServingStatus::Serving).await;
    ask(Grpc::service("shop.Orders"), address).await.unwrap();
    let error = ask(Grpc::service("shop.Unknown"), address).await.unwrap_err();
    assert!(matches!(error, ProbeError::GrpcStatus(5)), "{error}");
    for status in [ServingStatus::NotServing, ServingStatus::Unknown] {
        server.reporter.set_service_status("shop.Orders", status).await;
        let error = ask(Grpc::service("shop.Orders"), address).await.unwrap_err();
        assert!(matches!(error, ProbeError::NotServing(_)), "{error}");
    }
    ask(Grpc::service(""), address).await.unwrap();
}

#[tokio::test]
async fn grpc_without_a_health_service_fails() {
    let (listener, address) = bind().await;
    let empty = tonic::service::Routes::default();
    let server = tonic::transport::Server::builder().add_routes(empty);
    tokio::spawn(async move {
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    let error = ask(Grpc::service(""), address).await.unwrap_err();
    assert!(matches!(error, ProbeError::GrpcStatus(12)), "{error}");
    // And a server that doesn't speak HTTP/2.
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1_024]).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let error = ask(Grpc::service(""), address).await.unwrap_err();
    assert!(matches!(error, ProbeError::Exchange(_)), "{error}");
}

/// Picks all the time, and counts what goes to one that the pool knows to be down.
fn load(pool: &Pool<SocketAddr>, ended: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (pool, ended) = (pool.clone(), Arc::clone(ended));
    tokio::spawn(async move {
        let mut picks = 0;
        while !ended.load(SeqCst) {
            let down = |pool: &Pool<SocketAddr>| {
                let down = pool.status().into_iter().filter(|it| !it.is_up);
                down.map(|it| it.id).collect::<Vec<_>>()
            };
            let before = down(&pool);
            let pick = pool.pick().unwrap();
            picks += 1;
            let is_known = before.contains(&pick.id()) && down(&pool).contains(&pick.id());
            assert!(!is_known || pool.panics(), "{pick:?}");
            drop(pick);
            sleep(MS).await;
        }
        picks
    })
}

async fn killed_and_restarted<P>(
    check: HealthCheck<P>,
    start: impl Fn(TcpListener) -> JoinHandle<()>,
) where
    P: Probe<SocketAddr> + 'static,
{
    let (stable, dies) = (bind().await, bind().await);
    let (stays, address) = (start(stable.0), dies.1);
    let server = start(dies.0);
    let backends = [Backend::new("stays", stable.1), Backend::new("dies", address)];
    let pool = Pool::builder().backends(backends).health_check(quick(check)).build().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let load = load(&pool, &ended);
    while pool.stats().checks < 6 {
        sleep(2 * MS).await;
    }
    until(&pool, "stays", true).await;
    until(&pool, "dies", true).await;
    server.abort();
    let _ = server.await;
    let took = until(&pool, "dies", false).await;
    println!("killed: out after {took:?}, of {:?} at most", 3 * INTERVAL + TIMEOUT);
    assert!(took < 3 * INTERVAL + TIMEOUT + MARGIN, "{took:?}");
    assert!((0..200).all(|_| pool.pick().unwrap().name() == "stays"));
    let server = start(rebind(address).await);
    let took = until(&pool, "dies", true).await;
    println!("restarted: back after {took:?}, of {:?} at most", 2 * INTERVAL + TIMEOUT);
    assert!(took < 2 * INTERVAL + TIMEOUT + MARGIN, "{took:?}");
    ended.store(true, SeqCst);
    assert!(load.await.unwrap() > 0);
    stays.abort();
    server.abort();
}

#[tokio::test]
async fn http_servers_that_are_killed_and_restarted() {
    killed_and_restarted(HealthCheck::http("/health"), |listener| {
        serve(listener, Router::new().route("/health", any(|| async {})))
    })
    .await;
}

#[tokio::test]
async fn grpc_servers_that_are_killed_and_restarted() {
    killed_and_restarted(HealthCheck::grpc(""), |listener| serve_grpc(listener).task).await;
}

#[tokio::test]
async fn tcp_servers_that_are_killed_and_restarted() {
    killed_and_restarted(HealthCheck::tcp(), |listener| {
        tokio::spawn(async move { while listener.accept().await.is_ok() {} })
    })
    .await;
}

#[tokio::test]
async fn one_that_is_too_slow_is_out_until_it_is_not() {
    let latency = Arc::new(AtomicU64::new(0));
    let slow = Arc::clone(&latency);
    let answer = move || sleep(Duration::from_millis(slow.load(SeqCst)));
    let ((quick_one, one), (slow_one, other)) = (bind().await, bind().await);
    let _quick = serve(quick_one, Router::new().route("/", any(|| async {})));
    let _slow = serve(slow_one, Router::new().route("/", any(answer)));
    let backends = [Backend::new("quick", one), Backend::new("slow", other)];
    let check = quick(HealthCheck::http("/"));
    let pool = Pool::builder().backends(backends).health_check(check).build().unwrap();
    until(&pool, "slow", true).await;
    latency.store(60_000, SeqCst);
    let took = until(&pool, "slow", false).await;
    assert!(took < 3 * INTERVAL + TIMEOUT + MARGIN, "{took:?}");
    latency.store(0, SeqCst);
    let took = until(&pool, "slow", true).await;
    assert!(took < 2 * INTERVAL + TIMEOUT + MARGIN, "{took:?}");
}

/// A server in a process of its own, which can be stopped: this very program, run as
/// [`is_a_server_when_told_so`].
async fn process() -> (Worker, SocketAddr) {
    let mut worker = Worker::start("is_a_server_when_told_so", "").await;
    let address = worker.hear().await.parse().unwrap();
    (worker, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn is_a_server_when_told_so() {
    let Some(mut employer) = Employer::find().await else { return };
    let (listener, address) = bind().await;
    employer.tell(&address.to_string()).await;
    serve(listener, Router::new().route("/", any(|| async {}))).await.unwrap();
}

#[tokio::test]
async fn a_process_that_is_stopped_is_out_until_it_goes_on() {
    let processes = [process().await, process().await];
    let names = ["goes", "stops"].into_iter().zip(&processes);
    let backends = names.map(|(name, process)| Backend::new(name, process.1));
    let check = quick(HealthCheck::http("/")).timeout(INTERVAL);
    let pool = Pool::builder().backends(backends).health_check(check).build().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let load = load(&pool, &ended);
    until(&pool, "stops", true).await;
    // The kernel goes on accepting for it.
    processes[1].0.pause();
    let took = until(&pool, "stops", false).await;
    println!("stopped: out after {took:?}, of {:?} at most", 3 * INTERVAL + TIMEOUT);
    assert!(took < 3 * INTERVAL + TIMEOUT + MARGIN, "{took:?}");
    assert!(TcpStream::connect(processes[1].1).await.is_ok());
    processes[1].0.resume();
    let took = until(&pool, "stops", true).await;
    println!("goes on: back after {took:?}, of {:?} at most", 2 * INTERVAL + TIMEOUT);
    assert!(took < 2 * INTERVAL + TIMEOUT + MARGIN, "{took:?}");
    ended.store(true, SeqCst);
    load.await.unwrap();
}

#[tokio::test]
async fn one_that_dies_between_checks_is_ejected_by_the_requests_it_fails() {
    let ((stays, one), (dies, other)) = (bind().await, bind().await);
    let router = || Router::new().route("/", any(|| async {}));
    let (_stays, server) = (serve(stays, router()), serve(dies, router()));
    let settings = OutlierDetection::new();
    let settings = settings.base_ejection(300 * MS).max_ejection(300 * MS);
    let backends = [Backend::new("stays", one), Backend::new("dies", other)];
    let pool = Pool::builder().strategy(Strategy::RoundRobin).backends(backends);
    let pool = pool.outlier_detection(settings).build().unwrap();
    let request = async || {
        let pick = pool.pick().unwrap();
        let answer = Http::get("/").probe(&*pick).await;
        pick.finish(if answer.is_ok() { Outcome::Success } else { Outcome::Failure });
        answer.is_ok()
    };
    for _ in 0..10 {
        assert!(request().await);
    }
    server.abort();
    let _ = server.await;
    let (began, mut failed) = (Instant::now(), 0);
    while pool.stats().ejections == 0 {
        failed += usize::from(!request().await);
    }
    println!("killed: ejected after {:?} and {failed} failures", began.elapsed());
    assert!((5..100).contains(&failed), "{failed}");
    let _server = serve(rebind(other).await, router());
    let took = until(&pool, "dies", true).await;
    assert!(took < 300 * MS + MARGIN, "{took:?}");
    for _ in 0..20 {
        assert!(request().await);
    }
}

#[test]
fn addresses_are_what_can_be_connected_to() {
    assert_eq!("a.example:80".uri().unwrap().host(), Some("a.example"));
    assert_eq!(Arc::new("http://a.example".to_owned()).uri().unwrap().host(), Some("a.example"));
}
