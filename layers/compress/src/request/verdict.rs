//! What is wrong with the content of a request, as it turns out while the inner service reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::StatusCode;

use crate::error::DecodeError;

/// Shared by the body of a request and the future of its response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict(Arc<AtomicU8>);

const TOO_LARGE: u8 = 1;
const CORRUPT: u8 = 2;

impl Verdict {
    /// Leaves word of an error.
    pub(crate) fn pass(&self, error: &DecodeError) {
        let verdict = if error.is_limit() { TOO_LARGE } else { CORRUPT };
        // It says nothing of other memory.
        self.0.store(verdict, Ordering::Relaxed);
    }

    /// The status that tells the client, if there was an error.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self.0.load(Ordering::Relaxed) {
            TOO_LARGE => Some(StatusCode::PAYLOAD_TOO_LARGE),
            CORRUPT => Some(StatusCode::BAD_REQUEST),
            _ => None,
        }
    }
}
