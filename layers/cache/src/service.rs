//! The service: what becomes of a request.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_keep_store::{BoxError, KeyBuf};
use tower_service::Service;

use crate::behind::Behind;
use crate::body::CacheBody;
use crate::body_key::{Content, ContentDigest};
use crate::cache_status::{CacheStatus, Fwd};
use crate::core::{Core, Covers, Place};
use crate::forms::{Undress, is_hit_unreadable};
use crate::future::CacheFuture;
use crate::invalidate::pass_and_invalidate;
use crate::judge::Wish;
use crate::key::{HostField, Target};
use crate::look::Look;
use crate::miss::Miss;
use crate::nested;
use crate::policy::{BypassReason, RequestClass, RequestDirectives};
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
        let finish = match self.core.settings.status_field {
            CacheStatusField::On => Finish::Leave,
            CacheStatusField::Off => Finish::Remove,
            field => self.core.finish(field, &request),
        };
        self.answer(request, finish)
    }
}

impl<S> Cache<S> {
    fn answer<ReqBody, ResBody>(
        &self,
        request: Request<ReqBody>,
        finish: Finish,
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
        let pass = |request, status, finish| {
            CacheFuture::pass(self.inner.clone(), request, Arc::clone(core), status, finish)
        };
        let mut host = None;
        let (directives, content) = match First::of(&request, &mut host) {
            First::Lookup(directives, content) => (directives, content),
            First::Pass(status) => return pass(request, status, finish),
            First::Change => {
                let answer = pass_and_invalidate(self.inner.clone(), request, Arc::clone(core));
                return CacheFuture::miss(answer, finish);
            }
        };
        let by_rule = CacheStatus::forwarded(Fwd::Bypass).detail("rule");
        if core.settings.rules.bypass(&request) {
            return pass(request, by_rule, finish);
        }
        let mut covers = Covers::default();
        let mut primary = KeyBuf::new();
        let written = core.write_primary_key(&request, host, content, &mut covers, &mut primary);
        if let Err(error) = written {
            return pass(
                request,
                CacheStatus::forwarded(Fwd::Bypass).detail(error.detail()),
                finish,
            );
        }
        let now = core.now();
        let wish = Wish {
            directives: &directives,
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
        };
        let (mut served, mut behind, mut plain) = (None, Behind::Nothing, None);
        core.peek_with(&primary, wish.headers, now, |key, found| {
            served = core.serve(key, found, wish, now, &mut behind);
            // Nor is what the client can't read.
            if served.is_some()
                && core.settings.forms.is_some()
                && is_hit_unreadable(found, wish.headers)
            {
                plain = found.to_hit().map(|hit| Undress::new(core, key.clone(), hit, wish));
            }
        });
        let served = match served {
            Some(response) if matches!(behind, Behind::Nothing) => {
                return CacheFuture::found(response, plain, finish);
            }
            served => served,
        };
        // What isn't fresh is not for a layer around this one, over the same entries, that came to
        // have it refreshed.
        if nested::is_within(request.extensions(), core, &primary) {
            if let (Some(response), Behind::Early(_)) = (served, behind) {
                return CacheFuture::found(response, plain, finish);
            }
            return pass(request, CacheStatus::forwarded(Fwd::Bypass).detail("nested"), finish);
        }
        // It doesn't pass, as was just asked; but a condition may have come to answer otherwise.
        let Some(policy) = core.settings.rules.policy(&request) else {
            return pass(request, by_rule, finish);
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
            Some(response) => {
                miss.refresh(behind.due());
                CacheFuture::found(response, plain, finish)
            }
            None if core.settings.forms.is_none() => CacheFuture::miss(miss.run(), finish),
            None => CacheFuture::miss(miss.run_readable(), finish),
        }
    }
}

/// What becomes of a request as far as it tells by itself.
enum First<'a> {
    /// It is looked up, by its content as well if that is there.
    Lookup(RequestDirectives, Option<&'a ContentDigest>),
    /// It passes, and nothing is stored.
    Pass(CacheStatus),
    /// It passes, and may change what is stored.
    Change,
}

impl<'a> First<'a> {
    /// `host` becomes what its `Host` says, if that was looked at.
    #[inline]
    fn of<B: Body>(request: &'a Request<B>, host: &mut Option<HostField<'a>>) -> Self {
        let mut class = RequestClass::of(request.method(), request.headers(), host);
        let mut content = None;
        let bypass = |detail| Self::Pass(CacheStatus::forwarded(Fwd::Bypass).detail(detail));
        if matches!(class, RequestClass::Unsafe) {
            match Content::of(request) {
                Some(Content::Known(digest)) => {
                    class = RequestClass::of_content(request.method(), request.headers());
                    content = Some(digest);
                }
                Some(Content::Unknown(detail)) => return bypass(detail),
                Some(Content::Undeclared) | None => {}
            }
        }
        match class {
            RequestClass::Lookup(directives) if content.is_some() || is_empty(request.body()) => {
                Self::Lookup(directives, content)
            }
            RequestClass::Lookup(_) => bypass(BypassReason::Content.detail()),
            RequestClass::Bypass(BypassReason::NoStore) => {
                let status = CacheStatus::forwarded(Fwd::Request);
                Self::Pass(status.detail(BypassReason::NoStore.detail()))
            }
            RequestClass::Bypass(reason) => bypass(reason.detail()),
            RequestClass::PassMethod => Self::Pass(CacheStatus::forwarded(Fwd::Method)),
            RequestClass::Unsafe => Self::Change,
        }
    }
}

/// Whether a request has no content. A wrapped body may know only that its length is 0.
fn is_empty(body: &impl Body) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}
