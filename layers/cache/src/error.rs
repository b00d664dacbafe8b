//! Why a layer cannot be built.

/// A setting that can't work; the text says what to change.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cache configuration: {0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
