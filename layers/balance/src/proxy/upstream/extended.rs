//! A change of protocols on a stream of HTTP/2 (RFC 8441), for one who asks and is answered as in
//! HTTP/1.1 (RFC 9110 §7.8).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{HeaderName, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::ext::Protocol;
use sha1::{Digest as _, Sha1};

use crate::proxy::error::{ErrorKind, UpstreamError};

const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What was asked for in HTTP/1.1.
pub(super) struct Change {
    protocol: HeaderValue,
    /// Of a WebSocket: by showing that it has read this, a server of HTTP/1.1 agrees. In HTTP/2 there
    /// is none (RFC 8441 §5), so what it would say is for us to say.
    key: Option<HeaderValue>,
}

impl Change {
    /// The one that `request` asks for.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        let headers = request.headers();
        let (protocol, key) = (headers.get(UPGRADE)?.clone(), headers.get(KEY).cloned());
        Some(Self { protocol, key })
    }

    /// Makes of `request` one that asks for it in HTTP/2.
    pub(super) fn ask<B: Body>(&self, request: &mut Request<B>) -> Result<(), UpstreamError> {
        let refused = |why: &'static str| UpstreamError::new(ErrorKind::Upgrade).unsent().with(why);
        if !request.body().is_end_stream() {
            return Err(refused("there is content, for which extended CONNECT has no place"));
        }
        let protocol = self.protocol.to_str();
        let protocol = protocol.map_err(|_| refused("the protocol has no name in HTTP/2"))?;
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from(protocol));
        request.headers_mut().remove(UPGRADE);
        request.headers_mut().remove(KEY);
        Ok(())
    }

    /// Makes of `response` what a server of HTTP/1.1 would have answered.
    pub(super) fn answer<B>(&self, response: &mut Response<B>) {
        if response.status() != StatusCode::OK {
            return;
        }
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(UPGRADE, self.protocol.clone());
        if let Some(accept) = self.key.as_ref().and_then(accept) {
            response.headers_mut().insert(ACCEPT, accept);
        }
    }
}

/// RFC 6455 §4.2.2, item 5.
fn accept(key: &HeaderValue) -> Option<HeaderValue> {
    let digest = Sha1::new_with_prefix(key.as_bytes()).chain_update(GUID).finalize();
    HeaderValue::from_maybe_shared(BASE64_STANDARD.encode(digest)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_accepted_as_the_rfc_shows() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
