//! Keeping what passes.

use bytes::Bytes;
use http_body::Frame;

use super::asked::Found;
use super::store::{Dictionaries, Reserved};

/// Keeps the content of a response that becomes a dictionary, while it is sent. What is too long, or
/// isn't read to its end, is let go.
#[derive(Debug)]
pub(crate) struct Capture {
    dictionaries: Dictionaries,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    found: Found,
    parts: Vec<Bytes>,
    reserved: Reserved,
}

impl Capture {
    pub(crate) fn new(dictionaries: &Dictionaries, found: Found) -> Self {
        let reserved = dictionaries.reserve();
        let kept = Some(Kept { found, parts: Vec::new(), reserved });
        Self { dictionaries: dictionaries.clone(), kept }
    }

    /// Looks at the next frame, which may be known to be the last.
    pub(crate) fn frame(&mut self, frame: &Frame<Bytes>, is_last: bool) {
        let Some(kept) = &mut self.kept else { return };
        if let Some(data) = frame.data_ref() {
            if !kept.reserved.add(data.len()) {
                self.kept = None;
                return;
            }
            kept.parts.push(data.clone());
        }
        if is_last || frame.is_trailers() {
            self.end();
        }
    }

    /// All of it was seen.
    pub(crate) fn end(&mut self) {
        let Some(Kept { found, parts, reserved }) = self.kept.take() else { return };
        self.dictionaries.keep(found, parts, reserved);
    }
}
