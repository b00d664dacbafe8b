//! What goes both ways once protocols have been changed (RFC 9110 §7.8), such as WebSockets.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::sleep;

/// Copies both ways until both sides have ended, one fails, or nothing moves for `idle`. When one
/// side ends, the other is told, and can still say what it has to say. `held` is dropped at the end.
pub(super) async fn tunnel<H>(
    client: OnUpgrade,
    upstream: OnUpgrade,
    idle: Option<Duration>,
    held: H,
) {
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok(both) => both,
        // One of them has gone away meanwhile.
        Err(error) => return tracing::debug!(%error, "protocols could not be changed"),
    };
    let moves = Arc::new(AtomicBool::new(false));
    let mut client = Watched { io: TokioIo::new(client), moves: Arc::clone(&moves) };
    let mut upstream = TokioIo::new(upstream);
    // An error is the end of the other side as well: both are closed.
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut upstream) => {}
        () = stillness(idle, &moves) => tracing::debug!("a tunnel has been idle, and is closed"),
    }
    drop(held);
}

/// Waits until nothing has moved for that long; at most twice that.
async fn stillness(idle: Option<Duration>, moves: &AtomicBool) {
    let Some(idle) = idle else { return std::future::pending().await };
    loop {
        sleep(idle).await;
        if !moves.swap(false, Ordering::Relaxed) {
            return;
        }
    }
}

/// Notices whatever is read and written.
struct Watched<I> {
    io: I,
    moves: Arc<AtomicBool>,
}

impl<I> Watched<I> {
    fn saw<T>(&self, poll: Poll<T>) -> Poll<T> {
        if poll.is_ready() {
            self.moves.store(true, Ordering::Relaxed);
        }
        poll
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_read(cx, buf);
        self.saw(poll)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(cx, buf);
        self.saw(poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
