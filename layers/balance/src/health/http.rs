//! A probe over HTTP.

use std::ops::RangeInclusive;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use http_body_util::Empty;

use super::HealthCheck;
use super::address::{Address, locate};
use super::connect::{ByTarget, Connect, Versions, failed};
use super::exchange::ask;
use super::probe::{Probe, ProbeError};
use crate::error::BuildError;

/// How much of a body is read to look for what is expected in it.
const LONGEST_BODY: usize = 64 * 1024;

/// Passes if the target answers a request by a status that is wanted. HAProxy's `option httpchk`,
/// Envoy's `http_health_check`.
///
/// Each request has a connection of its own, which is made [as the target says](ByTarget): to a
/// proxy's `Upstream` with the same TLS and in the same version of HTTP as its requests. To what is
/// only an address, it is HTTP/1.1 without TLS. The target's own path doesn't matter.
///
/// ```
/// use tower_keep_balance::HealthCheck;
/// use tower_keep_balance::health::Http;
///
/// let simple = HealthCheck::http("/health");
/// let picky = HealthCheck::new(Http::get("/health").status(200..=204).status(429..=429).port(9000));
/// # let _ = (simple, picky);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Http<C = ByTarget> {
    path: Option<PathAndQuery>,
    method: Method,
    headers: HeaderMap,
    host: Option<HeaderValue>,
    port: Option<u16>,
    statuses: Vec<RangeInclusive<u16>>,
    body: Option<Bytes>,
    connector: C,
}

impl Http {
    /// By GET of `path`, which may have a query.
    pub fn get(path: &str) -> Self {
        Self {
            path: path.parse().ok().filter(|_| path.starts_with('/')),
            method: Method::GET,
            headers: HeaderMap::new(),
            host: None,
            port: None,
            statuses: Vec::new(),
            body: None,
            connector: ByTarget,
        }
    }
}

impl<C> Http<C> {
    /// By this method. Default: GET.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// With this field in the request.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// With this `Host`. Default: the host and port of the target.
    pub fn host(mut self, host: HeaderValue) -> Self {
        self.host = Some(host);
        self
    }

    /// Connects to this port instead of the target's; with TLS, if the target has it, and for the same
    /// name. To one without it, together with [`Plain`](super::Plain).
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// These statuses pass; say it again for more. Default: 200 to 299. Redirects aren't followed.
    pub fn status(mut self, statuses: RangeInclusive<u16>) -> Self {
        self.statuses.push(statuses);
        self
    }

    /// The body has to contain this, within its first 64 KiB. HAProxy's `http-check expect string`.
    pub fn body_contains(mut self, text: impl Into<Bytes>) -> Self {
        self.body = Some(text.into());
        self
    }

    /// Connects by this. Default: [`ByTarget`].
    pub fn connector<D>(self, connector: D) -> Http<D> {
        let Self { path, method, headers, host, port, statuses, body, connector: _ } = self;
        Http { path, method, headers, host, port, statuses, body, connector }
    }

    fn request(&self, place: Uri, is_http2: bool) -> Result<Request<Empty<Bytes>>, ProbeError> {
        let path = self.path.clone().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut request = Request::new(Empty::new());
        *request.method_mut() = self.method.clone();
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static("tower-keep"));
        headers.extend(self.headers.clone());
        let mut parts = place.into_parts();
        if is_http2 {
            // RFC 9113, section 8.3.1: the host stands in the target.
            if let Some(host) = &self.host {
                let host = Authority::try_from(host.as_bytes());
                parts.authority = Some(host.map_err(ProbeError::other)?);
            }
            parts.path_and_query = Some(path);
            *request.uri_mut() = Uri::from_parts(parts).map_err(ProbeError::other)?;
            *request.version_mut() = Version::HTTP_2;
            return Ok(request);
        }
        let place = parts.authority.map(|it| HeaderValue::from_str(it.as_str()));
        if let Some(Ok(host)) = self.host.clone().map(Ok).or(place) {
            headers.insert(HOST, host);
        }
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        *request.uri_mut() = Uri::from(path);
        Ok(request)
    }

    fn wants(&self, status: u16) -> bool {
        if self.statuses.is_empty() {
            return (200..=299).contains(&status);
        }
        self.statuses.iter().any(|range| range.contains(&status))
    }
}

impl<T: Address, C: Connect<T>> Probe<T> for Http<C> {
    async fn probe(&self, target: &T) -> Result<(), ProbeError> {
        let place = locate(target, self.port)?;
        let connecting = self.connector.connect(target, &place, Versions::Any);
        let connection = connecting.await.map_err(failed)?;
        let request = self.request(place, connection.is_http2)?;
        let limit = if self.body.is_some() { LONGEST_BODY } else { 0 };
        let answer = ask(connection, request, limit).await?;
        let status = answer.head.status.as_u16();
        if !self.wants(status) {
            return Err(ProbeError::Status(status));
        }
        match &self.body {
            Some(text) if !contains(&answer.body, text) => Err(ProbeError::Body),
            _ => Ok(()),
        }
    }

    fn validate(&self) -> Result<(), BuildError> {
        let text = "the path of a health check begins with a slash, as in /health?ready=1";
        self.path.as_ref().map(|_| ()).ok_or(BuildError::Setting(text))
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

impl HealthCheck<Http> {
    /// Checks by GET of `path`, which has to be answered by 200 to 299: see [`Http`].
    pub fn http(path: &str) -> Self {
        Self::new(Http::get(path))
    }
}
