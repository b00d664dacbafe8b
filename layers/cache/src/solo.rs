//! A request that is asked for alone: nobody waits for it, and it waits for nobody.
//!
//! Its response passes. What it tells of what is stored is taken up all the same: that it is still
//! valid, or gone, or what its head is like now (RFC 9111 §4.3.5); and a part is kept.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tokio::time::timeout;
use tower::ServiceExt;
use tower_keep_store::{BoxError, Hit, Seen, Ticket};
use tower_service::Service;

use crate::body::CacheBody;
use crate::cache_status::CacheStatus;
use crate::capture::Capture;
use crate::commit::{Commit, Fetched};
use crate::conditional::{describes, selects};
use crate::core::{Core, Place, variant_key};
use crate::judge::{fallback, judge};
use crate::marks::MarkId;
use crate::miss::Miss;
use crate::nested;
use crate::plan::Times;
use crate::policy::{RequestDirectives, Reuse, is_failure};
use crate::renewal::{Renewal, put_back};
use crate::respond::{self, Asked};
use crate::stored::{Stored, StoredResponse};

/// Why a request goes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Solo {
    /// Its resource is [marked](crate::marks).
    Marked,
    /// What this `detail` of `Cache-Status` says.
    Because(&'static str),
}

/// What it takes to store something in place of what was found.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) ticket: Ticket,
    pub(crate) seen: Seen,
}

