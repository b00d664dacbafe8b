//! A request that the first tier can't answer: it leads a fill, follows one, or goes alone.

use std::future::pending;
use std::panic::resume_unwind;
use std::sync::Arc;

use http::header::RANGE;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tower_keep_store::{Asking, BoxError, Count, Follow, Hit, Join, Lead, Timestamp};
use tower_service::Service;
use tracing::Instrument as _;

use crate::body::CacheBody;
use crate::core::{Core, Place, variant_key};
use crate::fill::{Answer, Answerer, Fill};
use crate::forms::readable;
use crate::judge::{Wish, usable};
use crate::landing::{Failure, Landing};
use crate::look::Look;
use crate::policy::{PolicyOptions, RequestDirectives, Reuse, reuse};
use crate::respond::{self, Asked};
use crate::solo::Solo;
use crate::stored::Stored;

/// How often a request may turn out to need another flight before it goes alone.
const MAX_ROUNDS: usize = 16;

/// How often a request waits for as long as [`max_wait`](crate::core::Settings::max_wait).
const MAX_WAITS: u32 = 2;

/// Why a request goes alone that waited for another's response.
const NOT_SHARED: &str = "not-shared";

/// A request on its way to an answer.
pub(crate) struct Miss<S, ReqBody> {
    pub(crate) core: Arc<Core>,
    pub(crate) service: S,
    pub(crate) request: Request<ReqBody>,
    pub(crate) directives: RequestDirectives,
    /// What the rules have chosen for the request.
    pub(crate) policy: Arc<PolicyOptions>,
    pub(crate) look: Look,
    /// It must not see what was invalidated before this request came.
    pub(crate) asking: Asking,
}

