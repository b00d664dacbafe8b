//! A fill: asks the second tier, then the origin, tells all who wait, and stores what it may.
//!
//! Where the store has leases, it asks the origin when it is its turn among the nodes: see
//! [`Turn`](tower_keep_store::Turn).
//!
//! It runs in a task of its own, so a client that goes away takes nothing from the others, and the
//! leader is answered like everybody else, only first. When nobody is left who waits, it goes on
//! for a bounded time, or stops, as the settings say.

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, IF_RANGE, PRAGMA, RANGE};
use http::{HeaderMap, Request, Response};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tower::ServiceExt;
use tower_keep_store::{Attempt, BoxError, Count, Hit, Lead, Seen, Timestamp};
use tower_service::Service;

use crate::body::CacheBody;
use crate::conditional::{means_validation, strip_conditionals};
use crate::core::Core;
use crate::judge::judge;
use crate::landing::{Failure, Landing};
use crate::look::Look;
use crate::miss::Miss;
use crate::nested;
use crate::part::range_value;
use crate::plan::Times;
use crate::policy::Reuse;
use crate::pump::Bounds;
use crate::respond::{self, Asked};
use crate::settle::Settle;
use crate::stored::{Stored, StoredResponse};

/// What the leader gets; `M` is the [`Miss`] that it was.
#[allow(clippy::large_enum_variant, reason = "the request in `M` makes the other one as large")]
pub(crate) enum Answer<M, ResBody, E> {
    Done(Result<Response<CacheBody<ResBody>>, E>),
    /// The resource has variants: it is to look for its own.
    Varies(M, Hit<Stored>),
    /// What it had found has changed meanwhile: it is to look again.
    Changed(M),
}

/// Where the leader waits for its answer.
pub(crate) type Answerer<M, ResBody, E> = oneshot::Sender<Answer<M, ResBody, E>>;

/// What became of a fill before it asks the origin.
enum Looked {
    /// It has to ask.
    Nothing(Seen),
    /// Everybody has been answered.
    Answered,
    Varies(Hit<Stored>),
    Changed,
}

pub(crate) struct Fill<S, ReqBody, ResBody, E> {
    pub(crate) miss: Miss<S, ReqBody>,
    pub(crate) asked: Asked,
    pub(crate) lead: Lead<Landing>,
    pub(crate) answer: Answerer<Miss<S, ReqBody>, ResBody, E>,
    /// Nobody waits for it; it is done all the same.
    pub(crate) background: bool,
    /// What is fresh only until then is to be refreshed all the same.
    pub(crate) due: Option<Timestamp>,
    /// How many fills the leader has seen fail before.
    pub(crate) failures: u32,
}

impl<S, ReqBody, ResBody> Fill<S, ReqBody, ResBody, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    pub(crate) async fn run(mut self) {
        let core = Arc::clone(&self.miss.core);
        // From here on the ticket tells of removals. What was removed before, since this request looked,
        // must not come back by being validated, nor by the rule by which its variants are found.
        if self.miss.look.is_outdated() {
            return self.changed();
        }
        let hangs_at = far(core.settings.max_wait);
        let found = self.miss.look.found.take();
        self.miss.look.found = found.and_then(|hit| hit.again(core.now()));
        let key = core.space.key(self.miss.look.place.key());
        // Another flight may have landed between this one's look and its start.
        if let Some(hit) = core.space.peek(key, core.now()) {
            if self.reuse(&hit) == Reuse::Fresh && self.is_new(&hit) {
                return self.found(&hit);
            }
            if hit.response().is_some() {
                self.miss.look.found = Some(hit);
            }
        }
        let seen = match self.look(&core).await {
            Looked::Nothing(seen) => seen,
            Looked::Answered => return,
            Looked::Varies(hit) => {
                self.lead.land(Landing::Varies(hit.clone()));
                let _ = self.answer.send(Answer::Varies(self.miss, hit));
                return;
            }
            Looked::Changed => return self.changed(),
        };