impl<S, ReqBody, ResBody> Miss<S, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: Body + Send + 'static,
    ResBody: Body + Send + 'static,
    ResBody::Data: Send,
    ResBody::Error: Into<BoxError>,
{
    /// Answers from the second tier; or goes alone, for the reason that `detail` says, unless the
    /// client doesn't want that.
    pub(crate) async fn run_solo(
        mut self,
        detail: &'static str,
    ) -> Result<Response<CacheBody<ResBody>>, S::Error> {
        let hold = self.find().await;
        let now = self.core.now();
        let asked = self.asked_for();
        let found = self.look.found.as_ref().and_then(|hit| hit.again(now));
        let wish = asked.wish(&self.directives);
        let verdict = found.as_ref().and_then(|hit| judge(hit.found(), wish, now.as_millis()));
        if let Some((stored, reuse)) = verdict.filter(|(_, reuse)| *reuse != Reuse::MustValidate) {
            let (method, headers, now_ms) = (&asked.method, &asked.headers, now.as_millis());
            let response = respond::hit(&self.core, stored, method, headers, now_ms);
            if reuse == Reuse::StaleWhileRevalidate
                && !self.directives.only_if_cached
                && found.as_ref().is_some_and(|hit| self.core.may_refresh(hit.found(), now))
            {
                self.refresh(None);
            }
            return Ok(response);
        }
        if self.directives.only_if_cached {
            // RFC 9111 §5.2.1.7
            let status = CacheStatus::generated().detail("only-if-cached");
            return Ok(respond::gateway_timeout(&self.core, &status));
        }
        self.alone(Solo::Because(detail), Some(hold)).await
    }

    /// Looks into the second tier, too.
    async fn find(&mut self) -> Hold {
        let core = &self.core;
        let mut hold = None;
        // What is found at first may be the rule by which the variants are told apart.
        for _ in 0..2 {
            let place = &self.look.place;
            let (primary, key) = (core.space.key(&place.primary), core.space.key(place.key()));
            let ticket = core.space.begin(&[primary, key]);
            let (found, seen) = core.space.fetch(&ticket, key).await;
            hold = Some(Hold { ticket, seen });
            let Some(hit) = found else { break };
            let Stored::Variants(rule) = &*hit else {
                self.look.put(core, hit);
                break;
            };
            let variant = variant_key(&place.primary, rule, self.request.headers());
            let place = place.with_variant(variant);
            self.look.move_to(place, None);
        }
        if self.look.is_outdated() {
            // What was found may be what was removed.
            self.look_again();
        }
        hold.unwrap_or_else(|| {
            let ticket = self.core.space.begin(&[self.core.space.key(&self.look.place.primary)]);
            Hold { ticket, seen: Seen::default() }
        })
    }

    /// Asks the origin for this request alone.
    pub(crate) async fn alone(
        mut self,
        why: Solo,
        hold: Option<Hold>,
    ) -> Result<Response<CacheBody<ResBody>>, S::Error> {
        if self.look.is_outdated() {
            self.look_again();
        }
        let asked = self.asked_for();
        let Self { core, service, mut request, directives, look, .. } = self;
        let status = look.status();
        let found = look.found.and_then(|hit| hit.again(core.now()));
        let stored = found.as_deref().and_then(Stored::response);
        nested::enter(request.extensions_mut(), &core, &look.place.primary);
        // Where the client has no condition of its own, the origin need not send what is here.
        let validates = stored.filter(|stored| may_validate(&asked, &directives, stored));
        if let Some(stored) = validates {
            stored.validators.apply(request.headers_mut());
        }
        let request_ms = core.now_ms();
        let began;
        let ticket = if let Some(hold) = &hold {
            &hold.ticket
        } else {
            began = core.space.begin(&[core.space.key(look.place.key())]);
            &began
        };
        let stand_in = || {
            core.refresh_failed(ticket, found.as_ref());
            respond::stand_in(&core, found.as_ref(), &directives, &asked, status)
        };
        let wish = asked.wish(&directives);
        let has_fallback =
            found.as_ref().is_some_and(|hit| fallback(hit.found(), wish, core.now()).is_some());
        let patience = if has_fallback { core.settings.max_wait } else { Duration::MAX };
        let mut call = pin!(service.oneshot(request));
        let result = match timeout(patience, call.as_mut()).await {
            Ok(result) => result,
            // The origin hangs.
            Err(_) => match stand_in() {
                Some(reply) => return Ok(reply),
                None => call.await,
            },
        };
        let times = Times { request_ms, response_ms: core.now_ms() };
        let response = match result {
            Ok(response) if !is_failure(response.status()) => response,
            failed => {
                if let Some(reply) = stand_in() {
                    return Ok(reply);
                }
                failed?
            }
        };
        let told = Told {
            place: &look.place,
            mark: core.marks.id(&look.place.primary, &asked.headers),
            status: status.fwd_status(response.status()),
            core: &core,
            asked: &asked,
            times,
        };
        Ok(match (stored, &found) {
            (Some(stored), Some(hit)) if validates.is_some() && is_304(&response) => {
                told.still_valid(hit, stored, response).await
            }
            (Some(stored), Some(hit)) if asked.method == Method::HEAD => {
                told.by_head(hit, stored, response, hold).await
            }
            _ => match hold {
                Some(hold) if response.status() == StatusCode::PARTIAL_CONTENT => {
                    told.a_part(response, hold, found.clone())
                }
                _ => told.another(response, why, stored.is_some()).await,
            },
        })
    }
}

/// Whether the origin may be asked if what is stored will do, for a client that asked for the whole.
fn may_validate(asked: &Asked, directives: &RequestDirectives, stored: &StoredResponse) -> bool {
    let has_own = [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE]
        .iter()
        .any(|name| asked.headers.contains_key(name));
    asked.method == Method::GET
        && !directives.range
        && !has_own
        && stored.part.is_none()
        && !stored.validators.is_empty()
}

fn is_304<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::NOT_MODIFIED
}

/// What the origin's answer tells of what is stored, beside answering the request.
struct Told<'a> {
    core: &'a Arc<Core>,
    asked: &'a Asked,
    times: Times,
    place: &'a Place,
    mark: MarkId,
    status: CacheStatus,
}

