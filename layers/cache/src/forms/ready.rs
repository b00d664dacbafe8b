//! The forms of a response that are ready to be sent.

use std::sync::OnceLock;

use http::HeaderMap;
use tower_keep_compress::Encoding;
use tower_keep_store::Trail;

use crate::stored::Stored;

/// The form in each coding that won't be made denser any more: to look it up by its key would be a good
/// part of a hit. One that is gone, and is made again, is looked up.
#[derive(Debug, Default)]
pub(crate) struct ReadyForms([OnceLock<Box<ReadyForm>>; Encoding::ALL.len()]);

#[derive(Debug)]
pub(super) struct ReadyForm {
    /// To its content, which is of this very response.
    pub(super) trail: Trail<Stored>,
    /// The response's head for it.
    pub(super) head: HeaderMap,
}

impl ReadyForms {
    #[inline]
    pub(super) fn get(&self, encoding: Encoding) -> Option<&ReadyForm> {
        self.0.get(encoding as usize)?.get().map(|form| &**form)
    }

    pub(super) fn put(&self, encoding: Encoding, form: impl FnOnce() -> ReadyForm) {
        if let Some(place) = self.0.get(encoding as usize) {
            place.get_or_init(|| Box::new(form()));
        }
    }
}

/// A copy is another response.
impl Clone for ReadyForms {
    fn clone(&self) -> Self {
        Self::default()
    }
}
