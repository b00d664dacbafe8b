//! Health checks of upstreams are made as requests are: with the same TLS and the same version of HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tower_keep_balance::health::{Grpc, Http, Plain, Probe, ProbeError};
use tower_keep_balance::proxy::{Protocol, Proxy, Tls, Upstream};
use tower_keep_balance::{Backend, HealthCheck, Pool, State};

use super::support::{Client, get, serve, serve_axum, until};
use super::tls::{serve_tls, server};

const NAME: &str = "upstream.example";

fn upstream(address: SocketAddr, pem: &str, protocol: Protocol) -> Upstream {
    let tls = Tls::new().authority(pem).server_name(NAME);
    let upstream = Upstream::builder(&format!("https://{address}")).protocol(protocol);
    upstream.tls(tls).build().unwrap()
}

async fn ask(probe: impl Probe<Upstream>, upstream: &Upstream) -> Result<(), ProbeError> {
    tokio::time::timeout(Duration::from_secs(20), probe.probe(upstream)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_speaks_the_tls_and_the_version_that_requests_do() {
    for (offered, protocol, version) in [
        (&["h2", "http/1.1"][..], Protocol::Auto, "HTTP/2.0"),
        (&["h2", "http/1.1"], Protocol::Http1, "HTTP/1.1"),
        (&["http/1.1"], Protocol::Auto, "HTTP/1.1"),
        (&["h2"], Protocol::Http2, "HTTP/2.0"),
        (&[], Protocol::Auto, "HTTP/1.1"),
    ] {
        let (address, pem) = server(NAME, offered).await;
        let upstream = upstream(address, &pem, protocol);
        ask(Http::get("/health").body_contains(version), &upstream).await.unwrap();
        let host = Http::get("/health").host(http::HeaderValue::from_static("other.example"));
        ask(host.body_contains(version), &upstream).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_requests_would_not_trust_fails_the_check() {
    let (address, _) = server(NAME, &["http/1.1"]).await;
    let (_, other) = server(NAME, &[]).await;
    let error = ask(Http::get("/"), &upstream(address, &other, Protocol::Auto)).await.unwrap_err();
    assert!(matches!(error, ProbeError::Connect(_)), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_at_another_port_has_the_same_tls_unless_it_is_to_have_none() {
    let (address, pem) = server(NAME, &["http/1.1"]).await;
    let (checks, other) = server(NAME, &["h2"]).await;
    let upstream = {
        let tls = Tls::new().authority(pem).authority(other).server_name(NAME);
        Upstream::builder(&format!("https://{address}")).tls(tls).build().unwrap()
    };
    ask(Http::get("/").body_contains("HTTP/1.1"), &upstream).await.unwrap();
    let elsewhere = Http::get("/").port(checks.port());
    ask(elsewhere.body_contains("HTTP/2.0"), &upstream).await.unwrap();
    let plain = serve_axum(axum::Router::new().route("/", axum::routing::get(async || "ok"))).await;
    let at = Http::get("/").port(plain.port());
    let error = ask(at.clone(), &upstream).await.unwrap_err();
    assert!(error.to_string().contains("handshake"), "{error}");
    ask(at.connector(Plain), &upstream).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_is_checked_through_tls() {
    let (reporter, health) = tonic_health::server::health_reporter();
    let routes = tonic::service::Routes::new(health);
    let (address, pem) = serve_tls(NAME, &["h2"], routes.into_axum_router()).await;
    let upstream = upstream(address, &pem, Protocol::Auto);
    ask(Grpc::service(""), &upstream).await.unwrap();
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    let error = ask(Grpc::service(""), &upstream).await.unwrap_err();
    assert!(matches!(error, ProbeError::NotServing(_)), "{error}");
    // One that offers no HTTP/2 can't be asked.
    let (address, pem) = server(NAME, &["http/1.1"]).await;
    let error = ask(Grpc::service(""), &self::upstream(address, &pem, Protocol::Auto)).await;
    assert!(matches!(error, Err(ProbeError::Connect(_))), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_http_2_only_is_checked_in_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (_reporter, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder().add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let upstream = Upstream::builder(&url).protocol(Protocol::Http2).build().unwrap();
    ask(Http::get("/").status(200..=200), &upstream).await.unwrap();
    ask(Grpc::service(""), &upstream).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_of_upstreams_with_tls_heeds_their_checks() {
    let (good, pem) = server(NAME, &["h2", "http/1.1"]).await;
    let (bad, _) = server(NAME, &["h2", "http/1.1"]).await;
    let backends = [("good", good), ("bad", bad)]
        .map(|(name, address)| Backend::new(name, upstream(address, &pem, Protocol::Auto)));
    let check = HealthCheck::http("/health").interval(Duration::from_millis(300)).fall(2);
    let pool = Pool::builder().backends(backends).health_check(check).build().unwrap();
    until("one is out", || async { !pool.status()[1].is_up }).await;
    assert!(matches!(pool.status()[1].state, State::Unhealthy(ProbeError::Connect(_))));
    let mut client = Client::connect(serve(Proxy::new(pool.clone())).await);
    for _ in 0..20 {
        client.send(&get("/"));
        assert_eq!(client.response().body, "HTTP/2.0");
    }
    until("both were checked", || async { pool.stats().checks > 6 }).await;
    assert!(pool.status()[0].is_up);
}
