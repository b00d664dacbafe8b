//! A request body that can be sent again: what has been read of it is kept, up to a limit.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::kept::{Kept, Place};
use crate::attempt::{Attempt, Mark};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request body as an attempt sees it. (The idea is that of `ReplayBody` in linkerd2-proxy.)
///
/// A body that is longer than the limit is sent on as it comes; it just can't be sent again. Of two
/// that read at the same time, as when an attempt was given up but still is written by its
/// connection, only the newer one goes on. Its errors are the inner body's, boxed.
pub struct ReplayBody<B> {
    /// None if the body is empty.
    shared: Option<Arc<Mutex<State<B>>>>,
    attempt: Option<Attempt>,
    /// What is next of what was kept.
    next: Place,
    /// How many bytes were read.
    read: u64,
    has_trailers: bool,
    generation: u32,
    whole: Length,
}

/// Makes bodies of one request.
pub(crate) struct Source<B> {
    shared: Option<Arc<Mutex<State<B>>>>,
    whole: Length,
}

/// Between what and what its length is, before anything was read.
#[derive(Clone, Copy)]
struct Length {
    lower: u64,
    upper: Option<u64>,
}

struct State<B> {
    /// What hasn't been read yet; None at its end.
    rest: Option<B>,
    kept: Kept,
    trailers: Option<HeaderMap>,
    limit: usize,
    /// Whether all that was read is there.
    keeps: bool,
    /// Whether the inner body broke off.
    is_broken: bool,
    /// Which bodies may read: those of this generation.
    generation: u32,
}

fn lock<B>(shared: &Mutex<State<B>>) -> MutexGuard<'_, State<B>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Body> Source<B> {
    /// Of `body`, of which up to `limit` bytes are kept.
    pub(crate) fn new(body: B, limit: usize) -> Self {
        let hint = body.size_hint();
        let whole = Length { lower: hint.lower(), upper: hint.upper() };
        let state = |body| State {
            rest: Some(body),
            kept: Kept::default(),
            trailers: None,
            limit,
            keeps: true,
            is_broken: false,
            generation: 0,
        };
        let shared = (!body.is_end_stream()).then(|| Arc::new(Mutex::new(state(body))));
        Self { shared, whole }
    }

    /// The body of one more attempt, in the place of all before.
    pub(crate) fn body(&self, attempt: Attempt) -> ReplayBody<B> {
        let mut generation = 0;
        if let Some(shared) = &self.shared {
            let mut state = lock(shared);
            state.generation += 1;
            generation = state.generation;
        }
        self.of(generation, attempt)
    }

    /// The body of one more attempt, beside those of the generation of the last. Only for a body
    /// that has been read [as a whole](Self::is_whole).
    pub(crate) fn beside(&self, attempt: Attempt) -> ReplayBody<B> {
        let generation = self.shared.as_ref().map_or(0, |shared| lock(shared).generation);
        self.of(generation, attempt)
    }

    fn of(&self, generation: u32, attempt: Attempt) -> ReplayBody<B> {
        ReplayBody {
            shared: self.shared.clone(),
            attempt: Some(attempt),
            next: Place::default(),
            read: 0,
            has_trailers: false,
            generation,
            whole: self.whole,
        }
    }

    /// Whether it can be sent once more, from its beginning.
    pub(crate) fn is_replayable(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| {
            let state = lock(shared);
            state.keeps && !state.is_broken
        })
    }

    /// Whether all of it has been read, and is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| {
            let state = lock(shared);
            state.keeps && !state.is_broken && state.rest.is_none()
        })
    }

    /// It won't be sent again: no more of it needs to be kept.
    pub(crate) fn give_up(&self) {
        if let Some(shared) = &self.shared {
            let mut state = lock(shared);
            // What has ended is as small as it will be, and two may be reading it.
            state.keeps &= state.rest.is_none();
        }
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(shared) = &this.shared else { return Poll::Ready(None) };
        let state = &mut *lock(shared);
        if state.generation != this.generation {
            return Poll::Ready(Some(
                Err("another attempt has taken the place of this one".into()),
            ));
        }
        if let Some(part) = state.kept.read(&mut this.next) {
            this.read += part.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        if !state.keeps {
            // All of it was read, by this one.
            state.kept = Kept::default();
            this.next = Place::default();
        }
        let Some(rest) = &mut state.rest else {
            let trailers = state.trailers.as_ref().filter(|_| !this.has_trailers);
            this.has_trailers = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers.clone()))));
        };
        let frame = match ready!(Pin::new(rest).poll_frame(cx)) {
            Some(Ok(frame)) => frame.map_data(|mut data| data.copy_to_bytes(data.remaining())),
            Some(Err(error)) => {
                state.is_broken = true;
                if let Some(attempt) = &this.attempt {
                    attempt.mark(Mark::Broken);
                }
                return Poll::Ready(Some(Err(error.into())));
            }
            None => {
                state.rest = None;
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref() {
            this.read += data.len() as u64;
            state.keep(data, &mut this.next);
        }
        if let Some(trailers) = frame.trailers_ref() {
            state.trailers = Some(trailers.clone());
            this.has_trailers = true;
        }
        // After trailers nothing follows, whether or not the body says so.
        if this.has_trailers || state.rest.as_ref().is_some_and(Body::is_end_stream) {
            state.rest = None;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let Some(shared) = &self.shared else { return true };
        let state = lock(shared);
        let is_read = state.kept.is_read(self.next);
        let has_trailers = state.trailers.is_some() && !self.has_trailers;
        is_read && !has_trailers && state.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.whole.lower.saturating_sub(self.read));
        if let Some(upper) = self.whole.upper {
            hint.set_upper(upper.saturating_sub(self.read).max(hint.lower()));
        }
        hint
    }
}

