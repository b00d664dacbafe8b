//! A fill: asks the second tier, then the origin, tells all who wait, and stores what it may.
//!
//! It runs in a task of its own. A client that goes away takes nothing from the others, and the
//! leader is answered like everybody else, only first.

use std::mem;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, Entry, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use tokio::sync::oneshot;
use tower::ServiceExt;
use tower_keep_store::{BoxError, Hit, Lead, Seen};
use tower_service::Service;

use crate::body::CacheBody;
use crate::cache_status::{CacheStatus, Fwd};
use crate::commit::{Commit, Fetched};
use crate::conditional::{Validators, freshen, strip_conditionals};
use crate::core::{Core, Place};
use crate::judge::{fallback, judge};
use crate::landing::{Arriving, Landing, Selector};
use crate::policy::{Exchange, RequestDirectives, Reuse, StoredTimes, storable};
use crate::pump::pump;
use crate::respond::{self, Asked};
use crate::shared::SharedBody;
use crate::stored::{Stored, StoredResponse, stored_headers};
use crate::tags::collect_tags;
use crate::vary::VaryRule;

/// What the leader gets.
pub(crate) enum Answer<ReqBody, ResBody, E> {
    Done(Result<Response<CacheBody<ResBody>>, E>),
    /// The resource has variants: here is the request back.
    Varies(Request<ReqBody>, Hit<Stored>),
}

pub(crate) struct Fill<S, ReqBody, ResBody, E> {
    pub(crate) core: Arc<Core>,
    pub(crate) service: S,
    pub(crate) request: Request<ReqBody>,
    pub(crate) asked: Asked,
    pub(crate) directives: RequestDirectives,
    pub(crate) place: Place,
    pub(crate) stale: Option<Hit<Stored>>,
    pub(crate) fwd: Fwd,
    pub(crate) lead: Lead<Landing>,
    pub(crate) answer: oneshot::Sender<Answer<ReqBody, ResBody, E>>,
}

