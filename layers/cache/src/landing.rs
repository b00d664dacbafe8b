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
    /// The response is stored.
    Found(Hit<Stored>),
    /// The resource has variants: everybody has to look for their own.
    Varies(Hit<Stored>),
    /// There is nothing to share: everybody has to ask for themselves.
    Alone,
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
