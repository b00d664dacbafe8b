//! What becomes of a request before the cache sees it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::VIA;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use tower::{Service, ServiceExt, service_fn};

use crate::hop;
use crate::interim::Interims;

/// The inner service's body, or one of our own.
type Body<B> = Either<B, Full<Bytes>>;

/// Answers the requests of one connection.
pub(crate) fn front<S, B>(
    service: S,
    pseudonym: Arc<str>,
    client: SocketAddr,
    interims: Interims,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Body<B>>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    service_fn(move |mut request: Request<Incoming>| {
        let service = service.clone();
        let turn = interims.turn(request.version());
        let is_loop = is_loop(request.headers(), &pseudonym);
        async move {
            if is_loop {
                return Ok(loop_detected());
            }
            hop::receive(&mut request);
            request.extensions_mut().insert(client);
            if let Some(turn) = &turn {
                request.extensions_mut().insert(turn.sink());
            }
            let response = service.oneshot(request).await;
            drop(turn);
            response.map(|response| response.map(Either::Left))
        }
    })
}

/// Whether a request has been here before: RFC 9110 §7.6 forbids to forward a message to oneself
/// without end. In front of the cache, where it would wait for its own response.
fn is_loop(headers: &HeaderMap, pseudonym: &str) -> bool {
    let lines = headers.get_all(VIA).iter().filter_map(|line| line.to_str().ok());
    let mut hops = lines.flat_map(|line| line.split(','));
    hops.any(|hop| hop.split_whitespace().nth(1) == Some(pseudonym))
}

fn loop_detected<B>() -> Response<Body<B>> {
    let text = Full::from("The origin leads back to the edge.\n");
    let mut response = Response::new(Either::Right(text));
    *response.status_mut() = StatusCode::LOOP_DETECTED;
    response
}
