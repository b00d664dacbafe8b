//! In which form a stored response is sent.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, IF_NONE_MATCH, RANGE};
use tower_keep_compress::field::has_member;
use tower_keep_compress::{AcceptEncoding, Conditions};
use tower_keep_store::{Found, Hit, KeyBuf, Timestamp};

use super::{Coding, Forms, make};
use crate::core::Core;
use crate::judge::Wish;
use crate::landing::Arriving;
use crate::stored::{Stored, StoredResponse};

/// A form that is served is made denser by one of so many who get it.
const DENSE_AFTER: u32 = 16;

/// In which form a stored response is sent to one client.
pub(crate) struct Dress<'a> {
    forms: &'a Forms,
    /// The request's conditions, where they name a form.
    conditions: Option<Conditions>,
    form: Option<(Hit<Stored>, Coding)>,
    /// It gets the whole, though it asks for a part.
    is_whole: bool,
}

impl Core {
    /// In which form `stored`, at `key`, is sent; nothing, if it has none but its own. What is missing is
    /// made behind the client's back.
    #[inline]
    pub(crate) fn dress(
        self: &Arc<Self>,
        key: &KeyBuf,
        found: Found<'_, Stored>,
        wish: Wish<'_>,
        now: Timestamp,
    ) -> Option<Dress<'_>> {
        let forms = self.settings.forms.as_ref()?;
        self.dress_by(forms, key, &found.to_hit()?, wish, now)
    }

    /// Not a part of hits where there are no forms.
    #[inline(never)]
    fn dress_by<'a>(
        self: &Arc<Self>,
        forms: &'a Forms,
        key: &KeyBuf,
        hit: &Hit<Stored>,
        wish: Wish<'_>,
        now: Timestamp,
    ) -> Option<Dress<'a>> {
        let stored = hit.response()?;
        let offer = forms.offer(stored)?;
        let headers = wish.headers;
        let accept = AcceptEncoding::of(headers);
        let mut dress = Dress::plain(forms, headers, &accept);
        // A range is one of the plain form: what another one's bytes are is told by nothing that a client
        // could name. (RFC 9111 §5.2.1.6 is about transformations.)
        let is_plain = (headers.contains_key(RANGE) && !dress.is_whole)
            || (headers.contains_key(CACHE_CONTROL)
                && has_member(headers, &CACHE_CONTROL, "no-transform"));
        if is_plain {
            return Some(dress);
        }
        let encoding = offer.choose(&accept);
        #[cfg(feature = "dictionary")]
        if let Some(delta) = forms.delta(stored, wish, &accept, encoding) {
            dress.form = self.form(forms, key, hit, Coding::Delta(delta), now);
            if dress.form.is_some() {
                return Some(dress);
            }
        }
        if let Some(encoding) = encoding {
            dress.form = self.form(forms, key, hit, Coding::Encoded(encoding), now);
        }
        Some(dress)
    }

    /// The response in `hit`, at `key`, in this coding, if that is there and is shorter. If it isn't there,
    /// or if a denser one is due, it is made.
    fn form(
        self: &Arc<Self>,
        forms: &Forms,
        key: &KeyBuf,
        hit: &Hit<Stored>,
        coding: Coding,
        now: Timestamp,
    ) -> Option<(Hit<Stored>, Coding)> {
        let stored = hit.response()?;
        let at = coding.key(key);
        let found = self.space.glance(self.space.key(&at), now);
        let form = found.as_deref().and_then(Stored::form);
        let form =
            form.filter(|form| stored.digest.get().is_some_and(|of| form.suits(&coding, of)));
        let Some(form) = form else {
            if stored.tried.may(&coding, now) && make::start(self, &at, hit, coding.clone(), false)
            {
                stored.tried.note(&coding, now);
            }
            return None;
        };
        if !form.is_dense
            && coding.effort(stored.body.len()) <= forms.dense_up_to
            && fastrand::u32(..DENSE_AFTER) == 0
        {
            make::start(self, &at, hit, coding.clone(), true);
        }
        form.content.is_some().then_some(())?;
        Some((found?, coding))
    }
}

impl Core {
    /// For the plain form of `stored`, which is sent whatever forms there are.
    pub(crate) fn plain_dress(
        &self,
        stored: &StoredResponse,
        request: &HeaderMap,
    ) -> Option<Dress<'_>> {
        let forms = self.settings.forms.as_ref()?;
        forms.offer(stored)?;
        Some(Dress::plain(forms, request, &AcceptEncoding::of(request)))
    }

    /// The same of a response of which the head is there, if it is one that may have forms.
    pub(crate) fn arriving_dress(
        &self,
        response: &Arriving,
        request: &HeaderMap,
    ) -> Option<Dress<'_>> {
        let forms = self.settings.forms.as_ref().filter(|_| response.has_forms)?;
        Some(Dress::plain(forms, request, &AcceptEncoding::of(request)))
    }
}

impl<'a> Dress<'a> {
    /// The plain form, for a request with these fields.
    fn plain(forms: &'a Forms, request: &HeaderMap, accept: &AcceptEncoding) -> Self {
        let conditions = request
            .contains_key(IF_NONE_MATCH)
            .then(|| forms.policy.conditions(request, accept))
            .flatten();
        let is_whole =
            request.contains_key(RANGE) && forms.policy.may_continue_encoded(request, accept);
        Dress { forms, conditions, form: None, is_whole }
    }
}

impl Dress<'_> {
    /// Whether the request gets the whole, though it asks for a part.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The fields by whose conditions the request is judged.
    pub(crate) fn asked<'a>(&'a self, request: &'a HeaderMap) -> &'a HeaderMap {
        self.conditions.as_ref().map_or(request, |conditions| &conditions.fields)
    }

    /// Makes the head of a 304 one of the form that the client has.
    pub(crate) fn restore_tag(&self, headers: &mut HeaderMap) {
        if let Some(conditions) = &self.conditions {
            self.forms.policy.restore(conditions, headers);
        }
    }

    /// The head, the content and the trailers of `stored` in this form, if it isn't the plain one.
    pub(crate) fn encoded(
        &self,
        stored: &StoredResponse,
    ) -> Option<(HeaderMap, Bytes, Option<HeaderMap>)> {
        let (hit, coding) = self.form.as_ref()?;
        let form = hit.form()?;
        let content = form.content.clone()?;
        let mut trailers = stored.trailers.clone();
        if let Some(trailers) = &mut trailers {
            self.forms.policy.recode_trailers(trailers);
        }
        Some((form.head(&self.forms.policy, coding, stored), content, trailers))
    }

    /// Says in a head that isn't an encoded form's that there are others.
    pub(crate) fn tell_of_others(&self, headers: &mut HeaderMap) {
        self.forms.policy.add_vary(headers);
    }
}