impl<S, ReqBody, ResBody> Fill<S, ReqBody, ResBody, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    pub(crate) async fn run(mut self) {
        let core = Arc::clone(&self.core);
        let key = core.space.key(self.place.key());
        // Another flight may have landed between this one's look and its start.
        if let Some(hit) =
            core.space.peek(key, core.now()).filter(|hit| self.reuse(hit) == Reuse::Fresh)
        {
            return self.found(&hit);
        }
        let (found, seen) = core.space.fetch(self.lead.ticket(), key).await;
        if let Some(hit) = found {
            if matches!(&*hit, Stored::Variants(_)) {
                self.lead.land(Landing::Varies(hit.clone()));
                let _ = self.answer.send(Answer::Varies(self.request, hit));
                return;
            }
            match self.reuse(&hit) {
                Reuse::Fresh | Reuse::Stale => return self.found(&hit),
                // Nobody needs to wait for the refresh that follows.
                Reuse::StaleWhileRevalidate => self.found(&hit),
                Reuse::MustValidate => {}
            }
            self.fwd = Fwd::Stale;
            self.stale = Some(hit);
        }
        if self.directives.only_if_cached {
            let status = CacheStatus::forwarded(self.fwd).detail("only-if-cached");
            self.lead.land(Landing::Alone);
            let _ = self.answer.send(Answer::Done(Ok(respond::gateway_timeout(&core, &status))));
            return;
        }
        self.ask_origin(seen).await;
    }

    fn reuse(&self, hit: &Hit<Stored>) -> Reuse {
        judge(hit, &self.directives, self.core.now_ms())
            .map_or(Reuse::MustValidate, |(_, reuse)| reuse)
    }

    /// Answers everybody from what is stored.
    fn found(&mut self, hit: &Hit<Stored>) {
        let now_ms = self.core.now_ms();
        self.lead.land(Landing::Found(hit.clone()));
        if let Stored::Response(stored) = &**hit {
            let response =
                respond::hit(&self.core, stored, &self.asked.method, &self.asked.headers, now_ms);
            // Whatever else there is to say, nobody is left to hear it.
            let (nobody, _) = oneshot::channel();
            let _ = mem::replace(&mut self.answer, nobody).send(Answer::Done(Ok(response)));
        }
    }

    async fn ask_origin(self, seen: Seen) {
        let Self { core, service, mut request, asked, directives, place, stale, fwd, lead, answer } =
            self;
        // The response is for all who wait, so the conditions of one must not shape it.
        strip_conditionals(request.headers_mut());
        let validating = stale.as_deref().and_then(Stored::response);
        if let Some(stored) = validating {
            stored.validators.apply(request.headers_mut());
        }
        let request_time_ms = core.now_ms();
        let result = service.oneshot(request).await;
        let response_time_ms = core.now_ms();
        let failed = match &result {
            Ok(response) => is_failure(response.status()),
            Err(_) => true,
        };
        let status = CacheStatus::forwarded(fwd);
        if let Some(hit) = stale.clone().filter(|_| failed) {
            let now = core.now();
            if let Some(stored) = fallback(&hit, &directives, now) {
                let status = match &result {
                    Ok(response) => status.fwd_status(response.status()),
                    Err(_) => status,
                };
                let status = status.detail("stale-if-error");
                let response = respond::validated(&core, stored, &asked, now.as_millis(), &status);
                lead.land(Landing::Found(hit.clone()));
                let _ = answer.send(Answer::Done(Ok(response)));
                return;
            }
        }
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                lead.land(Landing::Alone);
                let _ = answer.send(Answer::Done(Err(error)));
                return;
            }
        };
        let status = status.fwd_status(response.status());
        let exchange = |status, headers, vary| Exchange {
            method: &asked.method,
            request: &asked.headers,
            status,
            response: headers,
            vary,
            request_time_ms,
            response_time_ms,
        };

        if let (StatusCode::NOT_MODIFIED, Some(stored)) = (response.status(), validating) {
            // RFC 9111 §4.3.4
            let mut headers = stored.headers.clone();
            freshen(&mut headers, response.headers());
            let vary = VaryRule::of(&headers);
            let verdict =
                storable(&exchange(stored.status, &headers, &vary), &core.settings.policy);
            let times = match &verdict {
                Ok(lifetime) => StoredTimes::new(lifetime, response_time_ms),
                Err(_) => stored.times,
            };
            let headers = stored_headers(&headers);
            let (body, trailers) = (stored.body.clone(), stored.trailers.clone());
            let renewed = StoredResponse::new(stored.status, headers, body, trailers, times);
            let status = if verdict.is_ok() { status.stored() } else { status };
            let reply = respond::validated(&core, &renewed, &asked, core.now_ms(), &status);
            let _ = answer.send(Answer::Done(Ok(reply)));
            let tags = collect_tags(response.extensions(), &renewed.headers);
            if let (Ok(_), false) = (verdict, tags.overflow) {
                let fetched = Fetched { response: renewed, vary, tags: tags.tags };
                let commit = Commit {
                    core: &core,
                    ticket: lead.ticket(),
                    place: &place,
                    asked: &asked,
                    seen,
                };
                let hit = commit.store(fetched).await;
                lead.land(hit.map_or(Landing::Alone, Landing::Found));
            }
            return;
        }

        let vary = VaryRule::of(response.headers());
        let verdict = storable(
            &exchange(response.status(), response.headers(), &vary),
            &core.settings.policy,
        );
        let tags = collect_tags(response.extensions(), response.headers());
        let refused = match &verdict {
            Err(reason) => Some(reason.detail()),
            Ok(_) if tags.overflow => Some("tags"),
            Ok(_) if response.body().size_hint().lower() > core.settings.max_body as u64 => {
                Some("too-large")
            }
            Ok(_) => None,
        };
        let lifetime = match (verdict, refused) {
            (Ok(lifetime), None) => lifetime,
            (_, reason) => {
                lead.close();
                lead.land(Landing::Alone);
                let status = status.detail(reason.unwrap_or_default());
                let _ = answer.send(Answer::Done(Ok(respond::pass(&core, response, &status))));
                return;
            }
        };

        let (parts, body) = response.into_parts();
        let mut headers = stored_headers(&parts.headers);
        // The store never gets them; whoever caused the fill does.
        let cookies = take_cookies(&mut headers);
        let reservation = core.budget.reservation(core.settings.max_body);
        let arriving = Arc::new(Arriving {
            status: parts.status,
            validators: Validators::from_headers(&headers),
            times: StoredTimes::new(&lifetime, response_time_ms),
            body: SharedBody::new(reservation, content_length(&parts.headers)),
            selects: Selector::new(vary.clone(), &asked.headers),
            proof: core.space.proof(lead.ticket(), &tags.tags),
            headers,
        });
        // The leader's reader is made before anything is read, so that it misses nothing.
        if let Some(mut reply) =
            respond::arriving(&core, &arriving, &asked, response_time_ms, &status.stored())
        {
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
        let response = StoredResponse::new(*status, headers.clone(), body, trailers, *times);
        let commit =
            Commit { core: &core, ticket: lead.ticket(), place: &place, asked: &asked, seen };
        commit.store(Fetched { response, vary, tags: tags.tags }).await;
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
