//! A fill: asks the second tier, then the origin, tells all who wait, and stores what it may.
//!
//! It runs in a task of its own, so a client that goes away takes nothing from the others, and the
//! leader is answered like everybody else, only first. When nobody is left who waits, it goes on
//! for a bounded time, or stops, as the settings say.

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{Request, Response};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tower::ServiceExt;
use tower_keep_store::{BoxError, Count, Hit, Lead, State};
use tower_service::Service;

use crate::body::CacheBody;
use crate::cache_status::CacheStatus;
use crate::conditional::strip_conditionals;
use crate::judge::{judge, why_forwarded};
use crate::landing::Landing;
use crate::miss::Miss;
use crate::nested;
use crate::plan::Times;
use crate::policy::Reuse;
use crate::pump::Bounds;
use crate::respond::{self, Asked};
use crate::settle::Settle;
use crate::stored::Stored;

/// What the leader gets; `M` is the [`Miss`] that it was.
#[allow(clippy::large_enum_variant, reason = "the request in `M` makes the other one as large")]
pub(crate) enum Answer<M, ResBody, E> {
    Done(Result<Response<CacheBody<ResBody>>, E>),
    /// The resource has variants: it is to look again.
    Varies(M, Hit<Stored>),
}

/// Where the leader waits for its answer.
pub(crate) type Answerer<M, ResBody, E> = oneshot::Sender<Answer<M, ResBody, E>>;

pub(crate) struct Fill<S, ReqBody, ResBody, E> {
    pub(crate) miss: Miss<S, ReqBody>,
    pub(crate) asked: Asked,
    pub(crate) lead: Lead<Landing>,
    pub(crate) answer: Answerer<Miss<S, ReqBody>, ResBody, E>,
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
        let core = Arc::clone(&self.miss.core);
        let key = core.space.key(self.miss.place.key());
        // It was found before the ticket began: what was invalidated in between must not come back
        // by being validated.
        self.miss.stale =
            self.miss.stale.take().filter(|hit| hit.state_at(core.now()) != State::Gone);
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
                let _ = self.answer.send(Answer::Varies(self.miss, hit));
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
            self.miss.fwd = why_forwarded(&hit, core.now_ms());
            self.miss.stale = Some(hit);
        }

        let Self { miss, asked, lead, mut answer, background, failures } = self;
        let Miss { service, mut request, directives, place, stale, fwd, .. } = miss;
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
        judge(hit, &self.miss.directives, self.miss.core.now_ms())
            .map_or(Reuse::MustValidate, |(_, reuse)| reuse)
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
fn far(span: Duration) -> Instant {
    const AGE: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    Instant::now() + span.min(AGE)
}
