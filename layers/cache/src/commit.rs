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
    pub(crate) async fn store(self, fetched: Fetched) -> Option<Hit<Stored>> {
        let Fetched { response, vary, tags } = fetched;
        let (core, ticket, place) = (self.core, self.ticket, self.place);
        let space = &core.space;
        let lifetime = lifetime(core, &response);
        let response = Arc::new(Stored::Response(response));
        // What was seen is true of the key that the fill looked at.
        let (seen_primary, seen_variant) = match place.variant {
            Some(_) => (Seen::default(), self.seen),
            None => (self.seen, Seen::nothing()),
        };
        if vary.is_empty() {
            let primary = space.key(&place.primary);
            return space.commit(ticket, primary, response, lifetime, &tags, seen_primary).await;
        }
        let variants = rule(core, ticket, place, vary, lifetime, seen_primary).await?;
        let key = variant_key(&place.primary, &variants, &self.asked.headers);
        let looked_there =
            place.variant.as_ref().is_none_or(|variant| variant.as_bytes() == key.as_bytes());
        let seen = if looked_there { seen_variant } else { Seen::nothing() };
        space.commit(ticket, space.key(&key), response, lifetime, &tags, seen).await
    }
}

/// The entry that tells the variants of the resource apart, for at least as long as one of them
/// with this lifetime is there.
///
/// Variants that are fetched side by side must end up under one rule, or they would not find each
/// other: so the one that is there is taken, whoever made it.
async fn rule(
    core: &Core,
    ticket: &Ticket,
    place: &Place,
    vary: VaryRule,
    lifetime: Lifetime,
    seen: Seen,
) -> Option<Variants> {
    let space = &core.space;
    let primary = space.key(&place.primary);
    let same = |hit: &Hit<Stored>| match &**hit {
        Stored::Variants(known) if known.rule == vary => Some(known.clone()),
        _ => None,
    };
    let present = space.peek(primary, core.now());
    let known = present.as_ref().and_then(same);
    if let (Some(known), Some(present)) = (&known, &present)
        && present.lifetime().keep_until >= lifetime.keep_until
    {
        return Some(known.clone());
    }
    let variants =
        known.clone().unwrap_or_else(|| Variants { rule: vary.clone(), id: fastrand::u64(..) });
    let until = lifetime.keep_until.saturating_add(SPARE);
    let always =
        Lifetime { fresh_until: until, refresh_until: until, keep_until: until, ..lifetime };
    let entry = Arc::new(Stored::Variants(variants.clone()));
    let seen = if let Some(known) = &known {
        // The second tier may know of a removal that this node hasn't heard of: only the very rule
        // is extended.
        let (there, seen) = space.fetch(ticket, primary).await;
        match there.as_ref().and_then(same) {
            Some(there) if there.id == known.id => seen,
            _ => Seen::default(),
        }
    } else {
        seen
    };
    space.commit(ticket, primary, entry, always, &[], seen).await?;
    if known.is_some() {
        return Some(variants);
    }
    // Another fill, here or on another node, may have been first.
    let (first, _) = space.fetch(ticket, primary).await;
    let first = first.or_else(|| space.peek(primary, core.now()));
    Some(first.as_ref().and_then(same).unwrap_or(variants))
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
