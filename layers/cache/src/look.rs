//! Where the answer to a request may lie, and what the first tier has there.

use http::HeaderMap;
use tower_keep_store::{Hit, Ticket};

use crate::cache_status::{CacheStatus, Fwd, OUT_OF_STEP};
use crate::core::{Core, Place};
use crate::judge::why_forwarded;
use crate::stored::Stored;

/// What was found of a resource.
///
/// Between a look and what comes of it, a request may wait long for others. An entry tells itself
/// whether it has been invalidated by tag since, but not whether it was removed: the guard does.
pub(crate) struct Look {
    guard: Ticket,
    pub(crate) place: Place,
    /// What is stored, but can't be used as it is.
    pub(crate) found: Option<Hit<Stored>>,
    /// Why the request goes on.
    fwd: Fwd,
    /// Whether something is stored that this node can't vouch for.
    unvouched: bool,
}

impl Look {
    /// Looks for the variant of the resource at `place` that these request headers select.
    pub(crate) fn at(core: &Core, place: &Place, headers: &HeaderMap) -> Self {
        // Before the look: what is removed during it is then known, too.
        let guard = core.space.begin(&[core.space.key(&place.primary)]);
        let now = core.now();
        let mut variant = None;
        let found = core.peek(&place.primary, &mut variant, headers, now);
        let key = core.space.key(variant.as_ref().unwrap_or(&place.primary));
        let unvouched = found.is_none() && core.space.is_unvouched(key, now);
        let fwd = match (&found, &variant) {
            (Some(hit), _) => why_forwarded(hit, now.as_millis()),
            _ if unvouched => Fwd::Stale,
            (None, Some(_)) => Fwd::VaryMiss,
            (None, None) => Fwd::UriMiss,
        };
        let place = variant.map_or_else(|| place.without_variant(), |it| place.with_variant(it));
        Self { guard, place, found, fwd, unvouched }
    }

    /// The same, once more.
    pub(crate) fn again(&mut self, core: &Core, headers: &HeaderMap) {
        *self = Self::at(core, &self.place, headers);
    }

    /// What there is to say so far of a request that goes on.
    pub(crate) fn status(&self) -> CacheStatus {
        let status = CacheStatus::forwarded(self.fwd);
        if self.unvouched { status.detail(OUT_OF_STEP) } else { status }
    }

    /// Whether something was removed since, so that what was found may be just that.
    pub(crate) fn is_outdated(&self) -> bool {
        self.guard.is_overtaken()
    }

    /// Goes on at the place of another variant.
    pub(crate) fn move_to(&mut self, place: Place, found: Option<Hit<Stored>>) {
        self.place = place;
        self.found = found;
        self.fwd = Fwd::VaryMiss;
        self.unvouched = false;
    }

    /// The same place, with what the second tier has there.
    pub(crate) fn put(&mut self, core: &Core, hit: Hit<Stored>) {
        self.fwd = why_forwarded(&hit, core.now_ms());
        self.found = Some(hit);
        self.unvouched = false;
    }
}
