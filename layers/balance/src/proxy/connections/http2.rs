//! The connections of HTTP/2, which requests share: one, unless there are more requests at a time than
//! the other side takes on it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::{Connections, Http1Lease, Lease};
use crate::proxy::connect::Stream;
use crate::proxy::content::Content;
use crate::proxy::error::{ErrorKind, UpstreamError};

/// A peer that has gone without a word is noticed after the two together, while requests wait.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How many streams are begun before the peer has said how many it takes (RFC 9113 §6.5.2 recommends
/// no fewer than 100). No server is known to say just this, so it also tells that none has said
/// anything yet.
const UNTOLD: usize = 99;

/// An attempt that several may wait for.
pub(super) type Connecting = Pin<Box<dyn Future<Output = Result<Connected, UpstreamError>> + Send>>;

/// What came of it.
#[derive(Clone)]
pub(super) enum Connected {
    Http2(Http2),
    /// The other side chose HTTP/1.1: that is for whoever is first.
    Http1(Arc<Mutex<Option<Http1Lease>>>),
}

/// One connection.
#[derive(Clone)]
pub(super) struct Http2 {
    sender: http2::SendRequest<Content>,
    peer: Arc<Peer>,
}

/// What is known of the other side of a connection.
struct Peer {
    /// Requests that aren't over.
    in_flight: AtomicUsize,
    /// How many it takes at a time.
    streams: AtomicUsize,
    /// Whether it knows of extended `CONNECT` (RFC 8441 §3).
    connects: AtomicBool,
    /// Asks the connection's task to look at what it has said.
    look: Notify,
}

impl Http2 {
    fn new(sender: http2::SendRequest<Content>) -> Self {
        let (in_flight, streams) = (AtomicUsize::new(0), AtomicUsize::new(UNTOLD));
        let (connects, look) = (AtomicBool::new(false), Notify::new());
        Self { sender, peer: Arc::new(Peer { in_flight, streams, connects, look }) }
    }

    /// A place for one more request, if there is one. Those who ask have to have locked the list.
    fn lease(&self, home: &Connections) -> Option<Http2Lease> {
        let (streams, peer) = (self.peer.streams.load(Ordering::Relaxed), &self.peer);
        if peer.in_flight.load(Ordering::Relaxed) >= streams {
            return None;
        }
        peer.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Http2Lease { sender: self.sender.clone(), peer: Arc::clone(peer), home: home.clone() })
    }
}

/// A place on a connection, for one request until it is over.
pub(in crate::proxy) struct Http2Lease {
    pub(in crate::proxy) sender: http2::SendRequest<Content>,
    peer: Arc<Peer>,
    home: Connections,
}

impl Http2Lease {
    /// Whether the other side knows of extended `CONNECT`. Right after the connection was made, it may
    /// have yet to say so.
    async fn knows_extended_connect(&self) -> bool {
        loop {
            self.peer.look.notify_one();
            if self.peer.connects.load(Ordering::Relaxed) {
                return true;
            }
            if self.peer.streams.load(Ordering::Relaxed) != UNTOLD || self.sender.is_closed() {
                return false;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Http2Lease {
    fn drop(&mut self) {
        if self.peer.in_flight.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        // Of several that were needed for a while, those that nobody uses any more are closed.
        let mut state = self.home.state();
        if state.http2.len() > 1 && self.peer.in_flight.load(Ordering::Relaxed) == 0 {
            state.http2.retain(|it| !Arc::ptr_eq(&it.peer, &self.peer));
        }
    }
}

impl Connections {
    /// A place on one that is there, if any has one.
    pub(super) fn http2(&self) -> Option<Http2Lease> {
        let mut state = self.state();
        state.http2.retain(|it| !it.sender.is_closed());
        state.http2.iter().find_map(|it| it.lease(self))
    }

    /// A place on a new one, by an attempt that all share who need one.
    pub(super) async fn connect_together(&self) -> Result<Lease, UpstreamError> {
        loop {
            let connecting = self.connecting();
            match connecting.await? {
                Connected::Http2(new) => {
                    let lease = {
                        let _list = self.state();
                        new.lease(self)
                    };
                    // If as many were faster as fit on it, there may be room elsewhere meanwhile.
                    if let Some(lease) = lease.or_else(|| self.http2()) {
                        return Ok(Lease::Http2(lease));
                    }
                }
                Connected::Http1(lease) => {
                    let lease = lease.lock().unwrap_or_else(PoisonError::into_inner).take();
                    return match lease {
                        Some(lease) => Ok(Lease::Http1(lease)),
                        None => self.connect(self.0.offer).await,
                    };
                }
            }
        }
    }

    /// A place for a request that changes protocols by extended `CONNECT` (RFC 8441).
    pub(super) async fn for_extended_connect(&self) -> Result<Lease, UpstreamError> {
        let lease = match self.http2() {
            Some(lease) => lease,
            None => match self.connect_together().await? {
                Lease::Http2(lease) => lease,
                Lease::Http1(_) => return Err(UpstreamError::new(ErrorKind::Upgrade).unsent()),
            },
        };
        let knows = timeout(self.0.connector.timeout(), lease.knows_extended_connect()).await;
        if knows == Ok(true) {
            return Ok(Lease::Http2(lease));
        }
        let why = "it doesn't offer extended CONNECT (RFC 8441)";
        Err(UpstreamError::new(ErrorKind::Upgrade).unsent().with(why))
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
            let (stream, is_http2) = connections.stream(connections.0.offer).await?;
            if is_http2 {
                let new = connections.in_time(http2_over(stream)).await?;
                connections.state().http2.push(new.clone());
                return Ok(Connected::Http2(new));
            }
            let lease = connections.in_time(connections.http1_over(stream)).await?;
            Ok(Connected::Http1(Arc::new(Mutex::new(Some(lease)))))
        });
        let attempt = attempt.shared();
        state.connecting = attempt.downgrade();
        attempt
    }

    /// A place on a new one, which others can use as well.
    pub(super) async fn on_new_http2(
        &self,
        stream: TokioIo<Stream>,
    ) -> Result<Lease, UpstreamError> {
        let new = self.in_time(http2_over(stream)).await?;
        let lease = new.lease(self);
        self.state().http2.push(new);
        lease.map(Lease::Http2).ok_or_else(|| UpstreamError::new(ErrorKind::Limit).unsent())
    }
}

async fn http2_over(stream: TokioIo<Stream>) -> hyper::Result<Http2> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_max_send_streams(UNTOLD)
        .handshake(stream)
        .await?;
    let new = Http2::new(sender);
    let peer = Arc::clone(&new.peer);
    tokio::spawn(async move {
        let mut connection = std::pin::pin!(connection);
        // It is polled for each request at least.
        let mut working = std::pin::pin!(poll_fn(|cx| {
            let done = connection.as_mut().poll(cx);
            peer.streams.store(connection.current_max_send_streams(), Ordering::Relaxed);
            let connects = connection.is_extended_connect_protocol_enabled();
            peer.connects.store(connects, Ordering::Relaxed);
            done
        }));
        // Nobody wakes this task when the peer has said something. It does so at the beginning.
        let mut pause = Duration::from_millis(1);
        loop {
            let is_untold = peer.streams.load(Ordering::Relaxed) == UNTOLD;
            tokio::select! {
                _ = working.as_mut() => return,
                () = peer.look.notified() => {}
                () = sleep(pause), if is_untold => pause = (pause * 2).min(Duration::from_secs(1)),
            }
        }
    });
    Ok(new)
}
