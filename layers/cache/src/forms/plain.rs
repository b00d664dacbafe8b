//! Responses that came encoded, for clients that can't read them so.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use http::{HeaderMap, Method, Response, StatusCode};
use tower_keep_compress::field::has_member;
use tower_keep_compress::{AcceptEncoding, content_encodings};
use tower_keep_store::{Found, Hit, Join, KeyBuf};

use super::make::{self, Order};
use super::{Coding, Forms};
use crate::body::CacheBody;
use crate::core::{Core, variant_key};
use crate::judge::Wish;
use crate::respond;
use crate::stored::{Stored, StoredResponse};

/// An answer that has to be decoded first.
#[derive(Debug)]
pub(crate) struct Undress {
    core: Arc<Core>,
    key: KeyBuf,
    hit: Hit<Stored>,
    method: Method,
    headers: HeaderMap,
}

/// Whether the response in `hit` came in a coding that the client doesn't read, while it reads plain
/// text.
#[inline]
pub(crate) fn is_hit_unreadable(found: Found<'_, Stored>, request: &HeaderMap) -> bool {
    found.response().is_some_and(|stored| {
        stored.is_encoded && stored.part.is_none() && is_unreadable(&stored.headers, request)
    })
}

/// Whether a response with these fields is in a coding that the client doesn't read.
#[cold]
fn is_unreadable(response: &HeaderMap, request: &HeaderMap) -> bool {
    // RFC 9110 §7.7, RFC 9111 §5.2.1.6
    if [response, request].iter().any(|head| has_member(head, &CACHE_CONTROL, "no-transform")) {
        return false;
    }
    let accept = AcceptEncoding::of(request);
    let Ok(encodings) = content_encodings(response) else { return false };
    accept.accepts_identity()
        && !encodings.iter().all(|encoding| accept.weight(*encoding).accepts())
}

impl Forms {
    /// Makes a head that of a plain form of `len` bytes. In HTTP/1.1, no trailers follow content whose
    /// length is announced.
    fn make_plain(&self, headers: &mut HeaderMap, len: usize, has_trailers: bool) {
        self.policy.make_plain(headers, len);
        if has_trailers {
            headers.remove(CONTENT_LENGTH);
        }
    }
}

impl Undress {
    /// For the request with this wish, to be answered from the entry at `key`.
    #[cold]
    pub(crate) fn new(
        core: &Arc<Core>,
        key: KeyBuf,
        hit: Hit<Stored>,
        wish: Wish<'_>,
    ) -> Box<Self> {
        let (method, headers) = (wish.method.clone(), wish.headers.clone());
        Box::new(Self { core: Arc::clone(core), key, hit, method, headers })
    }

    /// The answer in its plain form, or else as it is.
    pub(crate) async fn answer<B>(
        self: Box<Self>,
        as_it_is: Response<CacheBody<B>>,
    ) -> Response<CacheBody<B>> {
        let core = &self.core;
        match plain(core, &self.key, &self.hit).await {
            Some(plain) => respond::hit(core, &plain, &self.method, &self.headers, core.now_ms()),
            None => as_it_is,
        }
    }
}

/// The same of the response in `hit`, at `key`.
async fn plain(core: &Arc<Core>, key: &KeyBuf, hit: &Hit<Stored>) -> Option<StoredResponse> {
    let forms = core.settings.forms.as_ref()?;
    let stored = hit.response()?;
    let content = plain_content(core, key, hit).await?;
    let mut headers = stored.headers.clone();
    forms.make_plain(&mut headers, content.len(), stored.trailers.is_some());
    let mut trailers = stored.trailers.clone();
    if let Some(trailers) = &mut trailers {
        forms.policy.recode_trailers(trailers);
    }
    let plain = StoredResponse::new(stored.status, &headers, content, trailers, stored.times);
    Some(StoredResponse { plain_only: stored.plain_only, ..plain })
}

/// The plain form of what the response in `hit`, at `key`, has as its content; made now, once for all who
/// wait for it, if it isn't there. Nothing if it can't be made.
async fn plain_content(core: &Arc<Core>, key: &KeyBuf, hit: &Hit<Stored>) -> Option<Bytes> {
    let forms = core.settings.forms.as_ref()?;
    let stored = hit.response()?;
    let at = Coding::Plain.key(key);
    let at = core.space.key(&at);
    let mut follow = match core.forms.join(at, || core.space.begin(&[at])) {
        Join::Lead(lead, follow) => {
            // In a task of its own: a client that leaves takes nothing from those who wait.
            let (hit, key) = (hit.clone(), key.clone());
            let order = Order { hit, key, coding: Coding::Plain, is_dense: false };
            make::spawn(core, lead, order, None);
            follow
        }
        Join::Follow(follow) => follow,
    };
    let made = follow.landed().await;
    let of = make::known_digest(stored).await?;
    let form = made.as_deref().and_then(Stored::form);
    match form.filter(|form| form.suits(&Coding::Plain, &of)) {
        Some(form) => form.content.clone(),
        // It is that of what was there before, or it was given up.
        None => forms.decoded(&stored.headers, stored.body.clone(), core.settings.max_body).await,
    }
}

/// Decodes an answer that is there as a whole, if the client, who sent these fields, doesn't read it so:
/// one that has just come from the second tier, or that others have waited for. `primary` is the key of
/// what it asked for.
pub(crate) async fn readable<B>(
    core: &Arc<Core>,
    primary: &KeyBuf,
    request: &HeaderMap,
    mut response: Response<CacheBody<B>>,
) -> Response<CacheBody<B>> {
    let Some(forms) = &core.settings.forms else { return response };
    let is_whole = response.status() != StatusCode::PARTIAL_CONTENT;
    let Some(body) = response.body().whole().filter(|_| is_whole).cloned() else {
        return response;
    };
    if !is_unreadable(response.headers(), request) {
        return response;
    }
    let decoded = match stored_with(core, primary, request, &body) {
        Some((key, hit)) => plain_content(core, &key, &hit).await,
        None => forms.decoded(response.headers(), body, core.settings.max_body).await,
    };
    if let Some(decoded) = decoded {
        let len = decoded.len();
        let has_trailers = response.body_mut().replace(decoded, |trailers| {
            forms.policy.recode_trailers(trailers);
        });
        forms.make_plain(response.headers_mut(), len, has_trailers);
    }
    response
}

/// The entry, with its key, that answers the request and has this very content, if it is there.
fn stored_with(
    core: &Core,
    primary: &KeyBuf,
    request: &HeaderMap,
    body: &Bytes,
) -> Option<(KeyBuf, Hit<Stored>)> {
    let (space, now) = (&core.space, core.now());
    let mut key = primary.clone();
    let mut hit = space.glance(space.key(&key), now)?;
    if let Stored::Variants(variants) = &*hit {
        key = variant_key(primary, variants, request);
        hit = space.glance(space.key(&key), now)?;
    }
    let stored = hit.response()?;
    let is_same = stored.body.as_ptr() == body.as_ptr() && stored.body.len() == body.len();
    is_same.then_some((key, hit))
}
