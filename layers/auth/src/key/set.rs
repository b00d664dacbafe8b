//! Sets of keys: what an issuer publishes at its `jwks_uri` (RFC 7517 §5).

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Key;
use super::jwk::{self, Jwk};
use crate::error::KeyError;

/// The most bytes of a set in JSON.
pub(super) const MAX_LEN: usize = 256 * 1024;

/// The most keys of a set.
const MAX_KEYS: usize = 256;

/// Keys of one issuer.
///
/// Read from JSON, a set has the keys that can be used here. Those of types, algorithms or uses that
/// aren't known are passed over (RFC 7517 §5), as are those that are too weak, and the rest still
/// works: [`skipped`](Self::skipped) tells of them. Two keys may have one name; each is tried.
///
/// ```
/// use tower_keep_auth::{Algorithm, KeySet};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let set = KeySet::from_jwks(
///     r#"{"keys":[
///         {"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
///         {"kty":"OKP","crv":"Ed448","kid":"b","x":"AA"}
///     ]}"#,
/// )?;
/// assert_eq!(set.keys().count(), 1);
/// assert_eq!(set.skipped()[0].kid.as_deref(), Some("b"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Arc<Key>>,
    skipped: Vec<Skipped>,
}

/// A key of a set in JSON that isn't used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Where it stands in the set, from 0.
    pub index: usize,
    /// Its name, if that could be read.
    pub kid: Option<String>,
    /// Why.
    pub why: KeyError,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// The keys in a set, each as it is written.
fn members(json: &[u8]) -> Result<Vec<&RawValue>, KeyError> {
    if json.len() > MAX_LEN {
        return Err(KeyError::Jwk("the set is larger than 256 KiB"));
    }
    let document: Document<'_> = serde_json::from_str(jwk::checked(json)?)
        .map_err(|_| KeyError::Jwk("it is no set: a JSON object with `keys`, a list"))?;
    if document.keys.len() > MAX_KEYS {
        return Err(KeyError::Jwk("the set has more than 256 keys"));
    }
    Ok(document.keys)
}

/// What may be believed of a key that anybody can read.
fn public(jwk: &Jwk) -> Result<Key, KeyError> {
    if jwk.is_symmetric() {
        return Err(KeyError::Jwk("a secret in a public set is none"));
    }
    if jwk.is_private() {
        return Err(KeyError::Jwk("its private part was published"));
    }
    jwk.read()
}

impl KeySet {
    /// The public keys in a set in JSON, of 256 KiB and 256 keys at most.
    ///
    /// Secrets (`oct`) are passed over: what was published is none. So are keys with private
    /// members, as somebody else may be signing with them by now.
    ///
    /// # Errors
    ///
    /// [`KeyError::Jwk`] if it is no set at all, or too large.
    pub fn from_jwks(json: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        Self::read(json.as_ref(), public)
    }

    /// As [`from_jwks`](Self::from_jwks), and lets others run between two keys: to check a whole set of
    /// them can take a second.
    #[cfg(feature = "jwks")]
    pub(crate) async fn from_jwks_by_turns(json: &[u8]) -> Result<Self, KeyError> {
        let mut set = Self::default();
        for (index, raw) in members(json)?.into_iter().enumerate() {
            set.take(index, raw, public);
            tokio::task::yield_now().await;
        }
        Ok(set)
    }

    /// All keys in a set in JSON that only its owner can read: secrets too, and the public parts of
    /// private keys. Never for what was fetched from somewhere.
    ///
    /// # Errors
    ///
    /// As for [`from_jwks`](Self::from_jwks).
    pub fn from_secret_jwks(json: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        Self::read(json.as_ref(), Jwk::read)
    }

    fn read(json: &[u8], read: impl Fn(&Jwk) -> Result<Key, KeyError>) -> Result<Self, KeyError> {
        let mut set = Self::default();
        for (index, raw) in members(json)?.into_iter().enumerate() {
            set.take(index, raw, &read);
        }
        Ok(set)
    }

    fn take(&mut self, index: usize, raw: &RawValue, read: impl Fn(&Jwk) -> Result<Key, KeyError>) {
        let (kid, key) = match serde_json::from_str::<Jwk>(raw.get()) {
            Ok(jwk) => (jwk.kid.clone(), read(&jwk)),
            Err(_) => (None, Err(KeyError::Jwk("it has no `kty`, or members of wrong types"))),
        };
        match key {
            Ok(key) => self.keys.push(Arc::new(key)),
            Err(why) => self.skipped.push(Skipped { index, kid, why }),
        }
    }

    /// The keys.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.keys.iter().map(|key| &**key)
    }

    /// What was passed over when the set was read.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Whether it has no key, so that every token would be refused.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn into_keys(self) -> Vec<Arc<Key>> {
        self.keys
    }
}

impl FromIterator<Key> for KeySet {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self { keys: keys.into_iter().map(Arc::new).collect(), skipped: Vec::new() }
    }
}

impl From<Key> for KeySet {
    fn from(key: Key) -> Self {
        Self::from_iter([key])
    }
}

impl<const N: usize> From<[Key; N]> for KeySet {
    fn from(keys: [Key; N]) -> Self {
        Self::from_iter(keys)
    }
}
