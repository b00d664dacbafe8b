//! A probe over HTTP/1.1.

use std::future::Future;
use std::ops::RangeInclusive;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;

use super::HealthCheck;
use super::address::{Address, locate};
use super::connect::{Connect, Plain, failed};
use super::exchange::{broken, drive, read};
use super::probe::{Probe, ProbeError};
use crate::error::BuildError;

/// How much of a body is read to look for what is expected in it.
const LONGEST_BODY: usize = 64 * 1024;

/// Passes if the target answers an HTTP/1.1 request by a status that is wanted. HAProxy's `option
/// httpchk`, Envoy's `http_health_check`.
///
/// Each request has a connection of its own. The target's own path doesn't matter.
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
pub struct Http<C = Plain> {
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
            connector: Plain,
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

    /// Connects to this port instead of the target's.
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

    /// Connects by this, as through TLS. Default: [`Plain`].
    pub fn connector<D: Connect>(self, connector: D) -> Http<D> {
        let Self { path, method, headers, host, port, statuses, body, connector: _ } = self;
        Http { path, method, headers, host, port, statuses, body, connector }
    }

    fn request(&self, place: &Uri) -> Result<Request<Empty<Bytes>>, ProbeError> {
        let path = self.path.as_ref().map_or("/", PathAndQuery::as_str);
        let mut request = Request::builder().method(&self.method).uri(path);
        let authority =
            place.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
        let host = self.host.clone().map(Ok).or(authority);
        if let (Some(headers), Some(Ok(host))) = (request.headers_mut(), host) {
            headers.insert(USER_AGENT, HeaderValue::from_static("tower-keep"));
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
            headers.extend(self.headers.clone());
            headers.insert(HOST, host);
        }
        request.body(Empty::new()).map_err(ProbeError::other)
    }

    fn wants(&self, status: u16) -> bool {
        if self.statuses.is_empty() {
            return (200..=299).contains(&status);
        }
        self.statuses.iter().any(|range| range.contains(&status))
    }
}

impl<C: Connect> Http<C> {
    async fn ask(&self, place: Result<Uri, ProbeError>) -> Result<(), ProbeError> {
        let place = place?;
        let request = self.request(&place)?;
        let io = TokioIo::new(self.connector.connect(&place).await.map_err(failed)?);
        let (mut sender, connection) = handshake(io).await.map_err(broken)?;
        let limit = if self.body.is_some() { LONGEST_BODY } else { 0 };
        let answer =
            async { read(sender.send_request(request).await.map_err(broken)?, limit).await };
        let answer = drive(connection, answer).await?;
        let status = answer.head.status.as_u16();
        if !self.wants(status) {
            return Err(ProbeError::Status(status));
        }
        match &self.body {
            Some(text) if !contains(&answer.body, text) => Err(ProbeError::Body),
            _ => Ok(()),
        }
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

impl<T: Address, C: Connect> Probe<T> for Http<C> {
    fn probe(&self, target: &T) -> impl Future<Output = Result<(), ProbeError>> + Send {
        self.ask(locate(target, self.port))
    }

    fn validate(&self) -> Result<(), BuildError> {
        let text = "the path of a health check begins with a slash, as in /health?ready=1";
        self.path.as_ref().map(|_| ()).ok_or(BuildError::Setting(text))
    }
}

impl HealthCheck<Http> {
    /// Checks by GET of `path` over HTTP/1.1, which has to be answered by 200 to 299: see [`Http`].
    pub fn http(path: &str) -> Self {
        Self::new(Http::get(path))
    }
}
