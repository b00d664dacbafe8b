//! What a connection is doing, and for how long: so that one whose client dawdles is closed.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a client may take for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the head of a request, from its first byte on; for the first one, from the beginning.
    pub(crate) head: Duration,
    /// Without any request.
    pub(crate) idle: Duration,
}

impl Patience {
    pub(crate) fn shortest(&self) -> Duration {
        self.head.min(self.idle)
    }
}

/// Of one connection. All clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<State>);

#[derive(Debug)]
struct State {
    start: Instant,
    in_flight: AtomicU32,
    /// It is one of HTTP/2, where what comes need not be part of a request.
    is_http2: AtomicBool,
    /// Since when nothing is in flight, in milliseconds from the start; and in the lowest bit,
    /// whether a head has begun to come.
    since: AtomicU64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again then.
    Wait(Instant),
    /// There was no request for long.
    Idle,
    /// A head doesn't end.
    Slow,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(State {
            start: Instant::now(),
            in_flight: AtomicU32::new(0),
            is_http2: AtomicBool::new(false),
            since: AtomicU64::new(1),
        }))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX >> 1)
    }

    /// A request has come.
    pub(crate) fn begin(&self, version: Version) -> InFlight {
        self.0.is_http2.store(version == Version::HTTP_2, Relaxed);
        self.0.in_flight.fetch_add(1, Relaxed);
        InFlight(self.clone())
    }

    /// Bytes have come.
    fn received(&self) {
        let since = self.0.since.load(Relaxed);
        let is_between = self.0.in_flight.load(Relaxed) == 0 && !self.0.is_http2.load(Relaxed);
        if since & 1 == 0 && is_between {
            self.0.since.store(self.now() << 1 | 1, Relaxed);
        }
    }

    pub(crate) fn verdict(&self, patience: Patience) -> Verdict {
        // What it is doing may have changed by then, and both allowances are to be kept.
        let soon = Instant::now() + patience.shortest();
        if self.0.in_flight.load(Relaxed) > 0 {
            return Verdict::Wait(soon);
        }
        let since = self.0.since.load(Relaxed);
        let has_begun = since & 1 == 1;
        let (allowed, late) =
            if has_begun { (patience.head, Verdict::Slow) } else { (patience.idle, Verdict::Idle) };
        let end = self.0.start + Duration::from_millis(since >> 1) + allowed;
        if Instant::now() < end {
            return Verdict::Wait(end.min(soon));
        }
        late
    }
}

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Activity);

impl Drop for InFlight {
    fn drop(&mut self) {
        let activity = &self.0;
        if activity.0.in_flight.fetch_sub(1, Relaxed) == 1 {
            activity.0.since.store(activity.now() << 1, Relaxed);
        }
    }
}

/// A connection that is watched, and held by who watches it: it breaks off when he lets go of it,
/// wherever it is by then.
#[derive(Debug)]
pub(crate) struct Watched<I> {
    io: I,
    activity: Activity,
    held: Option<oneshot::Receiver<Infallible>>,
}

impl<I> Watched<I> {
    pub(crate) fn new(io: I, activity: Activity, held: oneshot::Receiver<Infallible>) -> Self {
        Self { io, activity, held: Some(held) }
    }

    /// Fails when nobody holds it any more.
    fn hold(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(held) = &mut self.held {
            if Pin::new(held).poll(cx).is_pending() {
                return Ok(());
            }
            self.held = None;
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.hold(cx)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.received();
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.hold(cx)?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.hold(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
