//! What answers the requests of a route, inside of compression and authentication.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower::util::Oneshot;
use tower::{Service, ServiceExt};
use tower_keep::cache::Cache;
use tower_keep_balance::proxy::asks_for_upgrade;

use crate::body::{Answer, RequestBody};
use crate::outbound::Outbound;
use crate::path;
use crate::upstreams::PoolProxy;

/// A request's way to a backend.
pub(crate) type Way = Outbound<PoolProxy>;

/// What a route does.
#[derive(Debug)]
pub(crate) enum Does {
    /// Asks the cache first; what isn't for it goes straight on.
    Cache(Cache<Way>, Way),
    Forward(Way),
    Respond {
        status: StatusCode,
        content_type: HeaderValue,
        body: String,
    },
    Redirect {
        status: StatusCode,
        to: String,
    },
}

/// The same as a service, which is always ready: what is inside is made ready for each request.
#[derive(Clone, Debug)]
pub(crate) struct Inside(pub(crate) Arc<Does>);

impl Service<Request<RequestBody>> for Inside {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = InsideFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> InsideFuture {
        match &*self.0 {
            // The protocol that follows an upgrade is for no cache.
            Does::Cache(cache, _) if !asks_for_upgrade(&request) => {
                InsideFuture::Cached { future: cache.clone().oneshot(request) }
            }
            Does::Cache(_, way) | Does::Forward(way) => {
                InsideFuture::Forwarded { future: way.clone().oneshot(request) }
            }
            Does::Respond { status, content_type, body } => {
                let mut response = Response::new(Answer::own(body.clone()));
                *response.status_mut() = *status;
                let headers = response.headers_mut();
                headers.insert(http::header::CONTENT_TYPE, content_type.clone());
                InsideFuture::Own { response: Some(response) }
            }
            Does::Redirect { status, to } => {
                let host = path::host(&request);
                let host = host.as_ref().map_or("", Authority::as_str);
                let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
                let response = redirect(*status, to, host, path);
                InsideFuture::Own { response: Some(response.map(|()| Answer::own(""))) }
            }
        }
    }
}

pin_project! {
    #[project = InsideFutureProj]
    pub(crate) enum InsideFuture {
        Cached { #[pin] future: Oneshot<Cache<Way>, Request<RequestBody>> },
        Forwarded { #[pin] future: Oneshot<Way, Request<RequestBody>> },
        Own { response: Option<Response<Answer>> },
    }
}

impl Future for InsideFuture {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match self.project() {
            InsideFutureProj::Cached { future } => {
                ready!(future.poll(cx))?.map(|body| Answer::Cached { body })
            }
            InsideFutureProj::Forwarded { future } => {
                ready!(future.poll(cx))?.map(|body| Answer::Forwarded { body })
            }
            InsideFutureProj::Own { response } => match response.take() {
                Some(response) => response,
                // It was done before.
                None => return Poll::Pending,
            },
        };
        Poll::Ready(Ok(response))
    }
}

/// Where a redirect leads.
pub(crate) fn redirect(status: StatusCode, to: &str, host: &str, path: &str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    // What stands for the request's own parts can't end the line, as it comes from a URI.
    let location = to.replace("{host}", host).replace("{path}", path);
    match HeaderValue::try_from(location) {
        Ok(location) => drop(response.headers_mut().insert(http::header::LOCATION, location)),
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}
