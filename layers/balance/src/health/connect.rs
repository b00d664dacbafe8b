//! How a probe connects.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::address::Address;
use super::probe::ProbeError;

/// Which versions of HTTP a probe can speak over the connection that it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Versions {
    /// HTTP/1.1 and HTTP/2, whichever the target takes requests in: [`Http`](super::Http).
    Any,
    /// HTTP/2: [`Grpc`](super::Grpc).
    Http2,
}

/// A connection for one check, and which version of HTTP is spoken over it.
pub struct Connection {
    #[cfg_attr(not(feature = "probe-http"), allow(dead_code, reason = "probes of HTTP need it"))]
    pub(super) io: Box<dyn Io>,
    pub(super) is_http2: bool,
}

/// What bytes go over.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Connection {
    /// Over which HTTP/1.1 is spoken.
    pub fn http1(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { io: Box::new(io), is_http2: false }
    }

    /// Over which HTTP/2 is spoken, and begun at once (RFC 9113, section 3.3, or after ALPN).
    pub fn http2(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { io: Box::new(io), is_http2: true }
    }

    /// Over which a probe speaks that was not told which version the target prefers.
    fn unknown(
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        versions: Versions,
    ) -> Self {
        match versions {
            Versions::Any => Self::http1(io),
            Versions::Http2 => Self::http2(io),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("is_http2", &self.is_http2).finish_non_exhaustive()
    }
}

/// How a probe connects to targets of the type `T`: [as they say](ByTarget), [plainly](Plain), or by a
/// closure `Fn(&Uri)` whose future gives anything that bytes go over, such as a Unix socket. Over what
/// a closure gives, [`Http`](super::Http) speaks HTTP/1.1.
pub trait Connect<T: ?Sized>: Send + Sync {
    /// Connects to `target` at `place`: the scheme and the host that it names, and the port that is to
    /// be checked.
    fn connect(
        &self,
        target: &T,
        place: &Uri,
        versions: Versions,
    ) -> impl Future<Output = io::Result<Connection>> + Send;
}

impl<T, F, Fut, S> Connect<T> for F
where
    T: Sync + ?Sized,
    F: Fn(&Uri) -> Fut + Send + Sync,
    Fut: Future<Output = io::Result<S>> + Send,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    async fn connect(&self, _: &T, place: &Uri, versions: Versions) -> io::Result<Connection> {
        Ok(Connection::unknown(self(place).await?, versions))
    }
}

/// Connects as the target itself does for its requests: by [`Address::connect`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ByTarget;

impl<T: Address + ?Sized> Connect<T> for ByTarget {
    async fn connect(&self, target: &T, place: &Uri, versions: Versions) -> io::Result<Connection> {
        target.connect(place, versions).await
    }
}

/// Connects over TCP without TLS, whatever the target's scheme is: for checks at a port of their own
/// that has none. Envoy needs a second transport socket for that, HAProxy `no-check-ssl`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl<T: Sync + ?Sized> Connect<T> for Plain {
    async fn connect(&self, _: &T, place: &Uri, versions: Versions) -> io::Result<Connection> {
        Ok(Connection::unknown(tcp(place).await?, versions))
    }
}

/// Connects to a target that is nothing but an address.
pub(super) async fn to_address(place: &Uri, versions: Versions) -> io::Result<Connection> {
    if place.scheme_str() == Some("https") {
        let text = "an address alone can't be checked by TLS; that takes a target whose \
                    Address::connect speaks it, as a proxy's Upstream does, or a connector";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(Connection::unknown(tcp(place).await?, versions))
}

/// Connects to the host and port of `uri`.
pub(super) async fn tcp(uri: &Uri) -> io::Result<TcpStream> {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await
}

pub(super) fn failed(error: io::Error) -> ProbeError {
    ProbeError::Connect(Arc::new(error))
}
