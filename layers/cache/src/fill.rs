//! A fill: asks the second tier, then the origin, tells all who wait, and stores what it may.
//!
//! It runs in a task of its own, so a client that goes away takes nothing from the others, and the
//! leader is answered like everybody else, only first. When nobody is left who waits, it goes on
//! for a bounded time, or stops, as the settings say.

use std::mem;
use std::pin::pin;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{Request, Response};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tower::ServiceExt;
use tower_keep_store::{BoxError, Count, Hit, Lead, State};
use tower_service::Service;

use crate::body::CacheBody;
use crate::cache_status::{CacheStatus, Fwd};
use crate::conditional::strip_conditionals;
use crate::core::{Core, Place};
use crate::judge::{judge, why_forwarded};
use crate::landing::Landing;
use crate::nested;
use crate::plan::Times;
use crate::policy::{RequestDirectives, Reuse};
use crate::pump::Bounds;
use crate::respond::{self, Asked};
use crate::settle::Settle;
use crate::stored::Stored;

/// What the leader gets.
pub(crate) enum Answer<ReqBody, ResBody, E> {
    Done(Result<Response<CacheBody<ResBody>>, E>),
    /// The resource has variants: here is the request back.
    Varies(Request<ReqBody>, Hit<Stored>),
}

/// Where the leader waits for its answer.
pub(crate) type Answerer<ReqBody, ResBody, E> = oneshot::Sender<Answer<ReqBody, ResBody, E>>;

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
    pub(crate) answer: Answerer<ReqBody, ResBody, E>,
    /// Nobody waits for it; it is done all the same.
    pub(crate) background: bool,
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
        let core = Arc::clone(&self.core);
        let key = core.space.key(self.place.key());
        // It was found before the ticket began: what was invalidated in between must not come back
        // by being validated.
        self.stale = self.stale.take().filter(|hit| hit.state_at(core.now()) != State::Gone);
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
                Reuse::StaleWhileRevalidate => {
                    // Nobody needs to wait for the refresh that follows.
                    self.found(&hit);
                    self.background = true;
                }
                Reuse::MustValidate => {}
            }
            self.fwd = why_forwarded(&hit, core.now_ms());
            self.stale = Some(hit);
        }

        let Self { service, mut request, asked, directives, place, stale, fwd, lead, .. } = self;
        let (mut answer, background, failures) = (self.answer, self.background, self.failures);
        // The response is for all who wait, so the conditions of one must not shape it.
        strip_conditionals(request.headers_mut());
        if let Some(stored) = stale.as_deref().and_then(Stored::response) {
            stored.validators.apply(request.headers_mut());
        }
        if background {
            // What one client asked of caches is not what the store is refreshed for.
            request.headers_mut().remove(CACHE_CONTROL);
            request.headers_mut().remove(PRAGMA);
        }
        nested::enter(request.extensions_mut(), &core, &place.primary);
        core.space.count(Count::Fill);
        let bounds = Bounds {
            deadline: far(core.settings.max_fill),
            finish: background || core.settings.finish_abandoned,
            max_lag: core.settings.max_lag,
        };
        let request_ms = core.now_ms();
        let result = {
            let mut call = pin!(service.oneshot(request));
            tokio::select! {
                biased;
                result = call.as_mut() => result,
                () = unwanted(&mut answer, &lead, &bounds) => return,
            }
        };
        let times = Times { request_ms, response_ms: core.now_ms() };
        let status = CacheStatus::forwarded(fwd);
        let settle = Settle {
            core,
            asked,
            directives,
            place,
            stale,
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

    fn reuse(&self, hit: &Hit<Stored>) -> Reuse {
        judge(hit, &self.directives, self.core.now_ms())
            .map_or(Reuse::MustValidate, |(_, reuse)| reuse)
    }

    /// Answers everybody from what is stored.
    fn found(&mut self, hit: &Hit<Stored>) {
        let now_ms = self.core.now_ms();
        self.lead.land(Landing::Stored(hit.clone()));
        if let Stored::Response(stored) = &**hit {
            let response =
                respond::hit(&self.core, stored, &self.asked.method, &self.asked.headers, now_ms);
            // Whatever else there is to say, nobody is left to hear it.
            let (nobody, _) = oneshot::channel();
            let _ = mem::replace(&mut self.answer, nobody).send(Answer::Done(Ok(response)));
        }
    }
}

/// Waits until nobody wants the response: the client is gone, nobody follows, and the time is up
/// for which it is fetched all the same.
async fn unwanted<ReqBody, ResBody, E>(
    answer: &mut Answerer<ReqBody, ResBody, E>,
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
fn far(span: std::time::Duration) -> Instant {
    const AGE: std::time::Duration = std::time::Duration::from_secs(30 * 365 * 24 * 3600);
    Instant::now() + span.min(AGE)
}
