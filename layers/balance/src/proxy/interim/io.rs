//! The connection below hyper, with interim responses written in between.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Interims;

/// A connection's IO.
#[derive(Debug)]
pub struct InterimIo<I> {
    pub(super) io: I,
    interims: Interims,
    /// What is left of heads of which the first byte may have been written. Nothing goes before it.
    rest: BytesMut,
}

impl<I: AsyncWrite + Unpin> InterimIo<I> {
    /// `io`, with the interim responses of the requests that come over it.
    pub fn new(io: I, interims: Interims) -> Self {
        Self { io, interims, rest: BytesMut::new() }
    }

    /// Writes what comes before hyper's next bytes.
    fn poll_before_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        {
            let mut state = self.interims.state();
            if !state.dirty {
                // What hyper is about to write begins with the head of the final response at the
                // earliest.
                self.rest.unsplit(state.heads.split());
                // It has to be set before the rest is written: if that takes a while, hyper may
                // encode all of the final response and go on to the next request.
                state.dirty = true;
            }
        }
        self.poll_rest(cx)
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.rest.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// hyper flushes only when its buffer is empty: so once that is done, the connection is clean.
    fn poll_clean(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_rest(cx))?;
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            let mut state = self.interims.state();
            state.dirty = false;
            if state.turn.is_none() {
                state.heads.clear();
                state.waker = None;
                return Poll::Ready(Ok(()));
            }
            if state.heads.is_empty() {
                // hyper flushes whenever its task is polled, so that is how to get here again.
                if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    state.waker = Some(cx.waker().clone());
                }
                return Poll::Ready(Ok(()));
            }
            self.rest.unsplit(state.heads.split());
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for InterimIo<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for InterimIo<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_before_write(cx))?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_before_write(cx))?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_clean(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
