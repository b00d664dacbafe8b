//! What becomes of the origin's answer: it stands in the way of a failure, renews what is stored,
//! passes through, or is shared while it arrives and then stored.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AGE, CONNECTION, CONTENT_LENGTH, SET_COOKIE};
use http::response::Parts;
use http::{HeaderValue, Response, StatusCode};
use http_body::Body;
use tower_keep_compress::{LeaveUncompressed, ResponseHead};
use tower_keep_store::{BoxError, Count, Hit, Lead, Seen, State};

use crate::body::CacheBody;
use crate::cache_status::CacheStatus;
use crate::commit::{Commit, Fetched};
use crate::conditional::{Validators, freshen, remove_digests, selects};
use crate::core::{Core, Place};
use crate::fill::{Answer, Answerer};
use crate::grpc;
use crate::judge::{fallback, usable};
use crate::landing::{Arriving, Failure, Landing, Refusal, Selector};
use crate::part::{Part, Received};
use crate::plan::{Plan, Times, content_length, with_date};
use crate::policy::{RequestDirectives, SetCookie, StoredTimes, is_failure};
use crate::pump::{Bounds, pump};
use crate::renewal::{Renewal, put_back, set_aside};
use crate::respond::{self, Asked};
use crate::shared::SharedBody;
use crate::splice::Spliced;
use crate::stored::{Stored, StoredResponse, stored_headers};

