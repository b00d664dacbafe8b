//! A cache inside of a cache over the same entries: the inner one would wait for the very fill that
//! it is a part of, so it finds a sign on the request and passes.

use http::Extensions;
use tower_keep_store::{Flights, KeyBuf};

use crate::core::Core;
use crate::landing::Landing;

/// The fills that a request is a part of.
#[derive(Clone, Debug, Default)]
struct Within(Vec<(Flights<Landing>, KeyBuf)>);

/// Puts the sign on a request that is about to be forwarded.
pub(crate) fn enter(extensions: &mut Extensions, core: &Core, primary: &KeyBuf) {
    let within = extensions.get_or_insert_default::<Within>();
    within.0.push((core.flights.clone(), primary.clone()));
}

/// Whether a request for `primary` comes from a layer over the same entries.
pub(crate) fn is_within(extensions: &Extensions, core: &Core, primary: &KeyBuf) -> bool {
    extensions.get::<Within>().is_some_and(|within| {
        let same = |(flights, key): &(Flights<Landing>, KeyBuf)| {
            flights.are(&core.flights) && key.as_bytes() == primary.as_bytes()
        };
        within.0.iter().any(same)
    })
}
