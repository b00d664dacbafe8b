//! The settings of the layer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::layer::BodyKeyLayer;
use crate::budget::Budget;
use crate::error::ConfigError;
use crate::head::RequestHead;

type When = dyn Fn(&RequestHead<'_>) -> bool + Send + Sync;
type WhenContent = dyn Fn(&RequestHead<'_>, &Bytes) -> bool + Send + Sync;

/// Settings of a [`BodyKeyLayer`].
///
/// | setting | default |
/// | --- | --- |
/// | [`methods`](Self::methods) | `QUERY` |
/// | [`when`](Self::when) | always |
/// | [`when_content`](Self::when_content) | always |
/// | [`max_len`](Self::max_len) | 64 KiB |
/// | [`max_wait`](Self::max_wait) | 1 s |
/// | [`max_in_flight`](Self::max_in_flight) | 64 MiB |
#[derive(Clone)]
#[must_use]
pub struct BodyKeyLayerBuilder {
    methods: Vec<Method>,
    when: Option<Arc<When>>,
    when_content: Option<Arc<WhenContent>>,
    max_len: usize,
    max_wait: Duration,
    max_in_flight: usize,
}

/// What all services made by one layer share.
pub(super) struct Settings {
    pub(super) methods: Vec<Method>,
    pub(super) when: Option<Arc<When>>,
    pub(super) when_content: Option<Arc<WhenContent>>,
    pub(super) max_len: usize,
    pub(super) max_wait: Duration,
    pub(super) budget: Budget,
}

impl BodyKeyLayerBuilder {
    pub(super) fn new() -> Self {
        Self {
            methods: Method::from_bytes(b"QUERY").into_iter().collect(),
            when: None,
            when_content: None,
            max_len: 64 << 10,
            max_wait: Duration::from_secs(1),
            max_in_flight: 64 << 20,
        }
    }

    /// The methods of the requests that may only read. `POST` is among them where it carries what
    /// asks: GraphQL, searches, unary calls of gRPC.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Which of these requests do read, by their heads; the paths of a search, for example. Whatever
    /// it answers `true` to may be answered from the store, and then doesn't reach the handler.
    pub fn when(
        mut self,
        reads: impl Fn(&RequestHead<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.when = Some(Arc::new(reads));
        self
    }

    /// Which of them do read, by their content, for protocols that read and write at the same path:
    /// a GraphQL server gets its mutations where it gets its queries. It is asked once the whole
    /// content is there. A request for which it answers `false` is a write like any other.
    pub fn when_content(
        mut self,
        reads: impl Fn(&RequestHead<'_>, &Bytes) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.when_content = Some(Arc::new(reads));
        self
    }

    /// The longest content that is read, in bytes. A request with a longer one passes on, with what
    /// was read of it in front of the rest, and isn't looked up.
    pub fn max_len(mut self, bytes: usize) -> Self {
        self.max_len = bytes;
        self
    }

    /// The longest that the content may take to arrive. If it takes longer, as the stream of a
    /// streaming call does, the request passes on as above.
    pub fn max_wait(mut self, longest: Duration) -> Self {
        self.max_wait = longest;
        self
    }

    /// How many bytes of content may be held at once by all requests that are being read, or wait to
    /// be answered. A request that would need more passes on as above.
    pub fn max_in_flight(mut self, bytes: usize) -> Self {
        self.max_in_flight = bytes;
        self
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], with what to change, if a setting can't work.
    pub fn build(self) -> Result<BodyKeyLayer, ConfigError> {
        // RFC 9110 §9.3: what these do is given by their definition. GET and HEAD have no content
        // that means anything, and need no reading.
        let other = [
            Method::GET,
            Method::HEAD,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
            Method::TRACE,
            Method::CONNECT,
        ];
        if let Some(method) = self.methods.iter().find(|method| other.contains(method)) {
            return Err(ConfigError::new(format!(
                "{method} can't be keyed by its content; only QUERY, POST and methods of your own \
                 can read by what they carry"
            )));
        }
        if self.methods.is_empty() {
            return Err(ConfigError::new(
                "methods is empty: nothing would be keyed by its content",
            ));
        }
        if self.max_in_flight < self.max_len {
            return Err(ConfigError::new(
                "max_in_flight is smaller than max_len: no content of that size could be read",
            ));
        }
        if self.max_wait.is_zero() {
            return Err(ConfigError::new("max_wait is 0: no content would arrive in time"));
        }
        Ok(BodyKeyLayer::new(Settings {
            methods: self.methods,
            when: self.when,
            when_content: self.when_content,
            max_len: self.max_len,
            max_wait: self.max_wait,
            budget: Budget::new(self.max_in_flight),
        }))
    }
}

impl fmt::Debug for BodyKeyLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyKeyLayerBuilder")
            .field("methods", &self.methods)
            .field("max_len", &self.max_len)
            .field("max_wait", &self.max_wait)
            .field("max_in_flight", &self.max_in_flight)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("methods", &self.methods)
            .field("max_len", &self.max_len)
            .field("max_wait", &self.max_wait)
            .finish_non_exhaustive()
    }
}
