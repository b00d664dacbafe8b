//! Storing a complete response, under the key of its variant.

use std::sync::Arc;
use std::time::Duration;

use tower_keep_store::{Hit, Lifetime, Seen, Tag, Ticket, Timestamp};

use crate::core::{Core, Place, variant_key};
use crate::respond::Asked;
use crate::stored::{Stored, StoredResponse, Variants};
use crate::vary::VaryRule;

/// How much longer than a variant their rule is kept, so that it needs to be renewed but rarely.
const SPARE: Duration = Duration::from_secs(24 * 3600);

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
    pub(crate) async fn store(&self, fetched: Fetched) -> Option<Hit<Stored>> {
        let Fetched { response, vary, tags } = fetched;
        let (core, ticket, place) = (self.core, self.ticket, self.place);
        let space = &core.space;
        let lifetime = lifetime(core, &response);
        let response = Arc::new(Stored::Response(response));
        // What was seen is true of the key that the fill looked at.
        let (seen_primary, seen_variant) = match place.variant {
            Some(_) => (None, self.seen.clone()),
            None => (Some(self.seen.clone()), Seen::nothing()),
        };
        let present = space.peek(space.key(&place.primary), core.now());
        if let (true, None, Some(seen)) =
            (vary.is_empty(), present.as_ref().and_then(known_rule), &seen_primary)
        {
            let primary = space.key(&place.primary);
            return space.commit(ticket, primary, response, lifetime, &tags, seen.clone()).await;
        }
        let variants = self.rule(present, &vary, lifetime, seen_primary).await?;
        let key = variant_key(&place.primary, &variants, &self.asked.headers);
        let looked_there =
            place.variant.as_ref().is_none_or(|variant| variant.as_bytes() == key.as_bytes());
        let seen = if looked_there { seen_variant } else { Seen::nothing() };
        space.commit(ticket, space.key(&key), response, lifetime, &tags, seen).await
    }

    /// The entry that tells the variants of the resource apart, for at least as long as one of them
    /// with this lifetime is there.
    ///
    /// Variants that are fetched side by side, or of which some vary on more than others, must end
    /// up under one rule, or they would not find each other. So a rule that is there already is taken
    /// if it covers this response's, and else replaced by the two together.
    async fn rule(
        &self,
        present: Option<Hit<Stored>>,
        vary: &VaryRule,
        lifetime: Lifetime,
        seen_primary: Option<Seen>,
    ) -> Option<Variants> {
        let (core, ticket, place) = (self.core, self.ticket, self.place);
        let space = &core.space;
        let primary = space.key(&place.primary);
        let lasting = |hit: &Hit<Stored>| {
            let known = known_rule(hit).filter(|known| known.rule.covers(vary));
            known.filter(|_| hit.lifetime().keep_until >= lifetime.keep_until).cloned()
        };
        if let Some(known) = present.as_ref().and_then(lasting) {
            return Some(known);
        }
        let (base, seen) = match (present.as_ref().and_then(known_rule), seen_primary) {
            (None, Some(seen)) => (None, seen),
            (known, _) => {
                // The second tier may know of a removal that this node hasn't heard of: only the very
                // rule by which this fill was made is extended or replaced.
                let (there, seen) = space.fetch(ticket, primary).await;
                if let Some(lasting) = there.as_ref().and_then(lasting) {
                    return Some(lasting);
                }
                let there = there.as_ref().and_then(known_rule);
                let agreed = there.is_some_and(|there| match (known, &place.variant) {
                    (Some(known), _) => known.id == there.id,
                    (None, Some(variant)) => {
                        let key = variant_key(&place.primary, there, &self.asked.headers);
                        key.as_bytes() == variant.as_bytes()
                    }
                    (None, None) => false,
                });
                (known.or(there).cloned(), if agreed { seen } else { Seen::default() })
            }
        };
        let extended = base.as_ref().filter(|base| base.rule.covers(vary));
        let is_new = extended.is_none();
        let variants = extended.cloned().unwrap_or_else(|| Variants {
            rule: base.as_ref().map_or_else(|| vary.clone(), |base| base.rule.union(vary)),
            id: fastrand::u64(..),
        });
        let until = lifetime.keep_until.saturating_add(SPARE);
        let always =
            Lifetime { fresh_until: until, refresh_until: until, keep_until: until, ..lifetime };
        let entry = Arc::new(Stored::Variants(variants.clone()));
        space.commit(ticket, primary, entry, always, &[], seen).await?;
        if !is_new {
            return Some(variants);
        }
        // Another fill, here or on another node, may have been first.
        let (first, _) = space.fetch(ticket, primary).await;
        let first = first.or_else(|| space.peek(primary, core.now()));
        let first = first.as_ref().and_then(known_rule).filter(|first| first.rule.covers(vary));
        Some(first.cloned().unwrap_or(variants))
    }
}

fn known_rule(hit: &Hit<Stored>) -> Option<&Variants> {
    match &**hit {
        Stored::Variants(known) => Some(known),
        Stored::Response(_) => None,
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
