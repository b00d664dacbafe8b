//! In which form a stored response is sent.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{IF_NONE_MATCH, RANGE};
use tower_keep_compress::{AcceptEncoding, Conditions};
use tower_keep_store::{Found, Held, Hit, KeyBuf, Timestamp};

use super::make::{self, Order};
use super::offered::Known;
use super::{Coding, Form, Forms};
use crate::body::CacheBody;
use crate::core::Core;
use crate::judge::Wish;
use crate::landing::Arriving;
use crate::stored::{Stored, StoredResponse};

/// A form that is served is made denser by one of so many who get it.
const DENSE_AFTER: u32 = 16;

/// For how many seconds at the least a response must still be fresh to be made denser: that may take some.
const DENSE_FOR: i64 = 30;

/// In which form a stored response is sent to one client.
pub(crate) struct Dress<'a> {
    forms: &'a Forms,
    /// The request's conditions, where they name a form.
    conditions: Option<Box<Conditions>>,
    form: Option<Sent>,
    /// The head of the plain form, if that is at hand, with word of the others.
    offered: Option<Known<'a>>,
    /// It gets the whole, though it asks for a part.
    is_whole: bool,
}

/// A form that is sent.
struct Sent {
    entry: Entry,
    coding: Coding,
}

/// Where it is.
enum Entry {
    Ready(Held<Stored>),
    Other(Hit<Stored>),
}

impl Sent {
    fn form(&self) -> Option<&Form> {
        match &self.entry {
            Entry::Ready(held) => held.value()?.form(),
            Entry::Other(hit) => hit.form(),
        }
    }
}

impl Core {
    /// In which form `stored`, at `key`, is sent; nothing, if it has none but its own. What is missing is
    /// made behind the client's back.
    #[inline]
    pub(crate) fn dress<'a>(
        self: &'a Arc<Self>,
        key: &KeyBuf,
        response: Found<'a, Stored>,
        wish: Wish<'_>,
        now: Timestamp,
    ) -> Option<Dress<'a>> {
        let forms = self.settings.forms.as_ref()?;
        self.dress_by(forms, key, response, wish, now)
    }

    /// Not a part of hits where there are no forms.
    #[inline(never)]
    fn dress_by<'a>(
        self: &Arc<Self>,
        forms: &'a Forms,
        key: &KeyBuf,
        response: Found<'a, Stored>,
        wish: Wish<'_>,
        now: Timestamp,
    ) -> Option<Dress<'a>> {
        let stored = response.value().response()?;
        let offered = Some(forms.offered(stored)?);
        let (headers, directives) = (wish.headers, wish.directives);
        // Most of what could be asked for was looked for when the request came.
        let accept = directives.codings.read(headers);
        let mut dress = Dress { offered, ..Dress::empty(forms) };
        if directives.conditional {
            dress.map_conditions(headers, &accept);
        }
        if directives.range {
            dress.is_whole = forms.policy.may_continue_encoded(headers, &accept);
        }
        // A range is one of the plain form: what another one's bytes are is told by nothing that a client
        // could name. (RFC 9111 §5.2.1.6 is about transformations.)
        if (directives.range && !dress.is_whole) || directives.no_transform {
            return Some(dress);
        }
        let encoding = dress.offered.as_ref()?.offer.choose(&accept);
        #[cfg(feature = "dictionary")]
        if directives.dictionary
            && let Some(delta) = forms.delta(stored, wish, &accept, encoding)
        {
            dress.form = self.form(forms, key, response, Coding::Delta(delta), now);
            if dress.form.is_some() {
                return Some(dress);
            }
        }
        if let Some(encoding) = encoding {
            dress.form = self.form(forms, key, response, Coding::Encoded(encoding), now);
        }
        Some(dress)
    }

    /// The response at `key` in this coding, if that is there and is shorter. If it isn't there,
    /// or if a denser one is due, it is made.
    fn form(
        self: &Arc<Self>,
        forms: &Forms,
        key: &KeyBuf,
        response: Found<'_, Stored>,
        coding: Coding,
        now: Timestamp,
    ) -> Option<Sent> {
        let stored = response.value().response()?;
        if let Coding::Encoded(encoding) = &coding {
            let again = |trail: &_| self.space.glance_again(trail, || coding.key(key));
            if let Some(held) = stored.forms.get(*encoding, again) {
                return Some(Sent { entry: Entry::Ready(held), coding });
            }
        }
        let at = coding.key(key);
        let found = self.space.glance(self.space.key(&at), now);
        let form = found.as_deref().and_then(Stored::form);
        let form =
            form.filter(|form| stored.digest.get().is_some_and(|of| form.suits(&coding, of)));
        let (Some(form), Some(there)) = (form, &found) else {
            self.make_form(forms, key, response, &coding, false, now);
            return None;
        };
        let is_last = form.is_dense
            || coding.effort(stored.body.len()) > forms.dense_up_to
            || stored.times.ttl(now.as_millis()) < DENSE_FOR;
        if is_last {
            if let Coding::Encoded(encoding) = &coding {
                stored.forms.put(*encoding, there.trail());
            }
        } else if fastrand::u32(..DENSE_AFTER) == 0 {
            self.make_form(forms, key, response, &coding, true, now);
        }
        form.content.is_some().then_some(())?;
        Some(Sent { entry: Entry::Other(found?), coding })
    }

    /// Has a form made of the response at `key` behind the client's back, if it wasn't tried lately.
    #[cold]
    fn make_form(
        self: &Arc<Self>,
        forms: &Forms,
        key: &KeyBuf,
        response: Found<'_, Stored>,
        coding: &Coding,
        is_dense: bool,
        now: Timestamp,
    ) {
        let Some(stored) = response.response() else { return };
        if forms.tried.may(stored, coding, is_dense, now)
            && let Some(hit) = response.to_hit()
        {
            let order = Order { hit, key: key.clone(), coding: coding.clone(), is_dense };
            if make::start(self, order) {
                forms.tried.note(stored, coding, is_dense, now);
            }
        }
    }
}

