//! TLS to upstreams.

use std::fmt;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, ClientConfig, RootCertStore};

use super::connect::{Offer, Stream};
use super::error::{BoxError, ErrorKind, UpstreamError, find};

/// Whom to trust among upstreams with TLS, and as whom to speak to them.
///
/// TLS 1.2 and 1.3, through rustls. Without any setting, the certificates that the operating system
/// trusts are trusted, and the upstream must show one for the host in its URL.
#[derive(Clone, Default)]
#[must_use]
pub struct Tls {
    authorities: Vec<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
}

impl Tls {
    /// The default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts certificates of the authorities in `pem`, and not those that the operating system
    /// trusts. Can be said several times.
    pub fn authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities.push(pem.into());
        self
    }

    /// Shows a certificate to upstreams that ask for one (mutual TLS): a chain and its key, both in
    /// PEM.
    pub fn identity(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((chain.into(), key.into()));
        self
    }

    /// The name that is asked for (SNI, RFC 6066 §3), and that the certificate must be for. Default:
    /// the host in the upstream's URL.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// What makes connections to `host`; or what is wrong with the settings.
    pub(super) fn connector(&self, host: &str) -> Result<TlsConnector, String> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name)
            .map_err(|error| format!("can't be asked for by its name in TLS: {error}"))?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("can't be spoken to with TLS: {error}"))?
            .with_root_certificates(self.roots()?);
        let config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let refused = |error: &dyn fmt::Display| {
                    format!("can't be shown the identity: {error}; it is a chain and a key in PEM")
                };
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
                let chain = chain.map_err(|error| refused(&error))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| refused(&error))?;
                config.with_client_auth_cert(chain, key).map_err(|error| refused(&error))?
            }
        };
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            tokio_rustls::TlsConnector::from(Arc::new(config))
        };
        Ok(TlsConnector {
            http1: offering(&[b"http/1.1"]),
            http2: offering(&[b"h2"]),
            both: offering(&[b"h2", b"http/1.1"]),
            name,
        })
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        if self.authorities.is_empty() {
            let native = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(native.certs);
            if roots.is_empty() {
                let problem = "can't be trusted: the operating system has no certificates; install \
                    them, or name an authority";
                return Err(problem.to_owned());
            }
        }
        for pem in &self.authorities {
            let before = roots.len();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| error.to_string());
                certificate
                    .and_then(|it| roots.add(it).map_err(|error| error.to_string()))
                    .map_err(|error| {
                        format!("can't be trusted: an authority is unusable: {error}")
                    })?;
            }
            if roots.len() == before {
                let problem = "can't be trusted: an authority has no certificate in PEM";
                return Err(problem.to_owned());
            }
        }
        Ok(roots)
    }
}

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities.len())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

/// Makes connections with TLS to one host.
#[derive(Clone)]
pub(super) struct TlsConnector {
    http1: tokio_rustls::TlsConnector,
    http2: tokio_rustls::TlsConnector,
    both: tokio_rustls::TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnector {
    /// The connection, and whether the other side chose HTTP/2.
    pub(super) async fn handshake(
        &self,
        tcp: TcpStream,
        offer: Offer,
    ) -> Result<(Stream, bool), UpstreamError> {
        let connector = match offer {
            Offer::Http1 => &self.http1,
            Offer::Http2 => &self.http2,
            Offer::Both => &self.both,
        };
        let tls = connector.connect(self.name.clone(), tcp).await.map_err(failure)?;
        let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        if offer == Offer::Http2 && !is_http2 {
            return Err(UpstreamError::new(ErrorKind::Tls).unsent().with("it offers no HTTP/2"));
        }
        Ok((Stream::Tls(Box::new(tls)), is_http2))
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsConnector").field(&self.name).finish()
    }
}

fn failure(error: std::io::Error) -> UpstreamError {
    let error: BoxError = error.into();
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let rustls = inner.and_then(|inner| find::<rustls::Error>(inner));
    let kind = match rustls {
        Some(
            rustls::Error::InvalidCertificate(_)
            | rustls::Error::AlertReceived(AlertDescription::UnknownCA),
        ) => ErrorKind::Certificate,
        Some(_) => ErrorKind::Tls,
        None => return UpstreamError::connect(error),
    };
    UpstreamError::new(kind).unsent().with(error)
}
