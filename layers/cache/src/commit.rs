//! Storing a complete response, under the key of its variant.

use std::sync::Arc;

use tower_keep_store::{Hit, Lifetime, Seen, Tag, Ticket, Timestamp};

use crate::core::{Core, Place, variant_key};
use crate::respond::Asked;
use crate::stored::{Stored, StoredResponse, Variants};
use crate::vary::VaryRule;

/// A complete response, and what its head said about storing it.
pub(crate) struct Fetched {
    pub(crate) response: StoredResponse,
    pub(crate) vary: VaryRule,
    pub(crate) tags: Vec<Tag>,
}

/// Where, and on what grounds, it is stored.
pub(crate) struct Commit<'a> {
    pub(crate) core: &'a Core,
    pub(crate) ticket: &'a Ticket,
    pub(crate) place: &'a Place,
    pub(crate) asked: &'a Asked,
    /// What lay in the second tier at the key that the fill looked at.
    pub(crate) seen: Seen,
}

impl Commit<'_> {
    /// Stores the response; returns its entry unless an invalidation came first.
    pub(crate) async fn store(self, fetched: Fetched) -> Option<Hit<Stored>> {
        let Self { core, ticket, place, asked, seen } = self;
        let Fetched { response, vary, tags } = fetched;
        let space = &core.space;
        let lifetime = lifetime(core, &response);
        let response = Arc::new(Stored::Response(response));
        let primary = space.key(&place.primary);
        if vary.is_empty() {
            let seen = if place.variant.is_none() { seen } else { Seen::default() };
            return space.commit(ticket, primary, response, lifetime, &tags, seen).await;
        }
        // A rule that is there already keeps its id, so that the variants stored under it stay.
        let present = space.peek(primary, core.now());
        let known = match present.as_deref() {
            Some(Stored::Variants(known)) if known.rule == vary => Some(known.clone()),
            _ => None,
        };
        let is_new = known.is_none();
        let variants = known.unwrap_or_else(|| Variants { rule: vary, id: fastrand::u64(..) });
        let key = variant_key(&place.primary, &variants, &asked.headers);
        let at_place =
            place.variant.as_ref().is_some_and(|variant| variant.as_bytes() == key.as_bytes());
        let (seen_rule, seen_variant) = match (at_place, place.variant.is_some()) {
            (true, _) => (Seen::default(), seen),
            (false, true) => (Seen::default(), Seen::nothing()),
            (false, false) => (seen, Seen::nothing()),
        };
        let kept =
            space.commit(ticket, space.key(&key), response, lifetime, &tags, seen_variant).await?;
        let outlived = present.is_some_and(|hit| hit.lifetime().keep_until < lifetime.keep_until);
        if is_new || outlived {
            // The rule is good for as long as one of the variants is there.
            let always = Lifetime {
                fresh_until: lifetime.keep_until,
                refresh_until: lifetime.keep_until,
                ..lifetime
            };
            let rule = Arc::new(Stored::Variants(variants));
            space.commit(ticket, primary, rule, always, &[], seen_rule).await;
        }
        Some(kept)
    }
}

/// The instants by which the store judges. Past the last at which the response may be served,
/// one that can be validated is worth keeping for a while.
fn lifetime(core: &Core, response: &StoredResponse) -> Lifetime {
    let times = &response.times;
    let at = Timestamp::from_millis;
    let served_until = at(times.swr_until_ms.max(times.sie_until_ms));
    let keep_until = if response.validators.is_empty() {
        served_until
    } else {
        served_until.saturating_add(core.settings.keep_for_validation)
    };
    Lifetime {
        stored_at: at(times.response_time_ms),
        fresh_until: at(times.fresh_until_ms),
        refresh_until: at(times.swr_until_ms),
        keep_until,
    }
}
