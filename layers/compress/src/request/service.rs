//! The service.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{Request, Response, StatusCode};
use tower_service::Service;

use super::builder::Settings;
use super::future::DecompressFuture;
use super::verdict::Verdict;
use crate::decode_body::DecodeBody;
use crate::decoder::content_encodings;
use crate::error::DecodeError;
use crate::fields::make_decoded;

/// Decodes the content of requests for the service inside.
///
/// Made by [`DecompressLayer`](crate::DecompressLayer). Its readiness and its errors are the inner
/// service's own.
#[derive(Clone, Debug)]
pub struct Decompress<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> Decompress<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }

    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Decompress<S>
where
    S: Service<Request<DecodeBody<ReqBody>>, Response = Response<ResBody>>,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = DecompressFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        if !request.headers().contains_key(CONTENT_ENCODING) {
            return DecompressFuture::pass(self.inner.call(request.map(DecodeBody::plain)));
        }
        let encodings = content_encodings(request.headers()).and_then(|encodings| {
            let other = encodings.iter().find(|one| !self.settings.encodings.contains(one));
            other.map_or(Ok(()), |other| Err(DecodeError::Unsupported(other.to_string())))?;
            Ok(encodings)
        });
        let (mut parts, body) = request.into_parts();
        let body = match encodings {
            Ok(encodings) => {
                make_decoded(&mut parts.headers);
                DecodeBody::new(body, &encodings, self.settings.limits)
            }
            Err(_) if self.settings.pass_unknown => Ok(DecodeBody::plain(body)),
            Err(error) => Err(error),
        };
        match body {
            Ok(body) => {
                let verdict = Verdict::default();
                let request = Request::from_parts(parts, body.judged_by(verdict.clone()));
                DecompressFuture::judged(self.inner.call(request), verdict)
            }
            Err(error) => {
                tracing::debug!(%error, "request refused");
                let mut refusal = Response::new(ResBody::default());
                *refusal.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                // RFC 9110 §12.5.3
                if let Some(accept) = &self.settings.accept {
                    refusal.headers_mut().insert(ACCEPT_ENCODING, accept.clone());
                }
                DecompressFuture::refused(refusal)
            }
        }
    }
}
