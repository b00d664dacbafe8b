//! What becomes of the origin's answer: it stands in the way of a failure, renews what is stored,
//! passes through, or is shared while it arrives and then stored.

use std::sync::Arc;

use http::header::{AGE, CONTENT_LENGTH, Entry, SET_COOKIE};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body;
use tower_keep_store::{BoxError, Count, Hit, Lead, MAX_TAGS, Seen, Tag};

use crate::cache_status::CacheStatus;
use crate::commit::{Commit, Fetched};
use crate::conditional::{Validators, freshen, not_modified};
use crate::core::{Core, Place};
use crate::fill::{Answer, Answerer};
use crate::judge::fallback;
use crate::landing::{Arriving, Landing, Selector};
use crate::policy::{Exchange, Lifetime, NotStored, RequestDirectives, StoredTimes, storable};
use crate::pump::pump;
use crate::respond::{self, Asked};
use crate::shared::SharedBody;
use crate::stored::{Stored, StoredResponse, stored_headers};
use crate::tags::{Collected, collect_tags};
use crate::vary::VaryRule;

/// A fill that has asked the origin.
pub(crate) struct Settle<ReqBody, ResBody, E> {
    pub(crate) core: Arc<Core>,
    pub(crate) asked: Asked,
    pub(crate) directives: RequestDirectives,
    pub(crate) place: Place,
    /// What was to be renewed, or replaced.
    pub(crate) stale: Option<Hit<Stored>>,
    pub(crate) lead: Lead<Landing>,
    pub(crate) answer: Answerer<ReqBody, ResBody, E>,
    pub(crate) seen: Seen,
    pub(crate) status: CacheStatus,
    pub(crate) request_time_ms: u64,
    pub(crate) response_time_ms: u64,
}

/// What is known of a response that will be stored when it is complete.
struct Plan {
    lifetime: Lifetime,
    vary: VaryRule,
    tags: Collected,
}

