//! What becomes of a request before the cache sees it.

use std::convert::Infallible;
use std::net::SocketAddr;

use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use tower::{Service, ServiceExt, service_fn};
use tower_keep_balance::Peer;
use tower_keep_balance::proxy::interim::Interims;
use tower_keep_balance::proxy::{Pseudonym, asks_for_upgrade, hop};

/// The body of the cache's response, the proxy's, or one of our own.
type Body<B, D> = Either<Either<B, D>, Full<Bytes>>;

/// Answers the requests of one connection: with `service`, or those that are not for a cache with
/// `direct`.
pub(crate) fn front<S, B, P, D>(
    service: S,
    direct: P,
    pseudonym: Pseudonym,
    client: SocketAddr,
    interims: Interims,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Body<B, D>>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    P: Service<Request<Incoming>, Response = Response<D>, Error = Infallible>,
    P: Clone + Send + 'static,
    P::Future: Send,
    D: Send + 'static,
{
    service_fn(move |mut request: Request<Incoming>| {
        let (service, direct) = (service.clone(), direct.clone());
        let turn = interims.turn(request.version());
        let is_loop = pseudonym.is_in(request.headers());
        async move {
            if is_loop {
                return Ok(loop_detected());
            }
            request.extensions_mut().insert(Peer::new(client));
            if let Some(turn) = &turn {
                request.extensions_mut().insert(turn.sink());
            }
            let response = if asks_for_upgrade(&request) {
                direct.oneshot(request).await.map(|response| response.map(Either::Right))
            } else {
                hop::receive(&mut request);
                service.oneshot(request).await.map(|response| response.map(Either::Left))
            };
            drop(turn);
            response.map(|response| response.map(Either::Left))
        }
    })
}

/// In front of the cache, where the request would wait for its own response.
fn loop_detected<B, D>() -> Response<Body<B, D>> {
    let text = Full::from("The origin leads back to the edge.\n");
    let mut response = Response::new(Either::Right(text));
    *response.status_mut() = StatusCode::LOOP_DETECTED;
    response
}
