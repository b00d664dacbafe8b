//! The connections to one upstream: made when they are needed, shared or used again.
//!
//! HTTP/1.1 takes a connection for each request, of those that are idle the one that was used last.
//! HTTP/2 takes one for as many as the other side lets; it is made once, however many wait for it, and
//! if all of them have gone away, the attempt goes with them.

mod http2;
mod idle;

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::WeakShared;
use http::Uri;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

pub(super) use self::http2::Http2Lease;
use self::http2::{Connecting, Http2};
use self::idle::Idle;
use super::connect::{Connector, Offer, Stream};
use super::content::Content;
use super::error::{ErrorKind, UpstreamError};
use super::upstream::Protocol;
use crate::health::{Connection, Versions};

type Http1 = http1::SendRequest<Content>;

/// How many idle connections are kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_idle: usize,
    pub(super) idle_timeout: Duration,
}

/// All connections to one upstream.
#[derive(Clone)]
pub(super) struct Connections(Arc<Shared>);

struct Shared {
    connector: Connector,
    offer: Offer,
    limits: Limits,
    /// Whether the last one that could choose took HTTP/1.1.
    chose_http1: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Idle,
    http2: Vec<Http2>,
    connecting: Option<WeakShared<Connecting>>,
}

/// A connection to send one request on.
pub(super) enum Lease {
    Http1(Http1Lease),
    Http2(Http2Lease),
}

/// A connection that nobody else uses. If it isn't given back, it is closed.
pub(super) struct Http1Lease {
    pub(super) sender: Http1,
    home: Connections,
}

impl Http1Lease {
    /// The response is complete.
    pub(super) fn give_back(self) {
        if !self.sender.is_closed() {
            self.home.keep(self.sender);
        }
    }
}

impl Connections {
    pub(super) fn new(
        connector: Connector,
        protocol: Protocol,
        is_tls: bool,
        limits: Limits,
    ) -> Self {
        let offer = match protocol {
            Protocol::Auto if is_tls => Offer::Both,
            Protocol::Auto | Protocol::Http1 => Offer::Http1,
            Protocol::Http2 => Offer::Http2,
        };
        let chose_http1 = AtomicBool::new(false);
        Self(Arc::new(Shared { connector, offer, limits, chose_http1, state: Mutex::default() }))
    }

    /// A connection for one request. One that will change protocols needs HTTP/1.1 (RFC 9110 §7.8), or,
    /// of a server that is spoken to in HTTP/2 only, extended `CONNECT` (RFC 8441).
    pub(super) async fn acquire(&self, changes_protocol: bool) -> Result<Lease, UpstreamError> {
        let offer = match self.0.offer {
            Offer::Http2 if changes_protocol => return self.for_extended_connect().await,
            _ if changes_protocol => Offer::Http1,
            offer => offer,
        };
        if offer != Offer::Http1
            && let Some(lease) = self.http2()
        {
            return Ok(Lease::Http2(lease));
        }
        if offer != Offer::Http2
            && let Some(sender) = self.state().idle.take(self.0.limits)
        {
            return Ok(Lease::Http1(self.lease(sender)));
        }
        if offer == Offer::Http2
            || (offer == Offer::Both && !self.0.chose_http1.load(Ordering::Relaxed))
        {
            return self.connect_together().await;
        }
        self.connect(offer).await
    }

    /// A connection for a check, to `place`: the upstream itself, but for its port perhaps. None is
    /// used again for it.
    pub(super) async fn for_check(
        &self,
        place: &Uri,
        versions: Versions,
    ) -> Result<Connection, UpstreamError> {
        let offer = match versions {
            Versions::Any => self.0.offer,
            Versions::Http2 => Offer::Http2,
        };
        let (stream, is_http2) = self.0.connector.connect_to(place.clone(), offer).await?;
        Ok(if is_http2 { Connection::http2(stream) } else { Connection::http1(stream) })
    }

    /// How many wait for a request.
    pub(super) fn idle(&self) -> usize {
        self.state().idle.len()
    }

    fn lease(&self, sender: Http1) -> Http1Lease {
        Http1Lease { sender, home: self.clone() }
    }

    /// A new connection.
    async fn connect(&self, offer: Offer) -> Result<Lease, UpstreamError> {
        let (stream, is_http2) = self.stream(offer).await?;
        if is_http2 {
            return self.on_new_http2(stream).await;
        }
        self.in_time(self.http1_over(stream)).await.map(Lease::Http1)
    }

    /// A stream, and whether the other side chose HTTP/2.
    async fn stream(&self, offer: Offer) -> Result<(TokioIo<Stream>, bool), UpstreamError> {
        let (stream, is_http2) = self.0.connector.connect(offer).await?;
        if offer == Offer::Both {
            self.0.chose_http1.store(!is_http2, Ordering::Relaxed);
        }
        Ok((TokioIo::new(stream), is_http2))
    }

    /// What comes of `hands`, unless it takes too long: the preface of HTTP/2 is only written, but that
    /// can take a while, too.
    async fn in_time<T>(
        &self,
        hands: impl Future<Output = hyper::Result<T>>,
    ) -> Result<T, UpstreamError> {
        match timeout(self.0.connector.timeout(), hands).await {
            Ok(done) => done.map_err(UpstreamError::connect),
            Err(_) => Err(UpstreamError::new(ErrorKind::ConnectTimeout).unsent()),
        }
    }

    async fn http1_over(&self, stream: TokioIo<Stream>) -> hyper::Result<Http1Lease> {
        let (sender, connection) = http1::Builder::new().handshake(stream).await?;
        // What goes wrong there is told to whose request it is.
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(self.lease(sender))
    }

    /// Keeps a connection until it is needed again.
    fn keep(&self, sender: Http1) {
        let limits = self.0.limits;
        let is_first = self.state().idle.put(sender, Instant::now(), limits);
        if is_first {
            tokio::spawn(idle::sweep(Arc::downgrade(&self.0)));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("idle", &self.idle()).finish_non_exhaustive()
    }
}
