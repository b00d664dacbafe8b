//! A probe by the gRPC health checking protocol, `grpc.health.v1`.
//!
//! Its two messages have one field each, so they are written and read here: that is less than to
//! bring a gRPC stack and generated code along.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::Full;

use super::HealthCheck;
use super::address::{Address, locate};
use super::connect::{ByTarget, Connect, Versions, failed};
use super::exchange::{Answer, ask};
use super::probe::{Probe, ProbeError};

const PATH: &str = "/grpc.health.v1.Health/Check";

/// `ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// More than any answer has.
const LONGEST_ANSWER: usize = 4 * 1024;

/// Passes if the target's health service ([`grpc.health.v1`]) answers `SERVING`. Envoy's
/// `grpc_health_check`.
///
/// Each call has a connection of its own, which is made [as the target says](ByTarget): to a proxy's
/// `Upstream` with the same TLS as its requests. It is HTTP/2, without TLS with prior knowledge.
///
/// [`grpc.health.v1`]: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
#[derive(Clone, Debug)]
#[must_use]
pub struct Grpc<C = ByTarget> {
    service: String,
    port: Option<u16>,
    connector: C,
}

impl Grpc {
    /// Asks for `service`, as in `package.Service`; an empty name stands for the whole server.
    pub fn service(service: impl Into<String>) -> Self {
        Self { service: service.into(), port: None, connector: ByTarget }
    }
}

impl<C> Grpc<C> {
    /// Connects to this port instead of the target's; with TLS, if the target has it, and for the same
    /// name. To one without it, together with [`Plain`](super::Plain).
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Connects by this. Default: [`ByTarget`].
    pub fn connector<D>(self, connector: D) -> Grpc<D> {
        Grpc { service: self.service, port: self.port, connector }
    }

    fn request(&self, place: Uri) -> Result<Request<Full<Bytes>>, ProbeError> {
        let mut parts = place.into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static(PATH));
        let uri = Uri::from_parts(parts).map_err(ProbeError::other)?;
        Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(uri)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(TE, HeaderValue::from_static("trailers"))
            .header(USER_AGENT, HeaderValue::from_static("tower-keep"))
            .body(Full::new(question(&self.service)))
            .map_err(ProbeError::other)
    }
}

impl<T: Address, C: Connect<T>> Probe<T> for Grpc<C> {
    async fn probe(&self, target: &T) -> Result<(), ProbeError> {
        let place = locate(target, self.port)?;
        let connecting = self.connector.connect(target, &place, Versions::Http2);
        let connection = connecting.await.map_err(failed)?;
        judge(&ask(connection, self.request(place)?, LONGEST_ANSWER).await?)
    }
}

/// A `HealthCheckRequest` in its frame: the service's name is field 1.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(length.to_le_bytes()[0] | 0x80);
            length >>= 7;
        }
        message.put_u8(length.to_le_bytes()[0]);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&message);
    frame.freeze()
}

fn judge(answer: &Answer) -> Result<(), ProbeError> {
    if answer.head.status != StatusCode::OK {
        return Err(ProbeError::Status(answer.head.status.as_u16()));
    }
    let status = |fields: &HeaderMap| {
        let value = fields.get("grpc-status")?;
        // One that can't be read is UNKNOWN.
        Some(value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(2))
    };
    match answer.trailers.as_ref().and_then(status).or_else(|| status(&answer.head.headers)) {
        Some(0) => {}
        Some(code) => return Err(ProbeError::GrpcStatus(code)),
        None => return Err(ProbeError::other("the answer has no grpc-status")),
    }
    match serving_status(&answer.body) {
        Some(SERVING) => Ok(()),
        Some(other) => Err(ProbeError::NotServing(other)),
        None => Err(ProbeError::other("the answer is no HealthCheckResponse")),
    }
}

/// Of a framed `HealthCheckResponse`: its field 1, or 0 (`UNKNOWN`) if that isn't there.
fn serving_status(body: &[u8]) -> Option<u64> {
    let (frame, rest) = body.split_at_checked(5)?;
    let (is_compressed, length) = frame.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let mut message = rest.get(..usize::try_from(length).ok()?)?;
    if *is_compressed != 0 {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = varint(&mut message)?,
            (_, 0) => drop(varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

impl HealthCheck<Grpc> {
    /// Checks by `grpc.health.v1`, for `service` or, if that is empty, the whole server: see
    /// [`Grpc`].
    pub fn grpc(service: impl Into<String>) -> Self {
        Self::new(Grpc::service(service))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_question_is_as_protobuf_writes_it() {
        assert_eq!(question("").as_ref(), [0; 5]);
        assert_eq!(question("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = question(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn the_answer_is_read_among_fields_that_are_unknown() {
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(SERVING));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(serving_status(&[0, 0, 0, 0, 7, 0x12, 1, 9, 0x18, 0xff, 1, 0x08]), None);
        assert_eq!(serving_status(&[0, 0, 0, 0, 8, 0x12, 1, 9, 0x18, 0xff, 1, 0x08, 2]), Some(2));
        assert_eq!(serving_status(&[1, 0, 0, 0, 2, 8, 1]), None, "it is compressed");
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = serving_status(&body);
            let mut frame = vec![0, 0, 0, 0, u8::try_from(body.len()).unwrap()];
            frame.extend(body);
            let _ = serving_status(&frame);
        }
    }
}
