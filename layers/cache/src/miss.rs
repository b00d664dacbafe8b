//! A request that the first tier can't answer: it leads a fill, follows one, or goes alone.

use std::future::pending;
use std::panic::resume_unwind;
use std::sync::Arc;

use http::{Method, Request, Response};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tower::ServiceExt;
use tower_keep_store::{BoxError, Count, Follow, Hit, Join, Lead, Moment, State};
use tower_service::Service;
use tracing::Instrument as _;

use crate::body::CacheBody;
use crate::cache_status::{CacheStatus, Fwd};
use crate::core::{Core, Place, variant_key};
use crate::fill::{Answer, Answerer, Fill};
use crate::judge::usable;
use crate::landing::{Failure, Landing};
use crate::marks::is_identified;
use crate::nested;
use crate::plan::Times;
use crate::policy::{RequestDirectives, Reuse, is_failure, reuse};
use crate::respond::{self, Asked};
use crate::stored::Stored;

/// How often a request may turn out to need another flight before it goes alone.
const MAX_ROUNDS: usize = 16;

/// How often a request waits for as long as [`max_wait`](crate::core::Settings::max_wait).
const MAX_WAITS: u32 = 2;

/// Why a request goes alone that waited for another's response.
const NOT_SHARED: &str = "not-shared";

/// Why a request goes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Solo {
    /// Its resource is [marked](crate::marks).
    Marked,
    /// What this `detail` of `Cache-Status` says.
    Because(&'static str),
}

/// A request on its way to an answer.
pub(crate) struct Miss<S, ReqBody> {
    pub(crate) core: Arc<Core>,
    pub(crate) service: S,
    pub(crate) request: Request<ReqBody>,
    pub(crate) directives: RequestDirectives,
    pub(crate) place: Place,
    /// What is stored, but can't be used as it is.
    pub(crate) stale: Option<Hit<Stored>>,
    pub(crate) fwd: Fwd,
    /// When this request came: it must not see what was invalidated before.
    pub(crate) asked: Moment,
}

