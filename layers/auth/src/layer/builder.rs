//! Settings of a [`JwtLayer`], checked when it is built.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;

use super::JwtLayer;
use crate::answer::{Answers, Render};
use crate::challenge::Challenge;
use crate::denial::Denial;
use crate::error::BuildError;
use crate::gate::{Gate, Mark};
use crate::locate::Places;
use crate::require::Require;
use crate::stats::Counters;
use crate::verifier::Verifier;

/// Settings of a [`JwtLayer`].
///
/// | setting | default |
/// | --- | --- |
/// | [`cookie`](Self::cookie), [`query`](Self::query) | tokens are in `Authorization` alone |
/// | [`optional`](Self::optional), [`ignore_invalid`](Self::ignore_invalid) | a token is needed |
/// | [`require`](Self::require) | a token that is right is enough |
/// | [`strip`](Self::strip) | inner services see the token, in `Authorization` |
/// | [`realm`](Self::realm) | `api` |
/// | [`resource_metadata`](Self::resource_metadata) | none |
/// | [`problem_details`](Self::problem_details), [`render`](Self::render) | refusals have no body |
/// | [`retry_after`](Self::retry_after) | 5 s |
#[must_use]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct JwtLayerBuilder<C> {
    verifier: Verifier<C>,
    places: Places,
    optional: bool,
    ignore_invalid: bool,
    strip: bool,
    require: Option<Require>,
    realm: String,
    metadata: Option<String>,
    problems: bool,
    retry_after: Duration,
    render: Option<Arc<Render>>,
}

impl<C> JwtLayerBuilder<C> {
    pub(super) fn new(verifier: Verifier<C>) -> Self {
        Self {
            verifier,
            places: Places::default(),
            optional: false,
            ignore_invalid: false,
            strip: false,
            require: None,
            realm: "api".to_owned(),
            metadata: None,
            problems: false,
            retry_after: Duration::from_secs(5),
            render: None,
        }
    }

    /// Takes a token also from that cookie. Browsers send cookies along with requests that other sites
    /// make them send, so let it be `SameSite`, or check `Origin`.
    ///
    /// Inner services see the token in `Authorization` instead, where caches know it for what it is;
    /// credentials of another scheme that are there give way.
    pub fn cookie(mut self, name: impl Into<String>) -> Self {
        self.places.cookie = Some(name.into().into());
        self
    }

    /// Takes a token also from that parameter of the query; `access_token` in RFC 6750 §2.3, which
    /// says not to do so unless there is no other way: targets are in logs, histories and `Referer`.
    ///
    /// Inner services don't see it in the target, but in `Authorization`. What is outside of the layer
    /// sees it as it came, and so does `OriginalUri` of axum unless the feature `axum` is on. Responses
    /// are `private, no-store` whatever the inner service says. A cache outside must not leave the
    /// parameter out of its key, or it answers who has such a token as it does those who have none.
    pub fn query(mut self, name: impl Into<String>) -> Self {
        self.places.query = Some(name.into().into());
        self
    }

    /// Lets requests without a token through, too. One that is wrong is still refused: its sender
    /// thinks that he is somebody.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Takes requests with a token that is refused for requests without one; only with
    /// [`optional`](Self::optional). The token is taken out, so that nothing inside believes it. While
    /// no keys are known they are still answered 503, since nothing may be wrong with the token.
    pub fn ignore_invalid(mut self) -> Self {
        self.ignore_invalid = true;
        self
    }

    /// What each token must say. For single routes there is [`RequireLayer`](crate::RequireLayer).
    pub fn require(mut self, require: Require) -> Self {
        self.require = Some(match self.require {
            None => require,
            Some(before) => before.and(require),
        });
        self
    }

    /// Takes the token out of requests, for inner services that must not see it.
    ///
    /// Since a cache inside can't see then that a request is somebody's, the request is given
    /// `Cache-Control: no-store`, and nothing that comes of it is stored. To have a cache in front of
    /// upstreams that must not see tokens, leave this off and remove `Authorization` inside of the
    /// cache.
    pub fn strip(mut self) -> Self {
        self.strip = true;
        self
    }

    /// The name of what is protected, in `WWW-Authenticate`. Default: `api`.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = realm.into();
        self
    }

    /// Where clients find out which authorization server to ask: `resource_metadata` in
    /// `WWW-Authenticate` (RFC 9728 §5.1), a whole URL.
    pub fn resource_metadata(mut self, url: impl Into<String>) -> Self {
        self.metadata = Some(url.into());
        self
    }

    /// Gives refusals a body: `application/problem+json` (RFC 9457).
    pub fn problem_details(mut self) -> Self {
        self.problems = true;
        self
    }

    /// What `Retry-After` says, in whole seconds, while no keys are known. Default: 5 s.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = after;
        self
    }

    /// Changes or replaces responses to requests that are refused. It isn't asked for those to calls of
    /// gRPC, whose form is fixed. Unless it sets `Cache-Control`, that is `no-store`.
    pub fn render(
        mut self,
        render: impl Fn(&Denial, Response<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.render = Some(Arc::new(render));
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`BuildError`], with what to change.
    pub fn build(self) -> Result<JwtLayer<C>, BuildError> {
        let is_token = |name: &str| http::HeaderName::from_bytes(name.as_bytes()).is_ok();
        if !self.places.cookie.as_deref().is_none_or(is_token) {
            return Err(BuildError::Setting(
                "`cookie` must be the name of a cookie: visible ASCII characters without separators",
            ));
        }
        if self.places.query.as_deref().is_some_and(str::is_empty) {
            return Err(BuildError::Setting("`query` must be the name of a parameter, not empty"));
        }
        if self.ignore_invalid && !self.optional {
            return Err(BuildError::Setting(
                "`ignore_invalid` would let nobody through; add `optional`, or leave it out",
            ));
        }
        if self.optional && self.require.is_some() {
            return Err(BuildError::Setting(
                "`require` needs a token, which `optional` says is not needed; leave out one, or \
                 require it of single routes with `RequireLayer`",
            ));
        }
        if let Some(require) = &self.require {
            require.check()?;
        }
        let challenge = Challenge::new(&self.realm, self.metadata.as_deref())?;
        // Of the query a cache knows anyway.
        let mark = if self.places.cookie.is_some() { Mark::Cookie } else { Mark::Authorization };
        let answers = Arc::new(Answers {
            challenge,
            problems: self.problems,
            retry_after: self.retry_after,
            render: self.render,
            counters: Counters::default(),
        });
        let gate = Gate {
            verifier: self.verifier,
            places: self.places,
            optional: self.optional,
            ignore_invalid: self.ignore_invalid,
            strip: self.strip,
            require: self.require,
            mark,
            answers,
        };
        Ok(JwtLayer { gate: Arc::new(gate) })
    }
}

impl<C> fmt::Debug for JwtLayerBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtLayerBuilder")
            .field("verifier", &self.verifier)
            .field("places", &self.places)
            .field("optional", &self.optional)
            .field("require", &self.require)
            .finish_non_exhaustive()
    }
}
