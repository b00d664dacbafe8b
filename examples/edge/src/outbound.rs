//! What a route changes of a request on its way to a backend, behind the cache: there, the client's
//! own path is what counts.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tower::Service;
use tower_keep::cache::CacheTags;
use tower_keep::compress::LeaveUncompressed;
use tower_keep::compress::field::members;

use crate::claims::{OurFields, Told};
use crate::config::{Fields, PathPattern};
use crate::path;

/// What is changed.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The path that was matched, and what replaces it.
    pub(crate) rewrite: Option<(PathPattern, String)>,
    /// Of who asks.
    pub(crate) told: Option<Told>,
    pub(crate) headers: Fields,
    /// The names of these, in all spellings.
    pub(crate) ours: OurFields,
    /// All that no client can say in trailers, where it would come after what is set, and what no
    /// proxy in front says there.
    pub(crate) kept_out: Arc<OurFields>,
    /// Tags of what comes back.
    pub(crate) tags: Vec<String>,
    /// Whether what is one user's is left uncompressed.
    pub(crate) has_secrets: bool,
}

/// What `http` takes as a target.
const LONGEST: usize = u16::MAX as usize - 1;

impl Changes {
    /// Whether the target isn't too long for it when the path, here in its normal form, is replaced.
    pub(crate) fn has_room(&self, path: &str, query: Option<&str>) -> bool {
        let length = |to: &str| to.len() + path.len() + query.map_or(0, str::len) + "/?".len();
        self.rewrite.as_ref().is_none_or(|(_, to)| length(to) <= LONGEST)
    }

    fn apply<B>(&self, request: &mut Request<B>) {
        self.ours.remove_from(request.headers_mut());
        if let Some(told) = &self.told {
            told.tell(request);
        }
        set(request.headers_mut(), &self.headers);
        let Some((pattern, to)) = &self.rewrite else { return };
        let path = path::normal(request.uri().path());
        let rest = pattern.rest(&path).unwrap_or_default();
        let slash = if to.is_empty() && rest.is_empty() { "/" } else { "" };
        let query = request.uri().query().map_or(String::new(), |query| format!("?{query}"));
        // Parts of valid paths make a valid one, for which there is room.
        let Ok(target) = PathAndQuery::try_from(format!("{to}{rest}{slash}{query}")) else {
            return;
        };
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(target);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

/// Sets fields, or removes those without a value.
pub(crate) fn set(headers: &mut HeaderMap, fields: &Fields) {
    for (name, value) in fields {
        match value {
            Some(value) => drop(headers.insert(name, value.clone())),
            None => drop(headers.remove(name)),
        }
    }
}

/// A service behind what a route changes.
#[derive(Clone, Debug)]
pub(crate) struct Outbound<S> {
    pub(crate) inner: S,
    pub(crate) changes: Arc<Changes>,
}

impl<S, B, R> Service<Request<B>> for Outbound<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OutboundFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let has_secrets = self.changes.has_secrets && is_somebodys(request.headers());
        self.changes.apply(&mut request);
        let changes = Arc::clone(&self.changes);
        OutboundFuture { future: self.inner.call(request), changes, has_secrets }
    }
}

pin_project! {
    /// Tags the response, and marks what is not to be compressed.
    #[derive(Debug)]
    pub(crate) struct OutboundFuture<F> {
        #[pin]
        future: F,
        changes: Arc<Changes>,
        has_secrets: bool,
    }
}

impl<F, R, E> Future for OutboundFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut response = ready!(this.future.poll(cx));
        if let (Ok(response), false) = (&mut response, this.changes.tags.is_empty()) {
            let tags = this.changes.tags.iter().cloned().collect::<CacheTags>();
            response.extensions_mut().insert(tags);
        }
        if let (Ok(response), Some(told)) = (&mut response, &this.changes.told) {
            told.vary(response.headers_mut());
        }
        if let (Ok(response), true) = (&mut response, *this.has_secrets)
            && !is_for_all(response.headers())
        {
            response.extensions_mut().insert(LeaveUncompressed);
        }
        Poll::Ready(response)
    }
}

/// Whether a request says who sends it, so that the response may be for no one else.
fn is_somebodys(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION) || headers.contains_key(COOKIE)
}

/// Whether a response says so.
fn is_for_all(headers: &HeaderMap) -> bool {
    members(headers, &CACHE_CONTROL).any(|member| {
        let name = member.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"public") || name.eq_ignore_ascii_case(b"s-maxage")
    })
}