/// What a follower does next.
#[allow(clippy::large_enum_variant, reason = "it is moved once, and soon taken apart")]
enum Next<B> {
    Done(Response<CacheBody<B>>),
    /// The resource has variants; this is where to look.
    Look(Place, Option<Hit<Stored>>),
    /// What came is of no use for this request.
    Again,
    /// As before, and what is stored isn't either.
    Anew,
    /// The leader failed.
    Failed,
    Alone(&'static str),
    /// The leader's response is for it alone, and takes the place of what is stored.
    Superseded,
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
    /// Answers the request.
    pub(crate) async fn run(mut self) -> Result<Response<CacheBody<ResBody>>, S::Error> {
        if self.directives.only_if_cached || self.directives.range {
            let asked = Asked::of(&self.request);
            let stored = in_second_tier(&self.core, &self.place, &asked, &self.directives).await;
            if let Some(response) = stored {
                return Ok(response);
            }
            if self.directives.only_if_cached {
                // RFC 9111 §5.2.1.7
                let status = CacheStatus::generated().detail("only-if-cached");
                return Ok(respond::gateway_timeout(&self.core, &status));
            }
            // A part is for whoever asked for it; and to fetch the whole for it could take longer
            // than the client would wait.
            return self.alone(Solo::Because("range")).await;
        }
        if self.request.method() == Method::HEAD {
            // Its response has no body to store, and one that asks for it would make the origin
            // produce what nobody wants.
            return self.alone(Solo::Because("head")).await;
        }
        let mark = self.core.marks.id(&self.place.primary, self.request.headers());
        if self.core.marks.is_set(mark, self.core.now_ms()) {
            return self.alone(Solo::Marked).await;
        }
        let max_wait = self.core.settings.max_wait;
        let mut patience = max_wait.saturating_mul(MAX_WAITS);
        let mut failures = 0;
        for _ in 0..MAX_ROUNDS {
            let next = match self.join() {
                Join::Lead(lead, follow) => {
                    // The leader doesn't follow itself.
                    drop(follow);
                    let (answer, answered) = oneshot::channel();
                    let fill = self.fill(lead, answer, false, failures);
                    let task = tokio::spawn(fill.run().in_current_span());
                    match answered.await {
                        Ok(Answer::Done(result)) => return result,
                        Ok(Answer::Varies(miss, variants)) => {
                            self = miss;
                            self.look_by(&variants)
                        }
                        // The task is gone without an answer. If it panicked, that is passed on,
                        // as it would be without this layer.
                        Err(_) => match task.await {
                            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                            // The runtime is shutting down.
                            _ => return pending().await,
                        },
                    }
                }
                Join::Follow(mut follow) => {
                    if patience.is_zero() {
                        return self.alone(Solo::Because("waited")).await;
                    }
                    self.core.space.count(Count::Coalesced);
                    let began = Instant::now();
                    let landing = timeout(patience.min(max_wait), follow.landed()).await;
                    patience = patience.saturating_sub(began.elapsed());
                    if let Ok(landing) = landing {
                        self.landed(landing, follow, failures)
                    } else {
                        // Its leader hangs: nobody else shall wait for it, and one of those who
                        // did takes over.
                        follow.reject();
                        Next::Again
                    }
                }
            };
            match next {
                Next::Done(response) => return Ok(response),
                Next::Look(place, hit) => {
                    self.place = place;
                    self.stale = hit;
                    self.fwd = Fwd::VaryMiss;
                }
                Next::Again => {}
                Next::Anew => self.stale = None,
                Next::Failed => failures += 1,
                Next::Alone(detail) => return self.alone(Solo::Because(detail)).await,
                Next::Superseded => {
                    self.stale = None;
                    return self.alone(Solo::Because(NOT_SHARED)).await;
                }
            }
        }
        self.alone(Solo::Because("too-many-rounds")).await
    }

    /// Refreshes what is stored, for nobody in particular, unless that is being done already.
    pub(crate) fn refresh(mut self) {
        *self.request.method_mut() = Method::GET;
        self.directives = RequestDirectives::default();
        let Join::Lead(lead, _) = self.join() else { return };
        let (answer, _) = oneshot::channel();
        tokio::spawn(self.fill(lead, answer, true, 0).run().in_current_span());
    }

    fn fill(
        self,
        lead: Lead<Landing>,
        answer: Answerer<Self, ResBody, S::Error>,
        background: bool,
        failures: u32,
    ) -> Fill<S, ReqBody, ResBody, S::Error> {
        let asked = Asked::of(&self.request);
        Fill { miss: self, asked, lead, answer, background, failures }
    }

    fn join(&self) -> Join<Landing> {
        let space = &self.core.space;
        let [primary, key] = [&self.place.primary, self.place.flight()].map(|key| space.key(key));
        // Removing the resource overtakes the fills of its variants, too.
        self.core.flights.join(key, || space.begin(&[primary, key]))
    }

    /// What a follower makes of the outcome, after so many failures.
    fn landed(
        &self,
        landing: Option<Landing>,
        follow: Follow<Landing>,
        failures: u32,
    ) -> Next<ResBody> {
        let core = &self.core;
        let now = core.now();
        let asked = Asked::of(&self.request);
        let collapsed = CacheStatus::forwarded(self.fwd).collapsed();
        match landing {
            Some(Landing::Arriving(arriving)) => {
                if !core.space.satisfies(&arriving.proof, self.asked) {
                    follow.reject();
                    return Next::Again;
                }
                if !arriving.selects.matches(&asked.headers) {
                    let place = self.place.with_unknown_variant(&arriving.selects, &asked.headers);
                    return Next::Look(place, None);
                }
                // RFC 9111 §4: requests are collapsed only as far as the response may be reused for
                // them. One that has to be validated for each is for the leader alone.
                let verdict = reuse(&arriving.times, &self.directives, now.as_millis());
                if verdict == Reuse::MustValidate {
                    return Next::Alone(NOT_SHARED);
                }
                let status = collapsed.fwd_status(arriving.status).stored();
                let response = respond::arriving(core, &arriving, &asked, &status);
                response.map_or(Next::Alone(NOT_SHARED), Next::Done)
            }
            Some(Landing::Stored(hit)) => {
                let found = usable(&hit, &self.directives, now.as_millis());
                let Some(stored) = found.filter(|_| hit.state_at(now) != State::Gone) else {
                    // It does for others, but not for this request.
                    follow.reject();
                    return Next::Again;
                };
                let (method, headers, now_ms) = (&asked.method, &asked.headers, now.as_millis());
                Next::Done(respond::hit(core, stored, method, headers, now_ms))
            }
            Some(Landing::Renewed(hit)) => {
                if hit.state_at(now) == State::Gone {
                    follow.reject();
                    return Next::Again;
                }
                match usable(&hit, &self.directives, now.as_millis()) {
                    Some(stored) => {
                        let now_ms = now.as_millis();
                        Next::Done(respond::validated(core, stored, &asked, now_ms, &collapsed))
                    }
                    None => Next::Alone(NOT_SHARED),
                }
            }
            Some(Landing::Varies(variants)) => self.look_by(&variants),
            Some(Landing::Replaced) => Next::Anew,
            Some(Landing::Alone(refusal)) if refusal.personal && !is_identified(&asked.headers) => {
                Next::Again
            }
            Some(Landing::Alone(refusal)) if refusal.supersedes => Next::Superseded,
            Some(Landing::Alone(_)) => Next::Alone(NOT_SHARED),
            Some(Landing::Failed(failure)) => self.after(&failure, &asked),
            None => self.after(&Failure::unknown(failures), &asked),
        }
    }

    /// What becomes of a request whose leader failed.
    fn after(&self, failure: &Failure, asked: &Asked) -> Next<ResBody> {
        let status = CacheStatus::forwarded(self.fwd).collapsed();
        let stale = failure.stale.as_ref();
        if let Some(reply) = respond::stand_in(&self.core, stale, &self.directives, asked, status) {
            return Next::Done(reply);
        }
        if fastrand::f64() < failure.share { Next::Alone("failed") } else { Next::Failed }
    }

    /// Looks for the variant that this request selects.
    fn look_by(&self, variants: &Hit<Stored>) -> Next<ResBody> {
        let Stored::Variants(rule) = &**variants else { return Next::Alone(NOT_SHARED) };
        let core = &self.core;
        let primary = self.place.primary.clone();
        let variant = variant_key(&primary, rule, self.request.headers());
        let now = core.now();
        let hit = core.space.peek(core.space.key(&variant), now);
        let now_ms = now.as_millis();
        if let Some(stored) = hit.as_ref().and_then(|hit| usable(hit, &self.directives, now_ms)) {
            let (method, headers) = (self.request.method(), self.request.headers());
            return Next::Done(respond::hit(core, stored, method, headers, now_ms));
        }
        Next::Look(Place::new(primary, Some(variant)), hit)
    }

    /// Asks the origin for this request alone. Nothing is stored; but if the response could be, the
    /// next request need not go alone.
    async fn alone(mut self, why: Solo) -> Result<Response<CacheBody<ResBody>>, S::Error> {
        let core = self.core;
        nested::enter(self.request.extensions_mut(), &core, &self.place.primary);
        let asked = Asked::of(&self.request);
        let request_ms = core.now_ms();
        let result = self.service.oneshot(self.request).await;
        let response_ms = core.now_ms();
        let mut status = CacheStatus::forwarded(self.fwd);
        if let Ok(response) = &result {
            status = status.fwd_status(response.status());
        }
        let response = match result {
            Ok(response) if !is_failure(response.status()) => response,
            failed => {
                let stale = self.stale.as_ref();
                if let Some(reply) =
                    respond::stand_in(&core, stale, &self.directives, &asked, status)
                {
                    return Ok(reply);
                }
                failed?
            }
        };
        let times = Times { request_ms, response_ms };
        let mark = core.marks.id(&self.place.primary, &asked.headers);
        let plan = core.settings.plan(&asked, times, &response);
        if plan.is_ok() {
            core.marks.clear(mark);
        }
        let detail = match (why, plan) {
            (Solo::Because(detail), _) => detail,
            (Solo::Marked, Ok(_)) => "hit-for-miss",
            (Solo::Marked, Err(refusal)) => {
                // A failure, or a 304 to the client's own condition, tells nothing new.
                if refusal.personal || refusal.supersedes {
                    core.marks.set(mark, response_ms);
                }
                refusal.detail
            }
        };
        Ok(respond::pass(&core, response, &status.detail(detail)))
    }
}

/// The answer that the second tier has.
async fn in_second_tier<B>(
    core: &Core,
    place: &Place,
    asked: &Asked,
    directives: &RequestDirectives,
) -> Option<Response<CacheBody<B>>> {
    let mut key = place.key().clone();
    // What is found at first may be the rule by which the variants are told apart.
    for _ in 0..2 {
        let ticket = core.space.begin(&[core.space.key(&place.primary), core.space.key(&key)]);
        let (found, _) = core.space.fetch(&ticket, core.space.key(&key)).await;
        let hit = found?;
        if let Stored::Variants(rule) = &*hit {
            key = variant_key(&place.primary, rule, &asked.headers);
            continue;
        }
        let now_ms = core.now_ms();
        let stored = usable(&hit, directives, now_ms)?;
        return Some(respond::hit(core, stored, &asked.method, &asked.headers, now_ms));
    }
    None
}
