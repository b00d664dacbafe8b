//! What of gRPC is to be understood to refuse its calls: whether a request is one, and how a status
//! is given without a body.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What `grpc-message` can't hold as it is: "percent-encoded" in the protocol's grammar.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// The media type to answer in, if the request is one of gRPC or gRPC-Web.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    let value = headers.get(CONTENT_TYPE)?;
    let prefix = value.as_bytes().get(.."application/grpc".len())?;
    let rest = value.as_bytes().get("application/grpc".len()..)?;
    let is_one = prefix.eq_ignore_ascii_case(b"application/grpc")
        && matches!(rest.first(), None | Some(b'+' | b';' | b'-'));
    is_one.then_some(value)
}

/// "Trailers-Only": the status in the head, and no body.
pub(crate) fn trailers_only<B: Default>(
    media_type: HeaderValue,
    code: u16,
    message: &str,
) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert("grpc-status", code.into());
    let message = utf8_percent_encode(message, ENCODED).to_string();
    // What is left is visible ASCII and spaces.
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert("grpc-message", message);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_grpc_and_grpc_web_by_their_media_types() {
        for (value, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", true),
            ("application/grpc-web-text+proto", true),
            ("Application/GRPC", true),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
            assert_eq!(media_type(&headers).is_some(), is, "{value}");
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        let media_type = HeaderValue::from_static("application/grpc");
        let response: Response<()> = trailers_only(media_type, 7, "100 % gr\u{fc}n\n");
        assert_eq!(response.headers()["grpc-message"], "100 %25 gr%C3%BCn%0A");
        assert_eq!(response.headers()["grpc-status"], "7");
    }
}
