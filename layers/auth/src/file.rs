//! Keys in a file, which is watched.

mod builder;
mod error;
mod follow;
mod format;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::AbortHandle;

use crate::algorithm::Algorithm;
use crate::health::KeyHealth;
use crate::source::{KeySource, Keys};

pub use builder::FileKeysBuilder;
pub use error::FileError;

use follow::Known;
use format::Format;

/// The keys in a file: a [`KeySource`]. Its clones are the same one.
///
/// The file is read again at intervals, and what is in it counts, not when it was changed or by what:
/// so it may be written in place, renamed over by an editor, or swapped by a link, as Kubernetes does
/// with secrets. One that is missing, written in part or can't be understood changes nothing:
/// [`error`](Self::error) says what is wrong with it.
///
/// ```
/// use tower_keep_auth::{Algorithm, FileKeys, Issuer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/ed25519-public.pem");
/// let keys = FileKeys::pem(path, Algorithm::EdDsa).build()?;
/// let issuer = Issuer::new("https://id.example.com").key_source(keys).audience("orders");
/// # let _ = issuer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FileKeys {
    inner: Arc<Inner>,
}

struct Inner {
    path: Arc<Path>,
    keys: Keys,
    known: Arc<Known>,
    task: AbortHandle,
}

impl FileKeys {
    /// A set of public keys (RFC 7517 §5), as for [`KeySet::from_jwks`](crate::KeySet::from_jwks).
    pub fn jwks(path: impl Into<PathBuf>) -> FileKeysBuilder {
        FileKeysBuilder::new(path.into(), Format::Jwks)
    }

    /// A set of keys that nobody else can read, as for
    /// [`KeySet::from_secret_jwks`](crate::KeySet::from_secret_jwks).
    pub fn secret_jwks(path: impl Into<PathBuf>) -> FileKeysBuilder {
        FileKeysBuilder::new(path.into(), Format::SecretJwks)
    }

    /// One key (RFC 7517 §4), as for [`Key::from_jwk`](crate::Key::from_jwk).
    pub fn jwk(path: impl Into<PathBuf>) -> FileKeysBuilder {
        FileKeysBuilder::new(path.into(), Format::Jwk)
    }

    /// Public keys in PEM, as for [`Key::from_pem`](crate::Key::from_pem): one, or up to four while one
    /// follows the other. They have no names, so each is tried for a token.
    pub fn pem(path: impl Into<PathBuf>, algorithm: Algorithm) -> FileKeysBuilder {
        FileKeysBuilder::new(path.into(), Format::Pem(algorithm))
    }

    /// One public key in DER, as for [`Key::from_der`](crate::Key::from_der).
    pub fn der(path: impl Into<PathBuf>, algorithm: Algorithm) -> FileKeysBuilder {
        FileKeysBuilder::new(path.into(), Format::Der(algorithm))
    }

    /// What is wrong with the file, while something is.
    pub fn error(&self) -> Option<FileError> {
        self.inner.known.error()
    }
}

impl KeySource for FileKeys {
    fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    fn health(&self) -> KeyHealth {
        let Inner { keys, known, .. } = &*self.inner;
        let error = known.error();
        KeyHealth {
            age: Some(known.age()),
            stale: error.is_some(),
            failure: error.map(|error| error.as_str()),
            ..KeyHealth::of(keys)
        }
    }
}

/// The last clone takes the task with it.
impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for FileKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKeys")
            .field("path", &self.inner.path)
            .field("keys", &self.inner.keys)
            .field("error", &self.error())
            .finish()
    }
}
