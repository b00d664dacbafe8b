//! What all services made by one layer share: settings, the space in the store, and its flights.

use std::time::Duration;

use futures_util::future::{join, join_all};
use http::{HeaderMap, HeaderName, Request};
use tower_keep_store::{Flights, Found, Hit, KeyBuf, Space, Strength, Tag, Timestamp};

use crate::body_key::{Content, ContentDigest};
use crate::budget::Budget;
use crate::cache_status::CacheName;
use crate::forms::{Forms, Made};
use crate::groups::{self, CACHE_GROUPS};
use crate::key::{self, HostField, KeyError, KeyPolicy, Target};
use crate::landing::{Landing, Selector};
use crate::marks::Marks;
use crate::respond::Asked;
use crate::rule::Rules;
use crate::status_field::{CacheStatusField, Finish};
use crate::stored::{Stored, Variants};

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) space: Space<Stored>,
    pub(crate) flights: Flights<Landing>,
    /// The forms that are being made.
    pub(crate) forms: Flights<Made>,
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
    /// What makes a key, if it isn't the target alone.
    pub(crate) key: Option<Box<KeyPolicy>>,
    /// The fields of requests by which a client could deceive the origin.
    pub(crate) untrusted: Vec<HeaderName>,
    pub(crate) max_body: usize,
    pub(crate) max_fill: Duration,
    pub(crate) max_wait: Duration,
    pub(crate) max_lag: Duration,
    pub(crate) keep_for_validation: Duration,
    pub(crate) finish_abandoned: bool,
    pub(crate) early_refresh: Option<f64>,
    pub(crate) retry_pause: Duration,
    /// Which compressed forms are kept; none, if none are.
    pub(crate) forms: Option<Forms>,
}

/// What the key of a request covers beside its target.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Covers {
    /// It tells the user who asks from all others.
    pub(crate) identity: bool,
    /// It tells what the request asks with.
    pub(crate) content: bool,
}

/// What is stored of a resource.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resource {
    keys: Vec<KeyBuf>,
    /// What its other keys have in common.
    tag: Option<Tag>,
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
    pub(crate) covers: Covers,
    /// The tag of the resource, if its target doesn't tell all of its keys.
    pub(crate) resource: Option<Tag>,
}

impl Place {
    /// The place of a resource, whether or not it has variants.
    pub(crate) fn new(primary: KeyBuf, covers: Covers, resource: Option<Tag>) -> Self {
        Self { primary, variant: None, flight: None, covers, resource }
    }

    /// The same, of which no variant is known.
    pub(crate) fn without_variant(&self) -> Self {
        Self { variant: None, flight: None, ..self.clone() }
    }

    /// The place of a variant whose key is known.
    pub(crate) fn with_variant(&self, variant: KeyBuf) -> Self {
        Self { variant: Some(variant), flight: None, ..self.clone() }
    }

    /// The place of another variant than the one that `selector` is about: variants of a cold
    /// resource are fetched side by side.
    pub(crate) fn with_unknown_variant(&self, selector: &Selector, headers: &HeaderMap) -> Self {
        let mut flight = self.primary.clone();
        flight.push(b"\n?");
        selector.write_variant(headers, &mut flight);
        Self { variant: None, flight: Some(flight), ..self.clone() }
    }

    /// The key by which concurrent requests find each other.
    pub(crate) fn flight(&self) -> &KeyBuf {
        self.flight.as_ref().unwrap_or_else(|| self.key())
    }

    /// Whether those find each other who ask for what lies at [its key](Self::key).
    pub(crate) fn has_own_flight(&self) -> bool {
        self.flight.is_none()
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

    /// Writes the key of what a request asks for, with `content` if that counts. `host` is what its `Host`
    /// says, if that was looked at; `covers` becomes what else the key covers. What is written to are
    /// arguments so that a hit doesn't move buffers about.
    #[inline]
    pub(crate) fn write_primary_key<'a, B>(
        &self,
        request: &'a Request<B>,
        host: Option<HostField<'a>>,
        content: Option<&ContentDigest>,
        covers: &mut Covers,
        out: &mut KeyBuf,
    ) -> Result<(), KeyError> {
        self.space.begin_key(out);
        match (&self.settings.key, content) {
            (None, None) => match host {
                Some(host) => Target::of_known(request, host)?.write(out),
                None => Target::of(request)?.write(out),
            },
            (policy, content) => {
                covers.content = content.is_some();
                covers.identity = key::write_whole(request, policy.as_deref(), content, out)?;
                Ok(())
            }
        }
    }

