//! The proxy: what becomes of a request, once, before it is sent.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{COOKIE, Entry, HOST, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Method, Request, Response};
use tower_service::Service;

use super::balanced::{Balanced, Balancing, balanced};
use super::builder::{Around, HostPolicy, ProxyBuilder, Settings};
use super::error::BoxError;
use super::forwarded::Told;
use super::future::ProxyFuture;
use super::guard::fault;
use super::hop;
use super::max_forwards::count_down;
use super::pseudonym::Pseudonym;
use super::respond::{self, Manner, ProxyBody};
use super::upgrade::{self, Upgrade};
use super::upstream::Upstream;
use crate::arrived::Arrived;
use crate::peer::Peer;
use crate::pool::Pool;

/// A reverse proxy (RFC 9110 §3.7, "gateway"): answers with what an upstream says.
///
/// When none says anything, it answers itself: with 502, 503 or 504 and a `Proxy-Status` (RFC 9209)
/// that names the kind of error, and no more. What happened is logged, and in the response's
/// extensions ([`Failure`](super::Failure)). It has no errors of its own.
#[derive(Debug)]
pub struct Proxy<S = Balanced> {
    inner: S,
    settings: Arc<Settings>,
    /// Why the inner service isn't ready, and never will be. A clone may be.
    broken: Option<BoxError>,
}

impl Proxy {
    /// A proxy to the upstreams of `pool`, with the default settings.
    ///
    /// What fails is sent to another upstream where that is safe, and upstreams that fail again and
    /// again are left alone for a while: unless the pool was built with an
    /// [`outlier_detection`](crate::PoolBuilder::outlier_detection) of its own, or without any, it
    /// gets [`OutlierDetection::new`](crate::OutlierDetection::new) here. That runs in a task, so the
    /// proxy is to be made within a tokio runtime; elsewhere, there is none, and a warning is logged.
    pub fn new(pool: Pool<Upstream>) -> Self {
        let settings = Arc::new(Settings::default());
        Self::with(balanced(pool), settings)
    }

    /// Settings for a proxy to the upstreams of `pool`.
    pub fn builder(pool: Pool<Upstream>) -> ProxyBuilder<Balancing> {
        ProxyBuilder::new(Balancing::new(pool))
    }
}

impl<S> Proxy<S> {
    /// Settings for a proxy around `inner`, which brings a request to an upstream.
    pub fn around(inner: S) -> ProxyBuilder<Around<S>> {
        ProxyBuilder::new(Around(inner))
    }

    pub(super) fn with(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings, broken: None }
    }

    /// Its name in `Via`.
    pub fn pseudonym(&self) -> &Pseudonym {
        &self.settings.pseudonym
    }
}

impl<S: Clone> Clone for Proxy<S> {
    fn clone(&self) -> Self {
        Self::with(self.inner.clone(), Arc::clone(&self.settings))
    }
}

impl<S, B, R> Service<Request<B>> for Proxy<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Send + 'static,
{
    type Response = Response<ProxyBody<R>>;
    type Error = Infallible;
    type Future = ProxyFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.broken.is_none()
            && let Err(error) = std::task::ready!(self.inner.poll_ready(cx))
        {
            self.broken = Some(error.into());
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let settings = &self.settings;
        if let Some(error) = self.broken.take() {
            let manner = Manner::of(request.headers());
            return ProxyFuture::answer(respond::failed(error, manner, &settings.pseudonym));
        }
        match settings.receive(&mut request) {
            Err(answer) => ProxyFuture::answer(*answer),
            Ok(upgrade) => {
                let manner = Manner::of(request.headers());
                let call = self.inner.call(request);
                ProxyFuture::forward(call, Arc::clone(settings), manner, upgrade)
            }
        }
    }
}

impl Settings {
    /// Makes of a client's request one to an upstream; or the answer to it. With the connection, if
    /// the client asks to change its protocol.
    fn receive<B>(
        &self,
        request: &mut Request<B>,
    ) -> Result<Option<Upgrade>, Box<Response<Bytes>>> {
        let protocol = upgrade::choose(request, &self.upgrades);
        if request.method() == Method::CONNECT && protocol.is_none() {
            return Err(Box::new(respond::no_tunnel()));
        }
        if let Some(fault) = fault(request) {
            return Err(Box::new(respond::faulty(fault, request.version())));
        }
        if self.pseudonym.is_in(request.headers()) {
            return Err(Box::new(respond::looped(Manner::of(request.headers()), &self.pseudonym)));
        }
        if let Some(answer) = count_down(request) {
            return Err(Box::new(answer));
        }
        hop::receive(request);
        let upgrade = protocol.and_then(|protocol| upgrade::ask(request, protocol));
        if request.method() == Method::CONNECT {
            return Err(Box::new(respond::no_tunnel()));
        }
        self.tell(request);
        self.pseudonym.sign_request(request);
        join_cookies(request.headers_mut());
        Ok(upgrade)
    }

    /// Tells the upstream of the client, and of the host.
    fn tell<B>(&self, request: &mut Request<B>) {
        let peer = Peer::of(request.extensions());
        let is_tls = match peer {
            Some(peer) => peer.is_tls(),
            None => request.uri().scheme() == Some(&Scheme::HTTPS),
        };
        // RFC 9112 §3.2.2: the host in the target replaces `Host`.
        let asked = request.uri().authority();
        let asked = asked.and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        let host = asked.or_else(|| request.headers().get(HOST).cloned());
        let host = host.filter(|host| !host.is_empty());
        let target = request.uri().path_and_query().cloned();
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(target);
        let told = Told {
            peer,
            proto: if is_tls { "https" } else { "http" },
            host: host.as_ref(),
            is_host_hidden: self.host != HostPolicy::Client,
        };
        Arrived::keep(request);
        self.forwarding.apply(request.headers_mut(), &told);
        let host = match &self.host {
            HostPolicy::Client => host,
            HostPolicy::Upstream => None,
            HostPolicy::Fixed(host) => HeaderValue::from_str(host.as_str()).ok(),
        };
        match host {
            Some(host) => request.headers_mut().insert(HOST, host),
            None => request.headers_mut().remove(HOST),
        };
    }
}

/// RFC 9113 §8.2.3: HTTP/2 may split a `Cookie` into lines, and nobody else expects that.
fn join_cookies(headers: &mut HeaderMap) {
    let Entry::Occupied(mut cookie) = headers.entry(COOKIE) else { return };
    if cookie.iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = cookie.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_maybe_shared(crumbs.join(&b"; "[..])) {
        cookie.insert(joined);
    }
}
