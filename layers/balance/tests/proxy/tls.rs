//! TLS to upstreams.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tower::{Service, service_fn};

use super::support::{Client, get, pool_of, serve, serve_axum};
use tower_keep_balance::proxy::{Protocol, Proxy, Tls, Upstream, UpstreamBuilder};

/// A server that says in which version it was asked; and its certificate.
pub(crate) async fn server(name: &str, protocols: &[&str]) -> (SocketAddr, String) {
    let says = service_fn(async |request: Request<Incoming>| {
        let version = format!("{:?}", request.version());
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(version))))
    });
    serve_tls(name, protocols, says).await
}

/// A server with TLS; and its certificate.
pub(crate) async fn serve_tls<S, B>(
    name: &str,
    protocols: &[&str],
    service: S,
) -> (SocketAddr, String)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let server = auto::Builder::new(TokioExecutor::new());
                drop(server.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    (address, cert.pem())
}

async fn ask(upstream: UpstreamBuilder) -> (String, String) {
    let address = serve(Proxy::new(pool_of([upstream.build().unwrap()]))).await;
    let mut client = Client::connect(address);
    client.send(&get("/"));
    let response = client.response();
    let error = response.field("proxy-status").and_then(|it| it.split("error=").nth(1));
    (error.unwrap_or_default().to_owned(), response.body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_is_negotiated() {
    let both: &[&str] = &["h2", "http/1.1"];
    let cases = [
        (both, Protocol::Auto, "", "HTTP/2.0"),
        (&["http/1.1"], Protocol::Auto, "", "HTTP/1.1"),
        (&[], Protocol::Auto, "", "HTTP/1.1"),
        (both, Protocol::Http1, "", "HTTP/1.1"),
        (both, Protocol::Http2, "", "HTTP/2.0"),
        (&[], Protocol::Http2, "tls_protocol_error", "The origin does not answer.\n"),
    ];
    for (offered, protocol, error, said) in cases {
        let (address, pem) = server("upstream.example", offered).await;
        let tls = Tls::new().authority(pem).server_name("upstream.example");
        let upstream = Upstream::builder(&format!("https://{address}")).protocol(protocol).tls(tls);
        assert_eq!(
            ask(upstream).await,
            (error.to_owned(), said.to_owned()),
            "{offered:?} {protocol:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_shows_a_certificate_to_trust_is_spoken_to() {
    let (address, pem) = server("upstream.example", &["http/1.1"]).await;
    let (_, other) = server("upstream.example", &[]).await;
    let url = format!("https://{address}");
    for (tls, why) in [
        (Tls::new().authority(other).server_name("upstream.example"), "another authority"),
        (Tls::new().authority(pem.clone()).server_name("other.example"), "another name"),
        (Tls::new().authority(pem), "the address isn't its name"),
    ] {
        let (error, _) = ask(Upstream::builder(&url).tls(tls)).await;
        assert_eq!(error, "tls_certificate_error", "{why}");
    }
    // It doesn't speak TLS.
    let plain = serve_axum(axum::Router::new()).await;
    let (_, pem) = server("a", &[]).await;
    let upstream = Upstream::builder(&format!("https://{plain}"));
    let (error, _) = ask(upstream.tls(Tls::new().authority(pem).server_name("a"))).await;
    assert_eq!(error, "tls_protocol_error");
}

#[test]
fn a_setting_that_can_not_work_is_named() {
    let build =
        |tls| Upstream::builder("https://a.example").tls(tls).build().unwrap_err().to_string();
    for (tls, problem) in [
        (Tls::new().authority("nothing"), "has no certificate in PEM"),
        (Tls::new().authority(include_bytes!("tls.rs")), "has no certificate in PEM"),
        (Tls::new().server_name("a b"), "by its name in TLS"),
    ] {
        let error = build(tls);
        assert!(
            error.starts_with("\"https://a.example\" can't be ") && error.contains(problem),
            "{error}"
        );
    }
}
