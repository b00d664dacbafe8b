//! What becomes of a request: it is looked at, finds its route, and is answered by that.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Bytes, Incoming};
use tower_keep_balance::Peer;
use tower_keep_balance::proxy::interim::Interims;
use tower_keep_balance::proxy::{asks_for_upgrade, fault, hop};

use crate::activity::Activity;
use crate::admin;
use crate::body::{self, Content, RequestBody, ResponseBody};
use crate::entry::Entry;
use crate::exchange::Exchange;
use crate::face::{Face, Role};
use crate::inside::{Does, redirect};
use crate::outbound;
use crate::overrides;
use crate::pace::Pace;
use crate::path;
use crate::route::Route;
use crate::router::Asked;

/// What is known of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) client: SocketAddr,
    pub(crate) entry: Entry,
    pub(crate) interims: Interims,
    pub(crate) activity: Activity,
}

/// Answers a request as `face` says now.
pub(crate) async fn answer(
    face: &Face,
    connection: &Connection,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let in_flight = connection.activity.begin(request.version());
    let host = path::host(&request);
    let host = path::normal_host(host.as_ref().map_or("", Authority::host));
    let client = connection.client.ip().to_canonical();
    let logged = face.state.config.log.access.then_some(&face.state.hidden);
    let mut exchange = Exchange::new(&mut request, &host, client, logged, in_flight);
    let response = match &face.role {
        // It was told to finish what it had, and asks for more.
        _ if !connection.entry.is_welcome(&face.settings) => not_here(request.version()),
        Role::Admin(token) => admin::answer(&face.state, token, &request).await,
        Role::Edge => {
            if let Some(port) = face.settings.redirect {
                to_https(&request, port)
            } else {
                route(face, connection, request, &host, &mut exchange).await
            }
        }
    };
    exchange.answered(&response);
    response.map(|content| ResponseBody::new(content, exchange))
}

async fn route(
    face: &Face,
    connection: &Connection,
    mut request: Request<Incoming>,
    host: &str,
    exchange: &mut Exchange,
) -> Response<Content> {
    let state = &face.state;
    // In front of the cache, where the request would wait for its own response.
    if state.pseudonym.is_in(request.headers()) {
        return own(StatusCode::LOOP_DETECTED, "The origin leads back to the edge.\n");
    }
    if let Some(fault) = fault(&request) {
        tracing::debug!(fault, "a request is refused");
        let mut response = own(StatusCode::BAD_REQUEST, "The request is not well-formed.\n");
        close(&mut response, request.version());
        return response;
    }
    receive(&mut request);
    state.our_fields.remove_from(request.headers_mut());
    let forwarding = &state.config.forwarding;
    let is_trusted = forwarding.trusts(connection.client.ip().to_canonical());
    overrides::remove(request.headers_mut(), |name| {
        is_trusted || forwarding.keep.iter().any(|kept| kept == name)
    });
    let path = request.uri().path();
    if path::is_ambiguous(path) {
        return own(StatusCode::BAD_REQUEST, "The path has dot segments.\n");
    }
    let normal = path::normal(path);
    let asked = Asked {
        listener: &face.settings.name,
        host,
        path: &normal,
        method: request.method(),
        headers: request.headers(),
    };
    let Some(route) = state.router.find(asked) else {
        return own(StatusCode::NOT_FOUND, "There is nothing here.\n");
    };
    // What is guarded is so for whoever answers, however he reads the path.
    if state.router.find_otherwise(path, asked).any(|other| other.keeps_out(route)) {
        return own(StatusCode::BAD_REQUEST, "The path can be read as another one.\n");
    }
    let query = request.uri().query();
    if route.does.changes().is_some_and(|changes| !changes.has_room(&normal, query)) {
        return own(StatusCode::URI_TOO_LONG, "The path is too long.\n");
    }
    exchange.routed(&route.name);
    let peer = Peer::new(connection.client);
    request.extensions_mut().insert(if connection.entry.is_tls() { peer.tls() } else { peer });
    let mut response = follow(route, face, connection, request).await;
    outbound::set(response.headers_mut(), &route.response_headers);
    response
}

