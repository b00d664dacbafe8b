//! What all services made by one layer share: settings, the space in the store, and its flights.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Request};
use tower_keep_store::{Flights, Hit, KeyBuf, Space, Strength, Timestamp};

use crate::budget::Budget;
use crate::cache_status::CacheName;
use crate::key::{KeyError, Target};
use crate::landing::{Landing, Selector};
use crate::marks::Marks;
use crate::rule::Rules;
use crate::status_field::{CacheStatusField, Finish};
use crate::stored::{Stored, Variants};

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) space: Space<Stored>,
    pub(crate) flights: Flights<Landing>,
    pub(crate) budget: Budget,
    /// The resources that are not to be waited for.
    pub(crate) marks: Marks,
    pub(crate) settings: Settings,
}

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) name: CacheName,
    pub(crate) status_field: CacheStatusField,
    pub(crate) rules: Rules,
    /// The fields of requests by which a client could deceive the origin.
    pub(crate) untrusted: Vec<HeaderName>,
    pub(crate) max_body: usize,
    pub(crate) max_fill: Duration,
    pub(crate) max_wait: Duration,
    pub(crate) max_lag: Duration,
    pub(crate) keep_for_validation: Duration,
    pub(crate) finish_abandoned: bool,
}

/// Where the answer to a request may lie.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The key of the resource.
    pub(crate) primary: KeyBuf,
    /// The key of the variant, if it is known that the resource has some.
    pub(crate) variant: Option<KeyBuf>,
    /// The key of the flight, where it isn't that of the response: the resource has variants, and
    /// this one's key isn't known yet.
    flight: Option<KeyBuf>,
}

impl Place {
    pub(crate) fn new(primary: KeyBuf, variant: Option<KeyBuf>) -> Self {
        Self { primary, variant, flight: None }
    }

    /// The place of another variant than the one that `selector` is about: variants of a cold
    /// resource are fetched side by side.
    pub(crate) fn with_unknown_variant(&self, selector: &Selector, headers: &HeaderMap) -> Self {
        let mut flight = self.primary.clone();
        flight.push(b"\n?");
        selector.write_variant(headers, &mut flight);
        Self { primary: self.primary.clone(), variant: None, flight: Some(flight) }
    }

    /// The key by which concurrent requests find each other.
    pub(crate) fn flight(&self) -> &KeyBuf {
        self.flight.as_ref().unwrap_or_else(|| self.key())
    }

    /// The key under which the response itself lies, as far as is known.
    pub(crate) fn key(&self) -> &KeyBuf {
        self.variant.as_ref().unwrap_or(&self.primary)
    }
}

impl Core {
    pub(crate) fn now(&self) -> Timestamp {
        self.space.store().now()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now().as_millis()
    }

    /// The key of what a request asks for.
    pub(crate) fn primary_key<B>(&self, request: &Request<B>) -> Result<KeyBuf, KeyError> {
        let mut primary = self.space.key_buf();
        Target::of(request)?.write(&mut primary)?;
        Ok(primary)
    }

    /// What remains to be done to the `Cache-Status` of the answer to a request.
    pub(crate) fn finish<B>(&self, field: CacheStatusField, request: &Request<B>) -> Finish {
        let Ok(primary) = self.primary_key(request) else { return Finish::without_key(field) };
        let mut variant = None;
        self.peek(&primary, &mut variant, request.headers(), self.now());
        let space = self.space.key_buf().as_bytes().len();
        let mut shown = primary.as_bytes().get(space..).unwrap_or_default().to_vec();
        if let Some(variant) = variant {
            // Behind the resource and what names the rule.
            let chosen = variant.as_bytes().get(primary.as_bytes().len() + VARIANT_ID_LEN..);
            shown.push(b' ');
            shown.extend_from_slice(chosen.unwrap_or_default());
        }
        Finish::of(field, &shown)
    }

    /// All keys that a resource may have.
    pub(crate) fn each_key(&self, target: &Target<'_>) -> Vec<KeyBuf> {
        target.each_form(|| self.space.key_buf())
    }

    /// Removes what is stored under a key, everywhere.
    pub(crate) async fn remove(&self, key: &KeyBuf) {
        self.space.remove(self.space.key(key), Strength::Hard).await;
    }

    /// Looks into the first tier. If the resource has variants, `variant` becomes the key of the one
    /// that the request selects: it is an argument so that a hit doesn't move buffers about.
    pub(crate) fn peek(
        &self,
        primary: &KeyBuf,
        variant: &mut Option<KeyBuf>,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Option<Hit<Stored>> {
        let hit = self.space.peek(self.space.key(primary), now);
        match hit.as_deref() {
            Some(Stored::Variants(variants)) => {
                let variant = variant.insert(variant_key(primary, variants, headers));
                self.space.peek(self.space.key(variant), now)
            }
            _ => hit,
        }
    }
}

/// How many bytes stand between the key of a resource and what chooses a variant of it.
const VARIANT_ID_LEN: usize = 1 + size_of::<u64>();

/// The key of the variant of a resource that these request headers select.
pub(crate) fn variant_key(primary: &KeyBuf, variants: &Variants, headers: &HeaderMap) -> KeyBuf {
    let mut key = primary.clone();
    // A line feed is in no URI and no host, so no resource has this key as its own.
    key.push(b"\n");
    key.push(&variants.id.to_be_bytes());
    variants.rule.write_variant(headers, &mut key);
    key
}