/// What a follower does next.
#[allow(clippy::large_enum_variant, reason = "it is moved once, and soon taken apart")]
enum Next<B> {
    Done(Response<CacheBody<B>>),
    /// The resource has variants; this is where to look.
    Look(Place, Option<Hit<Stored>>),
    /// What came is of no use for this request: look again.
    Again,
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
            // A part is for whoever asked for it; and to fetch the whole for it could take longer
            // than the client would wait.
            return self.run_solo("range").await;
        }
        if self.request.method() == Method::HEAD {
            // Its response has no body to store, and one that asks for it would make the origin
            // produce what nobody wants.
            self.judge_as_get();
            return self.run_solo("head").await;
        }
        let mark = self.core.marks.id(&self.look.place.primary, self.request.headers());
        if self.core.marks.is_set(mark, self.core.now_ms()) {
            return self.alone(Solo::Marked, None).await;
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
                    let fill = self.fill(lead, answer, failures);
                    let task = tokio::spawn(fill.run().in_current_span());
                    match answered.await {
                        Ok(Answer::Done(result)) => return result,
                        Ok(Answer::Varies(miss, variants)) => {
                            self = miss;
                            self.look_by(&variants)
                        }
                        Ok(Answer::Changed(miss)) => {
                            self = miss;
                            Next::Again
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
                        return self.alone(Solo::Because("waited"), None).await;
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
                Next::Look(place, hit) => self.look.move_to(place, hit),
                Next::Again => self.look_again(),
                Next::Failed => {
                    failures += 1;
                    self.look_again();
                }
                Next::Alone(detail) => return self.alone(Solo::Because(detail), None).await,
                Next::Superseded => {
                    self.look.found = None;
                    return self.alone(Solo::Because(NOT_SHARED), None).await;
                }
            }
        }
        self.alone(Solo::Because("too-many-rounds"), None).await
    }

    /// As [`run`](Self::run), for a client that may not read what is stored as it is.
    pub(crate) async fn run_readable(mut self) -> Result<Response<CacheBody<ResBody>>, S::Error> {
        let (core, headers) = (Arc::clone(&self.core), self.request.headers().clone());
        let Some(forms) = &core.settings.forms else { return self.run().await };
        if forms.may_continue_encoded(&headers) {
            self.request.headers_mut().remove(RANGE);
            self.directives.range = false;
        }
        let primary = self.look.place.primary.clone();
        // The inner service may be asked as the client asks.
        let conditions = forms.conditions(&headers);
        if let Some(conditions) = &conditions {
            self.request.headers_mut().clone_from(&conditions.fields);
        }
        let mut response = self.run().await?;
        if let Some(conditions) =
            conditions.filter(|_| response.status() == StatusCode::NOT_MODIFIED)
        {
            forms.restore(&conditions, response.headers_mut());
        }
        Ok(readable(&core, &primary, &headers, response).await)
    }

    /// What a response to HEAD tells is of the response to GET, for which there may be other rules.
    fn judge_as_get(&mut self) {
        *self.request.method_mut() = Method::GET;
        if let Some(policy) = self.core.settings.rules.policy(&self.request) {
            self.policy = policy;
        }
        *self.request.method_mut() = Method::HEAD;
    }

    pub(crate) fn asked_for(&self) -> Asked {
        Asked::of(&self.request, &self.policy, self.look.place.covers)
    }

    /// After a wait, what was found before it may have been removed, or replaced.
    pub(crate) fn look_again(&mut self) {
        self.look.again(&self.core, self.request.headers());
    }

    /// Refreshes what is stored, for nobody in particular, unless that is being done already. What is
    /// fresh only until `due` is refreshed all the same.
    pub(crate) fn refresh(mut self, due: Option<Timestamp>) {
        if self.request.method() == Method::HEAD {
            *self.request.method_mut() = Method::GET;
            let Some(policy) = self.core.settings.rules.policy(&self.request) else { return };
            self.policy = policy;
        }
        self.directives = RequestDirectives::default();
        let Join::Lead(lead, _) = self.join() else { return };
        let (answer, _) = oneshot::channel();
        let fill = Fill { background: true, due, ..self.fill(lead, answer, 0) };
        tokio::spawn(fill.run().in_current_span());
    }

    fn fill(
        self,
        lead: Lead<Landing>,
        answer: Answerer<Self, ResBody, S::Error>,
        failures: u32,
    ) -> Fill<S, ReqBody, ResBody, S::Error> {
        let asked = self.asked_for();
        Fill { miss: self, asked, lead, answer, background: false, due: None, failures }
    }

    fn join(&self) -> Join<Landing> {
        let space = &self.core.space;
        let place = &self.look.place;
        let [primary, key] = [&place.primary, place.flight()].map(|key| space.key(key));
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
        let asked = self.asked_for();
        let collapsed = self.look.status().collapsed();
        match landing {
            Some(Landing::Arriving(arriving)) => {
                if !core.space.satisfies(&arriving.proof, self.asking) {
                    follow.reject();
                    return Next::Again;
                }
                if !arriving.selects.matches(&asked.headers) {
                    let selects = &arriving.selects;
                    let place = self.look.place.with_unknown_variant(selects, &asked.headers);
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
                let hit = core.space.given(&hit, self.asking, now);
                let wish = asked.wish(&self.directives);
                let found = hit.as_ref().and_then(|hit| usable(hit.found(), wish, now.as_millis()));
                let Some(stored) = found else {
                    // It does for others, but not for this request.
                    follow.reject();
                    return Next::Again;
                };
                let (method, headers, now_ms) = (&asked.method, &asked.headers, now.as_millis());
                Next::Done(respond::hit(core, stored, method, headers, now_ms))
            }
            Some(Landing::Renewed(hit, selects)) => {
                if !selects.matches(&asked.headers) {
                    let place = self.look.place.with_unknown_variant(&selects, &asked.headers);
                    return Next::Look(place, None);
                }
                let Some(hit) = core.space.given(&hit, self.asking, now) else {
                    follow.reject();
                    return Next::Again;
                };
                let now_ms = now.as_millis();
                match usable(hit.found(), asked.wish(&self.directives), now_ms) {
                    Some(stored) => {
                        Next::Done(respond::validated(core, stored, &asked, now_ms, &collapsed))
                    }
                    None => Next::Alone(NOT_SHARED),
                }
            }
            Some(Landing::Varies(variants)) => self.look_by(&variants),
            Some(Landing::Changed) => Next::Again,
            Some(Landing::Alone(refusal))
                if refusal.personal && !asked.policy.is_personal(&asked.headers) =>
            {
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
        let status = self.look.status().collapsed();
        let core = &self.core;
        let stale = failure.stale.as_ref();
        let stale = stale.and_then(|hit| core.space.given(hit, self.asking, core.now()));
        let reply = respond::stand_in(core, stale.as_ref(), &self.directives, asked, status);
        if let Some(reply) = reply {
            return Next::Done(reply);
        }
        if fastrand::f64() < failure.share { Next::Alone("failed") } else { Next::Failed }
    }

    /// Looks for the variant that this request selects.
    fn look_by(&self, variants: &Hit<Stored>) -> Next<ResBody> {
        let Stored::Variants(rule) = &**variants else { return Next::Alone(NOT_SHARED) };
        let core = &self.core;
        let variant = variant_key(&self.look.place.primary, rule, self.request.headers());
        let now = core.now();
        let hit = core.space.peek(core.space.key(&variant), now);
        let now_ms = now.as_millis();
        let (method, headers) = (self.request.method(), self.request.headers());
        let uri = self.request.uri();
        let wish = Wish { directives: &self.directives, method, uri, headers };
        if let Some(stored) = hit.as_ref().and_then(|hit| usable(hit.found(), wish, now_ms)) {
            return Next::Done(respond::hit(core, stored, method, headers, now_ms));
        }
        Next::Look(self.look.place.with_variant(variant), hit)
    }
}
