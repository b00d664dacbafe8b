//! What becomes of the origin's answer: it stands in the way of a failure, renews what is stored,
//! passes through, or is shared while it arrives and then stored.

use std::sync::Arc;

use http::header::{AGE, Entry, SET_COOKIE};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body;
use tower_keep_store::{BoxError, Count, Hit, Lead, MAX_TAGS, Seen, Tag};

use crate::cache_status::CacheStatus;
use crate::commit::{Commit, Fetched};
use crate::conditional::{Validators, freshen, selects};
use crate::core::{Core, Place};
use crate::fill::{Answer, Answerer};
use crate::judge::fallback;
use crate::landing::{Arriving, Failure, Landing, Refusal, Selector};
use crate::plan::{Plan, Times, content_length};
use crate::policy::{RequestDirectives, SetCookie, StoredTimes, is_failure};
use crate::pump::{Bounds, pump};
use crate::respond::{self, Asked};
use crate::shared::SharedBody;
use crate::stored::{Stored, StoredResponse, stored_headers};
use crate::tags::collect_tags;
use crate::vary::VaryRule;

/// A fill that has asked the origin.
pub(crate) struct Settle<M, ResBody, E> {
    pub(crate) core: Arc<Core>,
    pub(crate) asked: Asked,
    pub(crate) directives: RequestDirectives,
    pub(crate) place: Place,
    /// What was to be renewed, or replaced.
    pub(crate) stale: Option<Hit<Stored>>,
    pub(crate) lead: Lead<Landing>,
    pub(crate) answer: Answerer<M, ResBody, E>,
    pub(crate) seen: Seen,
    pub(crate) status: CacheStatus,
    pub(crate) times: Times,
    pub(crate) bounds: Bounds,
    pub(crate) failures: u32,
}

