//! Storing a complete response, under the key of its variant.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tower_keep_store::{Hit, Lifetime, MAX_TAGS, Seen, Tag, Ticket, Timestamp};

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
        let Fetched { response, vary, mut tags } = fetched;
        let (core, ticket, place) = (self.core, self.ticket, self.place);
        core.add_own_tags(&mut tags, place, self.asked, &response.headers);
        // That of the resource comes on top of what is counted elsewhere.
        if tags.len() > MAX_TAGS + 1 {
            return None;
        }
        let space = &core.space;
        let lifetime = lifetime(core, &response);
        let response = Arc::new(Stored::Response(response));
        let present = space.peek(space.key(&place.primary), core.now());
        let present = present.as_ref().filter(|hit| known_rule(hit).is_some());
        if vary.is_empty() && present.is_none() && place.variant.is_none() {
            let primary = space.key(&place.primary);
            let seen = self.seen.clone();
            return space.commit(ticket, primary, response, lifetime, &tags, seen).await;
        }
        let (variants, reserved) = self.rule(present, &vary, lifetime).await?;
        let key = variant_key(&place.primary, &variants, &self.asked.headers);
        // What was seen is true of the key that the fill looked at. A variant that it couldn't know
        // of was not there, as far as the second tier could be asked.
        let seen = match &place.variant {
            Some(variant) if variant.as_bytes() == key.as_bytes() => self.seen.clone(),
            _ if self.seen.token().is_none() => Seen::default(),
            _ if reserved.is_some() => reserved.unwrap_or_default(),
            _ => Seen::nothing(),
        };
        space.commit(ticket, space.key(&key), response, lifetime, &tags, seen).await
    }

    /// The entry that tells the variants of the resource apart, for at least as long as one of them
    /// with this lifetime is there; nothing if the resource may have been removed meanwhile. A new one
    /// comes with the lease of this response's own key, if the fill has one.
    ///
    /// Variants that are fetched side by side, or of which some vary on more than others, must end
    /// up under one rule, or they would not find each other. So a rule that is there already is taken
    /// if it covers this response's, and else replaced by the two together.
    async fn rule(
        &self,
        present: Option<&Hit<Stored>>,
        vary: &VaryRule,
        lifetime: Lifetime,
    ) -> Option<(Variants, Option<Seen>)> {
        let (core, ticket, place) = (self.core, self.ticket, self.place);
        let space = &core.space;
        let primary = space.key(&place.primary);
        let mut base = None;
        let mut seen = self.seen.clone();
        if let Some(hit) = present {
            match self.build_on(hit, vary, lifetime) {
                ControlFlow::Break(decided) => return Some((decided?, None)),
                ControlFlow::Continue(rule) => base = rule,
            }
        }
        if base.is_some() || place.variant.is_some() {
            // What was seen there, if anything, is too old by now.
            seen = Seen::default();
            let (there, seen_now) = space.fetch(ticket, primary).await;
            if let Some(hit) = there {
                match self.build_on(&hit, vary, lifetime) {
                    ControlFlow::Break(decided) => return Some((decided?, None)),
                    ControlFlow::Continue(None) => {}
                    ControlFlow::Continue(rule) => (base, seen) = (rule, seen_now),
                }
            }
        }
        let extended = base.as_ref().filter(|base| base.rule.covers(vary));
        let is_new = extended.is_none();
        let variants = extended.cloned().unwrap_or_else(|| Variants {
            rule: base.as_ref().map_or_else(|| vary.clone(), |base| base.rule.union(vary)),
            id: fastrand::u64(..),
            after: seen.token().unwrap_or_default().to_vec(),
        });
        let until = lifetime.keep_until.saturating_add(SPARE);
        let always =
            Lifetime { fresh_until: until, refresh_until: until, keep_until: until, ..lifetime };
        let entry = Arc::new(Stored::Variants(variants.clone()));
        let mut reserved = None;
        if is_new && seen.is_leased() {
            // Those who wait at the primary key find the rule there before this variant is at its own.
            let key = variant_key(&place.primary, &variants, &self.asked.headers);
            reserved = Some(space.reserve(space.key(&key)).await);
        }
        space.commit(ticket, primary, entry, always, &[], seen).await?;
        if !is_new {
            return Some((variants, None));
        }
        // Another fill, here or on another node, may have been first.
        let (first, _) = space.fetch(ticket, primary).await;
        let first = first.or_else(|| space.peek(primary, core.now()));
        match first.as_ref().and_then(known_rule) {
            Some(first) if first.id != variants.id => {
                (first.rule.covers(vary) && self.agrees_with(first)).then(|| (first.clone(), None))
            }
            _ => Some((variants, reserved)),
        }
    }

    /// What an entry at the primary key means for the rule: it is of another time than this fill, or
    /// it will do as it is, and either decides; or it is what a new one builds on, if it is a rule.
    fn build_on(
        &self,
        hit: &Hit<Stored>,
        vary: &VaryRule,
        lifetime: Lifetime,
    ) -> ControlFlow<Option<Variants>, Option<Variants>> {
        let Some(rule) = known_rule(hit) else { return ControlFlow::Continue(None) };
        if !self.agrees_with(rule) {
            return ControlFlow::Break(None);
        }
        if rule.rule.covers(vary) && hit.lifetime().keep_until >= lifetime.keep_until {
            ControlFlow::Break(Some(rule.clone()))
        } else {
            ControlFlow::Continue(Some(rule.clone()))
        }
    }

    /// Whether a rule is of the same time as this fill: the one by which it looked for its variant,
    /// or one that was made from what it saw. Another one may have been made after a removal that
    /// this node hasn't heard of yet, and what is stored under it must not be from before.
    fn agrees_with(&self, rule: &Variants) -> bool {
        let place = self.place;
        match (&place.variant, self.seen.token()) {
            (Some(variant), _) => {
                let key = variant_key(&place.primary, rule, &self.asked.headers);
                key.as_bytes() == variant.as_bytes()
            }
            (None, Some(token)) => rule.after == token,
            // Within this node, a removal overtakes the fill itself.
            (None, None) => true,
        }
    }
}

fn known_rule(hit: &Hit<Stored>) -> Option<&Variants> {
    match &**hit {
        Stored::Variants(known) => Some(known),
        Stored::Response(_) | Stored::Form(_) => None,
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
