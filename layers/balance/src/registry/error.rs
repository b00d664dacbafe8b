//! What can go wrong between a service and its registry.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::instance::InvalidInstance;

/// Why a registry couldn't be asked or told something. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// An instance is out of bounds.
    #[error(transparent)]
    Instance(#[from] InvalidInstance),
    /// A setting can't work; the text says what to change.
    #[error("{0}")]
    Setting(&'static str),
    /// The registry knows as many instances of the service as it may.
    #[error("there are {0} instances of the service already, which is as many as there may be")]
    Full(usize),
    /// It couldn't be reached, or didn't do what it was asked.
    #[error("the registry can't be asked: {0}")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
    /// It didn't answer in time.
    #[error("no answer of the registry within {0:?}")]
    Timeout(Duration),
    /// What it says can't be understood; the text says where and why.
    #[error("{0}")]
    Content(Arc<str>),
    /// Another one has registered the same id.
    #[error("another one has registered the same id")]
    Replaced,
    /// It doesn't know the service.
    #[error("the registry has no service {0:?}")]
    Unknown(Arc<str>),
}

impl RegistryError {
    /// It couldn't be asked, by this error or text.
    pub fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(error.into().into())
    }
}

/// Names of services become parts of keys and channels.
pub(super) fn check_service(service: &str) -> Result<(), RegistryError> {
    let broken = |it: char| it.is_control() || it.is_whitespace() || it == '{' || it == '}';
    if service.is_empty() || service.len() > 256 || service.contains(broken) {
        let text =
            "a service's name has 1 to 256 bytes, without blanks, braces and control characters";
        return Err(RegistryError::Setting(text));
    }
    Ok(())
}
