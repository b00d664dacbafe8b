//! TLS to clients: one of several certificates, by the name that the client asks for.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, ServerConfig};

use crate::config::{Certificate, Listener, Protocols};

/// What accepts connections with TLS, if the listener has it.
pub(crate) fn acceptor(listener: &Listener) -> Result<Option<TlsAcceptor>, Error> {
    let Some(certificates) = Certificates::new(&listener.certificates) else { return Ok(None) };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let config = match &listener.client_authorities {
        None => config.with_no_client_auth(),
        Some(it) => config.with_client_cert_verifier(Arc::clone(&it.verifier)),
    };
    let mut config = config.with_cert_resolver(Arc::new(certificates));
    let Protocols { http1, http2 } = listener.protocols;
    let offered = [(http2, &b"h2"[..]), (http1, b"http/1.1")];
    config.alpn_protocols =
        offered.iter().filter(|(is_on, _)| *is_on).map(|(_, name)| name.to_vec()).collect();
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Certificates by the hosts that they are for (RFC 6066 §3).
#[derive(Debug)]
struct Certificates {
    /// `*.example.com` as it is.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// For clients that ask for none of them.
    first: Arc<CertifiedKey>,
}

impl Certificates {
    fn new(certificates: &[Certificate]) -> Option<Self> {
        let first = Arc::clone(&certificates.first()?.key);
        let mut by_name = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                // The first in the file counts.
                by_name.entry(name.clone()).or_insert_with(|| Arc::clone(&certificate.key));
            }
        }
        Some(Self { by_name, first })
    }

    /// A star stands for one label (RFC 6125 §6.4.3).
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let below = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
        self.by_name.get(name).or_else(below)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls has it in lower case.
        let found = client.server_name().and_then(|name| self.find(name));
        Some(Arc::clone(found.unwrap_or(&self.first)))
    }
}