impl Core {
    /// For the plain form of `stored`, which is sent whatever forms there are.
    pub(crate) fn plain_dress<'a>(
        &'a self,
        stored: &'a StoredResponse,
        request: &HeaderMap,
    ) -> Option<Dress<'a>> {
        let forms = self.settings.forms.as_ref()?;
        let offered = Some(forms.offered(stored)?);
        Some(Dress { offered, ..Dress::plain(forms, request) })
    }

    /// The same of a response of which the head is there, if it is one that may have forms.
    pub(crate) fn arriving_dress(
        &self,
        response: &Arriving,
        request: &HeaderMap,
    ) -> Option<Dress<'_>> {
        let forms = self.settings.forms.as_ref().filter(|_| response.has_forms)?;
        Some(Dress::plain(forms, request))
    }
}

impl<'a> Dress<'a> {
    fn empty(forms: &'a Forms) -> Self {
        Dress { forms, conditions: None, form: None, offered: None, is_whole: false }
    }

    /// The plain form, for a request with these fields.
    fn plain(forms: &'a Forms, request: &HeaderMap) -> Self {
        let accept = AcceptEncoding::of(request);
        let mut dress = Self::empty(forms);
        dress.map_conditions(request, &accept);
        dress.is_whole =
            request.contains_key(RANGE) && forms.policy.may_continue_encoded(request, &accept);
        dress
    }

    fn map_conditions(&mut self, request: &HeaderMap, accept: &AcceptEncoding) {
        if request.contains_key(IF_NONE_MATCH) {
            self.conditions = self.forms.policy.conditions(request, accept).map(Box::new);
        }
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

    /// The head and the body of `stored` in this form, if it isn't the plain one.
    #[inline]
    pub(crate) fn encoded<B>(&self, stored: &StoredResponse) -> Option<(HeaderMap, CacheBody<B>)> {
        let sent = self.form.as_ref()?;
        let form = sent.form()?;
        let content = form.content.clone()?;
        let head = form.head(self.forms, &sent.coding, stored);
        let mut trailers = stored.trailers.clone();
        if let Some(trailers) = &mut trailers {
            self.forms.policy.recode_trailers(trailers);
        }
        Some((head, CacheBody::stored(content, trailers)))
    }

    /// The head of `stored` in its plain form, with word of the others.
    pub(crate) fn plain_head(&self, stored: &StoredResponse) -> Cow<'_, HeaderMap> {
        if let Some(offered) = &self.offered {
            return Cow::Borrowed(&offered.head);
        }
        let mut head = stored.headers.clone();
        self.tell_of_others(&mut head);
        Cow::Owned(head)
    }

    /// Says in a head that isn't an encoded form's that there are others.
    pub(crate) fn tell_of_others(&self, headers: &mut HeaderMap) {
        self.forms.policy.add_vary(headers);
    }
}
