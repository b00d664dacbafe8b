//! Forwards requests to the origin over pooled connections (RFC 9110 §7.6).

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{
    CONNECTION, FORWARDED, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::Service;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The origin's body, or one of our own.
pub(crate) type Body = Either<Incoming, Full<Bytes>>;

/// A service that answers with what the origin says, and with 502 when it says nothing.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    client: Client<HttpConnector, Incoming>,
    origin: Authority,
}

impl Forward {
    pub(crate) fn to(origin: Authority) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { client: Client::builder(TokioExecutor::new()).build(connector), origin }
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
        prepare(&mut request, &self.origin);
        let response = self.client.request(request);
        Box::pin(async move {
            Ok(match response.await {
                Ok(mut response) => {
                    let version = response.version();
                    strip_hop_by_hop(response.headers_mut());
                    append(response.headers_mut(), &VIA, &via(version));
                    response.map(Either::Left)
                }
                Err(error) => {
                    eprintln!("edge: the origin does not answer: {error}");
                    let body = Full::from("The origin does not answer.\n");
                    let mut response = Response::new(Either::Right(body));
                    *response.status_mut() = StatusCode::BAD_GATEWAY;
                    response
                }
            })
        })
    }
}

/// Makes of a client's request one to the origin.
fn prepare(request: &mut Request<Incoming>, origin: &Authority) {
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
    strip_hop_by_hop(headers);
    append(headers, &VIA, &via(version));
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

/// RFC 9110 §7.6.3
fn via(version: Version) -> String {
    let version = match version {
        Version::HTTP_2 => "2.0",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    format!("{version} edge")
}

/// Adds a member at the end of a list.
fn append(headers: &mut HeaderMap, name: &HeaderName, member: &str) {
    if let Ok(value) = HeaderValue::from_str(member) {
        headers.append(name, value);
    }
}

/// Removes the fields that are about one connection (RFC 9110 §7.6.1).
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in
        [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE]
    {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}
