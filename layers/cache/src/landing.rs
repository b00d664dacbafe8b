//! What the leader of a fill tells those who wait for it.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};
use tower_keep_store::{Hit, Proof};

use crate::conditional::Validators;
use crate::key::Sink;
use crate::policy::StoredTimes;
use crate::shared::SharedBody;
use crate::stored::Stored;
use crate::vary::VaryRule;

/// The outcome of a fill, as far as it can be shared.
#[derive(Clone, Debug)]
pub(crate) enum Landing {
    /// The response is arriving, and will be stored.
    Arriving(Arc<Arriving>),
    /// The response was in the store.
    Stored(Hit<Stored>),
    /// The origin has validated what was stored, for the requests that the selector tells.
    Renewed(Hit<Stored>, Arc<Selector>),
    /// The resource has variants: everybody has to look for their own.
    Varies(Hit<Stored>),
    /// The response is not stored: everybody has to ask for themselves.
    Alone(Refusal),
    /// The origin failed.
    Failed(Failure),
    /// What was there has changed meanwhile: everybody has to look again.
    Changed,
}

/// Why a response is for its own request alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The same as a `detail` of `Cache-Status`.
    pub(crate) detail: &'static str,
    /// It is because the request said whose it is. One that doesn't may fare better.
    pub(crate) personal: bool,
    /// The response takes the place of what is stored, though it isn't stored itself.
    pub(crate) supersedes: bool,
    /// The origin wants to be asked again later, or by fewer.
    pub(crate) transient: bool,
}

/// An origin that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What may stand in.
    pub(crate) stale: Option<Hit<Stored>>,
    /// The share of those who wait that ask for themselves at once; the others elect another
    /// leader. So an origin that is in trouble doesn't get all of them at the same time, and they
    /// don't wait for each other one by one.
    pub(crate) share: f64,
}

impl Failure {
    /// By how much the share of those who go grows with every failure.
    const GROWTH: u32 = 3;

    /// The `nth` failure in a row, while `followers` wait.
    pub(crate) fn new(stale: Option<Hit<Stored>>, nth: u32, followers: usize) -> Self {
        let followers = u32::try_from(followers).unwrap_or(u32::MAX).max(1);
        let going = f64::from(Self::GROWTH.saturating_pow(nth));
        Self { stale, share: (going / f64::from(followers)).min(1.0) }
    }

    /// An origin that hangs, while something may stand in for it. Those for whom that is no use need
    /// not wait for each other.
    pub(crate) fn hanging(stale: Option<Hit<Stored>>) -> Self {
        Self { stale, share: 1.0 }
    }

    /// When a leader was lost, and how many wait isn't known.
    pub(crate) fn unknown(nth: u32) -> Self {
        Self::new(None, nth, 256)
    }
}

/// A response of which the head is there.
#[derive(Debug)]
pub(crate) struct Arriving {
    pub(crate) status: StatusCode,
    /// As they will be stored.
    pub(crate) headers: HeaderMap,
    /// The `Age` that an earlier cache gave it.
    pub(crate) received_age: Option<HeaderValue>,
    pub(crate) validators: Validators,
    pub(crate) times: StoredTimes,
    pub(crate) body: SharedBody,
    /// For which requests it is.
    pub(crate) selects: Selector,
    pub(crate) proof: Proof,
    /// It is never to be compressed.
    pub(crate) plain_only: bool,
    /// Whether there may be compressed forms of it, once it is stored.
    pub(crate) has_forms: bool,
}

/// Tells whether a request selects the same variant as the one that the response answers.
#[derive(Debug)]
pub(crate) struct Selector {
    rule: VaryRule,
    variant: Vec<u8>,
}

impl Selector {
    pub(crate) fn new(rule: VaryRule, request: &HeaderMap) -> Self {
        let variant = variant_of(&rule, request);
        Self { rule, variant }
    }

    pub(crate) fn matches(&self, request: &HeaderMap) -> bool {
        self.rule.is_empty() || variant_of(&self.rule, request) == self.variant
    }

    /// Writes what tells the variant of this request from others.
    pub(crate) fn write_variant(&self, request: &HeaderMap, out: &mut impl Sink) {
        self.rule.write_variant(request, out);
    }
}

fn variant_of(rule: &VaryRule, request: &HeaderMap) -> Vec<u8> {
    let mut variant = Vec::new();
    rule.write_variant(request, &mut variant);
    variant
}
