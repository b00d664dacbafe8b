//! Settings of a proxy, checked when it is built.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;

use super::balanced::{Balanced, Balancing};
use super::forwarded::Forwarding;
use super::pseudonym::Pseudonym;
use super::service::Proxy;
use crate::error::BuildError;
use crate::failures::HttpFailures;
use crate::queue::Queue;
use crate::retry::RetryBuilder;

/// Which host upstreams are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostPolicy {
    /// The one that the client asked for: what a cache in front keys on, and what links and cookies
    /// of the response are about.
    #[default]
    Client,
    /// The one in the upstream's own URL.
    Upstream,
    /// This one.
    Fixed(Authority),
}

/// Settings of a [`Proxy`].
///
/// | setting | default |
/// | --- | --- |
/// | [`name`](Self::name) | `tower-keep`, with something random behind it |
/// | [`forwarding`](Self::forwarding) | both ways, no peer trusted |
/// | [`host`](Self::host) | [`HostPolicy::Client`] |
/// | [`upgrades`](Self::upgrades) | `websocket` |
/// | [`tunnel_timeout`](Self::tunnel_timeout) | 1 hour |
///
/// And of one over a pool:
///
/// | setting | default |
/// | --- | --- |
/// | [`retry`](Self::retry) | 3 attempts, and else as in [`RetryBuilder`] |
/// | [`queue`](Self::queue) | as in [`Queue`]: 1,024 requests for up to a second |
/// | [`affinity`](Self::affinity) | none |
/// | [`failures`](Self::failures) | [`HttpFailures::new`] |
#[derive(Clone, Debug)]
#[must_use]
pub struct ProxyBuilder<S> {
    inner: S,
    name: Option<String>,
    settings: Settings,
}

/// A service that brings requests to upstreams, where a [`ProxyBuilder`] is for a proxy around it.
#[derive(Clone, Debug)]
pub struct Around<S>(pub(super) S);

/// What a proxy goes by.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) pseudonym: Pseudonym,
    pub(super) forwarding: Forwarding,
    pub(super) host: HostPolicy,
    pub(super) upgrades: Vec<String>,
    pub(super) tunnel_timeout: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pseudonym: Pseudonym::default(),
            forwarding: Forwarding::default(),
            host: HostPolicy::default(),
            upgrades: vec!["websocket".to_owned()],
            tunnel_timeout: Some(Duration::from_secs(3600)),
        }
    }
}

impl<S> ProxyBuilder<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, name: None, settings: Settings::default() }
    }

    /// The proxy's name in `Via` and `Proxy-Status`. Two proxies of which one may be in front of the
    /// other need different ones, or they take each other for a loop.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// As [`name`](Self::name), for those who use it elsewhere as well.
    pub fn pseudonym(mut self, pseudonym: Pseudonym) -> Self {
        self.settings.pseudonym = pseudonym;
        self.name = None;
        self
    }

    /// How upstreams are told of the client.
    pub fn forwarding(mut self, forwarding: Forwarding) -> Self {
        self.settings.forwarding = forwarding;
        self
    }

    /// Which host upstreams are asked for.
    pub fn host(mut self, host: HostPolicy) -> Self {
        self.settings.host = host;
        self
    }

    /// To which protocols a connection of HTTP/1.1 may be changed (RFC 9110 §7.8), or a stream of
    /// HTTP/2, if the server in front lets clients ask (RFC 8441; hyper's `enable_connect_protocol`).
    /// The upstream is asked in HTTP/1.1, unless it is set to
    /// [`Protocol::Http2`](super::Protocol::Http2): any pair of versions works. What goes over it then is
    /// not looked at, so it should be nothing in which requests could be hidden: `h2c` is refused for
    /// that.
    pub fn upgrades<P: Into<String>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.settings.upgrades = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// After how long without a byte in either direction a connection that has changed protocols is
    /// closed; at most twice that. `None` waits for ever.
    pub fn tunnel_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.tunnel_timeout = timeout.into();
        self
    }

    /// What it is built of, if the settings can work.
    fn check(self) -> Result<(S, Arc<Settings>), BuildError> {
        let mut settings = self.settings;
        if let Some(name) = self.name {
            settings.pseudonym = Pseudonym::new(&name).ok_or(BuildError::Name(name))?;
        }
        let is_wrong = |protocol: &&String| {
            Pseudonym::new(protocol).is_none() || protocol.eq_ignore_ascii_case("h2c")
        };
        if let Some(wrong) = settings.upgrades.iter().find(is_wrong) {
            return Err(BuildError::Upgrade(wrong.clone()));
        }
        Ok((self.inner, Arc::new(settings)))
    }
}

impl<S> ProxyBuilder<Around<S>> {
    /// The proxy.
    ///
    /// # Errors
    ///
    /// [`BuildError`], with what to change, if the settings can't work.
    pub fn build(self) -> Result<Proxy<S>, BuildError> {
        let (Around(inner), settings) = self.check()?;
        Ok(Proxy::with(inner, settings))
    }
}

impl<A> ProxyBuilder<Balancing<A>> {
    /// Which requests are sent again, how often, and how long all attempts may take together.
    pub fn retry(mut self, retry: RetryBuilder) -> Self {
        self.inner.retry = retry;
        self
    }

    /// How many requests may wait while no upstream has room.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.inner.queue = queue;
        self
    }

    /// Which responses are failures of their upstream, for outlier detection.
    pub fn failures(mut self, failures: HttpFailures) -> Self {
        self.inner.failures = failures;
        self
    }

    /// Says which requests belong together, for a pool whose strategy is
    /// [`Hash`](crate::Strategy::Hash). It sees a request as upstreams get it; only
    /// [`ByClient`](crate::ByClient) goes by what came, whatever [`forwarding`](Self::forwarding)
    /// makes of that.
    pub fn affinity<B>(self, affinity: B) -> ProxyBuilder<Balancing<B>> {
        let Self { inner, name, settings } = self;
        ProxyBuilder { inner: inner.affinity(affinity), name, settings }
    }

    /// The proxy.
    ///
    /// # Errors
    ///
    /// [`BuildError`], with what to change, if the settings can't work.
    pub fn build(self) -> Result<Proxy<Balanced<A>>, BuildError> {
        let (inner, settings) = self.check()?;
        Ok(Proxy::with(inner.build()?, settings))
    }
}
