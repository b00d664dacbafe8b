//! In which form a stored response is sent.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, IF_NONE_MATCH, RANGE};
use tower_keep_compress::field::has_member;
use tower_keep_compress::{AcceptEncoding, Conditions};
use tower_keep_store::{Hit, KeyBuf, Timestamp};

use super::{Coding, Forms, make};
use crate::core::Core;
use crate::judge::Wish;
use crate::stored::{Stored, StoredResponse};

/// A form that is served is made denser by one of so many who get it.
const DENSE_AFTER: u32 = 16;

/// In which form a stored response is sent to one client.
pub(crate) struct Dress<'a> {
    forms: &'a Forms,
    /// The request's conditions, where they name a form.
    conditions: Option<Conditions>,
    form: Option<(Hit<Stored>, Coding)>,
}

impl Core {
    /// In which form `stored`, at `key`, is sent; nothing, if it has none but its own. What is missing is
    /// made behind the client's back.
    #[inline]
    pub(crate) fn dress(
        self: &Arc<Self>,
        key: &KeyBuf,
        hit: &Hit<Stored>,
        wish: Wish<'_>,
        now: Timestamp,
    ) -> Option<Dress<'_>> {
        let forms = self.settings.forms.as_ref()?;
        self.dress_by(forms, key, hit, wish, now)
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
        let conditions = headers
            .contains_key(IF_NONE_MATCH)
            .then(|| forms.policy.conditions(headers, &accept))
            .flatten();
        let mut dress = Dress { forms, conditions, form: None };
        // A range is one of the plain form: what another one's bytes are is told by nothing that a client
        // could name. (RFC 9111 §5.2.1.6 is about transformations.)
        let is_plain = headers.contains_key(RANGE)
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
            make::start(self, &at, hit, coding, false);
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

impl Dress<'_> {
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

    /// The head and the content of `stored` in this form, if it isn't the plain one.
    pub(crate) fn encoded(&self, stored: &StoredResponse) -> Option<(HeaderMap, Bytes)> {
        let (hit, coding) = self.form.as_ref()?;
        let form = hit.form()?;
        let content = form.content.clone()?;
        Some((form.head(&self.forms.policy, coding, stored), content))
    }

    /// Says in a head that isn't an encoded form's that there are others.
    pub(crate) fn tell_of_others(&self, headers: &mut HeaderMap) {
        self.forms.policy.add_vary(headers);
    }
}
