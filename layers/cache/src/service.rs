//! The service: what becomes of a request.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_keep_store::BoxError;
use tower_service::Service;

use crate::behind::Behind;
use crate::body::CacheBody;
use crate::body_key::Content;
use crate::cache_status::{CacheStatus, Fwd};
use crate::core::{Core, Covers, Place};
use crate::forms::{Undress, is_hit_unreadable};
use crate::future::CacheFuture;
use crate::invalidate::pass_and_invalidate;
use crate::judge::Wish;
use crate::key::Target;
use crate::look::Look;
use crate::miss::Miss;
use crate::nested;
use crate::policy::{BypassReason, RequestClass};
use crate::status_field::{CacheStatusField, Finish};

/// Answers from the store what it can, and stores what it may of the rest.
///
/// Made by [`CacheLayer`](crate::CacheLayer). It is always ready: a hit doesn't wait for the inner
/// service, which may be saturated or have no backend; a miss waits for it in its future. Its
/// errors are the inner service's own.
#[derive(Clone, Debug)]
pub struct Cache<S> {
    inner: S,
    core: Arc<Core>,
}

impl<S> Cache<S> {
    pub(crate) fn new(inner: S, core: Arc<Core>) -> Self {
        Self { inner, core }
    }

    /// The service that answers what the store can't.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Cache<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: Body + Send + 'static,
    ResBody: Body + Send + 'static,
    ResBody::Data: Send,
    ResBody::Error: Into<BoxError>,
{
    type Response = Response<CacheBody<ResBody>>;
    type Error = S::Error;
    type Future = CacheFuture<S, ReqBody, ResBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match self.core.settings.status_field {
            CacheStatusField::On => self.answer(request),
            CacheStatusField::Off => self.answer(request).finish(Finish::Remove),
            field => {
                let finish = self.core.finish(field, &request);
                self.answer(request).finish(finish)
            }
        }
    }
}

impl<S> Cache<S> {
    fn answer<ReqBody, ResBody>(
        &self,
        request: Request<ReqBody>,
    ) -> CacheFuture<S, ReqBody, ResBody>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send,
        ReqBody: Body + Send + 'static,
        ResBody: Body + Send + 'static,
        ResBody::Data: Send,
        ResBody::Error: Into<BoxError>,
    {
        let core = &self.core;
        let pass = |request, status| {
            CacheFuture::pass(self.inner.clone(), request, Arc::clone(core), status)
        };
        let mut class = RequestClass::of(request.method(), request.headers());
        let mut content = None;
        if matches!(class, RequestClass::Unsafe) {
            match Content::of(&request) {
                Some(Content::Known(digest)) => {
                    class = RequestClass::of_content(request.method(), request.headers());
                    content = Some(digest);
                }
                Some(Content::Unknown(detail)) => {
                    let status = CacheStatus::forwarded(Fwd::Bypass).detail(detail);
                    return pass(request, status);
                }
                Some(Content::Undeclared) | None => {}
            }
        }
        let directives = match class {
            RequestClass::Lookup(directives) if content.is_some() || is_empty(request.body()) => {
                directives
            }
            RequestClass::Lookup(_) => {
                let detail = BypassReason::Content.detail();
                return pass(request, CacheStatus::forwarded(Fwd::Bypass).detail(detail));
            }
            RequestClass::Bypass(reason) => {
                let fwd = if reason == BypassReason::NoStore { Fwd::Request } else { Fwd::Bypass };
                return pass(request, CacheStatus::forwarded(fwd).detail(reason.detail()));
            }
            RequestClass::PassMethod => return pass(request, CacheStatus::forwarded(Fwd::Method)),
            RequestClass::Unsafe => {
                return CacheFuture::miss(pass_and_invalidate(
                    self.inner.clone(),
                    request,
                    Arc::clone(core),
                ));
            }
        };
        let by_rule = CacheStatus::forwarded(Fwd::Bypass).detail("rule");
        if core.settings.rules.bypass(&request) {
            return pass(request, by_rule);
        }
        let mut covers = Covers::default();
        let primary = match core.primary_key(&request, content, &mut covers) {
            Ok(primary) => primary,
            Err(error) => {
                return pass(request, CacheStatus::forwarded(Fwd::Bypass).detail(error.detail()));
            }
        };
        let now = core.now();
        let mut variant = None;
        let hit = core.peek(&primary, &mut variant, request.headers(), now);
        let wish = Wish {
            directives: &directives,
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
        };
        let key = variant.as_ref().unwrap_or(&primary);
        let served = hit.as_ref().and_then(|hit| core.serve(key, hit, wish, now));
        // Nor is what the client can't read.
        let plain = match (&served, &core.settings.forms) {
            (Some(_), Some(_)) => hit.filter(|hit| is_hit_unreadable(hit, wish.headers)),
            _ => None,
        };
        let plain = plain.map(|hit| Undress::new(core, key.clone(), hit, wish));
        let served = match served {
            Some((response, Behind::Nothing)) => return CacheFuture::found(response, plain),
            served => served,
        };
        // What isn't fresh is not for a layer around this one, over the same entries, that came to
        // have it refreshed.
        if nested::is_within(request.extensions(), core, &primary) {
            if let Some((response, Behind::Early(_))) = served {
                return CacheFuture::found(response, plain);
            }
            return pass(request, CacheStatus::forwarded(Fwd::Bypass).detail("nested"));
        }
        // It doesn't pass, as was just asked; but a condition may have come to answer otherwise.
        let Some(policy) = core.settings.rules.policy(&request) else {
            return pass(request, by_rule);
        };
        // The request has a key, and so a target.
        let target = Target::of(&request).ok();
        let resource = target.and_then(|target| core.resource_tag(&target, covers.content));
        let miss = Miss {
            policy,
            look: Look::at(core, &Place::new(primary, covers, resource), request.headers()),
            core: Arc::clone(core),
            service: self.inner.clone(),
            request,
            directives,
            asking: core.space.asking(),
        };
        match served {
            Some((response, behind)) => {
                miss.refresh(behind.due());
                CacheFuture::found(response, plain)
            }
            None if core.settings.forms.is_none() => CacheFuture::miss(miss.run()),
            None => CacheFuture::miss(miss.run_readable()),
        }
    }
}

/// Whether a request has no content. A wrapped body may know only that its length is 0.
fn is_empty(body: &impl Body) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}
