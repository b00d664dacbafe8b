//! Whether, and how, a response is to be stored, as far as its head tells.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body;
use tower_keep_store::Tag;

use crate::core::Settings;
use crate::landing::Refusal;
use crate::policy::{Exchange, Lifetime, NotStored, storable};
use crate::respond::Asked;
use crate::tags::collect_tags;
use crate::vary::VaryRule;

/// What is known of a response that will be stored when it is complete.
pub(crate) struct Plan {
    pub(crate) lifetime: Lifetime,
    pub(crate) vary: VaryRule,
    pub(crate) tags: Vec<Tag>,
}

/// When a request was sent on, and when the head of its response came, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) request_ms: u64,
    pub(crate) response_ms: u64,
}

impl Settings {
    /// Whether, and for how long, a response with these fields may be stored.
    pub(crate) fn verdict(
        &self,
        asked: &Asked,
        times: Times,
        status: StatusCode,
        headers: &HeaderMap,
        vary: &VaryRule,
    ) -> Result<Lifetime, NotStored> {
        let exchange = Exchange {
            method: &asked.method,
            request: &asked.headers,
            status,
            response: headers,
            vary,
            request_time_ms: times.request_ms,
            response_time_ms: times.response_ms,
        };
        storable(&exchange, &self.policy)
    }

    /// Whether and how the response is to be stored; if not, why not.
    pub(crate) fn plan<B: Body>(
        &self,
        asked: &Asked,
        times: Times,
        response: &Response<B>,
    ) -> Result<Plan, Refusal> {
        let (status, headers) = (response.status(), response.headers());
        let refused = |detail, personal: bool| {
            let supersedes = !personal && supersedes(status);
            Refusal { detail, personal, supersedes }
        };
        let vary = VaryRule::of(headers);
        let lifetime = self.verdict(asked, times, status, headers, &vary).map_err(|reason| {
            let personal =
                matches!(reason, NotStored::Authorization | NotStored::Cookie | NotStored::Method);
            refused(reason.detail(), personal)
        })?;
        let tags = collect_tags(response.extensions(), headers);
        if tags.overflow {
            return Err(refused("tags", false));
        }
        let announced = content_length(headers).unwrap_or(0);
        if response.body().size_hint().lower().max(announced) > self.max_body as u64 {
            return Err(refused("too-large", false));
        }
        Ok(Plan { lifetime, vary, tags: tags.tags })
    }
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

/// What `Content-Length` says.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
