//! Makes connections to an upstream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::error::{ErrorKind, UpstreamError};
#[cfg(feature = "tls")]
use super::tls::TlsConnector;

/// Which versions of HTTP are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Http1,
    Http2,
    Both,
}

/// Makes connections to one upstream.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tcp: HttpConnector,
    uri: Uri,
    timeout: Duration,
    #[cfg(feature = "tls")]
    tls: Option<TlsConnector>,
}

impl Connector {
    pub(super) fn new(uri: Uri, timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        // Of an upstream with several addresses, one that doesn't answer isn't to cost all the time.
        tcp.set_connect_timeout(Some(timeout));
        Self {
            tcp,
            uri,
            timeout,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    #[cfg(feature = "tls")]
    pub(super) fn with_tls(mut self, tls: TlsConnector) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long it may take until the connection can be used.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A connection, and whether the other side chose HTTP/2.
    pub(super) async fn connect(&self, offer: Offer) -> Result<(Stream, bool), UpstreamError> {
        self.connect_to(self.uri.clone(), offer).await
    }

    /// The same to `uri`, which may differ in its port.
    pub(super) async fn connect_to(
        &self,
        uri: Uri,
        offer: Offer,
    ) -> Result<(Stream, bool), UpstreamError> {
        let connection = timeout(self.timeout, self.connect_in_time(uri, offer));
        connection
            .await
            .unwrap_or_else(|_| Err(UpstreamError::new(ErrorKind::ConnectTimeout).unsent()))
    }

    async fn connect_in_time(
        &self,
        uri: Uri,
        offer: Offer,
    ) -> Result<(Stream, bool), UpstreamError> {
        // `HttpConnector` is always ready.
        let tcp = self.tcp.clone().call(uri).await.map_err(UpstreamError::connect)?;
        let tcp = tcp.into_inner();
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.handshake(tcp, offer).await;
        }
        Ok((Stream::Plain(tcp), offer == Offer::Http2))
    }
}

/// A connection to an upstream.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Calls a method of what is inside.
macro_rules! inside {
    ($this:expr, $stream:ident => $call:expr) => {
        match $this {
            Stream::Plain($stream) => $call,
            #[cfg(feature = "tls")]
            Stream::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        inside!(&mut *self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        inside!(&mut *self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inside!(&mut *self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        inside!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(&mut *self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(&mut *self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
