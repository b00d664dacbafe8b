//! Making responses: from what is stored, from what is arriving, and from what merely passes.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use tower_keep_compress::LeaveUncompressed;
use tower_keep_store::{Count, Hit};

use crate::age::age_value;
use crate::body::CacheBody;
use crate::cache_status::{self, CACHE_STATUS, CacheStatus, STALE_IF_ERROR};
use crate::capture::Capture;
use crate::conditional::{Validators, not_modified, not_modified_headers};
use crate::core::{Core, Covers};
use crate::forms::Dress;
use crate::judge::{Wish, fallback};
use crate::key::Target;
use crate::landing::Arriving;
use crate::policy::{PolicyOptions, RequestDirectives};
use crate::range::partial;
use crate::splice::Spliced;
use crate::stored::{Stored, StoredResponse};

/// The part of a request that its response depends on.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// What the rules have chosen for it.
    pub(crate) policy: Arc<PolicyOptions>,
    /// What the key under which the response is stored covers.
    pub(crate) covers: Covers,
}

impl Asked {
    pub(crate) fn of<B>(request: &Request<B>, policy: &Arc<PolicyOptions>, covers: Covers) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            policy: Arc::clone(policy),
            covers,
        }
    }

    /// What was asked for.
    pub(crate) fn target(&self) -> Option<Target<'_>> {
        Target::new(&self.uri, &self.headers).ok()
    }

    /// With what the request's directives want.
    pub(crate) fn wish<'a>(&'a self, directives: &'a RequestDirectives) -> Wish<'a> {
        Wish { directives, method: &self.method, uri: &self.uri, headers: &self.headers }
    }

    fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

/// A response from the store: a hit.
pub(crate) fn hit<B>(
    core: &Core,
    stored: &StoredResponse,
    method: &Method,
    request: &HeaderMap,
    now_ms: u64,
) -> Response<CacheBody<B>> {
    let status = cache_status::hit_value(&core.settings.name, stored.times.ttl(now_ms));
    let dress = core.plain_dress(stored, request);
    from_stored(stored, Sought::unknown(method, request), now_ms, status, dress.as_ref())
}

/// The same, in a form of its own.
#[inline]
pub(crate) fn dressed<B>(
    core: &Core,
    stored: &StoredResponse,
    wish: Wish<'_>,
    now_ms: u64,
    dress: Option<&Dress<'_>>,
) -> Response<CacheBody<B>> {
    let status = cache_status::hit_value(&core.settings.name, stored.times.ttl(now_ms));
    from_stored(stored, Sought::of(wish), now_ms, status, dress)
}

/// A response from the store that stands in at once for an origin which has failed lately.
pub(crate) fn in_need<B>(
    core: &Core,
    stored: &StoredResponse,
    wish: Wish<'_>,
    now_ms: u64,
    dress: Option<&Dress<'_>>,
) -> Response<CacheBody<B>> {
    let status = cache_status::hit_in_need_value(&core.settings.name, stored.times.ttl(now_ms));
    from_stored(stored, Sought::of(wish), now_ms, status, dress)
}

/// A response from the store that took a trip to the origin, or an attempt at one.
pub(crate) fn validated<B>(
    core: &Core,
    stored: &StoredResponse,
    asked: &Asked,
    now_ms: u64,
    status: &CacheStatus,
) -> Response<CacheBody<B>> {
    let status = status.to_value(&core.settings.name);
    let dress = core.plain_dress(stored, &asked.headers);
    let sought = Sought::unknown(&asked.method, &asked.headers);
    from_stored(stored, sought, now_ms, status, dress.as_ref())
}

/// What a request seeks of a stored response.
#[derive(Clone, Copy, Debug)]
struct Sought<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    /// Whether it may name what the client has.
    conditional: bool,
    /// Whether it may be for a part.
    range: bool,
}

impl<'a> Sought<'a> {
    /// By what was seen of the request already: a look into its fields is a good part of a hit.
    fn of(wish: Wish<'a>) -> Self {
        let Wish { directives, method, headers, .. } = wish;
        Self { method, headers, conditional: directives.conditional, range: directives.range }
    }

    fn unknown(method: &'a Method, headers: &'a HeaderMap) -> Self {
        Self { method, headers, conditional: true, range: true }
    }
}

