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
use crate::policy::{ResponseHead, add_vary_by};

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
    /// unless that is there already.
    pub(super) fn mark(&self, policy: &Policy, head: &mut Parts) -> Option<Capture> {
        let settings = policy.settings().dictionaries.as_ref()?;
        let asked = self.asked.as_ref()?;
        if policy.is_left(&ResponseHead::of(head)) {
            return None;
        }
        if let Some(value) = settings.mark(asked.path()) {
            asked.mark(head.status, &mut head.headers, value);
        }
        let found = asked.found(&ResponseHead::of(head))?;
        (!settings.known.has(&found)).then(|| Capture::new(&settings.known, found))
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

    pub(super) fn mark(&self, _: &Policy, _: &mut Parts) -> Option<Capture> {
        None
    }

    pub(super) fn add_vary(&self, _: &Policy, _: &mut HeaderMap) {}
}
