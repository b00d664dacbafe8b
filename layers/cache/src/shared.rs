//! A body that arrives once and is read by many.
//!
//! One task writes; every reader begins with the first byte and goes at its own speed. While the
//! whole is kept (it is to be stored, and within its bounds) the writer never waits for a reader.
//! Once it isn't, nobody can join any more, what all readers have seen is dropped, and the writer
//! stays at most [`WINDOW`] bytes ahead of the slowest.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tower_keep_store::BoxError;

use crate::budget::Reservation;

/// How far the writer of a body that isn't kept may be ahead of its slowest reader, in bytes.
const WINDOW: usize = 256 * 1024;

/// A body in progress. All clones are the same.
#[derive(Clone)]
pub(crate) struct SharedBody(Arc<Mutex<State>>);

struct State {
    /// The chunks that are still needed, and the number of those dropped before them.
    chunks: VecDeque<Bytes>,
    dropped: usize,
    /// Bytes in `chunks`.
    buffered: usize,
    /// Bytes written in all.
    written: u64,
    /// What `Content-Length` promised.
    expected: Option<u64>,
    /// Whether all chunks are kept, and what they take from the budget.
    kept: Option<Reservation>,
    readers: Vec<Place>,
    next_id: u64,
    writer: Option<Waker>,
    end: Option<End>,
}