    /// What remains to be done to the `Cache-Status` of the answer to a request.
    pub(crate) fn finish<B>(&self, field: CacheStatusField, request: &Request<B>) -> Finish {
        let content = Content::of(request).and_then(Content::known);
        let mut primary = KeyBuf::new();
        let covers = &mut Covers::default();
        if self.write_primary_key(request, None, content, covers, &mut primary).is_err() {
            return Finish::without_key(field);
        }
        let found = self.space.glance(self.space.key(&primary), self.now());
        let variant = match found.as_deref() {
            Some(Stored::Variants(rule)) => Some(variant_key(&primary, rule, request.headers())),
            _ => None,
        };
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

    /// The tag that everything stored of a request's resource carries, where its keys can't be told
    /// from its target: the policy adds parts to them, or it is the content that `by_content` is
    /// about.
    pub(crate) fn resource_tag(&self, target: &Target<'_>, by_content: bool) -> Option<Tag> {
        let policy = self.settings.key.as_deref();
        let hidden = by_content || policy.is_some_and(KeyPolicy::has_parts);
        hidden.then(|| self.space.part_tag(key::resource(target, policy)))
    }

    /// Adds the tags of the response to `asked` with these fields that are the layer's own: of its
    /// resource, if that has one, and of its groups.
    pub(crate) fn add_own_tags(
        &self,
        tags: &mut Vec<Tag>,
        place: &Place,
        asked: &Asked,
        headers: &HeaderMap,
    ) {
        let groups = groups::named(headers, &CACHE_GROUPS);
        for tag in place.resource.iter().cloned().chain(self.group_tags(asked.target(), &groups)) {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
    }

    /// The tags of groups of a target's origin.
    pub(crate) fn group_tags(&self, target: Option<Target<'_>>, groups: &[String]) -> Vec<Tag> {
        let any_host = self.settings.key.as_deref().is_some_and(KeyPolicy::is_for_any_host);
        let groups = target.iter().flat_map(|target| {
            let host = if any_host { &[][..] } else { target.host_without_usual_port() };
            groups.iter().map(move |group| self.space.part_tag(groups::digest(host, group)))
        });
        groups.collect()
    }

    /// All that may be stored of a resource.
    pub(crate) fn resource(&self, target: &Target<'_>, by_content: bool) -> Resource {
        let policy = self.settings.key.as_deref();
        Resource {
            keys: key::each_form(target, policy, || self.space.key_buf()),
            tag: self.resource_tag(target, by_content),
        }
    }

    /// Removes what is stored of resources, everywhere.
    pub(crate) async fn remove_all(&self, resources: &[Resource]) {
        let keys = resources.iter().flat_map(|resource| &resource.keys);
        let tags: Vec<Tag> = resources.iter().filter_map(|resource| resource.tag.clone()).collect();
        join(join_all(keys.map(|key| self.remove(key))), self.invalidate_all(&tags)).await;
    }

    /// Invalidates everything that has one of these tags, everywhere.
    pub(crate) async fn invalidate_all(&self, tags: &[Tag]) {
        join_all(tags.iter().map(|tag| self.space.invalidate(tag, Strength::Hard))).await;
    }

    /// Removes what is stored under a key, everywhere.
    pub(crate) async fn remove(&self, key: &KeyBuf) {
        self.space.remove(self.space.key(key), Strength::Hard).await;
    }

    /// Looks into the first tier. If the resource has variants, `variant` becomes the key of the one
    /// that the request selects.
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

    /// The same, for who only has a look at what is there, and at which key: nothing comes back, so that
    /// a hit doesn't move responses about.
    #[inline]
    pub(crate) fn peek_with(
        &self,
        primary: &KeyBuf,
        headers: &HeaderMap,
        now: Timestamp,
        look: impl FnOnce(&KeyBuf, Found<'_, Stored>),
    ) {
        let first = |found: Found<'_, Stored>| match found.value() {
            Stored::Variants(variants) => {
                let variant = variant_key(primary, variants, headers);
                let look = |found: Found<'_, Stored>| look(&variant, found);
                self.space.peek_with(self.space.key(&variant), now, look);
            }
            _ => look(primary, found),
        };
        self.space.peek_with(self.space.key(primary), now, first);
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
