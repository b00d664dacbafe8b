//! When the forms of a response were made.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{BY_DICTIONARY, Coding};
use tower_keep_compress::Encoding;
use tower_keep_store::Timestamp;

/// For how many milliseconds a form that is gone is not made again. Where there is no memory for it,
/// every request would have it made.
const PAUSE: u64 = 10_000;

/// The instants at which forms were last begun, one for each coding; 0 for never.
#[derive(Debug, Default)]
pub(crate) struct Tried([AtomicU64; Encoding::ALL.len() + 1 + BY_DICTIONARY]);

impl Tried {
    /// Whether a form that isn't there may be made.
    pub(super) fn may(&self, coding: &Coding, now: Timestamp) -> bool {
        let last = self.0.get(coding.index()).map_or(0, |at| at.load(Ordering::Relaxed));
        last == 0 || now.as_millis().saturating_sub(last) >= PAUSE
    }

    /// It is being made.
    pub(super) fn note(&self, coding: &Coding, now: Timestamp) {
        if let Some(at) = self.0.get(coding.index()) {
            at.store(now.as_millis(), Ordering::Relaxed);
        }
    }
}

/// A copy is another response.
impl Clone for Tried {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_that_was_not_kept_is_made_again_after_a_pause() {
        let (tried, at) = (Tried::default(), Timestamp::from_millis);
        let [gzip, brotli] = [Encoding::Gzip, Encoding::Brotli].map(Coding::Encoded);
        assert!(tried.may(&gzip, at(5)));
        tried.note(&gzip, at(5));
        assert!(!tried.may(&gzip, at(4 + PAUSE)) && tried.may(&gzip, at(5 + PAUSE)));
        assert!(tried.may(&brotli, at(5)) && tried.clone().may(&gzip, at(5)));
    }
}
