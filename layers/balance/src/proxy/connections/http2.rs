//! The connection of HTTP/2 that all requests share.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::{Connections, Http1Lease, Http2, Lease};
use crate::proxy::connect::Stream;
use crate::proxy::error::UpstreamError;

/// A peer that has gone without a word is noticed after the two together, while requests wait.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// An attempt that several may wait for.
pub(super) type Connecting = Pin<Box<dyn Future<Output = Result<Connected, UpstreamError>> + Send>>;

/// What came of it.
#[derive(Clone)]
pub(super) enum Connected {
    Http2(Http2),
    /// The other side chose HTTP/1.1: that is for whoever is first.
    Http1(Arc<Mutex<Option<Http1Lease>>>),
}

impl Connections {
    /// The one that is there, if it can be used.
    pub(super) fn http2(&self) -> Option<Http2> {
        let mut state = self.state();
        if state.http2.as_ref().is_some_and(Http2::is_closed) {
            state.http2 = None;
        }
        state.http2.clone()
    }

    /// A new one, by an attempt that all share who need one.
    pub(super) async fn connect_together(&self) -> Result<Lease, UpstreamError> {
        let connecting = self.connecting();
        match connecting.await? {
            Connected::Http2(sender) => Ok(Lease::Http2(sender)),
            Connected::Http1(lease) => {
                let lease = lease.lock().unwrap_or_else(PoisonError::into_inner).take();
                match lease {
                    Some(lease) => Ok(Lease::Http1(lease)),
                    None => self.connect(self.0.offer).await,
                }
            }
        }
    }

    fn connecting(&self) -> Shared<Connecting> {
        let mut state = self.state();
        let current = state.connecting.as_ref().and_then(WeakShared::upgrade);
        if let Some(current) = current
            && current.peek().is_none()
        {
            return current;
        }
        let connections = self.clone();
        let attempt: Connecting = Box::pin(async move {
            match connections.connect(connections.0.offer).await? {
                Lease::Http1(lease) => Ok(Connected::Http1(Arc::new(Mutex::new(Some(lease))))),
                Lease::Http2(sender) => Ok(Connected::Http2(sender)),
            }
        });
        let attempt = attempt.shared();
        state.connecting = attempt.downgrade();
        attempt
    }

    pub(super) async fn http2_over(&self, stream: TokioIo<Stream>) -> hyper::Result<Lease> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(stream)
            .await?;
        tokio::spawn(async move { drop(connection.await) });
        self.state().http2 = Some(sender.clone());
        Ok(Lease::Http2(sender))
    }
}
