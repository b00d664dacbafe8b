//! When forms were begun that aren't there.

use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use tower_keep_store::Timestamp;

use super::Coding;
use crate::stored::StoredResponse;

/// For how many seconds a form that is gone is not made again. Where there is no memory for it, every
/// request would have it made.
const PAUSE: u64 = 10;

/// The same of a denser one. It takes long to make, and another is there.
const DENSE_PAUSE: u64 = 300;

/// Of how many forms it is known at the same time.
const PLACES: usize = 4096;

/// The forms that were begun last, and when. One may take the place of another, which is then made again
/// sooner.
#[derive(Debug)]
pub(super) struct Tried(Box<[AtomicU64]>);

/// Where it is noted of a form, what tells it from others that would be noted there, and for how long.
struct Place<'a> {
    noted: &'a AtomicU64,
    mark: u64,
    pause: u64,
}

impl Tried {
    pub(super) fn new() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }

    fn place(&self, of: &StoredResponse, coding: &Coding, is_dense: bool) -> Option<Place<'_>> {
        // Nothing in it comes from a client, but for which dictionary of ours it has.
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(of.serial);
        hasher.write(&[coding.letter(), is_dense.into()]);
        #[cfg(feature = "dictionary")]
        if let Coding::Delta(delta) = coding {
            hasher.write(delta.dictionary().hash());
        }
        let hash = hasher.finish();
        let noted = self.0.get(usize::try_from(hash).ok()? % PLACES)?;
        let pause = if is_dense { DENSE_PAUSE } else { PAUSE };
        Some(Place { noted, mark: hash >> 32 << 32, pause })
    }

    /// Whether a form that isn't there may be made.
    pub(super) fn may(
        &self,
        of: &StoredResponse,
        coding: &Coding,
        is_dense: bool,
        now: Timestamp,
    ) -> bool {
        let Some(Place { noted, mark, pause }) = self.place(of, coding, is_dense) else {
            return true;
        };
        let last = noted.load(Ordering::Relaxed);
        last >> 32 << 32 != mark || seconds(now).saturating_sub(last & SECONDS) >= pause
    }

    /// It is being made.
    pub(super) fn note(
        &self,
        of: &StoredResponse,
        coding: &Coding,
        is_dense: bool,
        now: Timestamp,
    ) {
        if let Some(Place { noted, mark, .. }) = self.place(of, coding, is_dense) {
            noted.store(mark | seconds(now), Ordering::Relaxed);
        }
    }
}

/// Which bits they have.
const SECONDS: u64 = u32::MAX as u64;

fn seconds(now: Timestamp) -> u64 {
    (now.as_millis() / 1000) & SECONDS
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};
    use tower_keep_compress::Encoding;

    use super::*;
    use crate::stored::tests::times;

    #[test]
    fn a_form_that_was_not_kept_is_made_again_after_a_pause() {
        let (tried, at) = (Tried::new(), |seconds| Timestamp::from_millis(seconds * 1000));
        let response = || {
            let status = StatusCode::OK;
            StoredResponse::new(status, &HeaderMap::new(), "x".into(), None, times())
        };
        let (one, other) = (response(), response());
        let [gzip, brotli] = [Encoding::Gzip, Encoding::Brotli].map(Coding::Encoded);
        assert!(tried.may(&one, &gzip, false, at(5)));
        tried.note(&one, &gzip, false, at(5));
        assert!(!tried.may(&one, &gzip, false, at(4 + PAUSE)));
        assert!(tried.may(&one, &gzip, false, at(5 + PAUSE)));
        for (response, coding) in [(&one, &brotli), (&other, &gzip)] {
            assert!(tried.may(response, coding, false, at(5)));
        }
        assert!(tried.may(&one, &gzip, true, at(5)));
        tried.note(&one, &gzip, true, at(5));
        assert!(!tried.may(&one, &gzip, true, at(4 + DENSE_PAUSE)));
    }
}