fn from_stored<B>(
    stored: &StoredResponse,
    Sought { method, headers: request, conditional, range }: Sought<'_>,
    now_ms: u64,
    status: HeaderValue,
    dress: Option<&Dress<'_>>,
) -> Response<CacheBody<B>> {
    let age = age_value(stored.times.age(now_ms));
    let conditions = dress.map_or(request, |dress| dress.asked(request));
    let unchanged = conditional
        && stored.status == StatusCode::OK
        && not_modified(conditions, &stored.validators);
    let encoded = dress.filter(|_| !unchanged).and_then(|dress| dress.encoded(stored));
    let plain_head =
        || dress.map_or(Cow::Borrowed(&stored.headers), |dress| dress.plain_head(stored));
    let part = || {
        // RFC 9110 §13.2.2: the conditions come first. And a part of something else than the
        // representation would make no sense.
        (range && *method == Method::GET && stored.status == StatusCode::OK)
            .then(|| partial(request, stored))
            .flatten()
            .filter(|_| dress.is_none_or(|dress| !dress.is_whole()))
    };
    let (mut headers, code, body) = if unchanged {
        let mut headers = not_modified_headers(&plain_head());
        if let Some(dress) = dress {
            dress.restore_tag(&mut headers);
        }
        (headers, StatusCode::NOT_MODIFIED, CacheBody::empty())
    } else if let Some((headers, body)) = encoded {
        let body = if *method == Method::HEAD { CacheBody::empty() } else { body };
        (headers, stored.status, body)
    } else if *method == Method::HEAD {
        (plain_head().into_owned(), stored.status, CacheBody::empty())
    } else if let Some((code, mut headers, content)) = part() {
        if let Some(dress) = dress {
            dress.tell_of_others(&mut headers);
        }
        (headers, code, CacheBody::stored(content, None))
    } else {
        let body = CacheBody::stored(stored.body.clone(), stored.trailers.clone());
        (plain_head().into_owned(), stored.status, body)
    };
    if stored.earlier_cache {
        headers.insert(AGE, age);
        headers.append(CACHE_STATUS, status);
    } else {
        fill_in(&mut headers, age, status);
    }
    let mut response = assemble(code, headers, body);
    if stored.plain_only {
        leave_uncompressed(&mut response);
    }
    response
}

/// Tells layers outside what the one who made the response said in its extensions, which aren't stored.
fn leave_uncompressed<B>(response: &mut Response<B>) {
    response.extensions_mut().insert(LeaveUncompressed);
}

/// Puts both into the places that a stored head has for them, which are its first.
fn fill_in(headers: &mut HeaderMap, age: HeaderValue, status: HeaderValue) {
    let mut places = headers.iter_mut();
    match (places.next(), places.next()) {
        (Some((first, of_age)), Some((second, of_status)))
            if *first == AGE && *second == CACHE_STATUS =>
        {
            *of_age = age;
            *of_status = status;
        }
        // A head that was changed since, as that of a form is.
        _ => {
            headers.insert(AGE, age);
            headers.insert(CACHE_STATUS, status);
        }
    }
}

/// What is stored, in place of the answer of an origin that failed, if it may stand in for it
/// (RFC 5861 §4).
pub(crate) fn stand_in<B>(
    core: &Core,
    stale: Option<&Hit<Stored>>,
    directives: &RequestDirectives,
    asked: &Asked,
    status: CacheStatus,
) -> Option<Response<CacheBody<B>>> {
    let now = core.now();
    let stored = fallback(stale?.found(), asked.wish(directives), now)?;
    core.space.count(Count::StaleServed);
    Some(validated(core, stored, asked, now.as_millis(), &status.detail(STALE_IF_ERROR)))
}

/// A response that is arriving; `None` if its beginning is gone.
pub(crate) fn arriving<B>(
    core: &Core,
    response: &Arriving,
    asked: &Asked,
    status: &CacheStatus,
) -> Option<Response<CacheBody<B>>> {
    let dress = core.arriving_dress(response, &asked.headers);
    let conditions = dress.as_ref().map_or(&asked.headers, |dress| dress.asked(&asked.headers));
    let unchanged =
        response.status == StatusCode::OK && not_modified(conditions, &response.validators);
    let mut headers = response.headers.clone();
    if let Some(dress) = &dress {
        dress.tell_of_others(&mut headers);
    }
    let (mut headers, code, body) = if unchanged {
        headers = not_modified_headers(&headers);
        if let Some(dress) = &dress {
            dress.restore_tag(&mut headers);
        }
        (headers, StatusCode::NOT_MODIFIED, CacheBody::empty())
    } else {
        let body = if asked.is_head() {
            CacheBody::empty()
        } else {
            CacheBody::shared(response.body.reader()?)
        };
        (headers, response.status, body)
    };
    // A response that comes straight from the origin has no `Age` (RFC 9111 §5.1); one that has been
    // here for a second, or at an earlier cache, does.
    match response.times.age(core.now_ms()) {
        0 => match &response.received_age {
            Some(age) => drop(headers.insert(AGE, age.clone())),
            None => drop(headers.remove(AGE)),
        },
        age => drop(headers.insert(AGE, age_value(age))),
    }
    put_status(&mut headers, status.to_value(&core.settings.name));
    let mut reply = assemble(code, headers, body);
    if response.plain_only {
        leave_uncompressed(&mut reply);
    }
    Some(reply)
}

