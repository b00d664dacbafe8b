//! Which connections may change their protocol, and how they do (RFC 9110 §7.8; RFC 8441).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");

/// A client that waits for another protocol.
pub(super) struct Upgrade {
    pub(super) client: OnUpgrade,
    /// It is a stream of HTTP/2.
    is_extended: bool,
    /// What the upstream is asked for.
    protocol: HeaderValue,
}

/// Whether a request asks for another protocol: by `Upgrade`, or in HTTP/2 by an extended `CONNECT`
/// (RFC 8441). Such a request is not for a cache, and [`receive`](super::hop::receive) would make
/// another one of it.
pub fn asks_for_upgrade<B>(request: &Request<B>) -> bool {
    asked(request).next().is_some()
}

/// The protocols that are asked for.
fn asked<B>(request: &Request<B>) -> impl Iterator<Item = &str> {
    let headers = request.headers();
    // It has to be named in `Connection`, and is ignored in HTTP/1.0.
    let is_upgrade = request.version() == Version::HTTP_11
        && headers.contains_key(UPGRADE)
        && members(headers, &CONNECTION).any(|member| member.eq_ignore_ascii_case("upgrade"));
    let upgrade = is_upgrade.then(|| members(headers, &UPGRADE)).into_iter().flatten();
    upgrade.chain(extended(request))
}

fn extended<B>(request: &Request<B>) -> Option<&str> {
    let protocol = request.extensions().get::<Protocol>().map(Protocol::as_str);
    protocol.filter(|_| request.method() == Method::CONNECT)
}

/// The members of a list, on all its lines.
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// The first protocol that is asked for and may be had.
pub(super) fn choose<B>(request: &Request<B>, allowed: &[String]) -> Option<HeaderValue> {
    let is_allowed = |protocol: &&str| allowed.iter().any(|it| it.eq_ignore_ascii_case(protocol));
    asked(request).find(is_allowed).and_then(|protocol| HeaderValue::from_str(protocol).ok())
}

/// Makes of `request` one to an upstream that asks for `protocol`, if its server can change it.
pub(super) fn ask<B>(request: &mut Request<B>, protocol: HeaderValue) -> Option<Upgrade> {
    let client = request.extensions_mut().remove::<OnUpgrade>()?;
    let is_extended = request.method() == Method::CONNECT;
    if is_extended {
        // RFC 8441 §5: in HTTP/1.1, it is a GET with a key; in HTTP/2, there is none.
        *request.method_mut() = Method::GET;
        request.extensions_mut().remove::<Protocol>();
        if let Ok(key) = HeaderValue::from_maybe_shared(key()) {
            request.headers_mut().insert(SEC_WEBSOCKET_KEY, key);
        }
    }
    request.headers_mut().insert(UPGRADE, protocol.clone());
    Some(Upgrade { client, is_extended, protocol })
}

impl Upgrade {
    /// Whether `protocol` is what was asked for, and no other (RFC 9110 §7.8), in which requests could be
    /// hidden.
    pub(super) fn is_of(&self, protocol: &HeaderValue) -> bool {
        protocol.as_bytes().eq_ignore_ascii_case(self.protocol.as_bytes())
    }

    /// Tells the client that the upstream has changed to `protocol`.
    pub(super) fn agree<B>(&self, response: &mut Response<B>, protocol: HeaderValue) {
        if self.is_extended {
            *response.status_mut() = StatusCode::OK;
            response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
        } else {
            response.headers_mut().insert(UPGRADE, protocol);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
    }
}

/// 16 random bytes (RFC 6455 §4.1).
fn key() -> String {
    BASE64_STANDARD.encode(fastrand::u128(..).to_ne_bytes())
}
