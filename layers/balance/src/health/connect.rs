//! How a probe connects.

use std::future::Future;
use std::io;
use std::sync::Arc;

use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::probe::ProbeError;

/// How a probe connects: plainly, by [`Plain`], or by a closure, as through TLS or a Unix socket.
pub trait Connect: Send + Sync {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Connects to the scheme, host and port of `uri`.
    fn connect(&self, uri: &Uri) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl<F, Fut, Io> Connect for F
where
    F: Fn(&Uri) -> Fut + Send + Sync,
    Fut: Future<Output = io::Result<Io>> + Send,
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Io = Io;

    fn connect(&self, uri: &Uri) -> impl Future<Output = io::Result<Io>> + Send {
        self(uri)
    }
}

/// Connects over TCP, without TLS: targets that are `https` need another [`Connect`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Connect for Plain {
    type Io = TcpStream;

    async fn connect(&self, uri: &Uri) -> io::Result<TcpStream> {
        if uri.scheme_str() == Some("https") {
            let text = "an https target is checked by a probe with a connector that speaks TLS";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        tcp(uri).await
    }
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