impl Told<'_> {
    /// The origin says that what is stored will do, and so it is the answer. It is not stored anew:
    /// what takes many of these is to be validated each time anyway.
    async fn still_valid<B>(
        &self,
        hit: &Hit<Stored>,
        stored: &StoredResponse,
        response: Response<B>,
    ) -> Response<CacheBody<B>> {
        let Self { core, asked, times, place, mark, status } = *self;
        let validation = response.into_parts().0;
        if !selects(&validation.headers, &stored.validators) {
            core.remove(place.key()).await;
            let status = status.detail("other-etag");
            return respond::validated(core, stored, asked, times.response_ms, &status);
        }
        let renewal = Renewal::of(&core.settings, asked, times, hit, stored, &validation);
        if renewal.refusal.is_some_and(|refusal| !refusal.personal) {
            core.remove(place.key()).await;
        }
        if renewal.refusal.is_none() && !renewal.response.times.is_never_usable() {
            core.marks.clear(mark);
        }
        let mut reply =
            respond::validated(core, &renewal.response, asked, times.response_ms, &status);
        put_back(reply.headers_mut(), renewal.aside);
        reply
    }

    /// RFC 9111 §4.3.5: the head of the response to GET is like this now, if it is the same one.
    async fn by_head<B>(
        &self,
        hit: &Hit<Stored>,
        stored: &StoredResponse,
        response: Response<B>,
        hold: Option<Hold>,
    ) -> Response<CacheBody<B>> {
        let Self { core, asked, times, place, status, .. } = *self;
        let refusal = asked.refusal(response.status(), "head");
        let (parts, body) = response.into_parts();
        let len = stored.part.map_or(stored.body.len(), |part| part.of);
        let is_same = parts.status == stored.status
            && describes(&parts.headers, &stored.validators, len)
            && stored.part.is_none();
        if is_same && let Some(Hold { ticket, seen }) = hold {
            ticket.builds_on(hit);
            let asked = &Asked { method: Method::GET, ..asked.clone() };
            let Renewal { response, vary, tags, refusal, .. } =
                Renewal::of(&core.settings, asked, times, hit, stored, &parts);
            if refusal.is_some_and(|refusal| !refusal.personal) {
                // The origin's last word is that it isn't to be stored.
                core.remove(place.key()).await;
            } else if refusal.is_none() {
                let commit = Commit { core, ticket: &ticket, place, asked, seen };
                commit.store(Fetched { response, vary, tags }).await;
            }
        } else if !is_same && refusal.supersedes {
            core.remove(place.key()).await;
        }
        let response = Response::from_parts(parts, body);
        respond::pass(core, response, &status.detail("head"))
    }

    /// A part, which is kept if it may be.
    fn a_part<B: Body>(
        &self,
        response: Response<B>,
        hold: Hold,
        found: Option<Hit<Stored>>,
    ) -> Response<CacheBody<B>> {
        let Self { core, asked, times, place, status, .. } = *self;
        let place = place.clone();
        match Capture::of(core, asked.clone(), times, place, hold, found, &response) {
            Some(capture) => respond::captured(core, response, capture, &status.stored()),
            None => respond::pass(core, response, &status.detail("range")),
        }
    }

    async fn another<B: Body>(
        &self,
        response: Response<B>,
        why: Solo,
        has_stored: bool,
    ) -> Response<CacheBody<B>> {
        let Self { core, asked, times, place, mark, status } = *self;
        let plan = core.settings.plan(asked, times, &response);
        let detail = match (why, &plan) {
            (Solo::Because(detail), _) => detail,
            (Solo::Marked, Ok(_)) => "hit-for-miss",
            (Solo::Marked, Err(refusal)) => refusal.detail,
        };
        match plan {
            // The next request need not go alone.
            Ok(_) => core.marks.clear(mark),
            Err(refusal) => {
                if refusal.supersedes && has_stored {
                    // What is stored must not come back when the origin fails.
                    core.remove(place.key()).await;
                }
                // A failure, or a 304 to the client's own condition, tells nothing new.
                if why == Solo::Marked && (refusal.personal || refusal.supersedes) {
                    core.marks.set(mark, times.response_ms);
                }
            }
        }
        respond::pass(core, response, &status.detail(detail))
    }
}
