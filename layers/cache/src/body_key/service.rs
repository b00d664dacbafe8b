//! The service.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request};
use http_body::Body;
use tower_service::Service;

use super::body::ReplayBody;
use super::builder::Settings;
use super::content::{Content, ContentDigest};
use super::future::BodyKeyFuture;
use super::read::{Ended, read};
use crate::head::RequestHead;
use crate::policy::overrides_method;

/// Leaves word of the content of requests that are declared to read.
///
/// Made by [`BodyKeyLayer`](crate::BodyKeyLayer). Its readiness, its responses and its errors are the
/// inner service's own.
#[derive(Clone, Debug)]
pub struct BodyKey<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> BodyKey<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }

    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, ReqBody> Service<Request<ReqBody>> for BodyKey<S>
where
    S: Service<Request<ReplayBody<ReqBody>>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Body + Send + 'static,
    ReqBody::Data: Send,
    ReqBody::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BodyKeyFuture<S::Future, S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let settings = &self.settings;
        match settings.glance(&request) {
            Glance::Read => {}
            Glance::Leave(content) => {
                if let Some(content) = content {
                    content.leave(request.extensions_mut());
                }
                return BodyKeyFuture::pass(self.inner.call(request.map(ReplayBody::untouched)));
            }
        }
        // The one that is ready goes with the request; its clone may not be.
        let clone = self.inner.clone();
        let mut service = mem::replace(&mut self.inner, clone);
        let settings = Arc::clone(settings);
        BodyKeyFuture::read(async move {
            let (mut parts, body) = request.into_parts();
            let mut reservation = settings.budget.reservation();
            let (body, ended) = read(body, &settings, &mut reservation).await;
            let content = match ended {
                Ended::Passes(why) => settings.unknown(&parts.headers, why),
                Ended::Whole => {
                    let head = RequestHead::of_parts(&parts);
                    let reads = settings.when_content.as_ref();
                    if reads.is_none_or(|reads| reads(&head, &body.data)) {
                        Content::Known(ContentDigest::of(&body.data))
                    } else {
                        Content::Undeclared
                    }
                }
            };
            content.leave(&mut parts.extensions);
            service.call(Request::from_parts(parts, ReplayBody::read(body))).await
        })
    }
}

/// What a request is, before its body is read.
enum Glance {
    /// It is declared to read: its content is looked at.
    Read,
    /// It passes on, and this is left on it.
    Leave(Option<Content>),
}

impl Settings {
    /// What is known of a request whose content isn't. Where that decides whether it reads, or its
    /// method is overridden, it may write.
    fn unknown(&self, headers: &HeaderMap, why: &'static str) -> Content {
        if self.when_content.is_some() || overrides_method(headers) {
            Content::Undeclared
        } else {
            Content::Unknown(why)
        }
    }

    fn glance<B: Body>(&self, request: &Request<B>) -> Glance {
        if matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::CONNECT
        ) {
            // One whose method is overridden may write all the same.
            let writes = overrides_method(request.headers());
            return Glance::Leave(writes.then_some(Content::Undeclared));
        }
        let reads = self.when.as_ref();
        if !self.methods.contains(request.method())
            || !reads.is_none_or(|reads| reads(&RequestHead::of(request)))
        {
            return Glance::Leave(Some(Content::Undeclared));
        }
        let announced = request.headers().get(CONTENT_LENGTH);
        let announced = announced.and_then(|len| len.to_str().ok()?.parse().ok()).unwrap_or(0);
        if announced.max(request.body().size_hint().lower()) > self.max_len as u64 {
            return Glance::Leave(Some(self.unknown(request.headers(), "content-too-long")));
        }
        Glance::Read
    }
}
