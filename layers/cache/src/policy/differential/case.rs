//! What both are asked: an exchange, a later request, and a 304 to its validation.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_cache_semantics::{AfterResponse, BeforeRequest, CacheOptions, CachePolicy};

use crate::conditional::{Validators, freshen, selects, strip_conditionals};
use crate::policy::{
    CacheKind, Credentials, Exchange, Heuristic, NotStored, PolicyOptions, RequestClass, Reuse,
    SetCookie, StoredTimes, reuse, storable,
};
use crate::vary::VaryRule;

/// Sun, 06 Nov 1994 08:49:37 GMT: when the response came.
pub(super) const NOW: u64 = 784_111_777;

/// Long after everything is stale.
const FAR: u64 = NOW + 10_000_000_000;

pub(super) type Fields = Vec<(&'static str, String)>;

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) shared: bool,
    pub(super) method: Method,
    pub(super) status: u16,
    pub(super) request: Fields,
    pub(super) response: Fields,
    /// How long the response took.
    pub(super) delay: u64,
    pub(super) later_method: Method,
    pub(super) later: Fields,
    /// How much later.
    pub(super) elapsed: u64,
    pub(super) validation: Fields,
}

/// What one of them makes of a case. What follows `stored` means nothing without it.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
pub(super) struct Answers {
    /// Whether the response is kept, or could be.
    pub(super) stored: bool,
    /// It could be, but as it would never be used, it isn't (RFC 9111 §3: "such responses are not
    /// usually useful to store"). Only its lifetime, of none, means something then.
    pub(super) useless: bool,
    /// For how many seconds it is fresh when it comes.
    pub(super) lifetime: u64,
    /// Its age at the later request.
    pub(super) age: u64,
    /// For how many seconds it has been stale then; theirs doesn't tell.
    pub(super) stale_for: i64,
    /// Whether the later request selects it (`Vary`).
    pub(super) selected: bool,
    /// Whether it answers the later request without validation.
    pub(super) reused: bool,
    /// The conditions of a validation.
    pub(super) conditions: [String; 2],
    /// Whether the 304 is about it.
    pub(super) updated: bool,
    /// Its fields then, each with its lines as one, in the order of their names.
    pub(super) fields: Vec<(String, String)>,
}

