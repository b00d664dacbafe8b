//! The service that looks at the token of each request.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use serde::de::DeserializeOwned;
use tower_service::Service;

use crate::answer::Asked;
use crate::body::AuthBody;
use crate::denial::Denial;
use crate::future::JwtFuture;
use crate::gate::Gate;
use crate::verified::Untyped;

/// Lets requests through whose token is right: see [`JwtLayer`](crate::JwtLayer).
///
/// It is ready when the inner service is. A token that is known, and every other whose key is, is
/// judged at once, and the inner service called before `call` returns; only one whose key must be
/// looked for is awaited, and the inner service made ready once more when it is there.
#[must_use]
pub struct Jwt<S, C = Untyped> {
    inner: S,
    gate: Arc<Gate<C>>,
}

impl<S, C> Jwt<S, C> {
    pub(crate) fn new(inner: S, gate: Arc<Gate<C>>) -> Self {
        Self { inner, gate }
    }
}

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for Jwt<S, C>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    C: DeserializeOwned + Send + Sync + 'static,
{
    type Response = Response<AuthBody<ResBody>>;
    type Error = S::Error;
    type Future = JwtFuture<S, C, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let gate = &self.gate;
        let malformed = |what| {
            let denial = Denial::Malformed(what);
            JwtFuture::refused(gate.answers.answer(denial, &Asked::by(&request)))
        };
        let (place, result) = match gate.places.find(&request) {
            Err(what) => return malformed(what),
            Ok(None) => (None, None),
            Ok(Some(found)) => match gate.verifier.verify(&*found.token).ready() {
                Ok(result) => {
                    if result.is_err()
                        && let Some(what) = found.malformed()
                    {
                        return malformed(what);
                    }
                    (Some(found.place), Some(result))
                }
                Err(verify) => {
                    let place = found.place;
                    // Nobody has verified the token, so it holds no place that others may need: what
                    // was made ready for it is dropped, and another one made ready when its key is
                    // there.
                    self.inner = self.inner.clone();
                    let inner = self.inner.clone();
                    let gate = Arc::clone(gate);
                    return JwtFuture::verifying(verify, place, request, inner, gate);
                }
            },
        };
        match gate.admit(&mut request, place, result) {
            Ok(mark) => JwtFuture::called(self.inner.call(request), mark),
            Err(denial) => JwtFuture::refused(gate.answers.answer(denial, &Asked::by(&request))),
        }
    }
}

impl<S: Clone, C> Clone for Jwt<S, C> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.gate))
    }
}

impl<S: fmt::Debug, C> fmt::Debug for Jwt<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("inner", &self.inner).field("gate", &self.gate).finish()
    }
}

/// Tonic asks for the name of a service that is added to a server.
#[cfg(feature = "tonic")]
impl<S: tonic::server::NamedService, C> tonic::server::NamedService for Jwt<S, C> {
    const NAME: &'static str = S::NAME;
}
