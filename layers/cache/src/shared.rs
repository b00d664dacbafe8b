//! A body that arrives once and is read by many.
//!
//! One task writes; every reader begins with the first byte and goes at its own speed. While the
//! whole is kept (it is to be stored, and within its bounds) the writer never waits for a reader.
//! Once it isn't, nobody can join any more, what all readers have seen is dropped, and the writer
//! stays at most [`WINDOW`] bytes ahead of the slowest. One that stays behind for too long is cut off
//! when others wait for it, and one that stops reading altogether when memory is short.
//!
//! Whatever is held here counts against the [budget](crate::budget) of all bodies in progress, until
//! it is dropped or has become the store's.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, timeout_at};
use tower_keep_store::BoxError;

use crate::budget::Reservation;

/// How far the writer of a body that isn't kept may be ahead of its slowest reader, in bytes.
const WINDOW: usize = 256 * 1024;

/// A year: as good as for ever, and the clock can tell it.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a chunk takes of the budget at least, in bytes: a short one costs more than its content.
pub(crate) const MIN_CHARGE: usize = 64;

/// A body in progress. All clones are the same.
#[derive(Clone)]
pub(crate) struct SharedBody(Arc<Mutex<State>>);

struct State {
    /// The chunks that are still needed, and the number of those dropped before them.
    chunks: VecDeque<Chunk>,
    dropped: usize,
    /// Bytes in `chunks`.
    buffered: usize,
    /// Bytes written in all.
    written: u64,
    /// What `Content-Length` promised.
    expected: Option<u64>,
    /// How long it may be and still be kept.
    limit: u64,
    /// Whether all chunks are kept.
    kept: bool,
    /// What `chunks` take of the budget.
    reservation: Reservation,
    /// The whole, once it is complete; in place of the chunks.
    sealed: Option<Bytes>,
    readers: Vec<Place>,
    next_id: u64,
    writer: Option<Waker>,
    end: Option<End>,
}

struct Chunk {
    data: Bytes,
    charged: usize,
}

/// Where a reader is.
struct Place {
    id: u64,
    /// The number of the chunk that it reads next.
    next: usize,
    /// How many bytes it has read.
    at: u64,
    waker: Option<Waker>,
    /// Since when it hasn't had all that was there, while the body isn't kept.
    behind_since: Option<Instant>,
    /// When it last read.
    moved: Instant,
    /// Others waited for it for too long.
    cut_off: bool,
}

#[derive(Clone)]
enum End {
    Complete(Option<HeaderMap>),
    Failed(Arc<dyn std::error::Error + Send + Sync>),
}