/// A fill that has asked the origin.
pub(crate) struct Settle<M, ResBody, E> {
    pub(crate) core: Arc<Core>,
    pub(crate) asked: Asked,
    pub(crate) directives: RequestDirectives,
    pub(crate) place: Place,
    /// What was to be renewed, completed or replaced.
    pub(crate) stale: Option<Hit<Stored>>,
    /// The first and the last byte that were asked for, to complete what is stored.
    pub(crate) rest: Option<(usize, usize)>,
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
        let stored = stale.as_deref().and_then(Stored::response);
        let is_whole = stored.is_some_and(|stored| stored.part.is_none());
        match (stored, &stale, response.status(), self.rest) {
            (Some(stored), Some(hit), StatusCode::PARTIAL_CONTENT, Some(rest)) => {
                self.complete(hit, stored, rest, response).await;
            }
            // It is about a condition, or a range, that is not the client's.
            (Some(_), _, StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => self.senseless().await,
            (Some(_), _, StatusCode::NOT_MODIFIED, _) if !is_whole => self.senseless().await,
            (Some(stored), Some(hit), StatusCode::NOT_MODIFIED, None) => {
                if selects(response.headers(), &stored.validators) {
                    self.renew(hit, stored, response.into_parts().0).await;
                } else {
                    self.mistaken(stored).await;
                }
            }
            _ => match self.plan(&response) {
                Ok(plan) => self.share(response, plan).await,
                Err(refusal) => {
                    let reply = |asked: &Asked, core: &Core, status: &CacheStatus| {
                        respond::for_one(core, response, asked, status)
                    };
                    self.pass(refusal, stale.is_some(), reply).await;
                }
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
        let replaceable = stale.as_ref().is_none_or(|hit| {
            // It may be used while it is refreshed, even where it must not stand in for a failure.
            let wish = self.asked.wish(&for_others);
            let in_use = hit.state_at(now) != State::Gone
                && usable(hit.found(), wish, now.as_millis()).is_some();
            !in_use && fallback(hit.found(), wish, now).is_none()
        });
        let (result, detail) = match result {
            Ok(response) if replaceable => match self.plan(&response) {
                Ok(plan) => return self.share(response, plan).await,
                Err(refusal) => (Ok(response), refusal.detail),
            },
            result => (result, "failed"),
        };
        let Self { core, asked, directives, lead, answer, status, failures, .. } = self;
        core.refresh_failed(lead.ticket(), stale.as_ref());
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
        lead.land(Landing::Changed);
        let status = status.detail("other-etag");
        let reply = respond::validated(&core, stored, &asked, core.now_ms(), &status);
        let _ = answer.send(Answer::Done(Ok(reply)));
    }

    /// What is stored has been validated (RFC 9111 §4.3.4).
    async fn renew(self, hit: &Hit<Stored>, stored: &StoredResponse, validation: Parts) {
        let Self { core, asked, place, lead, answer, seen, status, times, .. } = self;
        lead.ticket().builds_on(hit);
        let Renewal { response: renewed, vary, tags, aside, refusal } =
            Renewal::of(&core.settings, &asked, times, hit, stored, &validation);
        let status = match refusal {
            None => status.stored(),
            Some(refusal) => status.detail(refusal.detail),
        };
        let mut reply = respond::validated(&core, &renewed, &asked, core.now_ms(), &status);
        put_back(reply.headers_mut(), aside);
        let _ = answer.send(Answer::Done(Ok(reply)));
        match refusal {
            None => {
                mark_by_use(&core, &place, &asked, &renewed.times);
                let selects = Arc::new(Selector::new(vary.clone(), &asked.headers));
                let commit = Commit {
                    core: &core,
                    ticket: lead.ticket(),
                    place: &place,
                    asked: &asked,
                    seen,
                };
                let hit = commit.store(Fetched { response: renewed, vary, tags }).await;
                if hit.is_none() {
                    lead.close();
                }
                lead.land(hit.map_or(Landing::Changed, |hit| Landing::Renewed(hit, selects)));
            }
            // For others it may still do.
            Some(refusal) if refusal.personal => {
                lead.close();
                lead.land(Landing::Alone(refusal));
            }
            // The origin's last word is that it isn't to be stored.
            Some(_) => {
                core.remove(place.key()).await;
                lead.close();
                lead.land(Landing::Changed);
            }
        }
    }

    /// The rest of what is stored in part has come: together they are the whole (RFC 9110 §15.3.7.3,
    /// RFC 9111 §3.4).
    async fn complete(
        self,
        hit: &Hit<Stored>,
        stored: &StoredResponse,
        rest: (usize, usize),
        response: Response<ResBody>,
    ) {
        let (parts, body) = response.into_parts();
        let received = Received::of(&parts.headers);
        let version = Validators::from_headers(&parts.headers);
        let expected = stored.part.filter(|part| {
            let is_rest = received.is_some_and(|received| {
                received.part == Part { first: rest.0, of: part.of }
                    && received.len == rest.1 - rest.0 + 1
            });
            is_rest && version.strong_etag() == stored.validators.strong_etag()
        });
        let Some(part) = expected else {
            return self.senseless().await;
        };
        let mut headers = stored.headers.clone();
        freshen(&mut headers, &parts.headers, SetCookie::Store);
        remove_digests(&mut headers);
        headers.insert(CONTENT_LENGTH, part.of.into());
        self.lead.ticket().builds_on(hit);
        let left = (rest.1 - rest.0 + 1) as u64;
        let (before, after) = if part.first == 0 {
            (stored.body.clone(), Bytes::new())
        } else {
            (Bytes::new(), stored.body.clone())
        };
        let mut whole = Response::new(Spliced::new(before, body, left, after));
        *whole.headers_mut() = headers;
        *whole.extensions_mut() = parts.extensions;
        if stored.plain_only {
            whole.extensions_mut().insert(LeaveUncompressed);
        }
        let plan = self.core.settings.plan(&self.asked, self.times, &whole);
        // What is stored of it was invalidated by the tags that it came with, and the whole is, too.
        match plan.and_then(|plan| plan.with_tags_of(hit, &self.asked)) {
            Ok(plan) => self.share(whole, plan).await,
            Err(refusal) => {
                let reply = |asked: &Asked, core: &Core, status: &CacheStatus| {
                    respond::spliced(core, whole, asked, status)
                };
                self.pass(refusal, true, reply).await;
            }
        }
    }

    /// The origin has answered what nobody asked, and not what the client did: the request can't be
    /// sent again.
    async fn senseless(self) {
        let Self { core, place, lead, answer, status, .. } = self;
        core.remove(place.key()).await;
        lead.close();
        lead.land(Landing::Changed);
        let reply = respond::bad_gateway(&core, &status.detail("other-part"));
        let _ = answer.send(Answer::Done(Ok(reply)));
    }

    /// The response is for the leader alone, as it is.
    async fn pass(
        self,
        refusal: Refusal,
        has_stale: bool,
        reply: impl FnOnce(&Asked, &Core, &CacheStatus) -> Response<CacheBody<ResBody>>,
    ) {
        let Self { core, asked, place, lead, answer, seen, status, failures, .. } = self;
        if has_stale && refusal.supersedes {
            core.remove(place.key()).await;
        }
        // Closed first: who asks from here on leads a fill of its own.
        lead.close();
        let is_said = refusal.personal || refusal.supersedes;
        if is_said || !(refusal.transient || has_stale) {
            core.marks.set(core.marks.id(&place.primary, &asked.headers), core.now_ms());
            if !refusal.personal {
                seen.passes();
            }
            lead.land(Landing::Alone(refusal));
        } else {
            // It says nothing of the resource, which could be stored before: the others go on step
            // by step, as after a failure, but nothing stale is for them.
            let followers = lead.followers();
            lead.land(Landing::Failed(Failure::new(None, failures, followers)));
        }
        let reply = reply(&asked, &core, &status.detail(refusal.detail));
        let _ = answer.send(Answer::Done(Ok(reply)));
    }

    /// The response is for all who wait, while it arrives; and is stored once it is complete.
    async fn share<B>(self, response: Response<B>, mut plan: Plan)
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let Self { core, asked, place, lead, answer, seen, status, times, bounds, .. } = self;
        core.add_own_tags(&mut plan.tags, &place, &asked, response.headers());
        let stored_times = StoredTimes::new(&plan.lifetime, times.response_ms);
        mark_by_use(&core, &place, &asked, &stored_times);
        let (parts, body) = response.into_parts();
        let plain_only = core.is_left_plain(&ResponseHead::of(&parts));
        let mut headers = stored_headers(&parts.headers);
        with_date(&mut headers, times);
        // What the store never gets is for whoever caused the fill.
        let mut aside = set_aside(&mut headers, &plan.omit);
        if asked.policy.set_cookie != SetCookie::Store {
            put_back(&mut aside, set_aside(&mut headers, &[SET_COOKIE]));
        }
        if parts
            .headers
            .get(CONNECTION)
            .is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"close"))
        {
            // A wish of the inner service about the leader's own connection.
            aside.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let expected = content_length(&parts.headers).or(body.size_hint().exact());
        let limit = core.settings.max_body as u64;
        let arriving = Arc::new(Arriving {
            status: parts.status,
            validators: Validators::from_headers(&headers).of_origin(),
            times: stored_times,
            body: SharedBody::new(core.budget.reservation(), limit, expected),
            selects: Selector::new(plan.vary.clone(), &asked.headers),
            proof: core.space.proof(lead.ticket(), &plan.tags),
            received_age: parts.headers.get(AGE).cloned(),
            plain_only,
            has_forms: !plain_only && core.has_forms(parts.status, &headers),
            headers,
        });
        // The leader's reader is made before anything is read, so that it misses nothing.
        if let Some(mut reply) = respond::arriving(&core, &arriving, &asked, &status.stored()) {
            reply.extensions_mut().extend(parts.extensions);
            *reply.version_mut() = parts.version;
            put_back(reply.headers_mut(), aside);
            lead.land(Landing::Arriving(Arc::clone(&arriving)));
            let _ = answer.send(Answer::Done(Ok(reply)));
        }
        let Some(trailers) = pump(body, &arriving.body, &lead, &seen, &bounds).await else {
            return;
        };
        if !grpc::is_complete(&asked, &arriving.headers, trailers.as_ref()) {
            return;
        }
        let Some(body) = arriving.body.seal() else { return };
        let Arriving { status, headers, times, .. } = &*arriving;
        let response = StoredResponse::new(*status, headers, body, trailers, *times);
        let response = StoredResponse { plain_only, ..response };
        let commit =
            Commit { core: &core, ticket: lead.ticket(), place: &place, asked: &asked, seen };
        if commit.store(Fetched { response, vary: plan.vary, tags: plan.tags }).await.is_some() {
            arriving.body.release();
        }
    }
}

/// Remembers whether those who ask for a resource had better not wait for each other: what must be
/// validated for each of them can't be shared.
fn mark_by_use(core: &Core, place: &Place, asked: &Asked, times: &StoredTimes) {
    let mark = core.marks.id(&place.primary, &asked.headers);
    if times.is_never_usable() {
        core.marks.set(mark, core.now_ms());
    } else {
        core.marks.clear(mark);
    }
}
