//! Whether an entry answers a request.

use http::{HeaderMap, Method, Uri};
use tower_keep_store::{Found, Hit, State, Timestamp};

use crate::cache_status::Fwd;
use crate::policy::{RequestDirectives, Reuse, reuse, usable_on_error};
use crate::range::covers;
use crate::stored::{Stored, StoredResponse};

/// What of a request decides whether an entry answers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) directives: &'a RequestDirectives,
    pub(crate) method: &'a Method,
    #[cfg_attr(
        not(feature = "dictionary"),
        expect(dead_code, reason = "dictionaries are by path")
    )]
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
}

/// The response in an entry, and how it may answer a request; `None` if the entry is no response.
pub(crate) fn judge<'a>(
    found: Found<'a, Stored>,
    wish: Wish<'_>,
    now_ms: u64,
) -> Option<(&'a StoredResponse, Reuse)> {
    let Stored::Response(response) = found.value() else { return None };
    if response.part.is_some() && !covers(response, wish.method, wish.headers) {
        return Some((response, Reuse::MustValidate));
    }
    let by_time = reuse(&response.times, wish.directives, now_ms);
    // A soft invalidation makes stale what by its times is fresh.
    let softened = found.state() != State::Fresh && now_ms < response.times.fresh_until_ms;
    let verdict = match by_time {
        _ if !softened => by_time,
        Reuse::MustValidate => Reuse::MustValidate,
        _ if wish.directives.any || response.times.must_revalidate => Reuse::MustValidate,
        _ => Reuse::StaleWhileRevalidate,
    };
    Some((response, verdict))
}

/// The response in an entry, if it answers the request without a trip to the origin.
pub(crate) fn usable<'a>(
    found: Found<'a, Stored>,
    wish: Wish<'_>,
    now_ms: u64,
) -> Option<&'a StoredResponse> {
    match judge(found, wish, now_ms)? {
        (_, Reuse::MustValidate) => None,
        (response, _) => Some(response),
    }
}

/// Why a request goes to the origin although there is an entry (RFC 9211 §2.2).
pub(crate) fn why_forwarded(hit: &Hit<Stored>, now_ms: u64) -> Fwd {
    match &**hit {
        Stored::Response(response) if response.part.is_some() => Fwd::Partial,
        // Somebody who asked for nothing in particular would have got it.
        Stored::Response(response)
            if hit.state() == State::Fresh
                && reuse(&response.times, &RequestDirectives::default(), now_ms)
                    == Reuse::Fresh =>
        {
            Fwd::Request
        }
        _ => Fwd::Stale,
    }
}

/// The response in an entry, if it may stand in for an origin that failed.
pub(crate) fn fallback<'a>(
    found: Found<'a, Stored>,
    wish: Wish<'_>,
    now: Timestamp,
) -> Option<&'a StoredResponse> {
    let Stored::Response(response) = found.value() else { return None };
    if response.part.is_some() && !covers(response, wish.method, wish.headers) {
        return None;
    }
    // It may have been invalidated while the origin was being asked.
    let there = match found.state_at(now) {
        State::Gone => false,
        State::Fresh => true,
        // Also if it is so by a soft invalidation alone.
        _ => !response.times.must_revalidate,
    };
    (there && usable_on_error(&response.times, wish.directives, now.as_millis()))
        .then_some(response)
}
