//! The settings of a layer that are about dictionaries, checked.

use http::HeaderValue;

use super::{Dictionaries, Pattern};
use crate::encoding::Encoding;
use crate::error::ConfigError;

#[derive(Debug)]
pub(crate) struct DictionarySettings {
    pub(crate) known: Dictionaries,
    /// Responses to which paths say that they are dictionaries, and how they say it.
    marked: Vec<(Pattern, HeaderValue)>,
}

impl DictionarySettings {
    /// Nothing, if there are to be no dictionaries.
    pub(crate) fn build<'a>(
        known: Option<Dictionaries>,
        paths: Vec<String>,
        mut encodings: impl Iterator<Item = &'a Encoding>,
    ) -> Result<Option<Self>, ConfigError> {
        if known.is_none() && paths.is_empty() {
            return Ok(None);
        }
        if !encodings.any(|encoding| matches!(encoding, Encoding::Zstd | Encoding::Brotli)) {
            return Err(ConfigError::new(
                "only zstd and br have dictionaries: add one of them to the codings",
            ));
        }
        let marked = paths.into_iter().map(|path| {
            let pattern = Pattern::parse_path(&path)?;
            let value = HeaderValue::try_from(format!("match=\"{path}\""));
            // A pattern has no characters that a field couldn't have.
            Ok((pattern, value.map_err(|error| ConfigError::new(error.to_string()))?))
        });
        let marked = marked.collect::<Result<_, ConfigError>>()?;
        let known = known.map_or_else(|| Dictionaries::builder().build(), Ok)?;
        Ok(Some(Self { known, marked }))
    }

    /// What a response to a request for this path says of itself.
    pub(crate) fn mark(&self, path: &str) -> Option<&HeaderValue> {
        let marked = self.marked.iter().find(|(pattern, _)| pattern.matches(path));
        marked.map(|(_, value)| value)
    }
}
