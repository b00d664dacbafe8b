//! The client that fetches keys by default: HTTP/1.1 over TLS, a connection for each request.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

use super::error::BoxError;
use crate::error::BuildError;

/// An address that doesn't answer isn't to cost all the time there is.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Fetches by HTTP/1.1 over TLS 1.2 or 1.3: what [`RemoteKeys`](super::RemoteKeys) do by default.
///
/// Each request has a connection of its own, as one in some minutes needs no more. Redirects are not
/// followed and no proxy is used; a client of one's own can do otherwise
/// ([`RemoteKeysBuilder::client`](super::RemoteKeysBuilder::client)).
#[derive(Clone)]
pub struct HttpsClient {
    tcp: HttpConnector,
    /// None where nobody can be trusted.
    tls: Option<TlsConnector>,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpsClientError {
    /// The URL isn't one to connect to.
    #[error("the URL is not absolute, or names no host")]
    Url,
    /// The operating system has no certificates to trust.
    #[error("the operating system has no certificates; install them, or name an authority")]
    NoAuthorities,
    /// No connection could be made.
    #[error("no connection")]
    Connect(#[source] BoxError),
    /// TLS failed: as a rule, because of the certificate.
    #[error("no TLS")]
    Tls(#[source] io::Error),
    /// The connection ended early, or what came isn't HTTP.
    #[error("no answer")]
    Http(#[source] hyper::Error),
}

impl HttpsClient {
    /// A client that trusts whom the operating system trusts.
    ///
    /// # Errors
    ///
    /// [`BuildError::Setting`] if that is nobody.
    pub fn new() -> Result<Self, BuildError> {
        Self::for_default(true)
    }

    /// A client that trusts the authorities in `pem`, and not those that the operating system does.
    ///
    /// # Errors
    ///
    /// [`BuildError::Setting`] if there are none, or they can't be used.
    pub fn trusting(pem: impl AsRef<[u8]>) -> Result<Self, BuildError> {
        let unusable = "the authorities can't be used; give certificates in PEM";
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_ref()) {
            let certificate = certificate.map_err(|_| BuildError::Setting(unusable))?;
            roots.add(certificate).map_err(|_| BuildError::Setting(unusable))?;
        }
        if roots.is_empty() {
            return Err(BuildError::Setting(unusable));
        }
        Self::with(Some(roots))
    }

    pub(super) fn for_default(is_https: bool) -> Result<Self, BuildError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() && is_https {
            let text = "the operating system has no certificates; install them, or name an authority with HttpsClient::trusting";
            return Err(BuildError::Setting(text));
        }
        Self::with(Some(roots).filter(|roots| !roots.is_empty()))
    }

    fn with(roots: Option<RootCertStore>) -> Result<Self, BuildError> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let Some(roots) = roots else { return Ok(Self { tcp, tls: None }) };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| BuildError::Setting("the provider of TLS supports none of its versions"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tcp, tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    async fn exchange(
        mut self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<HttpsClientBody>, HttpsClientError> {
        let url = request.uri().clone();
        let host = url.host().ok_or(HttpsClientError::Url)?.to_owned();
        // `HttpConnector` is always ready.
        let tcp = self.tcp.call(url.clone()).await;
        let tcp = tcp.map_err(|error| HttpsClientError::Connect(error.into()))?.into_inner();
        let response = if url.scheme() == Some(&Scheme::HTTPS) {
            let tls = self.tls.ok_or(HttpsClientError::NoAuthorities)?;
            let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(name).map_err(|_| HttpsClientError::Url)?;
            let stream = tls.connect(name, tcp).await.map_err(HttpsClientError::Tls)?;
            send(stream, to_origin(request, &url)?).await
        } else {
            send::<TcpStream>(tcp, to_origin(request, &url)?).await
        };
        response.map_err(HttpsClientError::Http)
    }
}

/// RFC 9112 §3.2.1: what is sent to the origin itself names the path, and the host in a field.
fn to_origin(
    mut request: Request<Empty<Bytes>>,
    url: &Uri,
) -> Result<Request<Empty<Bytes>>, HttpsClientError> {
    let authority = url.authority().ok_or(HttpsClientError::Url)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| HttpsClientError::Url)?;
    request.headers_mut().insert(HOST, host);
    let path = url.path_and_query().map_or("/", PathAndQuery::as_str);
    *request.uri_mut() = path.parse().map_err(|_| HttpsClientError::Url)?;
    Ok(request)
}

async fn send<T>(
    stream: T,
    request: Request<Empty<Bytes>>,
) -> Result<Response<HttpsClientBody>, hyper::Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // What it ends with is told to whoever reads the answer.
    let connection = tokio::spawn(async move { drop(connection.await) }).abort_handle();
    let connection = Connection(connection);
    let response = sender.send_request(request).await?;
    Ok(response.map(|inner| HttpsClientBody { inner, _connection: connection }))
}

impl Service<Request<Empty<Bytes>>> for HttpsClient {
    type Response = Response<HttpsClientBody>;
    type Error = HttpsClientError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        Box::pin(self.clone().exchange(request))
    }
}

impl fmt::Debug for HttpsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsClient").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// Ends a connection together with who reads from it.
#[derive(Debug)]
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The content of an answer to [`HttpsClient`].
#[derive(Debug)]
pub struct HttpsClientBody {
    inner: Incoming,
    _connection: Connection,
}

impl Body for HttpsClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
