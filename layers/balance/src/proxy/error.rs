//! What can go wrong on the way to an upstream and back.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use http::StatusCode;
use http::uri::Authority;

use crate::error::{BalanceError, PickError};
use crate::retry::Fate;
use crate::retry::by_cause;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// What went wrong, by the names of RFC 9209 §2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// `dns_error`: the upstream's name could not be looked up.
    Dns,
    /// `destination_ip_unroutable`: there is no way to it.
    Unroutable,
    /// `connection_refused`.
    Refused,
    /// `connection_timeout`: no connection in time.
    ConnectTimeout,
    /// `tls_certificate_error`: its certificate is not one to trust, or not its own.
    Certificate,
    /// `tls_protocol_error`: the handshake failed.
    Tls,
    /// `connection_terminated`: it ended the connection before its response.
    Terminated,
    /// `http_response_timeout`: no response in time.
    ResponseTimeout,
    /// `http_response_incomplete`: the response began and didn't end.
    Incomplete,
    /// `connection_read_timeout`: it fell silent in the middle of its response.
    ReadTimeout,
    /// `http_protocol_error`: what it said is not HTTP.
    Protocol,
    /// `http_upgrade_failed`: it can't change protocols, or did so without being asked.
    Upgrade,
    /// `http_request_error`: the request is at fault; mostly that its content broke off.
    Request,
    /// `destination_unavailable`: no backend can take the request.
    Unavailable,
    /// `connection_limit_reached`: every backend is at its limit.
    Limit,
    /// `proxy_loop_detected`: the request has been here before.
    Loop,
    /// `proxy_internal_error`.
    Internal,
}

