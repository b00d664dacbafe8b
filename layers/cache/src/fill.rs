//! A fill: asks the second tier, then the origin, tells all who wait, and stores what it may.
//!
//! It runs in a task of its own. A client that goes away takes nothing from the others, and the
//! leader is answered like everybody else, only first.

use std::mem;
use std::sync::Arc;

use http::{Request, Response};
use http_body::Body;
use tokio::sync::oneshot;
use tower::ServiceExt;
use tower_keep_store::{BoxError, Count, Hit, Lead, State};
use tower_service::Service;

use crate::body::CacheBody;
use crate::cache_status::{CacheStatus, Fwd};
use crate::conditional::strip_conditionals;
use crate::core::{Core, Place};
use crate::judge::judge;
use crate::landing::Landing;
use crate::policy::{RequestDirectives, Reuse};
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

        let Self { core, service, mut request, asked, directives, place, stale, fwd, lead, answer } =
            self;
        // The response is for all who wait, so the conditions of one must not shape it.
        strip_conditionals(request.headers_mut());
        if let Some(stored) = stale.as_deref().and_then(Stored::response) {
            stored.validators.apply(request.headers_mut());
        }
        core.space.count(Count::Fill);
        let request_time_ms = core.now_ms();
        let result = service.oneshot(request).await;
        let response_time_ms = core.now_ms();
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
            request_time_ms,
            response_time_ms,
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
        self.lead.land(Landing::Found(hit.clone()));
        if let Stored::Response(stored) = &**hit {
            let response =
                respond::hit(&self.core, stored, &self.asked.method, &self.asked.headers, now_ms);
            // Whatever else there is to say, nobody is left to hear it.
            let (nobody, _) = oneshot::channel();
            let _ = mem::replace(&mut self.answer, nobody).send(Answer::Done(Ok(response)));
        }
    }
}
