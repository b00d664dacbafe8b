//! The rules of a layer, checked and ready.

use std::sync::Arc;
use std::time::Duration;

use http::Request;

use super::Rule;
use super::conditions::Conditions;
use crate::error::ConfigError;
use crate::head::RequestHead;
use crate::policy::PolicyOptions;

/// The rules of a layer, in the order in which they are tried.
#[derive(Debug)]
pub(crate) struct Rules {
    ready: Box<[Ready]>,
    /// How many of them there are up to the last that bypasses; a hit needs no more.
    deciding: usize,
    /// What holds for requests that meet none.
    otherwise: Arc<PolicyOptions>,
}

#[derive(Debug)]
struct Ready {
    conditions: Conditions,
    /// The settings for requests that meet it; none if they are bypassed.
    policy: Option<Arc<PolicyOptions>>,
}

impl Rules {
    pub(crate) fn new(
        rules: Vec<Rule>,
        otherwise: &Arc<PolicyOptions>,
    ) -> Result<Self, ConfigError> {
        for (at, rule) in rules.iter().enumerate() {
            let earlier =
                rules.iter().take(at).position(|it| it.conditions.cover(&rule.conditions));
            let fault = rule.conditions.fault().or_else(|| rule.fault(otherwise)).or_else(|| {
                let first = earlier? + 1;
                let fix = "put it before that one, or make them one";
                Some(format!("rule {first} comes before it, and takes all its requests: {fix}"))
            });
            if let Some(fault) = fault {
                return Err(ConfigError::new(format!("rule {}: {fault}", at + 1)));
            }
        }
        let deciding = rules.iter().rposition(|rule| rule.bypass).map_or(0, |last| last + 1);
        let ready = rules.into_iter().map(|rule| Ready {
            policy: (!rule.bypass).then(|| Arc::new(rule.policy(otherwise))),
            conditions: rule.conditions,
        });
        Ok(Self { ready: ready.collect(), deciding, otherwise: Arc::clone(otherwise) })
    }

    /// Whether a request is to pass. Without a rule that says so of any, that is one comparison.
    #[inline]
    pub(crate) fn bypass<B>(&self, request: &Request<B>) -> bool {
        self.deciding != 0 && self.decide_bypass(&RequestHead::of(request))
    }

    fn decide_bypass(&self, head: &RequestHead<'_>) -> bool {
        let deciding = self.ready.iter().take(self.deciding);
        first(deciding, head).is_some_and(|rule| rule.policy.is_none())
    }

    /// The settings for what a request is answered with; `None` if it is to pass.
    pub(crate) fn policy<B>(&self, request: &Request<B>) -> Option<Arc<PolicyOptions>> {
        if self.ready.is_empty() {
            return Some(Arc::clone(&self.otherwise));
        }
        let rule = first(&self.ready, &RequestHead::of(request));
        rule.map_or_else(|| Some(Arc::clone(&self.otherwise)), |rule| rule.policy.clone())
    }
}

fn first<'a>(
    rules: impl IntoIterator<Item = &'a Ready>,
    head: &RequestHead<'_>,
) -> Option<&'a Ready> {
    rules.into_iter().find(|rule| {
        // To pass is safe wherever it is in doubt.
        let cautious = rule.policy.is_none();
        rule.conditions.hold(head, cautious)
    })
}

impl Rule {
    /// The settings of a layer with what this rule says in place of its own.
    fn policy(&self, layer: &PolicyOptions) -> PolicyOptions {
        PolicyOptions {
            default_ttl: self.default_ttl.or(layer.default_ttl),
            status_ttls: self.status_ttls.clone(),
            min_ttl: self.min_ttl,
            max_ttl: self.max_ttl.or(layer.max_ttl),
            stale_while_revalidate: self
                .stale_while_revalidate
                .unwrap_or(layer.stale_while_revalidate),
            stale_if_error: self.stale_if_error.unwrap_or(layer.stale_if_error),
            ..layer.clone()
        }
    }

    /// What can't work, and what to do about it.
    fn fault(&self, layer: &PolicyOptions) -> Option<String> {
        let by_status = self.status_ttls.iter().map(|(_, ttl)| ("default_ttl_for", Some(ttl)));
        let windows = [
            ("stale_while_revalidate", self.stale_while_revalidate),
            ("stale_if_error", self.stale_if_error),
        ];
        let defaults: Vec<_> = [("default_ttl", self.default_ttl)]
            .into_iter()
            .chain(by_status)
            .filter_map(|(name, ttl)| Some((name, ttl?)))
            .collect();
        let bounds = [("min_ttl", self.min_ttl), ("max_ttl", self.max_ttl)];
        let bounds = bounds.into_iter().filter_map(|(name, ttl)| Some((name, ttl?)));
        let mut ttls = defaults.iter().copied().chain(bounds);
        if self.bypass {
            let said = ttls.map(|(name, _)| name).next();
            let said = said.or_else(|| {
                let window = windows.iter().find(|(_, window)| window.is_some());
                window.map(|(name, _)| *name)
            })?;
            return Some(format!("what bypasses isn't stored: leave out {said}, or bypass"));
        }
        // Instants are counted in milliseconds.
        if let Some((name, _)) = ttls.find(|(_, ttl)| *ttl < Duration::from_millis(1)) {
            let fix = "leave it out to have it as the layer does, or bypass to store nothing";
            return Some(format!("{name} is 0: {fix}"));
        }
        if let Some(status) = self.status_ttls.iter().find_map(|(it, _)| it.never_stored()) {
            let status = status.as_u16();
            return Some(format!("responses with {status} are never stored: leave it out"));
        }
        let (max, whose) = match (self.max_ttl, layer.max_ttl) {
            (Some(own), _) => (own, "its max_ttl: raise that"),
            (None, Some(of_layer)) => (of_layer, "the layer's max_ttl: give the rule its own"),
            (None, None) => return None,
        };
        let bounded = self.min_ttl.map(|min| ("min_ttl", min)).into_iter().chain(defaults);
        let mut beyond = bounded.filter(|(_, ttl)| *ttl > max);
        beyond.next().map(|(name, _)| format!("{name} is longer than {whose}, or lower {name}"))
    }
}

#[cfg(test)]
mod tests;
