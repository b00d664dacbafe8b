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
use crate::outbound::{Changes, Outbound};
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

impl Does {
    /// What it changes on the way to a backend.
    pub(crate) fn changes(&self) -> Option<&Changes> {
        match self {
            Self::Cache(_, way) | Self::Forward(way) => Some(&way.changes),
            Self::Respond { .. } | Self::Redirect { .. } => None,
        }
    }
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
    let location = on_this_site(to, to.replace("{host}", host).replace("{path}", path));
    match HeaderValue::try_from(location) {
        Ok(location) => drop(response.headers_mut().insert(http::header::LOCATION, location)),
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

/// What is a path by the configuration stays one: `//evil.example` and `/\\evil.example`, which a
/// client may ask for as a path, are a host to browsers.
fn on_this_site(to: &str, location: String) -> String {
    let slashes = ['/', '\\'];
    let is_path = to.starts_with("{path}") || to.starts_with('/') && !to.starts_with("//");
    let mut start = location.chars();
    let is_host = start.next() == Some('/') && start.next().is_some_and(|it| slashes.contains(&it));
    if is_path && is_host {
        return format!("/{}", location.trim_start_matches(slashes));
    }
    location
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_chooses_the_host_by_a_path() {
        let location = |to: &str, path: &str| {
            let response = redirect(StatusCode::FOUND, to, "here.example", path);
            response.headers()[http::header::LOCATION].to_str().unwrap().to_owned()
        };
        for path in [
            "/evil.example/a?b",
            "//evil.example/a?b",
            "/\\evil.example/a?b",
            "//\\//evil.example/a?b",
        ] {
            assert_eq!(location("{path}", path), "/evil.example/a?b", "{path}");
            assert_eq!(location("/{path}", path), "/evil.example/a?b", "{path}");
        }
        assert_eq!(location("/new{path}", "//a"), "/new//a");
        assert_eq!(location("https://{host}{path}", "//a"), "https://here.example//a");
        assert_eq!(location("//{host}{path}", "/a"), "//here.example/a");
        assert_eq!(location("{path}/more", "/"), "/more");
    }
}
