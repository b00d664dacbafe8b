//! Whether, and how, a response is to be stored, as far as its head tells.

use std::time::{Duration, UNIX_EPOCH};

use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::Body;
use httpdate::HttpDate;
use tower_keep_store::{Hit, MAX_TAGS, Tag};

use crate::core::Settings;
use crate::groups::{self, CACHE_GROUPS};
use crate::grpc::says_failure;
use crate::landing::Refusal;
use crate::policy::{Exchange, Lifetime, NotStored, omitted, storable};
use crate::respond::Asked;
use crate::stored::Stored;
use crate::tags::collect_tags;
use crate::vary::VaryRule;

/// What is known of a response that will be stored when it is complete.
pub(crate) struct Plan {
    pub(crate) lifetime: Lifetime,
    pub(crate) vary: VaryRule,
    pub(crate) tags: Vec<Tag>,
    /// The fields that are left out of what is stored.
    pub(crate) omit: Vec<HeaderName>,
}

/// When a request was sent on, and when the head of its response came, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) request_ms: u64,
    pub(crate) response_ms: u64,
}

impl Plan {
    /// With the tags of what is stored already of the response, if there is room for them.
    pub(crate) fn with_tags_of(
        mut self,
        hit: &Hit<Stored>,
        asked: &Asked,
    ) -> Result<Self, Refusal> {
        for tag in hit.all_tags() {
            if !self.tags.contains(tag) {
                self.tags.push(tag.clone());
            }
        }
        let fits = self.tags.len() <= MAX_TAGS;
        if fits { Ok(self) } else { Err(asked.refusal(StatusCode::OK, "tags")) }
    }
}

impl Settings {
    /// Whether, and for how long, a response with these fields may be stored.
    pub(crate) fn verdict(
        asked: &Asked,
        times: Times,
        status: StatusCode,
        headers: &HeaderMap,
        vary: &VaryRule,
    ) -> Result<Lifetime, NotStored> {
        let exchange = Exchange {
            // What is keyed by its content reads as GET does.
            method: if asked.covers.content { &Method::GET } else { &asked.method },
            request: &asked.headers,
            identified: asked.covers.identity,
            status,
            response: headers,
            vary,
            request_time_ms: times.request_ms,
            response_time_ms: times.response_ms,
        };
        storable(&exchange, &asked.policy)
    }

    /// Which fields of the request the response depends on: those that it names, and those by which
    /// the request may have deceived the origin.
    pub(crate) fn vary(&self, asked: &Asked, headers: &HeaderMap) -> VaryRule {
        VaryRule::of(headers).and_untrusted(&self.untrusted, self.key.as_deref(), &asked.headers)
    }

    /// Whether and how the response is to be stored; if not, why not.
    pub(crate) fn plan<B: Body>(
        &self,
        asked: &Asked,
        times: Times,
        response: &Response<B>,
    ) -> Result<Plan, Refusal> {
        self.plan_for(response.status(), asked, times, response)
    }

    /// As [`plan`](Self::plan), for a response of which a part came: it may be stored if the whole
    /// might (RFC 9111 §3.3).
    pub(crate) fn plan_as_whole<B: Body>(
        &self,
        asked: &Asked,
        times: Times,
        response: &Response<B>,
    ) -> Result<Plan, Refusal> {
        self.plan_for(StatusCode::OK, asked, times, response)
    }

    fn plan_for<B: Body>(
        &self,
        status: StatusCode,
        asked: &Asked,
        times: Times,
        response: &Response<B>,
    ) -> Result<Plan, Refusal> {
        let headers = response.headers();
        if says_failure(asked, headers) {
            return Err(Refusal {
                supersedes: false,
                transient: true,
                ..asked.refusal(status, "grpc-status")
            });
        }
        let vary = self.vary(asked, headers);
        let verdict = Self::verdict(asked, times, status, headers, &vary);
        let lifetime = verdict.map_err(|reason| asked.refusal(status, reason.detail()))?;
        let tags = collect_tags(response.extensions(), headers);
        let groups = groups::named(headers, &CACHE_GROUPS).len();
        if tags.overflow || tags.tags.len() + groups > MAX_TAGS {
            return Err(asked.refusal(status, "tags"));
        }
        let announced = content_length(headers).unwrap_or(0);
        if response.body().size_hint().lower().max(announced) > self.max_body as u64 {
            return Err(asked.refusal(status, "too-large"));
        }
        let omit = omitted(headers, &asked.policy);
        Ok(Plan { lifetime, vary, tags: tags.tags, omit })
    }
}

impl Asked {
    /// What it means to others that a response is not stored.
    pub(crate) fn refusal(&self, status: StatusCode, detail: &'static str) -> Refusal {
        // What somebody gets who said who he is tells nothing of what others would.
        let personal = self.policy.is_personal(&self.headers);
        Refusal {
            detail,
            personal,
            supersedes: !personal && supersedes(status),
            transient: is_transient(status),
        }
    }
}

/// Whether a response with this status says that the resource is fine, but not now, or not for so
/// many.
fn is_transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    )
}

/// Whether a response with this status is what the resource is like now, or that it is no more: then
/// what was stored earlier must not come back when the origin fails.
fn supersedes(status: StatusCode) -> bool {
    match status {
        StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED => false,
        StatusCode::NOT_FOUND | StatusCode::GONE => true,
        _ => status.is_success() || status.is_redirection(),
    }
}

/// A response that doesn't say when it was generated was so when it was received (RFC 9110 §6.6.1).
pub(crate) fn with_date(headers: &mut HeaderMap, times: Times) {
    if !headers.contains_key(DATE) {
        /// The last that has four digits for the year, in milliseconds.
        const LAST: u64 = 253_402_300_799_999;
        let received = UNIX_EPOCH.checked_add(Duration::from_millis(times.response_ms.min(LAST)));
        let date = received.map(|received| HttpDate::from(received).to_string());
        if let Some(date) = date.and_then(|date| HeaderValue::try_from(date).ok()) {
            headers.insert(DATE, date);
        }
    }
}

/// What `Content-Length` says.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