impl<ReqBody, ResBody, E> Settle<ReqBody, ResBody, E>
where
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    pub(crate) async fn run(mut self, result: Result<Response<ResBody>, E>) {
        if let Ok(response) = &result {
            self.status = self.status.fwd_status(response.status());
        }
        let failed = result.as_ref().map_or(true, |response| is_failure(response.status()));
        if failed {
            self.core.space.count(Count::FailedFill);
        }
        let stale = self.stale.take();
        if let Some(hit) = stale.as_ref().filter(|_| failed) {
            let now = self.core.now();
            if let Some(stored) = fallback(hit, &self.directives, now) {
                self.core.space.count(Count::StaleServed);
                let status = self.status.detail("stale-if-error");
                let reply =
                    respond::validated(&self.core, stored, &self.asked, now.as_millis(), &status);
                self.lead.land(Landing::Found(hit.clone()));
                let _ = self.answer.send(Answer::Done(Ok(reply)));
                return;
            }
        }
        match (result, stale.as_deref().and_then(Stored::response)) {
            (Err(error), _) => {
                self.lead.land(Landing::Alone);
                let _ = self.answer.send(Answer::Done(Err(error)));
            }
            (Ok(response), Some(stored)) if response.status() == StatusCode::NOT_MODIFIED => {
                let tags = stale.iter().flat_map(Hit::tags).cloned().collect();
                self.renew(stored, tags, response.into_parts().0).await;
            }
            (Ok(response), _) => match self.plan(&response) {
                Ok(plan) => self.share(response, plan).await,
                Err(reason) => self.pass(response, reason),
            },
        }
    }

    /// Whether, and for how long, a response with these fields may be stored.
    fn verdict(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        vary: &VaryRule,
    ) -> Result<Lifetime, NotStored> {
        let exchange = Exchange {
            method: &self.asked.method,
            request: &self.asked.headers,
            status,
            response: headers,
            vary,
            request_time_ms: self.request_time_ms,
            response_time_ms: self.response_time_ms,
        };
        storable(&exchange, &self.core.settings.policy)
    }

    /// What is stored has been validated (RFC 9111 §4.3.4).
    async fn renew(self, stored: &StoredResponse, mut tags: Vec<Tag>, validation: Parts) {
        let mut headers = stored.headers.clone();
        freshen(&mut headers, &validation.headers);
        let vary = VaryRule::of(&headers);
        let verdict = self.verdict(stored.status, &headers, &vary);
        let times = match &verdict {
            Ok(lifetime) => StoredTimes::new(lifetime, self.response_time_ms),
            Err(_) => stored.times,
        };
        let (body, trailers) = (stored.body.clone(), stored.trailers.clone());
        let renewed =
            StoredResponse::new(stored.status, &stored_headers(&headers), body, trailers, times);
        // A handler that has nothing new to say need not repeat the tags either.
        let added = collect_tags(&validation.extensions, &renewed.headers);
        for tag in added.tags {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        let keep = verdict.is_ok() && !added.overflow && tags.len() <= MAX_TAGS;
        let status = if keep { self.status.stored() } else { self.status };
        let now_ms = self.core.now_ms();
        let mut reply = respond::validated(&self.core, &renewed, &self.asked, now_ms, &status);
        // They are not stored, but for whoever caused the validation.
        for cookie in validation.headers.get_all(SET_COOKIE) {
            reply.headers_mut().append(SET_COOKIE, cookie.clone());
        }
        let Self { core, asked, place, lead, answer, seen, .. } = self;
        let _ = answer.send(Answer::Done(Ok(reply)));
        if keep {
            let commit =
                Commit { core: &core, ticket: lead.ticket(), place: &place, asked: &asked, seen };
            let hit = commit.store(Fetched { response: renewed, vary, tags }).await;
            lead.land(hit.map_or(Landing::Alone, Landing::Found));
        }
    }

    /// Whether the response is to be stored; if not, why not, as a `detail` of `Cache-Status`.
    fn plan(&self, response: &Response<ResBody>) -> Result<Plan, &'static str> {
        let vary = VaryRule::of(response.headers());
        let lifetime = self
            .verdict(response.status(), response.headers(), &vary)
            .map_err(NotStored::detail)?;
        let tags = collect_tags(response.extensions(), response.headers());
        if tags.overflow {
            return Err("tags");
        }
        let max_body = self.core.settings.max_body as u64;
        let announced = content_length(response.headers()).unwrap_or(0);
        if response.body().size_hint().lower().max(announced) > max_body {
            return Err("too-large");
        }
        Ok(Plan { lifetime, vary, tags })
    }

    /// The response is for the leader alone, as it is.
    fn pass(self, response: Response<ResBody>, reason: &'static str) {
        // Closed first: who asks from here on leads a fill of its own.
        self.lead.close();
        self.lead.land(Landing::Alone);
        let status = self.status.detail(reason);
        let unchanged = response.status() == StatusCode::OK
            && not_modified(&self.asked.headers, &Validators::from_headers(response.headers()));
        // The origin was asked without the client's conditions, so they are evaluated here.
        let reply = if unchanged {
            respond::unchanged(&self.core, response, &status)
        } else {
            respond::pass(&self.core, response, &status)
        };
        let _ = self.answer.send(Answer::Done(Ok(reply)));
    }

    /// The response is for all who wait, while it arrives; and is stored once it is complete.
    async fn share(self, response: Response<ResBody>, plan: Plan) {
        let Self { core, asked, place, lead, answer, seen, status, response_time_ms, .. } = self;
        let (parts, body) = response.into_parts();
        let mut headers = stored_headers(&parts.headers);
        // The store never gets them; whoever caused the fill does.
        let cookies = take_cookies(&mut headers);
        let expected = content_length(&parts.headers).or(body.size_hint().exact());
        let reservation = core.budget.reservation(core.settings.max_body);
        let arriving = Arc::new(Arriving {
            status: parts.status,
            validators: Validators::from_headers(&headers),
            times: StoredTimes::new(&plan.lifetime, response_time_ms),
            body: SharedBody::new(reservation, expected),
            selects: Selector::new(plan.vary.clone(), &asked.headers),
            proof: core.space.proof(lead.ticket(), &plan.tags.tags),
            received_age: parts.headers.get(AGE).cloned(),
            headers,
        });
        // The leader's reader is made before anything is read, so that it misses nothing.
        if let Some(mut reply) = respond::arriving(&core, &arriving, &asked, &status.stored()) {
            *reply.extensions_mut() = parts.extensions;
            *reply.version_mut() = parts.version;
            for cookie in cookies {
                reply.headers_mut().append(SET_COOKIE, cookie);
            }
            lead.land(Landing::Arriving(Arc::clone(&arriving)));
            let _ = answer.send(Answer::Done(Ok(reply)));
        }
        let Some(trailers) = pump(body, &arriving.body, &lead, &core.settings).await else {
            return;
        };
        let Some(body) = arriving.body.whole() else { return };
        let Arriving { status, headers, times, .. } = &*arriving;
        let response = StoredResponse::new(*status, headers, body, trailers, *times);
        let commit =
            Commit { core: &core, ticket: lead.ticket(), place: &place, asked: &asked, seen };
        commit.store(Fetched { response, vary: plan.vary, tags: plan.tags.tags }).await;
    }
}

/// The statuses for which RFC 5861 §4 lets a stale response stand in.
fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502..=504)
}

fn take_cookies(headers: &mut HeaderMap) -> Vec<HeaderValue> {
    match headers.entry(SET_COOKIE) {
        Entry::Occupied(cookies) => cookies.remove_entry_mult().1.collect(),
        Entry::Vacant(_) => Vec::new(),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
