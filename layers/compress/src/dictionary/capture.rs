//! Keeping what passes.

use std::sync::{MutexGuard, PoisonError};

use bytes::Bytes;
use http_body::Frame;

use super::asked::Found;
use super::room::Place;
use super::store::Dictionaries;

/// Keeps the content of a response that becomes a dictionary, while it is sent. What is too long, isn't
/// read to its end, or takes so long to send that others need its room, is let go.
#[derive(Debug)]
pub(crate) struct Capture {
    place: Place<Kept>,
}

/// A copy of what has passed: the parts themselves may be slices of much larger buffers.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) dictionaries: Dictionaries,
    pub(super) found: Found,
    pub(super) content: Vec<u8>,
    /// How many bytes are taken for it.
    taken: usize,
}

impl Capture {
    pub(crate) fn new(dictionaries: &Dictionaries, found: Found) -> Self {
        let dictionaries = dictionaries.clone();
        let room = dictionaries.clone();
        let kept = Kept { dictionaries, found, content: Vec::new(), taken: 0 };
        Self { place: room.room().keep(kept) }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the next frame, which may be known to be the last.
    pub(crate) fn frame(&mut self, frame: &Frame<Bytes>, is_last: bool) {
        let mut place = self.kept();
        let Some(kept) = &mut *place else { return };
        if frame.data_ref().is_some_and(|data| !kept.push(data)) {
            *place = None;
            return;
        }
        // HTTP/1.1 doesn't ask for more than was announced, so nothing else would tell that it is the end.
        if is_last || frame.is_trailers() || kept.is_all() {
            finish(place.take());
        }
    }

    /// All of it was seen.
    pub(crate) fn end(&mut self) {
        finish(self.kept().take());
    }
}

fn finish(kept: Option<Kept>) {
    if let Some(kept) = kept.filter(|kept| kept.found.len.is_none() || kept.is_all()) {
        kept.dictionaries.clone().make(kept);
    }
}

impl Kept {
    fn is_all(&self) -> bool {
        self.found.len == Some(self.content.len())
    }

    /// Whether there is room for more.
    fn push(&mut self, more: &[u8]) -> bool {
        let max = self.found.len.unwrap_or_else(|| self.dictionaries.max_len());
        let len = self.content.len().saturating_add(more.len());
        if len > max {
            return false;
        }
        if len > self.taken {
            // All that is to come, or twice as much.
            let all = self.found.len.unwrap_or_else(|| len.max(self.taken * 2).min(max));
            if !self.dictionaries.room().take(all - self.taken) {
                return false;
            }
            self.taken = all;
            self.content.reserve_exact(all - self.content.len());
        }
        self.content.extend_from_slice(more);
        true
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.dictionaries.room().give_back(self.taken);
    }
}
