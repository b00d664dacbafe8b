//! Where responses lie in the store.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use crate::config::{Action, Config, Route};

/// Where those of a route do: apart for routes that ask something else for the same URL. The methods
/// make no difference, so that a POST by one route removes what a GET by another has stored.
pub(crate) fn of(route: &Route, pool: &str) -> String {
    let mut space = format!("edge/{pool}");
    // Writing to memory doesn't fail.
    if let Some(rewrite) = &route.rewrite {
        let _ = write!(space, "/{:?}={rewrite}", route.condition.path);
    }
    if !route.request_headers.is_empty() {
        let _ = write!(space, "/{:?}", route.request_headers);
    }
    space
}

/// Where routes have policies of which one would not store, or not find, what another does: there,
/// each has keys of its own. A POST removes what all of them have stored.
pub(crate) fn mixed(config: &Config) -> HashSet<String> {
    let (mut first, mut mixed) = (HashMap::new(), HashSet::new());
    for route in &config.routes {
        let policy = route.cache.as_ref().and_then(|name| config.cache.policies.get(name));
        let (Action::Pool(pool), Some(policy)) = (&route.action, policy) else { continue };
        let space = of(route, pool);
        if !first.entry(space.clone()).or_insert(policy).goes_with(policy) {
            mixed.insert(space);
        }
    }
    mixed
}