/// The inner service's response, untouched but for `Cache-Status`.
pub(crate) fn pass<B>(
    core: &Core,
    response: Response<B>,
    status: &CacheStatus,
) -> Response<CacheBody<B>> {
    let mut response = response.map(CacheBody::inner);
    put_status(response.headers_mut(), status.to_value(&core.settings.name));
    response
}

/// As [`pass`], while a copy is made of its body.
pub(crate) fn captured<B>(
    core: &Core,
    response: Response<B>,
    capture: Capture,
    status: &CacheStatus,
) -> Response<CacheBody<B>> {
    let mut response = response.map(|body| CacheBody::captured(body, capture));
    put_status(response.headers_mut(), status.to_value(&core.settings.name));
    response
}

/// The answer to one who asked for the whole, when the origin sent another part than what was asked
/// for: the request can't be sent again.
pub(crate) fn bad_gateway<B>(core: &Core, status: &CacheStatus) -> Response<CacheBody<B>> {
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_STATUS, status.to_value(&core.settings.name));
    assemble(StatusCode::BAD_GATEWAY, headers, CacheBody::empty())
}

/// The inner service's response to a request that was forwarded without the client's conditions: so
/// they are evaluated here.
pub(crate) fn for_one<B>(
    core: &Core,
    response: Response<B>,
    asked: &Asked,
    status: &CacheStatus,
) -> Response<CacheBody<B>> {
    evaluated(core, response.map(CacheBody::inner), asked, status)
}

/// The same of a response that was made whole.
pub(crate) fn spliced<B>(
    core: &Core,
    response: Response<Spliced<B>>,
    asked: &Asked,
    status: &CacheStatus,
) -> Response<CacheBody<B>> {
    evaluated(core, response.map(CacheBody::spliced), asked, status)
}

fn evaluated<B>(
    core: &Core,
    mut response: Response<CacheBody<B>>,
    asked: &Asked,
    status: &CacheStatus,
) -> Response<CacheBody<B>> {
    put_status(response.headers_mut(), status.to_value(&core.settings.name));
    let validators = Validators::from_headers(response.headers()).of_origin();
    if response.status() == StatusCode::OK && not_modified(&asked.headers, &validators) {
        unchanged(response)
    } else {
        response
    }
}

/// 304 in place of a response that the client has: its fields without those of the content (RFC 9110
/// §15.4.5).
fn unchanged<B>(response: Response<CacheBody<B>>) -> Response<CacheBody<B>> {
    let mut response = response.map(|_| CacheBody::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_RANGE, TRANSFER_ENCODING] {
        response.headers_mut().remove(name);
    }
    response
}

/// The answer to `only-if-cached` when nothing is (RFC 9111 §5.2.1.7).
pub(crate) fn gateway_timeout<B>(core: &Core, status: &CacheStatus) -> Response<CacheBody<B>> {
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_STATUS, status.to_value(&core.settings.name));
    assemble(StatusCode::GATEWAY_TIMEOUT, headers, CacheBody::empty())
}

/// Adds our member behind those of earlier caches (RFC 9211 §2); a stored head has an empty place
/// for it if there were none.
fn put_status(headers: &mut HeaderMap, status: HeaderValue) {
    let place = headers.get(CACHE_STATUS).is_none_or(HeaderValue::is_empty);
    if place {
        headers.insert(CACHE_STATUS, status);
    } else {
        headers.append(CACHE_STATUS, status);
    }
}

fn assemble<B>(
    status: StatusCode,
    headers: HeaderMap,
    body: CacheBody<B>,
) -> Response<CacheBody<B>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
