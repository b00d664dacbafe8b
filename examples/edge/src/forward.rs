//! Forwards requests to the origin over pooled connections (RFC 9110 §7.6).

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Write as _;
use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, DATE, FORWARDED, HOST, HeaderName, HeaderValue, VIA};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::ext::on_informational;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::oneshot;
use tower::Service;

use crate::expect::{Held, hold};
use crate::hop;
use crate::interim::Sink;
use crate::max_forwards::count_down;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// An origin that takes longer to accept a connection is as good as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The origin's body, or one of our own.
pub(crate) type Body = Either<Incoming, Full<Bytes>>;

/// A service that answers with what the origin says, and with 502 when it says nothing.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    client: Client<HttpConnector, Held>,
    origin: Authority,
    /// Our name in `Via`.
    pseudonym: Arc<str>,
}

impl Forward {
    pub(crate) fn to(origin: Authority, pseudonym: Arc<str>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, origin, pseudonym }
    }
}

impl Service<Request<Incoming>> for Forward {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(response) = count_down(&mut request) {
            return Box::pin(ready(Ok(response.map(|content| Either::Right(Full::new(content))))));
        }
        let (mut request, go) = hold(request);
        prepare(&mut request, &self.origin, &self.pseudonym);
        hand_on_interim_responses(&mut request, go);
        let response = self.client.request(request);
        let pseudonym = Arc::clone(&self.pseudonym);
        Box::pin(async move {
            Ok(match response.await {
                Ok(mut response) => {
                    receive(&mut response, &pseudonym);
                    response.map(Either::Left)
                }
                Err(error) => {
                    report(&error);
                    bad_gateway()
                }
            })
        })
    }
}

fn bad_gateway() -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::from("The origin does not answer.\n")));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Says why the origin doesn't answer.
fn report(error: &(dyn Error + 'static)) {
    let mut reasons = String::new();
    let mut source = error.source();
    while let Some(reason) = source {
        let _ = write!(reasons, ": {reason}");
        source = reason.source();
    }
    eprintln!("edge: the origin does not answer: {error}{reasons}");
}

/// Makes of a client's request one to the origin.
fn prepare<B>(request: &mut Request<B>, origin: &Authority, pseudonym: &str) {
    let version = request.version();
    let client = request.extensions().get::<SocketAddr>().map(|client| client.ip().to_string());
    let asked = request.uri().authority().map(|host| host.as_str().to_owned());
    let host = asked.and_then(|host| HeaderValue::try_from(host).ok());
    let host = host.or_else(|| request.headers().get(HOST).cloned());

    let target = request.uri().path_and_query().cloned();
    let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(origin.clone()).path_and_query(target);
    // The parts come from valid URIs, so this always is one.
    if let Ok(uri) = uri.build() {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_11;

    let headers = request.headers_mut();
    hop::send(headers);
    append(headers, &VIA, &via(version, pseudonym));
    if let Some(client) = client {
        append(headers, &X_FORWARDED_FOR, &client);
        // RFC 7239 §6: an IPv6 address is quoted and bracketed.
        let node = if client.contains(':') { format!("\"[{client}]\"") } else { client };
        append(headers, &FORWARDED, &format!("for={node};proto=http"));
    }
    // Whatever a client says here is not for the origin to believe.
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host.clone());
        // The origin sees the host that was asked for, which is what the cache keys on.
        headers.insert(HOST, host);
    }
}

/// Lets the client hear what the origin says before its response.
fn hand_on_interim_responses(request: &mut Request<Held>, go: Option<oneshot::Sender<()>>) {
    let sink = request.extensions_mut().remove::<Sink>();
    if sink.is_none() && go.is_none() {
        return;
    }
    let go = Mutex::new(go);
    on_informational(request, move |interim| {
        if interim.status() == StatusCode::CONTINUE {
            let go = go.lock().unwrap_or_else(PoisonError::into_inner).take();
            // If the content isn't wanted any more, nobody listens.
            go.map(|go| go.send(()));
        } else if let Some(sink) = &sink {
            sink.send(interim.status(), interim.headers());
        }
    });
}

/// Makes of the origin's response one that the cache and its clients can use.
fn receive<B>(response: &mut Response<B>, pseudonym: &str) {
    let version = response.version();
    let headers = response.headers_mut();
    hop::strip(headers);
    append(headers, &VIA, &via(version, pseudonym));
    // RFC 9110 §6.6.1: one without a date gets that of its arrival, before it is stored.
    if !headers.contains_key(DATE)
        && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
    {
        headers.insert(DATE, now);
    }
}

/// RFC 9110 §7.6.3
fn via(version: Version, pseudonym: &str) -> String {
    let version = match version {
        Version::HTTP_2 => "2.0",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    format!("{version} {pseudonym}")
}

/// Adds a member at the end of a list.
fn append(headers: &mut HeaderMap, name: &HeaderName, member: &str) {
    if let Ok(value) = HeaderValue::from_str(member) {
        headers.append(name, value);
    }
}
