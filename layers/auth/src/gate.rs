//! What becomes of a request, and of the response to it, once its token was looked at.

use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue, VARY};
use http::{Request, Response};

use crate::answer::Answers;
use crate::denial::Denial;
use crate::identity::{Guarded, Identity};
use crate::locate::{Place, Places};
use crate::refusal::Refusal;
use crate::require::Require;
use crate::verified::Verified;
use crate::verifier::Verifier;

/// A layer's settings, checked.
pub(crate) struct Gate<C> {
    pub(crate) verifier: Verifier<C>,
    pub(crate) places: Places,
    pub(crate) optional: bool,
    pub(crate) ignore_invalid: bool,
    pub(crate) strip: bool,
    pub(crate) require: Option<Require>,
    /// That of responses to requests whose target has no token.
    pub(crate) mark: Mark,
    pub(crate) answers: Arc<Answers>,
}

/// What a response is to say to caches outside.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mark {
    /// That it depends on `Authorization`.
    Authorization,
    /// And on `Cookie`.
    Cookie,
    /// That its target has a token in it.
    Secret,
}

impl<C: Send + Sync + 'static> Gate<C> {
    /// Makes a request ready for the inner service, or says why it doesn't get there.
    pub(crate) fn admit<B>(
        &self,
        request: &mut Request<B>,
        place: Option<Place>,
        result: Option<Result<Verified<C>, Refusal>>,
    ) -> Result<Mark, Denial> {
        let verified = match result.transpose() {
            Ok(Some(verified)) => Some(verified),
            Ok(None) if self.optional => None,
            Ok(None) => return Err(self.no_token()),
            Err(refusal) => match Denial::of(refusal) {
                Denial::Invalid(refusal) if self.ignore_invalid => {
                    let reason = refusal.as_str();
                    tracing::debug!(reason, "token refused, and the request taken for anonymous");
                    None
                }
                denial => return Err(denial),
            },
        };
        let identity = verified.map(Identity::from);
        if let Some(identity) = &identity {
            // Of the token, not of the requirement: whoever isn't permitted has a right one.
            self.answers.counters.accepted();
            if let Some(require) = &self.require {
                require.judge(Some(identity))?;
            }
        } else {
            if self.require.is_some() {
                return Err(self.no_token());
            }
            self.answers.counters.anonymous();
        }
        if let Some(place) = place {
            self.forward(request, place, identity.is_some())?;
        }
        // Another layer may have been outside, and only the last word counts.
        let guarded = Guarded { identity, answers: Arc::clone(&self.answers) };
        request.extensions_mut().insert(guarded);
        Ok(if place == Some(Place::Query) { Mark::Secret } else { self.mark })
    }

    /// Lets inner services see the token in the one place where all of them look for credentials, or
    /// not at all.
    fn forward<B>(
        &self,
        request: &mut Request<B>,
        place: Place,
        is_verified: bool,
    ) -> Result<(), Denial> {
        if is_verified && !self.strip && place == Place::Authorization {
            return Ok(());
        }
        let token = self.places.take(request, place);
        let token = token.ok_or(Denial::Malformed("the token can't be told from the rest"))?;
        let headers = request.headers_mut();
        if is_verified && self.strip {
            // A cache inside can't see any more that this is somebody's: RFC 9111 §5.2.1.5.
            headers.append(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        } else if is_verified {
            headers.insert(AUTHORIZATION, token);
        }
        Ok(())
    }

    fn no_token(&self) -> Denial {
        match self.require.as_ref().map(|require| require.judge(None)) {
            Some(Err(denial)) => denial,
            _ => Denial::NoToken { scope: None },
        }
    }
}

impl Mark {
    pub(crate) fn put<B>(self, response: &mut Response<B>) {
        const AUTHORIZATION: HeaderValue = HeaderValue::from_static("authorization");
        const COOKIE: HeaderValue = HeaderValue::from_static("authorization, cookie");
        let headers = response.headers_mut();
        match self {
            Self::Authorization => drop(headers.append(VARY, AUTHORIZATION)),
            Self::Cookie => drop(headers.append(VARY, COOKIE)),
            // RFC 6750 §2.3 asks for `private`. What is stored under such a target is stored for
            // whoever has it, so this goes further; and since other fields may be heard rather than
            // `Cache-Control` (RFC 9213), and a cache may leave the token out of its key, nothing
            // that was stored in spite of it is ever used: RFC 9111 §4.1.
            Self::Secret => {
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
                headers.insert(VARY, HeaderValue::from_static("*"));
            }
        }
    }
}

impl<C> fmt::Debug for Gate<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("verifier", &self.verifier)
            .field("places", &self.places)
            .field("optional", &self.optional)
            .field("require", &self.require)
            .finish_non_exhaustive()
    }
}
