//! What dictionaries make of a response: nothing, where there are none.

use http::response::Parts;
use http::{HeaderMap, Request};

use crate::body::Capture;
#[cfg(feature = "dictionary")]
use crate::dictionary::{AVAILABLE_DICTIONARY, AskedDictionary, Delta, USE_AS_DICTIONARY};
use crate::encoding::Encoding;
use crate::form::Form;
use crate::policy::{Asked, Policy};
#[cfg(feature = "dictionary")]
use crate::policy::{Reason, ResponseHead, add_vary_by};

/// What of a request is about dictionaries.
#[derive(Debug)]
pub(crate) struct DeltaAsked {
    /// None where there are no dictionaries.
    #[cfg(feature = "dictionary")]
    asked: Option<Box<AskedDictionary>>,
}

#[cfg(feature = "dictionary")]
impl DeltaAsked {
    pub(crate) fn of<B>(policy: &Policy, request: &Request<B>) -> Self {
        let asked = policy.settings().dictionaries.as_ref().and_then(|settings| {
            let (method, headers) = (request.method(), request.headers());
            AskedDictionary::of(method, request.uri(), headers, &settings.known).map(Box::new)
        });
        Self { asked }
    }

    /// The form to send in place of the one in `encoding`, or of the plain one: the first of those that
    /// the client wants no less, in the order of the codings that they are made of.
    pub(super) fn form(
        &self,
        policy: &Policy,
        asked: &Asked,
        response: &HeaderMap,
        encoding: Option<Encoding>,
        len: Option<u64>,
    ) -> Option<Form> {
        let dictionary = self.asked.as_ref()?.available(response)?;
        let delta = policy.delta(&asked.accept, response, encoding, len, |coding| {
            let delta = Delta::new(coding, dictionary.clone())?;
            delta.suits_now(len).then_some(delta)
        });
        delta.map(Form::Delta)
    }

    /// Says of a response that it is a dictionary, if it is one. Gives what keeps its content then,
    /// unless that is there already. `len` is how long it says that it is.
    pub(super) fn mark(
        &self,
        policy: &Policy,
        head: &mut Parts,
        len: Option<u64>,
    ) -> Option<Capture> {
        let settings = policy.settings().dictionaries.as_ref()?;
        let asked = self.asked.as_ref()?;
        let known = &settings.known;
        let reason = policy.settings().excluded_by_head(&ResponseHead::of(head));
        let is_encoded = reason == Some(Reason::AlreadyEncoded);
        let len = len.filter(|_| !is_encoded);
        if policy.is_left(&ResponseHead::of(head)) || !known.takes(len) {
            return None;
        }
        // Of what is never compressed, nothing is told by it either.
        let is_marked = match settings.mark(asked.path()) {
            Some(value) if reason.is_none() || is_encoded => {
                asked.mark(head.status, &mut head.headers, value)
            }
            _ => false,
        };
        let found = asked.found(&ResponseHead::of(head), len, policy.settings().entity_tags)?;
        let is_known = known.knows(&found);
        if is_encoded && is_marked && !is_known {
            // What it would be isn't seen here. A cache inside may send what has passed before.
            head.headers.remove(USE_AS_DICTIONARY);
        }
        let is_kept = asked.is_get() && !is_encoded && !is_known;
        is_kept.then(|| Capture::new(known, found))
    }

    /// A 304 says that the client goes on to keep what it has.
    pub(super) fn renew(&self, policy: &Policy, not_modified: &HeaderMap) {
        if let (Some(settings), Some(asked)) = (&policy.settings().dictionaries, &self.asked) {
            asked.renew(not_modified, &settings.known, policy.settings().entity_tags);
        }
    }

    /// Says in `Vary` that another dictionary can lead to another form, where there are any.
    pub(super) fn add_vary(&self, policy: &Policy, response: &mut HeaderMap) {
        let Some(settings) = &policy.settings().dictionaries else { return };
        let is_marked = self.asked.as_ref().is_some_and(|it| settings.mark(it.path()).is_some());
        if is_marked || response.contains_key(USE_AS_DICTIONARY) {
            add_vary_by(response, &AVAILABLE_DICTIONARY);
        }
    }
}

#[cfg(not(feature = "dictionary"))]
#[expect(clippy::unused_self, reason = "with dictionaries there is something to know")]
impl DeltaAsked {
    pub(crate) fn of<B>(_: &Policy, _: &Request<B>) -> Self {
        Self {}
    }

    pub(super) fn form(
        &self,
        _: &Policy,
        _: &Asked,
        _: &HeaderMap,
        _: Option<Encoding>,
        _: Option<u64>,
    ) -> Option<Form> {
        None
    }

    pub(super) fn mark(&self, _: &Policy, _: &mut Parts, _: Option<u64>) -> Option<Capture> {
        None
    }

    pub(super) fn renew(&self, _: &Policy, _: &HeaderMap) {}

    pub(super) fn add_vary(&self, _: &Policy, _: &mut HeaderMap) {}
}
