//! Certificates and their keys: read from the files that the configuration names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use super::table::Table;

/// A chain and its key, and the hosts that it is for.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) names: Vec<String>,
    pub(crate) key: Arc<CertifiedKey>,
}

impl Certificate {
    pub(super) fn read_all(listener: &Table<'_>, near: &Path) -> Vec<Self> {
        let tables = listener.tables("certificates");
        if tables.is_empty() && listener.value("certificates").is_some() {
            listener.refuse("certificates", "without any, there is no TLS; leave it out for that");
        }
        tables.iter().filter_map(|table| Self::read(table, near)).collect()
    }

    fn read(table: &Table<'_>, near: &Path) -> Option<Self> {
        let chain = read_file(table, "chain", near, "a file with a certificate in PEM");
        let key = read_file(table, "key", near, "a file with its private key in PEM");
        let (chain, key) = chain.zip(key)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
        let certificates = match certificates {
            Ok(certificates) if !certificates.is_empty() => certificates,
            Ok(_) => {
                table.refuse("chain", "the file has no certificate in PEM");
                return None;
            }
            Err(error) => {
                table.refuse("chain", format!("the file is not in PEM: {error}"));
                return None;
            }
        };
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| table.refuse("key", format!("the file has no key in PEM: {error}")))
            .ok()?;
        let names = names(certificates.first()?)
            .map_err(|error| {
                table.refuse("chain", format!("the certificate can't be read: {error}"));
            })
            .ok()?;
        CertifiedKey::from_der(certificates, key, &ring::default_provider())
            .map_err(|error| table.refuse("key", format!("it doesn't go with the chain: {error}")))
            .ok()
            .map(|key| Self { names, key: Arc::new(key) })
    }
}

/// Whose certificates clients have to show.
#[derive(Clone)]
pub(crate) struct Authorities {
    trusted: Vec<CertificateDer<'static>>,
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
}

impl Authorities {
    pub(super) fn read(listener: &Table<'_>, near: &Path) -> Option<Self> {
        const KEY: &str = "client_authorities";
        let paths = listener.get::<Vec<PathBuf>>(KEY).filter(|paths| !paths.is_empty())?;
        if listener.value("certificates").is_none() {
            listener.refuse(KEY, "it is for listeners with TLS, which have `certificates`");
        }
        let (mut trusted, mut roots) = (Vec::new(), RootCertStore::empty());
        for path in paths {
            let pem = read_path(listener, KEY, &path, near)?;
            let before = trusted.len();
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let added = certificate.map_err(|error| error.to_string()).and_then(|it| {
                    trusted.push(it.clone());
                    roots.add(it).map_err(|error| error.to_string())
                });
                added
                    .map_err(|why| listener.refuse(KEY, format!("{}: {why}", path.display())))
                    .ok()?;
            }
            if trusted.len() == before {
                let why = format!("{}: the file has no certificate in PEM", path.display());
                listener.refuse(KEY, why);
            }
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        // Without any, that is told already.
        Some(Self { trusted, verifier: verifier.build().ok()? })
    }
}

impl Authorities {
    /// Whether all that `others` trust are among these.
    pub(crate) fn include(&self, others: &Self) -> bool {
        others.trusted.iter().all(|it| self.trusted.contains(it))
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.trusted == other.trusted
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("trusted", &self.trusted.len()).finish_non_exhaustive()
    }
}

/// The hosts that a certificate is for (RFC 6125), in lower case.
fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, webpki::Error> {
    let certificate = EndEntityCert::try_from(certificate)?;
    Ok(certificate.valid_dns_names().map(str::to_lowercase).collect())
}

/// The content of a file that `key` names; beside the configuration, unless its path is absolute.
pub(super) fn read_file(
    table: &Table<'_>,
    key: &'static str,
    near: &Path,
    what: &str,
) -> Option<Vec<u8>> {
    read_path(table, key, &table.need::<PathBuf>(key, what)?, near)
}

pub(super) fn read_path(
    table: &Table<'_>,
    key: &'static str,
    path: &Path,
    near: &Path,
) -> Option<Vec<u8>> {
    let path = near.join(path);
    std::fs::read(&path)
        .map_err(|error| table.refuse(key, format!("{}: {error}", path.display())))
        .ok()
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }
}

impl fmt::Debug for Certificate {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}