/// Does what the route says.
async fn follow(
    route: &Route,
    face: &Face,
    connection: &Connection,
    mut request: Request<Incoming>,
) -> Response<Content> {
    let bound = match *route.does {
        Does::Cache(..) | Does::Forward(_) => route.max_body.unwrap_or(face.settings.max_body),
        // What nobody reads may be of any length.
        Does::Respond { .. } | Does::Redirect { .. } => None,
    };
    if bound.is_some_and(|bound| content_length(&request).is_some_and(|length| length > bound)) {
        return content_too_large(request.version());
    }
    let version = request.version();
    let turn = connection.interims.turn(version);
    if let Some(turn) = &turn {
        request.extensions_mut().insert(turn.sink());
    }
    if matches!(*route.does, Does::Cache(..)) && !asks_for_upgrade(&request) {
        name_scheme(&mut request, connection.entry.is_tls());
    }
    let rate = route.body_rate.unwrap_or(face.settings.body_rate);
    let pace = Pace::new(face.settings.body_timeout, rate);
    let kept_out = route.does.changes().map(|changes| Arc::clone(&changes.kept_out));
    let request = request.map(|body| RequestBody::new(body, bound, pace, kept_out));
    let upload = request.body().upload();
    let response = route.answer(request).await;
    upload.answered();
    drop(turn);
    if response.status().is_success() {
        return response;
    }
    if upload.is_too_long() {
        return content_too_large(version);
    }
    if upload.is_too_slow() {
        let mut response = own(StatusCode::REQUEST_TIMEOUT, "The content comes too slowly.\n");
        close(&mut response, version);
        return response;
    }
    response
}

/// Makes the client's request the edge's own, but for the protocol that it asks to change to.
///
/// What a client names in `Connection` must be gone before anybody looks: it could name the token that
/// was verified, so that the cache takes the response for nobody's, or a field that is set for backends.
fn receive<B>(request: &mut Request<B>) {
    let is_upgrade = asks_for_upgrade(request) && request.version() == Version::HTTP_11;
    let protocols: Vec<_> = request.headers().get_all(UPGRADE).iter().cloned().collect();
    hop::receive(request);
    if is_upgrade {
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        for protocol in protocols {
            headers.append(UPGRADE, protocol);
        }
    }
}

/// Says in the target whether it came by TLS, and at which host, as HTTP/2 does: an origin may answer
/// otherwise, so a cache must tell them apart. A target that is wrong is left so, to be refused.
fn name_scheme<B>(request: &mut Request<B>, is_tls: bool) {
    let is_one = request.headers().get_all(HOST).iter().count() <= 1;
    let Some(authority) = path::host(request).filter(|_| is_one) else { return };
    // A TRACE is answered with what came.
    let is_special = [Method::CONNECT, Method::TRACE].contains(request.method());
    if authority.as_str().contains('@') || is_special {
        return;
    }
    let mut parts = request.uri().clone().into_parts();
    let is_http = parts.scheme.as_ref().is_none_or(|it| [Scheme::HTTP, Scheme::HTTPS].contains(it));
    // The asterisk of OPTIONS has no place behind a host.
    if !is_http || parts.path_and_query.as_ref().is_none_or(|path| path == "*") {
        return;
    }
    parts.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

fn to_https<B>(request: &Request<B>, port: u16) -> Response<Content> {
    let Some(host) = path::host(request) else {
        return own(StatusCode::BAD_REQUEST, "The request has no host.\n");
    };
    let host = host.host();
    let to = if port == 443 {
        format!("https://{host}{{path}}")
    } else {
        format!("https://{host}:{port}{{path}}")
    };
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    redirect(StatusCode::PERMANENT_REDIRECT, &to, host, path).map(|()| body::own(""))
}

fn content_length<B>(request: &Request<B>) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn content_too_large(version: Version) -> Response<Content> {
    let mut response = own(StatusCode::PAYLOAD_TOO_LARGE, "The content is too long.\n");
    // Rather than to read all of it.
    close(&mut response, version);
    response
}

/// The listener has come to ask for more than the connection came in with (RFC 9110 §15.5.20).
fn not_here(version: Version) -> Response<Content> {
    let text = "The listener asks for more than this connection came with.\n";
    let mut response = own(StatusCode::MISDIRECTED_REQUEST, text);
    close(&mut response, version);
    response
}

/// Lets nothing follow on the connection.
fn close<B>(response: &mut Response<B>, version: Version) {
    if version <= Version::HTTP_11 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// A response of the edge's own.
pub(crate) fn own(status: StatusCode, text: impl Into<Bytes>) -> Response<Content> {
    let mut response = Response::new(body::own(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