/// Where a reader is.
struct Place {
    id: u64,
    next: usize,
    waker: Option<Waker>,
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

impl SharedBody {
    /// A body of which nothing has arrived, that is kept as far as `reservation` allows.
    pub(crate) fn new(reservation: Reservation, expected: Option<u64>) -> Self {
        Self(Arc::new(Mutex::new(State {
            chunks: VecDeque::new(),
            dropped: 0,
            buffered: 0,
            written: 0,
            expected,
            kept: Some(reservation),
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
        let begun_over = state.dropped > 0 || (state.kept.is_none() && state.end.is_none());
        if begun_over || matches!(state.end, Some(End::Failed(_))) {
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.readers.push(Place { id, next: 0, waker: None });
        drop(state);
        Some(Reader { shared: self.clone(), id, done: false })
    }

    /// Appends `chunk`. If the body isn't kept, waits for the readers to make room.
    ///
    /// Returns whether the body is still kept.
    pub(crate) async fn write(&self, chunk: Bytes) -> bool {
        let mut chunk = Some(chunk);
        poll_fn(|cx| {
            let mut state = self.state();
            let len = chunk.as_ref().map_or(0, Bytes::len);
            if state.kept.as_mut().is_some_and(|kept| !kept.grow(len)) {
                state.forget();
            }
            let room = state.kept.is_some() || state.buffered < WINDOW || state.readers.is_empty();
            if !room {
                state.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if let Some(chunk) = chunk.take() {
                state.append(chunk);
            }
            Poll::Ready(state.kept.is_some())
        })
        .await
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

    /// Waits until nobody is reading.
    pub(crate) async fn abandoned(&self) {
        poll_fn(|cx| {
            let mut state = self.state();
            if state.readers.is_empty() {
                return Poll::Ready(());
            }
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The whole body in memory of its own size, if it was kept and its length is as promised.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        let state = self.state();
        let as_promised = state.expected.is_none_or(|expected| expected == state.written);
        if state.kept.is_none() || !as_promised {
            return None;
        }
        // Copied even if it is one chunk: that may be a view into a much larger read buffer.
        let mut whole = BytesMut::with_capacity(state.buffered);
        for chunk in &state.chunks {
            whole.extend_from_slice(chunk);
        }
        Some(whole.freeze())
    }
}

impl State {
    fn append(&mut self, chunk: Bytes) {
        self.buffered += chunk.len();
        self.written += chunk.len() as u64;
        self.chunks.push_back(chunk);
        if self.kept.is_none() {
            self.trim();
        }
        self.wake_readers();
    }

    fn forget(&mut self) {
        self.kept = None;
        self.trim();
    }

    /// Drops the chunks that all readers have had.
    fn trim(&mut self) {
        let end = self.dropped + self.chunks.len();
        let needed = self.readers.iter().map(|place| place.next).min().unwrap_or(end);
        while self.dropped < needed {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.buffered -= chunk.len();
            self.dropped += 1;
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
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
        if let Some(chunk) = state.chunks.get(place.next - state.dropped) {
            let chunk = chunk.clone();
            place.next += 1;
            if state.kept.is_none() {
                state.trim();
            }
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
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
        let read_all = place.is_none_or(|place| place.next == state.dropped + state.chunks.len());
        self.done || (read_all && matches!(state.end, Some(End::Complete(None))))
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let state = self.shared.state();
        let Some(place) = state.readers.iter().find(|place| place.id == self.id) else {
            return SizeHint::default();
        };
        let ahead = state
            .chunks
            .iter()
            .skip(place.next - state.dropped)
            .map(|chunk| chunk.len() as u64)
            .sum();
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
        if state.kept.is_none() {
            state.trim();
        }
        if state.readers.is_empty()
            && let Some(writer) = state.writer.take()
        {
            writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use futures_util::FutureExt;

    fn body(limit: usize) -> SharedBody {
        SharedBody::new(Budget::new(1 << 20).reservation(limit), None)
    }

    async fn next(reader: &mut Reader) -> Option<Bytes> {
        poll_fn(|cx| reader.poll_frame(cx)).await.map(|frame| frame.unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn every_reader_gets_everything_from_the_first_byte() {
        let body = body(100);
        let mut early = body.reader().unwrap();
        assert!(body.write("ab".into()).await);
        assert_eq!(next(&mut early).await.unwrap(), "ab");
        let mut late = body.reader().unwrap();
        body.write("cd".into()).await;
        body.complete(None);
        for expected in [Some("ab"), Some("cd"), None] {
            assert_eq!(next(&mut late).await.as_deref(), expected.map(str::as_bytes));
        }
        assert_eq!(next(&mut early).await.unwrap(), "cd");
        assert!(early.is_end_stream());
        assert_eq!(body.whole().unwrap(), "abcd");
    }

    #[tokio::test]
    async fn past_its_bound_it_waits_for_its_readers_and_cannot_be_joined() {
        let body = body(100);
        let mut reader = body.reader().unwrap();
        body.write(vec![0; 90].into()).await;
        assert!(!body.write(vec![1; WINDOW].into()).await, "no longer kept");
        assert!(body.reader().is_none());
        let chunk = Bytes::from(vec![2; 10]);
        assert!(body.write(chunk.clone()).now_or_never().is_none(), "the window is full");
        next(&mut reader).await;
        next(&mut reader).await;
        body.write(chunk).now_or_never().unwrap();
        assert!(body.state().buffered <= 10);
        assert!(body.whole().is_none());
    }

    #[tokio::test]
    async fn a_reader_that_leaves_frees_the_writer() {
        let body = body(10);
        let slow = body.reader().unwrap();
        body.write(vec![0; WINDOW + 11].into()).await;
        let writer = tokio::spawn({
            let body = body.clone();
            async move { body.write("more".into()).await }
        });
        tokio::task::yield_now().await;
        assert!(!writer.is_finished());
        drop(slow);
        writer.await.unwrap();
        body.abandoned().await;
    }

    #[tokio::test]
    async fn a_failure_reaches_every_reader_after_the_data() {
        let body = body(100);
        let mut reader = body.reader().unwrap();
        body.write("ab".into()).await;
        body.fail("connection reset".into());
        assert_eq!(next(&mut reader).await.unwrap(), "ab");
        let error = poll_fn(|cx| reader.poll_frame(cx)).await.unwrap().unwrap_err();
        assert!(error.to_string().contains("connection reset"));
        assert!(poll_fn(|cx| reader.poll_frame(cx)).await.is_none());
    }

    #[tokio::test]
    async fn a_body_of_another_length_than_promised_is_not_whole() {
        let body = SharedBody::new(Budget::new(100).reservation(100), Some(5));
        body.write("abc".into()).await;
        body.complete(None);
        assert!(body.whole().is_none());
    }
}
