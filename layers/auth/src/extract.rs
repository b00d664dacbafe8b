//! Verified tokens as arguments of axum's handlers.

use axum::body::Body;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use crate::answer::{Asked, answer_unguarded};
use crate::denial::Denial;
use crate::identity::{Guarded, Identity};
use crate::verified::Verified;

/// Why a handler that asks for a token wasn't called: a response, as the layer would have given it.
#[derive(Debug)]
pub struct Denied(Box<http::Response<bytes::Bytes>>);

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        self.0.map(Body::from)
    }
}

fn asked(parts: &Parts) -> Asked {
    Asked::with(&parts.method, &parts.headers)
}

fn guarded(parts: &Parts) -> Result<&Guarded, Denied> {
    let guarded = parts.extensions.get::<Guarded>();
    guarded.ok_or_else(|| Denied(answer_unguarded(&asked(parts)).into()))
}

fn denied(guarded: &Guarded, denial: Denial, parts: &Parts) -> Denied {
    Denied(guarded.answers.answer(denial, &asked(parts)).into())
}

fn verified<C: Send + Sync + 'static>(parts: &Parts) -> Result<Option<Verified<C>>, Denied> {
    let guarded = guarded(parts)?;
    match guarded.identity.as_ref().map(Identity::verified) {
        None => Ok(None),
        Some(Some(verified)) => Ok(Some(verified)),
        // Of another type.
        Some(None) => Err(denied(guarded, Denial::Unguarded, parts)),
    }
}

/// 401 for who has no token; 500, and an error in the log, where no [`JwtLayer`](crate::JwtLayer) of
/// this type of claims is outside.
impl<C: Send + Sync + 'static, S: Sync> FromRequestParts<S> for Verified<C> {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Denied> {
        match verified(parts)? {
            Some(verified) => Ok(verified),
            None => Err(denied(guarded(parts)?, Denial::NoToken { scope: None }, parts)),
        }
    }
}

/// None for who has no token, where [`optional`](crate::JwtLayerBuilder::optional) allows that.
impl<C: Send + Sync + 'static, S: Sync> OptionalFromRequestParts<S> for Verified<C> {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Denied> {
        verified(parts)
    }
}

/// As with [`Verified`].
impl<S: Sync> FromRequestParts<S> for Identity {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Denied> {
        let guarded = guarded(parts)?;
        let identity = guarded.identity.clone();
        identity.ok_or_else(|| denied(guarded, Denial::NoToken { scope: None }, parts))
    }
}

/// As with [`Verified`].
impl<S: Sync> OptionalFromRequestParts<S> for Identity {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Denied> {
        Ok(guarded(parts)?.identity.clone())
    }
}