        let Self { miss, asked, lead, mut answer, background, failures, .. } = self;
        let Miss { service, mut request, directives, look, .. } = miss;
        let status = look.status();
        let Look { place, found: stale, .. } = look;
        // The response is for all who wait, so the conditions of one must not shape it.
        strip_conditionals(request.headers_mut());
        // Only where the method has conditions, and parts (RFC 9110 §13.2.1, §14.2).
        let stored = stale.as_deref().and_then(Stored::response);
        let stored = stored.filter(|_| means_validation(request.method()));
        let rest = stored.and_then(|stored| ask_for_the_rest(request.headers_mut(), stored));
        if let Some(stored) = stored.filter(|stored| stored.part.is_none()) {
            stored.validators.apply(request.headers_mut());
        }
        if background {
            // What one client asked of caches is not what the store is refreshed for.
            request.headers_mut().remove(CACHE_CONTROL);
            request.headers_mut().remove(PRAGMA);
        }
        nested::enter(request.extensions_mut(), &core, &place.primary);
        core.space.count(Count::Fill);
        let bounds = bounds(&core, background);
        let request_ms = core.now_ms();
        let stands_in = || respond::stand_in(&core, stale.as_ref(), &directives, &asked, status);
        let result = {
            let mut call = pin!(service.oneshot(request));
            let mut hangs = pin!(sleep_until(hangs_at));
            let mut patient = stale.is_some();
            loop {
                tokio::select! {
                    biased;
                    result = call.as_mut() => break result,
                    () = unwanted(&mut answer, &lead, &bounds) => return,
                    () = hangs.as_mut(), if patient => {
                        patient = false;
                        core.refresh_failed(lead.ticket(), stale.as_ref());
                        if let Some(reply) = stands_in() {
                            lead.land(Landing::Failed(Failure::hanging(stale.clone())));
                            let (nobody, _) = oneshot::channel();
                            let _ = mem::replace(&mut answer, nobody).send(Answer::Done(Ok(reply)));
                        }
                    }
                }
            }
        };
        let times = Times { request_ms, response_ms: core.now_ms() };
        let settle = Settle {
            core,
            asked,
            directives,
            place,
            stale,
            rest,
            lead,
            answer,
            seen,
            status,
            times,
            bounds,
            failures,
        };
        settle.run(result).await;
    }

    /// Looks into the second tier, until something usable is there or it is this fill's turn to ask the
    /// origin.
    async fn look(&mut self, core: &Core) -> Looked {
        let place = &self.miss.look.place;
        let [primary, key] = [place.primary.clone(), place.key().clone()];
        let [primary, key] = [&primary, &key].map(|key| core.space.key(key));
        let mut turn = core.space.turn(key, core.settings.max_wait);
        loop {
            let (found, seen) = core.space.fetch(self.lead.ticket(), key).await;
            if let Some(hit) = found {
                if matches!(&*hit, Stored::Variants(_)) {
                    return Looked::Varies(hit);
                }
                match self.reuse(&hit) {
                    Reuse::Fresh | Reuse::Stale if self.is_new(&hit) => {
                        self.found(&hit);
                        return Looked::Answered;
                    }
                    Reuse::StaleWhileRevalidate => {
                        // Nobody needs to wait for the refresh that follows.
                        self.found(&hit);
                        self.background = true;
                    }
                    // Or it is what is to be refreshed.
                    Reuse::MustValidate | Reuse::Fresh | Reuse::Stale => {}
                }
                self.miss.look.put(core, hit);
            }
            if !self.takes_turns() {
                return Looked::Nothing(seen);
            }
            let bounds = bounds(core, self.background);
            let attempt = tokio::select! {
                biased;
                attempt = turn.attempt(seen) => attempt,
                () = unwanted(&mut self.answer, &self.lead, &bounds) => return Looked::Answered,
            };
            if turn.has_waited() {
                let begin = || core.space.begin(&[primary, key]);
                if self.lead.begin_again(begin) || self.miss.look.is_outdated() {
                    return Looked::Changed;
                }
                let found = self.miss.look.found.take();
                self.miss.look.found = found.and_then(|hit| hit.again(core.now()));
            }
            if let Attempt::Go(seen) = attempt {
                return Looked::Nothing(seen);
            }
        }
    }

    /// Whether this fill and those of other nodes do for each other.
    fn takes_turns(&self) -> bool {
        let look = &self.miss.look;
        let stored = look.found.as_deref().and_then(Stored::response);
        // Not where the client wants more than what is stored; nor for what has to be validated for
        // each; nor where it is known that this is about another variant than what is on its way.
        !self.miss.directives.any
            && !stored.is_some_and(|stored| stored.times.is_never_usable())
            && look.place.has_own_flight()
    }

    /// What it began with is no more: everybody has to look again.
    fn changed(self) {
        self.lead.close();
        self.lead.land(Landing::Changed);
        let _ = self.answer.send(Answer::Changed(self.miss));
    }

    fn reuse(&self, hit: &Hit<Stored>) -> Reuse {
        judge(hit.found(), self.asked.wish(&self.miss.directives), self.miss.core.now_ms())
            .map_or(Reuse::MustValidate, |(_, reuse)| reuse)
    }

    /// Whether this isn't what was to be refreshed.
    fn is_new(&self, hit: &Hit<Stored>) -> bool {
        self.due.is_none_or(|due| hit.lifetime().fresh_until > due)
    }

    /// Answers everybody from what is stored.
    fn found(&mut self, hit: &Hit<Stored>) {
        let core = &self.miss.core;
        let now_ms = core.now_ms();
        self.lead.land(Landing::Stored(hit.clone()));
        if let Stored::Response(stored) = &**hit {
            let response =
                respond::hit(core, stored, &self.asked.method, &self.asked.headers, now_ms);
            // Whatever else there is to say, nobody is left to hear it.
            let (nobody, _) = oneshot::channel();
            let _ = mem::replace(&mut self.answer, nobody).send(Answer::Done(Ok(response)));
        }
    }
}

/// Where a part is stored of a version that can be told from others, asks for the rest of it only, or
/// for the whole if it has changed (RFC 9110 §13.1.5). Returns what it asked for.
fn ask_for_the_rest(request: &mut HeaderMap, stored: &StoredResponse) -> Option<(usize, usize)> {
    let version = stored.validators.strong_etag()?;
    let missing = stored.part?.missing(stored.body.len())?;
    request.insert(RANGE, range_value(missing)?);
    request.insert(IF_RANGE, version.clone());
    Some(missing)
}

fn bounds(core: &Core, background: bool) -> Bounds {
    Bounds {
        deadline: far(core.settings.max_fill),
        finish: background || core.settings.finish_abandoned,
        max_lag: core.settings.max_lag,
    }
}

/// Waits until nobody wants the response: the client is gone, nobody follows, and the time is up
/// for which it is fetched all the same.
async fn unwanted<M, ResBody, E>(
    answer: &mut Answerer<M, ResBody, E>,
    lead: &Lead<Landing>,
    bounds: &Bounds,
) {
    if bounds.finish {
        sleep_until(bounds.deadline).await;
    }
    answer.closed().await;
    // Who joins in the very moment in which this stops finds the flight lost, and leads another.
    lead.unfollowed().await;
}

/// In `span` from now, or as far ahead as the runtime can tell the time.
pub(crate) fn far(span: Duration) -> Instant {
    const AGE: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    Instant::now() + span.min(AGE)
}
