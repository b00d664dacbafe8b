//! A site of an issuer: real servers over TCP and TLS, and what they publish.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tower_keep_auth::SigningKey;

use super::jwks;

/// What an issuer publishes, and how often it was asked.
#[derive(Clone, Default)]
pub(crate) struct Site(Arc<Shared>);

#[derive(Default)]
struct Shared {
    published: Mutex<Published>,
    asked: AtomicUsize,
}

/// What is at `/jwks`.
#[derive(Default)]
pub(crate) struct Published {
    pub(crate) set: String,
    pub(crate) cache_control: Option<&'static str>,
    /// Whether an `ETag` is sent, and `If-None-Match` answered with 304.
    pub(crate) validates: bool,
    pub(crate) delay: Duration,
    /// In place of all the rest.
    pub(crate) status: Option<StatusCode>,
}

impl Site {
    pub(crate) fn of(keys: &[&SigningKey]) -> Self {
        let site = Self::default();
        site.publish(keys);
        site
    }

    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        self.published().set = jwks(keys);
    }

    pub(crate) fn published(&self) -> MutexGuard<'_, Published> {
        self.0.published.lock().unwrap()
    }

    /// How often `/jwks` was asked for.
    pub(crate) fn asked(&self) -> usize {
        self.0.asked.load(SeqCst)
    }

    pub(crate) fn router(&self) -> Router {
        Router::new().route("/jwks", get(answer)).with_state(self.clone())
    }
}

async fn answer(State(site): State<Site>, request: Request) -> Response {
    site.0.asked.fetch_add(1, SeqCst);
    let delay = site.published().delay;
    tokio::time::sleep(delay).await;
    let published = site.published();
    if let Some(status) = published.status {
        return status.into_response();
    }
    let mut fields = HeaderMap::new();
    if let Some(value) = published.cache_control {
        fields.insert(CACHE_CONTROL, value.parse().unwrap());
    }
    if published.validates {
        let etag = format!("\"{:x}\"", hash(&published.set));
        let is_known = request.headers().get(IF_NONE_MATCH).is_some_and(|it| *it == *etag);
        fields.insert(ETAG, etag.parse().unwrap());
        if is_known {
            return (StatusCode::NOT_MODIFIED, fields).into_response();
        }
    }
    (fields, published.set.clone()).into_response()
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// A server on a port of its own, for as long as it is there.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    listening: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(router: Router) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let listening =
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap_or_default() });
        Self { address, listening }
    }

    /// One with TLS, and the certificate that it shows, for `localhost`.
    pub(crate) async fn start_tls(router: Router) -> (Self, String) {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let listening = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, service) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = TowerToHyperService::new(service);
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        (Self { address, listening }, cert.pem())
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn https_url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
