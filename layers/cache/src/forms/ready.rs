//! The way to the forms of a response.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tower_keep_compress::Encoding;
use tower_keep_store::{Held, Trail};

use crate::stored::Stored;

/// The way to the form in each coding that won't be made denser any more, which is of this very response: to
/// look it up by its key would be a good part of a hit.
#[derive(Debug, Default)]
pub(crate) struct ReadyForms([ArcSwapOption<Trail<Stored>>; Encoding::ALL.len()]);

impl ReadyForms {
    /// About how many bytes they take beside the response.
    pub(crate) const WEIGHT: usize = Encoding::ALL.len() * (size_of::<Trail<Stored>>() + 32);

    /// The form in this coding, as `follow` finds it. A way that leads nowhere any more is forgotten.
    #[inline]
    pub(super) fn get(
        &self,
        encoding: Encoding,
        follow: impl FnOnce(&Trail<Stored>) -> Option<Held<Stored>>,
    ) -> Option<Held<Stored>> {
        let place = self.0.get(encoding as usize)?;
        let trail = place.load();
        let held = follow(trail.as_ref()?);
        if held.is_none() {
            place.store(None);
        }
        held
    }

    #[cold]
    pub(super) fn put(&self, encoding: Encoding, trail: Trail<Stored>) {
        if let Some(place) = self.0.get(encoding as usize) {
            place.store(Some(Arc::new(trail)));
        }
    }
}

/// A copy is another response.
impl Clone for ReadyForms {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tower_keep_store::{L1, Lifetime, Seen, Store, Strength};

    use super::*;
    use crate::forms::Form;
    use crate::stored::StoredCodec;

    #[tokio::test]
    #[allow(clippy::panic, reason = "a test may panic")]
    async fn a_form_that_is_gone_is_forgotten_and_one_that_is_made_again_found() {
        let store = Store::builder().l1(L1::bytes(256 << 10)).build().unwrap();
        let space = store.space("test", StoredCodec { has_forms: true });
        let key = |n: u32| {
            let mut key = space.key_buf();
            key.push(&n.to_be_bytes());
            key
        };
        let make = async |n| {
            let (at, now) = (key(n), store.now());
            let until = now.saturating_add(Duration::from_secs(60));
            let lifetime = Lifetime {
                stored_at: now,
                fresh_until: until,
                refresh_until: until,
                keep_until: until,
            };
            let ticket = space.begin(&[space.key(&at)]);
            let form = Arc::new(Stored::Form(Form::new(b'g', [0; 32], true, None)));
            let seen = Seen::default();
            space.commit(&ticket, space.key(&at), form, lifetime, &[], seen).await.unwrap()
        };
        let ready = ReadyForms::default();
        let find = || {
            let again = |trail: &_| space.glance_again(trail, || key(0));
            ready.get(Encoding::Gzip, again).is_some()
        };
        for _ in 0..2 {
            assert!(!find());
            ready.put(Encoding::Gzip, make(0).await.trail());
            assert!(find() && find());
            assert!(ready.get(Encoding::Brotli, |_| panic!("there is none")).is_none());
            space.remove(space.key(&key(0)), Strength::Hard).await;
            // Memory is given back in batches.
            let mut others = 1..100_000;
            while find() {
                make(others.next().unwrap()).await;
            }
            assert!(ready.0.iter().all(|place| place.load().is_none()));
        }
    }
}