impl<M, ResBody, E> Settle<M, ResBody, E>
where
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    pub(crate) async fn run(mut self, result: Result<Response<ResBody>, E>) {
        if let Ok(response) = &result {
            self.status = self.status.fwd_status(response.status());
        }
        let stale = self.stale.take();
        let response = match result {
            Ok(response) if !is_failure(response.status()) => response,
            failed => return self.failed(failed, stale).await,
        };
        let validated = stale.as_deref().and_then(Stored::response);
        match validated.filter(|_| response.status() == StatusCode::NOT_MODIFIED) {
            Some(stored) if !selects(response.headers(), &stored.validators) => {
                self.mistaken(stored).await;
            }
            Some(stored) => {
                let tags = stale.iter().flat_map(Hit::tags).cloned().collect();
                self.renew(stored, tags, response.into_parts().0).await;
            }
            None => match self.plan(&response) {
                Ok(plan) => self.share(response, plan).await,
                Err(refusal) => self.pass(response, refusal, stale.is_some()).await,
            },
        }
    }

    fn plan(&self, response: &Response<ResBody>) -> Result<Plan, Refusal> {
        self.core.settings.plan(&self.asked, self.times, response)
    }

    /// The origin failed: something stale stands in for it (RFC 5861 §4); or its failure is to be
    /// stored, if it says so itself; or it is the leader's.
    async fn failed(self, result: Result<Response<ResBody>, E>, stale: Option<Hit<Stored>>) {
        self.core.space.count(Count::FailedFill);
        // A client that reloads doesn't want what is stored, but for the others it stays.
        let (for_others, now) = (RequestDirectives::default(), self.core.now());
        let replaceable =
            stale.as_ref().is_none_or(|hit| fallback(hit, &for_others, now).is_none());
        let (result, detail) = match result {
            Ok(response) if replaceable => match self.plan(&response) {
                Ok(plan) => return self.share(response, plan).await,
                Err(refusal) => (Ok(response), refusal.detail),
            },
            result => (result, "failed"),
        };
        let Self { core, asked, directives, lead, answer, status, failures, .. } = self;
        let stand_in = respond::stand_in(&core, stale.as_ref(), &directives, &asked, status);
        // Closed first: who asks from here on leads a fill of its own.
        lead.close();
        let followers = lead.followers();
        lead.land(Landing::Failed(Failure::new(stale, failures, followers)));
        let reply = stand_in.map_or_else(
            || {
                result.map(|response| {
                    respond::for_one(&core, response, &asked, &status.detail(detail))
                })
            },
            Ok,
        );
        let _ = answer.send(Answer::Done(reply));
    }

    /// The origin has validated something else than what was asked about. It must not be used to
    /// update what is stored (RFC 9111 §4.3.4), which must not be used again either. The one who
    /// caused this gets it: the origin said that it will do, and the request can't be sent again.
    async fn mistaken(self, stored: &StoredResponse) {
        let Self { core, asked, place, lead, answer, status, .. } = self;
        core.remove(place.key()).await;
        lead.close();
        lead.land(Landing::Replaced);
        let status = status.detail("other-etag");
        let reply = respond::validated(&core, stored, &asked, core.now_ms(), &status);
        let _ = answer.send(Answer::Done(Ok(reply)));
    }

    /// What is stored has been validated (RFC 9111 §4.3.4).
    async fn renew(self, stored: &StoredResponse, mut tags: Vec<Tag>, validation: Parts) {
        let Self { core, asked, place, lead, answer, seen, status, times, .. } = self;
        let mut headers = stored.headers.clone();
        let set_cookie = core.settings.policy.set_cookie;
        freshen(&mut headers, &validation.headers, set_cookie);
        let vary = VaryRule::of(&headers);
        let verdict = core.settings.verdict(&asked, times, stored.status, &headers, &vary);
        let renewed_times = match &verdict {
            Ok(lifetime) => StoredTimes::new(lifetime, times.response_ms),
            Err(_) => stored.times,
        };
        let (body, trailers) = (stored.body.clone(), stored.trailers.clone());
        let headers = stored_headers(&headers);
        let renewed = StoredResponse::new(stored.status, &headers, body, trailers, renewed_times);
        // A handler that has nothing new to say need not repeat the tags either.
        let added = collect_tags(&validation.extensions, &renewed.headers);
        for tag in added.tags {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        let keep = verdict.is_ok() && !added.overflow && tags.len() <= MAX_TAGS;
        let status = if keep { status.stored() } else { status };
        let mut reply = respond::validated(&core, &renewed, &asked, core.now_ms(), &status);
        if set_cookie != SetCookie::Store {
            // They are not stored, but for whoever caused the validation.
            for cookie in validation.headers.get_all(SET_COOKIE) {
                reply.headers_mut().append(SET_COOKIE, cookie.clone());
            }
        }
        let _ = answer.send(Answer::Done(Ok(reply)));
        if keep {
            let commit =
                Commit { core: &core, ticket: lead.ticket(), place: &place, asked: &asked, seen };
            let hit = commit.store(Fetched { response: renewed, vary, tags }).await;
            lead.land(hit.map_or(Landing::Replaced, Landing::Renewed));
        } else {
            // The origin's last word is that it isn't to be stored.
            core.remove(place.key()).await;
            lead.close();
            lead.land(Landing::Replaced);
        }
    }

    /// The response is for the leader alone, as it is.
    async fn pass(self, response: Response<ResBody>, refusal: Refusal, has_stale: bool) {
        let Self { core, asked, place, lead, answer, status, .. } = self;
        core.marks.set(core.marks.id(&place.primary, &asked.headers), core.now_ms());
        if has_stale && refusal.supersedes {
            core.remove(place.key()).await;
        }
        // Closed first: who asks from here on leads a fill of its own.
        lead.close();
        lead.land(Landing::Alone(refusal));
        let reply = respond::for_one(&core, response, &asked, &status.detail(refusal.detail));
        let _ = answer.send(Answer::Done(Ok(reply)));
    }

    /// The response is for all who wait, while it arrives; and is stored once it is complete.
    async fn share(self, response: Response<ResBody>, plan: Plan) {
        let Self { core, asked, place, lead, answer, seen, status, times, bounds, .. } = self;
        core.marks.clear(core.marks.id(&place.primary, &asked.headers));
        let (parts, body) = response.into_parts();
        let mut headers = stored_headers(&parts.headers);
        // Unless the policy says otherwise, the store never gets them; whoever caused the fill does.
        let cookies = match core.settings.policy.set_cookie {
            SetCookie::Store => Vec::new(),
            _ => take_cookies(&mut headers),
        };
        let expected = content_length(&parts.headers).or(body.size_hint().exact());
        let limit = core.settings.max_body as u64;
        let arriving = Arc::new(Arriving {
            status: parts.status,
            validators: Validators::from_headers(&headers),
            times: StoredTimes::new(&plan.lifetime, times.response_ms),
            body: SharedBody::new(core.budget.reservation(), limit, expected),
            selects: Selector::new(plan.vary.clone(), &asked.headers),
            proof: core.space.proof(lead.ticket(), &plan.tags),
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
        let Some(trailers) = pump(body, &arriving.body, &lead, &bounds).await else {
            return;
        };
        let Some(body) = arriving.body.seal() else { return };
        let Arriving { status, headers, times, .. } = &*arriving;
        let response = StoredResponse::new(*status, headers, body, trailers, *times);
        let commit =
            Commit { core: &core, ticket: lead.ticket(), place: &place, asked: &asked, seen };
        if commit.store(Fetched { response, vary: plan.vary, tags: plan.tags }).await.is_some() {
            arriving.body.release();
        }
    }
}

fn take_cookies(headers: &mut HeaderMap) -> Vec<HeaderValue> {
    match headers.entry(SET_COOKIE) {
        Entry::Occupied(cookies) => cookies.remove_entry_mult().1.collect(),
        Entry::Vacant(_) => Vec::new(),
    }
}
