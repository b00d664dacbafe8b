//! Settings of an upstream, checked when it is built.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;

use super::address::{Address, AddressError};
use super::{Shared, Upstream};
use crate::proxy::connect::Connector;
use crate::proxy::connections::{Connections, Limits};
#[cfg(feature = "tls")]
use crate::proxy::tls::Tls;

/// Which version of HTTP is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// With TLS, HTTP/2 if the upstream offers it (ALPN, RFC 7301), else HTTP/1.1. Without TLS,
    /// HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2. Without TLS, it begins with HTTP/2 at once (RFC 9113 §3.3, "prior knowledge"; h2c),
    /// as servers of gRPC want it.
    Http2,
}

/// Settings of an [`Upstream`].
///
/// | setting | default | elsewhere |
/// | --- | --- | --- |
/// | [`protocol`](Self::protocol) | [`Protocol::Auto`] | |
/// | [`connect_timeout`](Self::connect_timeout) | 5 s | Envoy's `connect_timeout`, HAProxy's `timeout connect` |
/// | [`response_timeout`](Self::response_timeout) | 60 s | nginx's `proxy_read_timeout` |
/// | [`body_timeout`](Self::body_timeout) | 5 min | Envoy's `stream_idle_timeout` |
/// | [`idle_timeout`](Self::idle_timeout) | 60 s | nginx's `keepalive_timeout` of an upstream |
/// | [`max_idle`](Self::max_idle) | 1024 | nginx's `keepalive` |
#[derive(Clone, Debug)]
#[must_use]
pub struct UpstreamBuilder {
    url: String,
    protocol: Protocol,
    connect_timeout: Duration,
    response_timeout: Option<Duration>,
    body_timeout: Option<Duration>,
    limits: Limits,
    #[cfg(feature = "tls")]
    tls: Tls,
}

impl UpstreamBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            protocol: Protocol::default(),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Some(Duration::from_secs(60)),
            body_timeout: Some(Duration::from_secs(300)),
            limits: Limits { max_idle: 1024, idle_timeout: Duration::from_secs(60) },
            #[cfg(feature = "tls")]
            tls: Tls::default(),
        }
    }

    /// Which version of HTTP is spoken to it.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// How long it may take until a connection can be used: for the look-up of its name, TCP, and the
    /// handshakes of TLS and HTTP/2 together.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long nothing may happen until the head of the response is there. While the upstream takes
    /// the request's content, time begins anew with each part of it. `None` waits for ever.
    pub fn response_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.response_timeout = timeout.into();
        self
    }

    /// How long it may be silent in the middle of its response. A client that is slow to take what
    /// has come costs it nothing. `None` waits for ever.
    pub fn body_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.body_timeout = timeout.into();
        self
    }

    /// After how long without a request a connection of HTTP/1.1 is closed. It should be less than
    /// the upstream's own, so that no request meets a connection that is just being closed there.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.idle_timeout = timeout;
        self
    }

    /// How many connections of HTTP/1.1 are kept without a request.
    pub fn max_idle(mut self, connections: usize) -> Self {
        self.limits.max_idle = connections;
        self
    }

    /// Whom to trust, and as whom to speak. For `https` only.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// The upstream. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`AddressError`], with what to change, if the URL names no upstream.
    pub fn build(self) -> Result<Upstream, AddressError> {
        let address = Address::parse(&self.url)?;
        if self.connect_timeout.is_zero() {
            let problem = "can't be connected to in no time; the default of connect_timeout is 5 s";
            return Err(AddressError::new(&self.url, problem));
        }
        let is_tls = address.scheme == Scheme::HTTPS;
        let connector = Connector::new(address.uri(), self.connect_timeout);
        #[cfg(feature = "tls")]
        let connector = if is_tls {
            let tls = self.tls.connector(address.authority.host());
            connector.with_tls(tls.map_err(|problem| AddressError::new(&self.url, problem))?)
        } else {
            connector
        };
        Ok(Upstream(Arc::new(Shared {
            address,
            connections: Connections::new(connector, self.protocol, is_tls, self.limits),
            response_timeout: self.response_timeout,
            body_timeout: self.body_timeout,
        })))
    }
}
