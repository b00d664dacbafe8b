//! Whether an entry answers a request.

use tower_keep_store::{Hit, State, Timestamp};

use crate::cache_status::Fwd;
use crate::policy::{RequestDirectives, Reuse, reuse, usable_on_error};
use crate::stored::{Stored, StoredResponse};

/// The response in an entry, and how it may answer a request with these directives; `None` if the
/// entry is no response.
pub(crate) fn judge<'a>(
    hit: &'a Hit<Stored>,
    directives: &RequestDirectives,
    now_ms: u64,
) -> Option<(&'a StoredResponse, Reuse)> {
    let Stored::Response(response) = &**hit else { return None };
    let by_time = reuse(&response.times, directives, now_ms);
    // A soft invalidation makes stale what by its times is fresh.
    let softened = hit.state() != State::Fresh && now_ms < response.times.fresh_until_ms;
    let verdict = match by_time {
        _ if !softened => by_time,
        Reuse::MustValidate => Reuse::MustValidate,
        _ if directives.any || response.times.must_revalidate => Reuse::MustValidate,
        _ => Reuse::StaleWhileRevalidate,
    };
    Some((response, verdict))
}

/// The response in an entry, if it answers the request without a trip to the origin.
pub(crate) fn usable<'a>(
    hit: &'a Hit<Stored>,
    directives: &RequestDirectives,
    now_ms: u64,
) -> Option<&'a StoredResponse> {
    match judge(hit, directives, now_ms)? {
        (_, Reuse::MustValidate) => None,
        (response, _) => Some(response),
    }
}

/// Why a request goes to the origin although there is an entry (RFC 9211 §2.2).
pub(crate) fn why_forwarded(hit: &Hit<Stored>, now_ms: u64) -> Fwd {
    match judge(hit, &RequestDirectives::default(), now_ms) {
        // Somebody who asked for nothing in particular would have got it.
        Some((_, Reuse::Fresh)) => Fwd::Request,
        _ => Fwd::Stale,
    }
}

/// The response in an entry, if it may stand in for an origin that failed.
pub(crate) fn fallback<'a>(
    hit: &'a Hit<Stored>,
    directives: &RequestDirectives,
    now: Timestamp,
) -> Option<&'a StoredResponse> {
    let Stored::Response(response) = &**hit else { return None };
    // It may have been invalidated while the origin was being asked.
    let there = hit.state_at(now) != State::Gone;
    (there && usable_on_error(&response.times, directives, now.as_millis())).then_some(response)
}