/// A body ended before its end.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the response body failed: {0}")]
struct Failed(#[source] Arc<dyn std::error::Error + Send + Sync>);

/// A reader kept others waiting.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the response body is shared with others, and was not read for too long")]
struct CutOff;

impl SharedBody {
    /// A body of which nothing has arrived, that is kept up to `limit` bytes and as far as
    /// `reservation` allows.
    pub(crate) fn new(reservation: Reservation, limit: u64, expected: Option<u64>) -> Self {
        Self(Arc::new(Mutex::new(State {
            chunks: VecDeque::new(),
            dropped: 0,
            buffered: 0,
            written: 0,
            expected,
            limit,
            kept: true,
            reservation,
            sealed: None,
            readers: Vec::new(),
            next_id: 0,
            writer: None,
            end: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader at the first byte; `None` if that isn't there any more, or the rest never will be.
    pub(crate) fn reader(&self) -> Option<Reader> {
        let mut state = self.state();
        let begun_over = state.dropped > 0 || (!state.kept && state.end.is_none());
        if begun_over || matches!(state.end, Some(End::Failed(_))) {
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.readers.push(Place {
            id,
            next: 0,
            at: 0,
            waker: None,
            behind_since: None,
            moved: Instant::now(),
            cut_off: false,
        });
        drop(state);
        Some(Reader { shared: self.clone(), id, done: false })
    }

    /// Appends `chunk`. If the body isn't kept, waits for the readers to make room; one that has been
    /// behind for `max_lag` while others wait is cut off.
    ///
    /// Returns whether the body is still kept.
    pub(crate) async fn write(&self, chunk: Bytes, max_lag: Duration) -> bool {
        let mut chunk = Some(chunk);
        loop {
            let next_look = self.state().next_look(max_lag);
            let written = poll_fn(|cx| self.poll_write(cx, &mut chunk));
            if let Ok(kept) = timeout_at(next_look, written).await {
                return kept;
            }
            self.state().cut_off_laggards(max_lag);
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, chunk: &mut Option<Bytes>) -> Poll<bool> {
        let mut state = self.state();
        let Some(data) = chunk.take() else { return Poll::Ready(state.kept) };
        let charge = data.len().max(MIN_CHARGE);
        let mut charged = 0;
        if state.kept {
            let within = state.written.saturating_add(data.len() as u64) <= state.limit;
            if within && state.reservation.grow(charge) {
                charged = charge;
            } else {
                state.forget();
            }
        }
        if !state.kept && state.is_read() {
            // One chunk there must be, whatever the budget says, or nobody would get on.
            let granted = state.buffered < WINDOW && state.reservation.grow(charge);
            if granted {
                charged = charge;
            } else if !state.chunks.is_empty() {
                *chunk = Some(data);
                state.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        state.append(Chunk { data, charged });
        Poll::Ready(state.kept)
    }

    /// Ends the body well.
    pub(crate) fn complete(&self, trailers: Option<HeaderMap>) {
        self.finish(End::Complete(trailers));
    }

    /// Ends the body badly: every reader gets the error after what came before it.
    pub(crate) fn fail(&self, error: BoxError) {
        self.finish(End::Failed(error.into()));
    }

    fn finish(&self, end: End) {
        let mut state = self.state();
        // The first end is the end.
        state.end.get_or_insert(end);
        state.wake_readers();
    }

    /// Keeps the whole no longer: it will not be stored.
    pub(crate) fn forget(&self) {
        self.state().forget();
    }

    /// Whether somebody is reading.
    pub(crate) fn is_read(&self) -> bool {
        self.state().is_read()
    }

    /// Waits until nobody is reading.
    pub(crate) async fn abandoned(&self) {
        poll_fn(|cx| {
            let mut state = self.state();
            if !state.is_read() {
                return Poll::Ready(());
            }
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Once it is complete: the whole body in memory of its own size, if it was kept and its length
    /// is as promised. Whoever is still reading reads that from here on.
    pub(crate) fn seal(&self) -> Option<Bytes> {
        let mut state = self.state();
        let as_promised = state.expected.is_none_or(|expected| expected == state.written);
        if !state.kept || !as_promised {
            return None;
        }
        // Copied even if it is one chunk: that may be a view into a much larger read buffer.
        let mut whole = BytesMut::with_capacity(state.buffered);
        for chunk in state.chunks.drain(..) {
            whole.extend_from_slice(&chunk.data);
        }
        let whole = whole.freeze();
        state.buffered = 0;
        state.sealed = Some(whole.clone());
        Some(whole)
    }

    /// The store holds the sealed body now: it is in progress no longer.
    pub(crate) fn release(&self) {
        self.state().reservation.release();
    }
}

impl State {
    fn append(&mut self, chunk: Chunk) {
        if !self.kept {
            self.note_who_is_behind();
        }
        self.buffered += chunk.data.len();
        self.written += chunk.data.len() as u64;
        self.chunks.push_back(chunk);
        if !self.kept {
            self.trim();
        }
        self.wake_readers();
    }

    fn forget(&mut self) {
        self.kept = false;
        self.reservation.pass();
        // Until now nobody waited for them.
        let written = self.written;
        for place in self.readers.iter_mut().filter(|place| place.at < written) {
            place.behind_since = Some(Instant::now());
        }
        self.trim();
    }

    /// From now on, when more is there than before, those are behind who don't read it.
    fn note_who_is_behind(&mut self) {
        for place in &mut self.readers {
            place.behind_since.get_or_insert_with(Instant::now);
        }
    }

    fn is_read(&self) -> bool {
        self.readers.iter().any(|place| !place.cut_off)
    }

    /// Drops the chunks that all readers have had.
    fn trim(&mut self) {
        let end = self.dropped + self.chunks.len();
        let reading = self.readers.iter().filter(|place| !place.cut_off);
        let needed = reading.map(|place| place.next).min().unwrap_or(end);
        while self.dropped < needed {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.buffered -= chunk.data.len();
            self.reservation.shrink(chunk.charged);
            self.dropped += 1;
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// When somebody may have to be cut off.
    fn next_look(&self, max_lag: Duration) -> Instant {
        let now = Instant::now();
        let since = self.readers.iter().filter(|place| !place.cut_off);
        let since = since.map(|place| place.behind_since.unwrap_or(now)).min().unwrap_or(now);
        // Not at once again, if nobody could be.
        let max_lag = max_lag.min(LONGEST);
        (since + max_lag).max(now + max_lag / 8)
    }

    /// Cuts off those who have kept the others waiting for `max_lag`, if there are others; and those
    /// who have read nothing for as long, if memory is short.
    fn cut_off_laggards(&mut self, max_lag: Duration) {
        if self.kept {
            return;
        }
        let (now, written) = (Instant::now(), self.written);
        let short = self.reservation.is_short();
        let others_wait = self.readers.iter().any(|place| !place.cut_off && place.at == written);
        for place in &mut self.readers {
            let is_far = written - place.at >= WINDOW as u64 / 2;
            let lagged = place.behind_since.is_some_and(|since| now - since >= max_lag);
            let stopped = place.at < written && now - place.moved >= max_lag;
            if (others_wait && is_far && lagged) || (short && stopped) {
                place.cut_off = true;
                if let Some(waker) = place.waker.take() {
                    waker.wake();
                }
            }
        }
        self.trim();
    }

    fn wake_readers(&mut self) {
        for place in &mut self.readers {
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }
}

impl fmt::Debug for SharedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SharedBody")
            .field("written", &state.written)
            .field("buffered", &state.buffered)
            .field("readers", &state.readers.len())
            .finish_non_exhaustive()
    }
}

/// One reader of a [`SharedBody`].
#[derive(Debug)]
pub(crate) struct Reader {
    shared: SharedBody,
    id: u64,
    done: bool,
}

impl Reader {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let mut guard = self.shared.state();
        let state = &mut *guard;
        let Some(place) = state.readers.iter_mut().find(|place| place.id == self.id) else {
            return Poll::Ready(None);
        };
        if place.cut_off {
            self.done = true;
            return Poll::Ready(Some(Err(CutOff.into())));
        }
        if let Some(whole) = &state.sealed {
            let rest = usize::try_from(place.at).ok().filter(|at| *at < whole.len());
            if let Some(at) = rest {
                place.at = whole.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(whole.slice(at..)))));
            }
        } else if let Some(chunk) = state.chunks.get(place.next - state.dropped) {
            let data = chunk.data.clone();
            place.next += 1;
            place.at += data.len() as u64;
            place.moved = Instant::now();
            if place.at == state.written {
                place.behind_since = None;
            }
            if !state.kept {
                state.trim();
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let Some(end) = state.end.clone() else {
            place.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        drop(guard);
        self.done = true;
        Poll::Ready(match end {
            End::Complete(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            End::Failed(error) => Some(Err(Failed(error).into())),
        })
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let state = self.shared.state();
        let place = state.readers.iter().find(|place| place.id == self.id);
        let read_all = place.is_none_or(|place| place.at == state.written && !place.cut_off);
        self.done || (read_all && matches!(state.end, Some(End::Complete(None))))
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let state = self.shared.state();
        let Some(place) = state.readers.iter().find(|place| place.id == self.id) else {
            return SizeHint::default();
        };
        let ahead = state.written - place.at;
        let left = state.expected.map(|expected| expected.saturating_sub(state.written));
        match (&state.end, left) {
            // An exact size would promise that nothing follows, such as trailers.
            (Some(End::Complete(None)), _) => SizeHint::with_exact(ahead),
            (None, Some(left)) => SizeHint::with_exact(ahead + left),
            _ => {
                let mut hint = SizeHint::new();
                hint.set_lower(ahead);
                hint
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.readers.retain(|place| place.id != self.id);
        if !state.kept {
            state.trim();
        }
        if !state.is_read()
            && let Some(writer) = state.writer.take()
        {
            writer.wake();
        }
    }
}

#[cfg(test)]
mod tests;
