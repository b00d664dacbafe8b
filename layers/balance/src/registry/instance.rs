//! An instance: what a service is made of, as registries know it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::Backend;

/// The longest id, in bytes.
const MAX_ID: usize = 256;

/// The longest address, in bytes.
const MAX_ADDRESS: usize = 1024;

/// How many entries metadata have, at most.
const MAX_ENTRIES: usize = 32;

/// How many bytes the keys and values of metadata come to, at most.
const MAX_METADATA: usize = 4096;

/// One process of a service: where it is, and how it takes part.
///
/// | part | bound |
/// | --- | --- |
/// | id | 1 to 256 bytes, no control characters |
/// | address | 1 to 1024 bytes, no control characters and no blanks |
/// | metadata | 32 entries; 4 KiB of keys and values in all |
///
/// What is out of bounds can't be registered, and is skipped where a registry says it.
///
/// ```
/// use tower_keep_balance::registry::Instance;
///
/// let instance = Instance::new("shop-1", "http://10.0.0.1:3000")
///     .weight(2)
///     .meta("zone", "eu-1a");
/// assert!(instance.validate().is_ok());
/// assert!(Instance::new("shop-1", "").validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    any(feature = "registry-file", feature = "registry-redis"),
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "super::wire::Written", into = "super::wire::Written")
)]
#[must_use]
pub struct Instance {
    pub(super) id: Arc<str>,
    pub(super) address: Arc<str>,
    pub(super) weight: u16,
    pub(super) priority: u8,
    pub(super) metadata: BTreeMap<String, String>,
}

impl Instance {
    /// The instance `id`, which is reached at `address`: a URI or an authority, whatever those who
    /// watch make their backends of. Weight 1, priority 0, no metadata.
    pub fn new(id: impl Into<Arc<str>>, address: impl Into<Arc<str>>) -> Self {
        let (id, address) = (id.into(), address.into());
        Self { id, address, weight: 1, priority: 0, metadata: BTreeMap::new() }
    }

    /// Its share, relative to the others: see [`Backend::weight`]. Default: 1.
    pub fn weight(mut self, weight: u16) -> Self {
        self.weight = weight;
        self
    }

    /// The lower, the sooner it is used: see [`Backend::priority`]. Default: 0.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Something else that is to be known of it, such as its zone or version.
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// By what it is told from the others of its service.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it is reached.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What else is known of it, by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// `target` as a backend that has this instance's id for a name, its weight and its priority.
    pub fn backend<T>(&self, target: T) -> Backend<T> {
        let backend = Backend::new(Arc::clone(&self.id), target);
        backend.weight(self.weight).priority(self.priority)
    }

    /// Whether all of it is within bounds.
    ///
    /// # Errors
    ///
    /// [`InvalidInstance`], with what to change.
    pub fn validate(&self) -> Result<(), InvalidInstance> {
        let metadata = self.metadata.iter().map(|(key, value)| key.len() + value.len());
        let text = if self.id.is_empty() || self.id.len() > MAX_ID {
            "an instance's id has 1 to 256 bytes"
        } else if self.id.contains(char::is_control) {
            "an instance's id has no control characters"
        } else if self.address.is_empty() || self.address.len() > MAX_ADDRESS {
            "an instance's address has 1 to 1024 bytes"
        } else if self.address.contains(|it: char| it.is_control() || it.is_whitespace()) {
            "an instance's address has no control characters and no blanks"
        } else if self.metadata.len() > MAX_ENTRIES || metadata.sum::<usize>() > MAX_METADATA {
            "an instance's metadata have at most 32 entries, and 4 KiB in all"
        } else {
            return Ok(());
        };
        Err(InvalidInstance(text))
    }
}

/// What of an instance is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidInstance(&'static str);
