//! A request that the first tier can't answer: it leads a fill, follows one, or goes alone.

use std::future::pending;
use std::panic::resume_unwind;
use std::sync::Arc;

use http::{Method, Request, Response};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tower::ServiceExt;
use tower_keep_store::{BoxError, Count, Follow, Hit, Join, State};
use tower_service::Service;

use crate::body::CacheBody;
use crate::cache_status::{CacheStatus, Fwd};
use crate::core::{Core, Place, variant_key};
use crate::fill::{Answer, Fill};
use crate::judge::{fallback, usable};
use crate::landing::Landing;
use crate::policy::{RequestDirectives, Reuse, reuse};
use crate::respond::{self, Asked};
use crate::stored::Stored;

/// How often a request may turn out to need another flight before it goes alone.
const MAX_ROUNDS: usize = 4;

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
}

/// What a follower does next.
#[allow(clippy::large_enum_variant, reason = "it is moved once, and soon taken apart")]
enum Next<B> {
    Done(Response<CacheBody<B>>),
    /// The resource has variants; this is where to look.
    Look(Place, Option<Hit<Stored>>),
    /// What came is too old for this request.
    Again,
    Alone,
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
        if self.request.method() == Method::HEAD && !self.directives.only_if_cached {
            // Its response has no body to store, and one that asks for it would make the origin
            // produce what nobody wants.
            return self.alone("head").await;
        }
        for _ in 0..MAX_ROUNDS {
            let next = match self.join() {
                Join::Lead(lead, _) => {
                    let (answer, answered) = oneshot::channel();
                    let Self { core, service, request, directives, place, stale, fwd } = self;
                    let asked = Asked::of(&request);
                    let rest = (Arc::clone(&core), service.clone(), place.clone(), stale.clone());
                    let fill = Fill {
                        core,
                        service,
                        request,
                        asked,
                        directives,
                        place,
                        stale,
                        fwd,
                        lead,
                        answer,
                    };
                    let task = tokio::spawn(fill.run());
                    match answered.await {
                        Ok(Answer::Done(result)) => return result,
                        Ok(Answer::Varies(request, variants)) => {
                            let (core, service, place, stale) = rest;
                            self = Self { core, service, request, directives, place, stale, fwd };
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
                    self.core.space.count(Count::Coalesced);
                    match timeout(self.core.settings.max_wait, follow.landed()).await {
                        Ok(landing) => self.landed(landing, follow),
                        Err(_) => Next::Alone,
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
                Next::Alone => return self.alone("not-shared").await,
            }
        }
        self.alone("too-many-rounds").await
    }

    /// Refreshes what is stored, for nobody in particular, unless that is being done already.
    pub(crate) fn refresh(mut self) {
        *self.request.method_mut() = Method::GET;
        let Join::Lead(lead, _) = self.join() else { return };
        let Self { core, service, request, directives, place, stale, fwd } = self;
        let (answer, _) = oneshot::channel();
        let asked = Asked::of(&request);
        let fill =
            Fill { core, service, request, asked, directives, place, stale, fwd, lead, answer };
        tokio::spawn(fill.run());
    }

    fn join(&self) -> Join<Landing> {
        let space = &self.core.space;
        let [primary, key] = [&self.place.primary, self.place.flight()].map(|key| space.key(key));
        // Removing the resource overtakes the fills of its variants, too.
        self.core.flights.join(key, || space.begin(&[primary, key]))
    }

    /// What a follower makes of the outcome.
    fn landed(&self, landing: Option<Landing>, follow: Follow<Landing>) -> Next<ResBody> {
        let core = &self.core;
        let asked = Asked::of(&self.request);
        let collapsed = CacheStatus::forwarded(self.fwd).collapsed();
        match landing {
            Some(Landing::Arriving(arriving)) => {
                if !core.space.holds(&arriving.proof) {
                    follow.reject();
                    return Next::Again;
                }
                if !arriving.selects.matches(&asked.headers) {
                    let place = self.place.with_unknown_variant(&arriving.selects, &asked.headers);
                    return Next::Look(place, None);
                }
                // RFC 9111 §4: requests are collapsed only as far as the response may be reused for
                // them. One that has to be validated for each is for the leader alone.
                let verdict = reuse(&arriving.times, &self.directives, core.now_ms());
                if verdict == Reuse::MustValidate {
                    return Next::Alone;
                }
                let status = collapsed.fwd_status(arriving.status).stored();
                let response = respond::arriving(core, &arriving, &asked, &status);
                response.map_or(Next::Alone, Next::Done)
            }
            Some(Landing::Found(hit)) => {
                let now = core.now();
                if hit.state_at(now) == State::Gone {
                    follow.reject();
                    return Next::Again;
                }
                let found = usable(&hit, &self.directives, now.as_millis());
                let found = found.or_else(|| fallback(&hit, &self.directives, now));
                found.map_or(Next::Alone, |stored| {
                    Next::Done(respond::validated(
                        core,
                        stored,
                        &asked,
                        now.as_millis(),
                        &collapsed,
                    ))
                })
            }
            Some(Landing::Varies(variants)) => self.look_by(&variants),
            Some(Landing::Alone) | None => Next::Alone,
        }
    }

    /// Looks for the variant that this request selects.
    fn look_by(&self, variants: &Hit<Stored>) -> Next<ResBody> {
        let Stored::Variants(rule) = &**variants else { return Next::Alone };
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

    async fn alone(self, detail: &'static str) -> Result<Response<CacheBody<ResBody>>, S::Error> {
        let response = self.service.oneshot(self.request).await?;
        let status = CacheStatus::forwarded(self.fwd).fwd_status(response.status()).detail(detail);
        Ok(respond::pass(&self.core, response, &status))
    }
}
