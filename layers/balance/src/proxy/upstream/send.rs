//! Sends one request to an upstream.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderValue, TE, UPGRADE};
use http::uri::{Authority, Uri};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::ext::on_informational;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::extended::Change;
use super::{Shared, Upstream};
use crate::proxy::body::UpstreamBody;
use crate::proxy::connections::Lease;
use crate::proxy::content::{Content, Moved};
use crate::proxy::error::{ErrorKind, UpstreamError};
use crate::proxy::expect::hold;
use crate::proxy::interim::Sink;

/// How often a connection is tried that turns out to have been closed before the request was on it.
const ATTEMPTS: usize = 4;

impl Upstream {
    pub(super) async fn send(
        &self,
        mut request: Request<Content>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let shared = &*self.0;
        let change = Change::of(&request);
        let mut lease = shared.connections.acquire(change.is_some()).await?;
        let method = request.method().clone();
        shared.prepare(&mut request);
        let moved = shared.response_timeout.and_then(|_| request.body_mut().watch());
        let limit = shared.response_timeout;
        let mut hears = false;
        for _ in 0..ATTEMPTS {
            if matches!(lease, Lease::Http1(_)) && !std::mem::replace(&mut hears, true) {
                let go = hold(&mut request);
                hand_on_interim_responses(&mut request, go);
            }
            let sent = match &mut lease {
                Lease::Http1(lease) => {
                    for_http1(&mut request);
                    in_time(lease.sender.try_send_request(request), limit, moved.as_ref()).await
                }
                Lease::Http2(lease) => {
                    if let Some(change) = &change {
                        change.ask(&mut request)?;
                    }
                    shared.for_http2(&mut request)?;
                    let sending = lease.sender.try_send_request(request);
                    let mut sent = in_time(sending, limit, moved.as_ref()).await;
                    if let (Some(Ok(response)), Some(change)) = (&mut sent, &change) {
                        change.answer(response);
                    }
                    sent
                }
            };
            match sent {
                None => return Err(UpstreamError::new(ErrorKind::ResponseTimeout)),
                Some(Ok(response)) => return Ok(shared.received(response, lease, &method)),
                Some(Err(mut failed)) => match failed.take_message() {
                    // The connection had been closed before.
                    Some(again) => request = again,
                    None => return Err(UpstreamError::request(failed.into_error())),
                },
            }
            lease = shared.connections.acquire(change.is_some()).await?;
        }
        Err(UpstreamError::new(ErrorKind::Terminated).unsent())
    }
}

impl Shared {
    /// Makes of a request one to this upstream, in whichever version.
    fn prepare(&self, request: &mut Request<Content>) {
        let target = self.address.target(request.uri());
        if !request.headers().contains_key(HOST) {
            let asked = request.uri().authority().unwrap_or(&self.address.authority);
            if let Ok(host) = HeaderValue::from_str(asked.as_str()) {
                request.headers_mut().insert(HOST, host);
            }
        }
        *request.uri_mut() = Uri::from(target);
        agree_on_length(request);
    }