impl<B> State<B> {
    /// Keeps `data`, which has just been read by one who is at the end, if that is allowed.
    fn keep(&mut self, data: &Bytes, next: &mut Place) {
        if !self.keeps || data.is_empty() {
            return;
        }
        if self.kept.len() + data.len() > self.limit {
            self.keeps = false;
            self.kept = Kept::default();
        } else {
            self.kept.push(data);
        }
        *next = self.kept.end();
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").field("read", &self.read).finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for Source<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use proptest::prelude::*;

    use super::*;

    fn attempt() -> Attempt {
        Attempt::new(1, [])
    }

    fn chunked(chunks: Vec<Vec<u8>>) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let trailers = Frame::trailers(HeaderMap::new());
        let frames = chunks.into_iter().map(|chunk| Frame::data(chunk.into()));
        StreamBody::new(stream::iter(frames.chain([trailers]).map(Ok)))
    }

    /// The next data, and whether there was any frame.
    fn read<B>(body: &mut ReplayBody<B>) -> Option<Result<Option<Bytes>, BoxError>>
    where
        B: Body<Error = Infallible> + Unpin,
    {
        let frame = body.frame().now_or_never().unwrap();
        frame.map(|frame| frame.map(|frame| frame.into_data().ok()))
    }

    #[test]
    fn one_that_was_given_up_takes_nothing_from_the_one_after_it() {
        let source = Source::new(chunked(vec![b"a".to_vec(), b"b".to_vec()]), 9);
        let mut old = source.body(attempt());
        assert_eq!(read(&mut old).unwrap().unwrap().unwrap(), "a");
        let mut new = source.body(attempt());
        assert!(read(&mut old).unwrap().is_err());
        assert_eq!(read(&mut new).unwrap().unwrap().unwrap(), "a");
        assert!(read(&mut old).unwrap().is_err());
        assert_eq!(read(&mut new).unwrap().unwrap().unwrap(), "b");
    }

    proptest! {
        /// Whatever was read by those before: the last one gets all, trailers included, if the
        /// source says so; and the first one gets all in any case.
        #[test]
        fn each_attempt_sees_the_whole_body_while_it_can_be_sent_again(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9),
            limit in 0usize..60,
            reads in proptest::collection::vec(0usize..12, 0..4),
            gives_up in any::<bool>(),
        ) {
            let whole = chunks.concat();
            let source = Source::new(chunked(chunks), limit);
            let mut most = 0;
            for reads in reads {
                if !source.is_replayable() {
                    break;
                }
                let mut body = source.body(attempt());
                let mut read_so_far = 0;
                for _ in 0..reads {
                    let Some(data) = read(&mut body) else { break };
                    read_so_far += data.unwrap().map_or(0, |data| data.len());
                }
                most = most.max(read_so_far);
            }
            prop_assert_eq!(source.is_replayable(), most <= limit);
            if source.is_replayable() {
                let body = source.body(attempt());
                if gives_up {
                    source.give_up();
                }
                let all = body.collect().now_or_never().unwrap().unwrap();
                prop_assert!(all.trailers().is_some());
                prop_assert_eq!(&all.to_bytes()[..], &whole[..]);
                let keeps = whole.len() <= limit;
                prop_assert_eq!(source.is_whole(), keeps && (!gives_up || source.is_replayable()));
            }
        }
    }
}
