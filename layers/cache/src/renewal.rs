//! What a validation makes of a stored response (RFC 9111 §3.2, §4.3.4, §4.3.5).

use http::header::{Entry, SET_COOKIE};
use http::response::Parts;
use http::{HeaderMap, HeaderName};
use tower_keep_compress::LeaveUncompressed;
use tower_keep_store::{Hit, MAX_TAGS, Tag};

use crate::conditional::freshen;
use crate::core::Settings;
use crate::groups::{self, CACHE_GROUPS};
use crate::landing::Refusal;
use crate::plan::{Times, with_date};
use crate::policy::{SetCookie, StoredTimes, omitted};
use crate::respond::Asked;
use crate::stored::{Stored, StoredResponse, stored_headers};
use crate::tags::collect_tags;
use crate::vary::VaryRule;

/// A stored response, brought up to date.
pub(crate) struct Renewal {
    pub(crate) response: StoredResponse,
    pub(crate) vary: VaryRule,
    pub(crate) tags: Vec<Tag>,
    /// What is for the one whose request caused this, and not stored.
    pub(crate) aside: HeaderMap,
    /// Why it may not be stored any more, if so.
    pub(crate) refusal: Option<Refusal>,
}

impl Renewal {
    /// `stored` is the response in `hit`; `validation` the head of the response that validated it.
    pub(crate) fn of(
        settings: &Settings,
        asked: &Asked,
        times: Times,
        hit: &Hit<Stored>,
        stored: &StoredResponse,
        validation: &Parts,
    ) -> Self {
        let policy = &asked.policy;
        let mut headers = stored.headers.clone();
        freshen(&mut headers, &validation.headers, policy.set_cookie);
        with_date(&mut headers, times);
        let vary = settings.vary(asked, &headers);
        let verdict = Settings::verdict(asked, times, stored.status, &headers, &vary);
        let renewed_times = match &verdict {
            Ok(lifetime) => StoredTimes::new(lifetime, times.response_ms),
            Err(_) => stored.times,
        };
        let omit = omitted(&headers, policy);
        let mut headers = stored_headers(&headers);
        let mut aside = set_aside(&mut headers, &omit);
        if policy.set_cookie != SetCookie::Store {
            // They are not stored, but for whoever caused the validation.
            for cookie in validation.headers.get_all(SET_COOKIE) {
                aside.append(SET_COOKIE, cookie.clone());
            }
        }
        let (body, trailers) = (stored.body.clone(), stored.trailers.clone());
        let response = StoredResponse::new(stored.status, &headers, body, trailers, renewed_times);
        // The same content, of which there may be forms.
        let is_marked = validation.extensions.get::<LeaveUncompressed>().is_some();
        let (plain_only, digest) = (stored.plain_only || is_marked, stored.digest.clone());
        let response = StoredResponse { plain_only, digest, ..response };
        // A handler that has nothing new to say need not repeat the tags either.
        let mut tags: Vec<Tag> = hit.tags().cloned().collect();
        let added = collect_tags(&validation.extensions, &response.headers);
        for tag in added.tags {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        let groups = groups::named(&response.headers, &CACHE_GROUPS).len();
        let detail = match verdict {
            Err(reason) => Some(reason.detail()),
            Ok(_) => (added.overflow || tags.len() + groups > MAX_TAGS).then_some("tags"),
        };
        let refusal = detail.map(|detail| asked.refusal(stored.status, detail));
        Self { response, vary, tags, aside, refusal }
    }
}

/// Takes the fields of these names out of `headers`.
pub(crate) fn set_aside(headers: &mut HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut aside = HeaderMap::new();
    for name in names {
        if let Entry::Occupied(lines) = headers.entry(name) {
            for line in lines.remove_entry_mult().1 {
                aside.append(name, line);
            }
        }
    }
    aside
}

/// Puts fields that were set aside onto the response of the one whom they are for.
pub(crate) fn put_back(headers: &mut HeaderMap, aside: HeaderMap) {
    let mut last = None;
    for (name, line) in aside {
        last = name.or(last);
        if let Some(name) = &last {
            headers.append(name, line);
        }
    }
}