    fn for_http2(&self, request: &mut Request<Content>) -> Result<(), UpstreamError> {
        let headers = request.headers_mut();
        // RFC 9113 §8.3.1: the authority is what HTTP/1.1 calls `Host`.
        let host = headers.remove(HOST);
        let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        headers.remove(CONNECTION);
        // hyper's client doesn't hear a 100 in HTTP/2. RFC 9113 §8.1 needs none: there is flow
        // control, and an upstream that has answered resets the stream.
        headers.remove(EXPECT);
        request.body_mut().let_go();
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.address.scheme.clone());
        // One that is sent again, since the connection had been closed, names it there already.
        let host = host.or(parts.authority);
        parts.authority = host.or_else(|| Some(self.address.authority.clone()));
        let uri = Uri::from_parts(parts);
        *request.uri_mut() =
            uri.map_err(|error| UpstreamError::new(ErrorKind::Request).unsent().with(error))?;
        *request.version_mut() = Version::HTTP_2;
        Ok(())
    }

    fn received(
        &self,
        response: Response<Incoming>,
        lease: Lease,
        method: &Method,
    ) -> Response<UpstreamBody> {
        let (status, timeout) = (response.status(), self.body_timeout);
        let switches = status == StatusCode::SWITCHING_PROTOCOLS;
        let mut response = response.map(|content| match lease {
            // A connection of HTTP/1.1 that changes protocols is of no use for HTTP any more; a stream
            // of HTTP/2 takes its place until its end.
            Lease::Http1(_) if switches => UpstreamBody::holding(content, None, timeout),
            lease if switches => UpstreamBody::holding(content, Some(lease), timeout),
            lease => UpstreamBody::new(content, lease, timeout),
        });
        // RFC 9110 §8.6: there, it tells of another response.
        if method != Method::HEAD && status != StatusCode::NOT_MODIFIED {
            let length = response.body().size_hint().exact();
            drop_other_length(response.headers_mut(), length);
        }
        response
    }
}

fn for_http1(request: &mut Request<Content>) {
    // It may have been meant for a connection of HTTP/2 that turned out to be closed.
    if let Some(authority) = request.uri().authority() {
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            request.headers_mut().insert(HOST, host);
        }
        let target = request.uri().path_and_query().cloned();
        *request.uri_mut() = target.map(Uri::from).unwrap_or_default();
    }
    let upgrades = request.headers().contains_key(UPGRADE);
    let trailers = request.headers().contains_key(TE);
    // RFC 9110 §7.8, §10.1.4: both are about this connection.
    let connection = match (upgrades, trailers) {
        (true, true) => Some("upgrade, te"),
        (true, false) => Some("upgrade"),
        (false, true) => Some("te"),
        (false, false) => None,
    };
    if let Some(connection) = connection {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static(connection));
    }
    *request.version_mut() = Version::HTTP_11;
}

/// However a request's end was marked on the way here, here it is marked in one way only
/// (RFC 9112 §6.3): a length that isn't that of the content would let a request be smuggled in.
fn agree_on_length(request: &mut Request<Content>) {
    let length = request.body().size_hint().exact();
    drop_other_length(request.headers_mut(), length);
}

fn drop_other_length(headers: &mut HeaderMap, length: Option<u64>) {
    let Some(said) = headers.get(CONTENT_LENGTH) else { return };
    let said: Option<u64> = said.to_str().ok().and_then(|said| said.parse().ok());
    if said.is_none() || said != length {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Lets the client hear what the upstream says before its response.
fn hand_on_interim_responses(request: &mut Request<Content>, go: Option<oneshot::Sender<()>>) {
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

/// What `response` comes to, unless for that long neither it comes nor any content is taken.
async fn in_time<F: Future>(
    response: F,
    limit: Option<Duration>,
    moved: Option<&Moved>,
) -> Option<F::Output> {
    let Some(limit) = limit else { return Some(response.await) };
    let mut response = std::pin::pin!(response);
    loop {
        if let Ok(response) = timeout(limit, response.as_mut()).await {
            return Some(response);
        }
        if !moved.is_some_and(Moved::take) {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_can_be_meant_for_either_version_one_after_the_other() {
        let upstream = Upstream::new("http://10.0.0.1:80/base").unwrap();
        let request = Request::get("/x?y").header(HOST, "a.example:81");
        let mut request = request.body(Content::new(http_body_util::Empty::new())).unwrap();
        upstream.0.prepare(&mut request);
        for _ in 0..2 {
            for _ in 0..2 {
                upstream.0.for_http2(&mut request).unwrap();
                assert_eq!(request.uri(), "http://a.example:81/base/x?y");
                assert!(!request.headers().contains_key(HOST));
            }
            for _ in 0..2 {
                for_http1(&mut request);
                assert_eq!(request.uri(), "/base/x?y");
                assert_eq!(request.headers()[HOST], "a.example:81");
            }
        }
    }
}