impl ErrorKind {
    /// Its name in `Proxy-Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns_error",
            Self::Unroutable => "destination_ip_unroutable",
            Self::Refused => "connection_refused",
            Self::ConnectTimeout => "connection_timeout",
            Self::Certificate => "tls_certificate_error",
            Self::Tls => "tls_protocol_error",
            Self::Terminated => "connection_terminated",
            Self::ResponseTimeout => "http_response_timeout",
            Self::Incomplete => "http_response_incomplete",
            Self::ReadTimeout => "connection_read_timeout",
            Self::Protocol => "http_protocol_error",
            Self::Upgrade => "http_upgrade_failed",
            Self::Request => "http_request_error",
            Self::Unavailable => "destination_unavailable",
            Self::Limit => "connection_limit_reached",
            Self::Loop => "proxy_loop_detected",
            Self::Internal => "proxy_internal_error",
        }
    }

    /// The status of a response that says so: what RFC 9209 §2.3 recommends; for a loop, 508
    /// (RFC 5842 §7.2).
    pub fn status(self) -> StatusCode {
        match self {
            Self::ConnectTimeout | Self::ResponseTimeout | Self::ReadTimeout => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::Unavailable | Self::Limit => StatusCode::SERVICE_UNAVAILABLE,
            Self::Request => StatusCode::BAD_REQUEST,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

/// Why an upstream gave no response, or no whole one.
#[derive(Clone, Debug)]
pub struct UpstreamError {
    kind: ErrorKind,
    fate: Fate,
    /// Which upstream, as its URL says it.
    authority: Option<Authority>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl UpstreamError {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self { kind, fate: Fate::Sent, authority: None, source: None }
    }

    pub(crate) fn with(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    pub(crate) fn unsent(mut self) -> Self {
        self.fate = Fate::Unsent;
        self
    }

    pub(crate) fn of(mut self, authority: &Authority) -> Self {
        self.authority = Some(authority.clone());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What became of the request: whether it has been sent, and if so, whether the upstream has
    /// certainly not begun to work on it (RFC 9113 §8.7). If either is so, even a request that isn't
    /// idempotent can be given to another.
    pub fn fate(&self) -> Fate {
        self.fate
    }

    /// Whether it says nothing of the upstream: the request is at fault, or what was asked is beyond
    /// what the upstream was set to.
    pub(crate) fn is_our_own(&self) -> bool {
        matches!(self.kind, ErrorKind::Request | ErrorKind::Upgrade)
    }

    /// Of an attempt to connect: nothing has been sent.
    pub(crate) fn connect(error: impl Into<BoxError>) -> Self {
        let error = error.into();
        let kind = connect_kind(&*error);
        Self::new(kind).unsent().with(error)
    }

    /// Of a request that was given to a connection.
    pub(crate) fn request(error: hyper::Error) -> Self {
        let h2 = find::<h2::Error>(&error);
        let fate = by_cause(&error);
        let is_refused = fate == Fate::Refused && h2.is_some_and(h2::Error::is_reset);
        let kind = if error.is_user() {
            ErrorKind::Request
        } else if error.is_parse() || h2.is_some_and(|h2| !h2.is_io() && !h2.is_go_away()) {
            ErrorKind::Protocol
        } else {
            ErrorKind::Terminated
        };
        let kind = if is_refused { ErrorKind::Unavailable } else { kind };
        Self { fate, ..Self::new(kind).with(error) }
    }

    /// Of a response that had begun.
    pub(crate) fn body(error: hyper::Error) -> Self {
        Self::new(ErrorKind::Incomplete).with(error)
    }
}

fn connect_kind(error: &(dyn Error + 'static)) -> ErrorKind {
    if error.to_string() == "dns error" {
        return ErrorKind::Dns;
    }
    let Some(io) = find::<io::Error>(error) else { return ErrorKind::Protocol };
    match io.kind() {
        io::ErrorKind::TimedOut => ErrorKind::ConnectTimeout,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => ErrorKind::Unroutable,
        io::ErrorKind::ConnectionRefused => ErrorKind::Refused,
        _ => ErrorKind::Terminated,
    }
}

/// The first error of that type among `error` and what it comes from.
pub(crate) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut error = Some(error);
    while let Some(it) = error {
        if let Some(found) = it.downcast_ref() {
            return Some(found);
        }
        error = it.source();
    }
    None
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.kind {
            ErrorKind::Dns => "its name can't be looked up",
            ErrorKind::Unroutable => "there is no way to it",
            ErrorKind::Refused => "it refused the connection",
            ErrorKind::ConnectTimeout => "no connection to it in time",
            ErrorKind::Certificate => "its certificate is not to be trusted",
            ErrorKind::Tls => "the handshake of TLS failed",
            ErrorKind::Terminated => "it ended the connection before its response",
            ErrorKind::ResponseTimeout => "it did not answer in time",
            ErrorKind::Incomplete => "its response broke off",
            ErrorKind::ReadTimeout => "it fell silent in the middle of its response",
            ErrorKind::Protocol => "what it says is not HTTP",
            ErrorKind::Upgrade => "it can't change protocols",
            ErrorKind::Request => "the request broke off",
            ErrorKind::Unavailable => "it takes no request now",
            ErrorKind::Limit => "it is at its limit",
            ErrorKind::Loop => "it leads back here",
            ErrorKind::Internal => "the proxy failed",
        };
        match &self.authority {
            Some(authority) => write!(f, "upstream {authority}: {text}"),
            None => f.write_str(text),
        }
    }
}

impl Error for UpstreamError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// What went wrong, of any error that has one of ours in it.
pub(crate) fn kind_of(error: &(dyn Error + 'static)) -> ErrorKind {
    if let Some(error) = find::<UpstreamError>(error) {
        return error.kind();
    }
    match find::<BalanceError<UpstreamError>>(error) {
        Some(BalanceError::Pick(why)) => of_pick(*why),
        _ => find::<PickError>(error).copied().map_or(ErrorKind::Internal, of_pick),
    }
}

/// What it is that no backend was picked.
pub(crate) fn of_pick(why: PickError) -> ErrorKind {
    match why {
        PickError::Saturated => ErrorKind::Limit,
        PickError::Empty | PickError::Unhealthy => ErrorKind::Unavailable,
    }
}
