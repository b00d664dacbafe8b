//! `Max-Forwards` (RFC 9110 §7.6.2).

use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, MAX_FORWARDS,
    PROXY_AUTHORIZATION,
};
use http::{Method, Request, Response, StatusCode};

use super::respond::METHODS;

/// RFC 9110 §9.3.8: what is sensitive isn't sent back.
const SENSITIVE: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

/// Counts a request down that says how far it may go. If that is no further than here, this is the
/// answer to it.
pub(super) fn count_down<B>(request: &mut Request<B>) -> Option<Response<Bytes>> {
    if ![Method::OPTIONS, Method::TRACE].contains(request.method()) {
        return None;
    }
    let left = request.headers().get(MAX_FORWARDS)?.to_str().ok()?;
    // More than fits is more than there are proxies in the world.
    let is_number = !left.is_empty() && left.bytes().all(|digit| digit.is_ascii_digit());
    let left: u32 = is_number.then(|| left.parse().unwrap_or(u32::MAX))?;
    match left.checked_sub(1) {
        Some(left) => {
            request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from(left));
            None
        }
        None if request.method() == Method::TRACE => Some(trace(request)),
        None => Some(options()),
    }
}

/// What this proxy itself can do: it hands all on.
fn options() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    response
}

/// The request as it was received.
fn trace<B>(request: &Request<B>) -> Response<Bytes> {
    let mut message = format!("TRACE {} {:?}\r\n", request.uri(), request.version()).into_bytes();
    let headers = request.headers().iter().filter(|(name, _)| !SENSITIVE.contains(name));
    for (name, value) in headers {
        message.extend_from_slice(name.as_str().as_bytes());
        message.extend_from_slice(b": ");
        message.extend_from_slice(value.as_bytes());
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b"\r\n");
    let mut response = Response::new(Bytes::from(message));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("message/http"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, left: &str) -> Request<()> {
        Request::builder()
            .method(method)
            .uri("/a")
            .header("max-forwards", left)
            .header("cookie", "id=1")
            .header("proxy-authorization", "Basic eA==")
            .header("x-one", "1")
            .body(())
            .unwrap()
    }

    #[test]
    fn it_is_counted_down() {
        for (left, after) in [("2", "1"), ("1", "0"), ("99999999999", "4294967294"), ("-1", "-1")] {
            let mut request = request("OPTIONS", left);
            assert!(count_down(&mut request).is_none());
            assert_eq!(request.headers()["max-forwards"], after);
        }
        let mut get = request("GET", "0");
        assert!(count_down(&mut get).is_none());
        assert_eq!(get.headers()["max-forwards"], "0");
    }

    #[test]
    fn at_zero_the_answer_is_ours() {
        let response = count_down(&mut request("OPTIONS", "0")).unwrap();
        assert_eq!(response.status(), 204);
        assert!(response.headers().contains_key("allow"));

        let response = count_down(&mut request("TRACE", "0")).unwrap();
        assert_eq!(response.headers()["content-type"], "message/http");
        let message = std::str::from_utf8(response.body()).unwrap();
        assert_eq!(message, "TRACE /a HTTP/1.1\r\nmax-forwards: 0\r\nx-one: 1\r\n\r\n");
    }
}
