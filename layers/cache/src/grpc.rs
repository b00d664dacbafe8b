//! What gRPC says in its own fields about the outcome of a call.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName};

use crate::respond::Asked;

/// The status of a gRPC call: in the trailers, or in the head of a response without a body.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Whether a gRPC call is answered by the head of a response alone, and it isn't `OK`.
pub(crate) fn says_failure(asked: &Asked, headers: &HeaderMap) -> bool {
    asked.covers.content
        && is_grpc(&asked.headers)
        && headers.get(GRPC_STATUS).is_some_and(|status| status != "0")
}

/// Whether a response that has ended is what its sender meant it to be: a gRPC call says so at the
/// end, and one that doesn't has failed, or was broken off on the way here.
pub(crate) fn is_complete(
    asked: &Asked,
    headers: &HeaderMap,
    trailers: Option<&HeaderMap>,
) -> bool {
    if !asked.covers.content || !is_grpc(&asked.headers) {
        return true;
    }
    let said = trailers.and_then(|trailers| trailers.get(GRPC_STATUS));
    said.or_else(|| headers.get(GRPC_STATUS)).is_some_and(|status| status == "0")
}

/// Whether the fields are those of a gRPC call: its path names a method, not a resource.
pub(crate) fn is_grpc(request: &HeaderMap) -> bool {
    let content_type = request.get(CONTENT_TYPE);
    let subtype = content_type.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    // `application/grpc+proto` is, `application/grpc-web` is not.
    subtype.is_some_and(|rest| matches!(rest, [] | [b'+' | b';' | b' ', ..]))
}
