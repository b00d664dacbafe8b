//! The settings of the layer.

use std::sync::Arc;

use http::HeaderValue;

use super::layer::DecompressLayer;
use crate::builder::check_encodings;
use crate::decoder::Limits;
use crate::encoding::Encoding;
use crate::error::ConfigError;

/// Settings of a [`DecompressLayer`].
///
/// | setting | default |
/// | --- | --- |
/// | [`encodings`](Self::encodings) | all whose features are enabled: zstd, br, gzip, deflate |
/// | [`limits`](Self::limits) | 16 MiB, and 100 times what was sent |
/// | [`pass_unknown`](Self::pass_unknown) | no |
#[derive(Clone, Debug)]
#[must_use]
pub struct DecompressLayerBuilder {
    encodings: Vec<Encoding>,
    limits: Limits,
    pass_unknown: bool,
}

/// What all services made by one layer share.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) encodings: Vec<Encoding>,
    pub(super) limits: Limits,
    pub(super) pass_unknown: bool,
    /// The codings, as `Accept-Encoding` has them.
    pub(super) accept: Option<HeaderValue>,
}

impl DecompressLayerBuilder {
    pub(super) fn new() -> Self {
        Self {
            encodings: Encoding::enabled().collect(),
            limits: Limits::default(),
            pass_unknown: false,
        }
    }

    /// The codings that are decoded, in the order in which a refusal recommends them.
    pub fn encodings(mut self, encodings: impl IntoIterator<Item = Encoding>) -> Self {
        self.encodings = encodings.into_iter().collect();
        self
    }

    /// How far a body may swell; beyond it, the client gets 413.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether a request in a coding that isn't decoded reaches the inner service as it is. By default
    /// it is refused with 415.
    pub fn pass_unknown(mut self, pass: bool) -> Self {
        self.pass_unknown = pass;
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// If there is no coding, or one is there twice or its feature isn't enabled; or if a limit lets
    /// nothing through.
    pub fn build(self) -> Result<DecompressLayer, ConfigError> {
        check_encodings(&self.encodings)?;
        if self.limits.max_len == 0 || self.limits.max_ratio == 0 {
            return Err(ConfigError::new(
                "max_len and max_ratio are 1 or more: with 0, no body could be read",
            ));
        }
        let names: Vec<_> = self.encodings.iter().map(|encoding| encoding.name()).collect();
        Ok(DecompressLayer::new(Arc::new(Settings {
            accept: HeaderValue::from_str(&names.join(", ")).ok(),
            encodings: self.encodings,
            limits: self.limits,
            pass_unknown: self.pass_unknown,
        })))
    }
}
