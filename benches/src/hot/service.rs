//! The service behind the layers, and the requests that it is asked with.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{Empty, Full};
use tower::util::service_fn;
use tower::{Service, ServiceExt};

use super::{HOT, below};
use crate::{Way, With};

pub(super) type Asked = Request<Empty<Bytes>>;
pub(super) type Answer = Response<Full<Bytes>>;

/// What is sent by most of the services here, in bytes.
pub(super) const KIB: usize = 1024;

/// Answers with so many bytes of what says that it is JSON, and three fields.
pub(super) fn bare(
    len: usize,
) -> impl Service<
    Asked,
    Response = Answer,
    Error = Infallible,
    Future = Ready<Result<Answer, Infallible>>,
> + Clone
+ Send
+ 'static {
    let body = Bytes::from(vec![b'x'; len]);
    service_fn(move |_| ready(Ok(answer(&body))))
}

pub(super) fn answer(body: &Bytes) -> Answer {
    let mut response = Response::new(Full::new(body.clone()));
    let fields = response.headers_mut();
    fields.insert("content-type", HeaderValue::from_static("application/json"));
    fields.insert("cache-control", HeaderValue::from_static("public, max-age=3600"));
    fields.insert("etag", HeaderValue::from_static("\"1\""));
    response
}

pub(super) fn request(id: u64) -> Asked {
    Request::get(format!("/products/{id}"))
        .header("host", "api.example.com")
        .header("user-agent", "bench/1.0")
        .header("accept", "*/*")
        .body(Empty::new())
        .unwrap()
}

/// The same with one more field.
pub(super) fn request_with(id: u64, name: &'static str, value: &HeaderValue) -> Asked {
    let mut request = request(id);
    request.headers_mut().insert(HeaderName::from_static(name), value.clone());
    request
}

pub(super) fn send<S, B>(service: &S, request: Asked) -> Response<B>
where
    S: Service<Asked, Response = Response<B>, Error = Infallible> + Clone,
{
    service.clone().oneshot(request).now_or_never().unwrap().unwrap()
}

/// Sends requests to a service that answers each at once, and drops what it says.
pub(super) fn sends<S, B>(service: S, prepare: impl FnMut() -> Asked + 'static) -> Box<dyn Way>
where
    S: Service<Asked, Response = Response<B>, Error = Infallible> + Clone + 'static,
    B: 'static,
{
    Box::new(With { prepare, run: move |request| drop(black_box(send(&service, request))) })
}

pub(super) fn alone() -> Box<dyn Way> {
    let mut next = below(HOT);
    sends(bare(KIB), move || request(next()))
}
