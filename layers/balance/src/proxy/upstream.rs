//! An upstream: a server that requests are forwarded to, and the connections to it.

mod address;
mod builder;
mod extended;
mod send;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use tower_service::Service;

use self::address::Address;
pub use self::address::AddressError;
pub use self::builder::{Protocol, UpstreamBuilder};
use super::body::UpstreamBody;
use super::connections::Connections;
use super::content::Content;
use super::error::{BoxError, UpstreamError};
use crate::attempt::Attempt;
use crate::backend::Backend;
use crate::health;
use crate::retry::Fate;

/// A server that requests are forwarded to. Cheap to clone: all clones share its connections, which
/// are made when they are needed, used again, and closed when they have been idle for long.
///
/// As a service, it forwards one request as it is: in the upstream's version of HTTP, to its base
/// path, and with `Expect: 100-continue` and interim responses (1xx) between the two sides. All that
/// a proxy does to a message once, however often it is tried, is the business of
/// [`Proxy`](super::Proxy), which can be put [around](super::Proxy::around) whatever balances and
/// tries again. It is always ready.
///
/// Of an upstream of HTTP/2, interim responses (103, for instance) are not heard, and the expectation
/// of 100 is met at once: hyper's client, as of 1.12, leaves them to h2, which passes over those that
/// nobody asks it for. In HTTP/1.1 they are handed on.
///
/// A request that asks to change protocols (`Upgrade`, RFC 9110 §7.8) is asked in HTTP/1.1, also of an
/// upstream that would choose HTTP/2; of one that is spoken to in
/// [HTTP/2 only](Protocol::Http2), by extended `CONNECT` (RFC 8441), if it offers that. The answer is
/// 101 in both cases.
///
/// What it is asked for is the request's path and query. The request's `Host`, or the authority in
/// its URI, is sent as it is; without both, the upstream's own.
///
/// ```
/// use std::time::Duration;
/// use tower_keep_balance::proxy::{Protocol, Upstream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let plain = Upstream::new("http://10.0.0.1:3000")?;
/// let grpc = Upstream::builder("http://10.0.0.2:50051")
///     .protocol(Protocol::Http2)
///     .connect_timeout(Duration::from_secs(1))
///     .build()?;
/// # let _ = (plain, grpc);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Upstream(Arc<Shared>);

struct Shared {
    address: Address,
    connections: Connections,
    response_timeout: Option<Duration>,
    body_timeout: Option<Duration>,
}

impl Upstream {
    /// The upstream at `url`: `http://host:port`, or `https://` with the feature `tls`, and perhaps a
    /// path that all requests' paths are appended to. All settings are the defaults of
    /// [`UpstreamBuilder`].
    ///
    /// # Errors
    ///
    /// [`AddressError`], with what to change.
    pub fn new(url: &str) -> Result<Self, AddressError> {
        Self::builder(url).build()
    }

    /// Settings for the upstream at `url`.
    pub fn builder(url: &str) -> UpstreamBuilder {
        UpstreamBuilder::new(url)
    }

    /// Its host and port, as its URL says them.
    pub fn authority(&self) -> &str {
        self.0.address.authority.as_str()
    }

    /// How many connections of HTTP/1.1 to it wait for a request.
    pub fn idle_connections(&self) -> usize {
        self.0.connections.idle()
    }
}

impl Backend<Upstream> {
    /// The upstream at `url`, under that name, with the default settings.
    ///
    /// # Errors
    ///
    /// [`AddressError`], with what to change.
    pub fn http(url: &str) -> Result<Self, AddressError> {
        Ok(Self::new(url, Upstream::new(url)?))
    }
}

/// For health checks, which are made as requests are: with the same TLS, trust and identity, and in the
/// same version of HTTP.
impl health::Address for Upstream {
    fn uri(&self) -> Result<Uri, http::Error> {
        Ok(self.0.address.uri())
    }

    async fn connect(
        &self,
        place: &Uri,
        versions: health::Versions,
    ) -> io::Result<health::Connection> {
        let connection = self.0.connections.for_check(place, versions).await;
        connection.map_err(|error| io::Error::other(error.of(&self.0.address.authority)))
    }
}

impl<B> Service<Request<B>> for Upstream
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<UpstreamBody>;
    type Error = UpstreamError;
    type Future = UpstreamFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> UpstreamFuture {
        let upstream = self.clone();
        let attempt = request.extensions().get::<Attempt>().cloned();
        let request = request.map(Content::new);
        // hyper's own future has no name, so a box it is: one for each request that goes out.
        UpstreamFuture(Box::pin(async move {
            let sent = upstream.send(request).await;
            sent.map_err(|error| {
                // Whoever tries again may see no more of the error than a response made of it.
                if let (Fate::Unsent, Some(attempt)) = (error.fate(), attempt) {
                    attempt.mark_unsent();
                }
                error.of(&upstream.0.address.authority)
            })
        }))
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("authority", &self.authority()).finish_non_exhaustive()
    }
}

/// The future of [`Upstream`]. If it is dropped, the request is cancelled: its connection is closed,
/// or in HTTP/2 its stream reset.
pub struct UpstreamFuture(
    Pin<Box<dyn Future<Output = Result<Response<UpstreamBody>, UpstreamError>> + Send>>,
);

impl Future for UpstreamFuture {
    type Output = Result<Response<UpstreamBody>, UpstreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for UpstreamFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamFuture")
    }
}
