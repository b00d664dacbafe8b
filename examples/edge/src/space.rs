//! Where responses lie in the store.

use std::fmt::Write as _;

use crate::config::Route;

/// Where those of a route do: apart for routes that ask something else for the same URL. The methods
/// make no difference, so that a POST by one route removes what a GET by another has stored, if that one
/// is of the same space, and goes by the same parameters of the query.
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