pub(super) fn headers(fields: &Fields) -> HeaderMap {
    let field = |(name, value): &(&'static str, String)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(field).collect()
}

fn joined(headers: &HeaderMap, name: &str) -> String {
    let lines = headers.get_all(name).iter().map(|line| line.to_str().unwrap());
    lines.collect::<Vec<_>>().join(", ")
}

fn conditions(headers: &HeaderMap) -> [String; 2] {
    ["if-none-match", "if-modified-since"].map(|name| joined(headers, name))
}

/// All fields but those that speak of this moment.
fn sorted(headers: &HeaderMap) -> Vec<(String, String)> {
    let names = headers.keys().filter(|name| !["age", "date"].contains(&name.as_str()));
    let mut fields: Vec<_> =
        names.map(|name| (name.to_string(), joined(headers, name.as_str()))).collect();
    fields.sort();
    fields
}

impl Case {
    pub(super) fn ours(&self) -> Answers {
        let options = PolicyOptions {
            kind: if self.shared { CacheKind::Shared } else { CacheKind::Private },
            heuristic: Heuristic::Fraction { percent: 10, cap: Duration::MAX },
            // By default, more is refused than the RFC asks; theirs has no such setting.
            credentials: Credentials::Rfc9111,
            set_cookie: SetCookie::Store,
            ..PolicyOptions::default()
        };
        let (request, response) = (headers(&self.request), headers(&self.response));
        let (vary, later) = (VaryRule::of(&response), headers(&self.later));
        let exchange = Exchange {
            method: &self.method,
            request: &request,
            identified: false,
            status: StatusCode::from_u16(self.status).unwrap(),
            response: &response,
            vary: &vary,
            request_time_ms: (NOW - self.delay) * 1000,
            response_time_ms: NOW * 1000,
        };
        let class = RequestClass::of(&self.method, &request, &mut None);
        let lifetime = match (class, storable(&exchange, &options)) {
            (RequestClass::Lookup(_), Ok(lifetime)) => lifetime,
            (RequestClass::Lookup(_), Err(NotStored::NoFreshness | NotStored::Stale)) => {
                return Answers { stored: true, useless: true, ..Answers::default() };
            }
            _ => return Answers::default(),
        };
        let times = StoredTimes::new(&lifetime, NOW * 1000);
        let now_ms = (NOW + self.elapsed) * 1000;
        let verdict = match RequestClass::of(&self.later_method, &later, &mut None) {
            RequestClass::Lookup(directives) => reuse(&times, &directives, now_ms),
            _ => Reuse::MustValidate,
        };
        let variant = |request: &HeaderMap| {
            let mut variant = Vec::new();
            vary.write_variant(request, &mut variant);
            variant
        };
        let validators = Validators::from_headers(&response);
        let mut validating = later.clone();
        strip_conditionals(&mut validating);
        validators.apply(&mut validating);
        let validation = headers(&self.validation);
        let mut freshened = response.clone();
        freshen(&mut freshened, &validation, options.set_cookie);
        Answers {
            stored: true,
            useless: false,
            lifetime: lifetime.fresh_for.as_secs(),
            age: times.age(now_ms),
            stale_for: -times.ttl(now_ms),
            selected: !vary.is_any() && variant(&request) == variant(&later),
            reused: verdict != Reuse::MustValidate,
            conditions: conditions(&validating),
            updated: selects(&validation, &validators),
            fields: sorted(&freshened),
        }
    }

    pub(super) fn theirs(&self) -> Answers {
        let options = CacheOptions {
            shared: self.shared,
            cache_heuristic: 0.1,
            // A setting, and no claim about RFC 8246.
            immutable_min_time_to_live: Duration::ZERO,
            ignore_cargo_cult: false,
        };
        let at = |secs| -> SystemTime { UNIX_EPOCH + Duration::from_secs(secs) };
        let mut response = Response::builder().status(self.status).body(()).unwrap();
        *response.headers_mut() = headers(&self.response);
        let request = request(&self.method, headers(&self.request));
        let policy = CachePolicy::new_options(&request, &response, at(NOW), options);
        let later = headers(&self.later);
        let now = at(NOW + self.elapsed);
        let before = |method: &Method, headers: HeaderMap, now| {
            policy.before_request(&super::case::request(method, headers), now)
        };
        let mut undirected = later.clone();
        undirected.remove("cache-control");
        undirected.remove("pragma");
        let (selected, validating) = match before(&self.method, undirected, at(FAR)) {
            BeforeRequest::Stale { request, matches } => (matches, request.headers),
            BeforeRequest::Fresh(_) => panic!("fresh for too long: {self:?}"),
        };
        let mut validation = Response::builder().status(304).body(()).unwrap();
        *validation.headers_mut() = headers(&self.validation);
        let as_stored = super::case::request(&self.method, later.clone());
        let (updated, parts) = match policy.after_response(&as_stored, &validation, now) {
            AfterResponse::NotModified(_, parts) => (true, parts),
            AfterResponse::Modified(_, parts) => (false, parts),
        };
        let reused = before(&self.later_method, later, now).satisfies_without_revalidation();
        Answers {
            useless: false,
            stored: policy.is_storable(),
            lifetime: policy.time_to_live(at(NOW)).as_secs(),
            age: policy.age(now).as_secs(),
            stale_for: 0,
            selected,
            reused,
            conditions: conditions(&validating),
            updated,
            fields: sorted(&parts.headers),
        }
    }
}

fn request(method: &Method, headers: HeaderMap) -> Request<()> {
    let mut request =
        Request::builder().method(method).uri("http://example.com/").body(()).unwrap();
    *request.headers_mut() = headers;
    request
}
