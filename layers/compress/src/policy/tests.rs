//! Tests of what decides on a response.

use super::*;
use crate::layer::CompressLayer;

fn fields(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

fn policy() -> Policy {
    CompressLayer::builder().build().unwrap().policy().clone()
}

fn decide(
    policy: &Policy,
    request: &[(&str, &str)],
    response: &[(&str, &str)],
    len: Option<u64>,
) -> Decision {
    let asked = Asked::of(&Method::GET, &fields(request));
    let (headers, extensions) = (fields(response), Extensions::new());
    policy.decide(&asked, &ResponseHead::new(StatusCode::OK, &headers, &extensions), len)
}

const GZIP: [(&str, &str); 1] = [("accept-encoding", "gzip")];
const HTML: (&str, &str) = ("content-type", "text/html");

#[test]
fn each_reason_to_leave_a_response_alone_is_given() {
    use Reason::*;
    let of = |request: &[_], response: &[_]| decide(&policy(), request, response, Some(9999));
    for (response, reason) in [
        (vec![HTML, ("content-range", "bytes 0-1/9")], Partial),
        (vec![HTML, ("content-encoding", "br")], AlreadyEncoded),
        (vec![HTML, ("content-encoding", "identity")], AlreadyEncoded),
        (vec![HTML, ("cache-control", "max-age=1, No-Transform")], NoTransform),
        (vec![], MediaType),
        (vec![("content-type", "image/png")], MediaType),
        (vec![("content-type", "text/event-stream")], MediaType),
        (vec![("content-type", "application/grpc+json")], MediaType),
    ] {
        assert_eq!(of(&GZIP, &response), Decision::Leave(reason), "{response:?}");
    }
    assert_eq!(of(&GZIP, &[HTML]), Decision::Encode(Encoding::Gzip));
    let no_transform = [GZIP[0], ("cache-control", "no-transform")];
    assert_eq!(of(&no_transform, &[HTML]), Decision::Leave(NoTransform));
    assert_eq!(of(&[], &[HTML]), Decision::Leave(NotAccepted));
    assert_eq!(of(&[("accept-encoding", "*;q=0")], &[HTML]), Decision::Leave(NothingAcceptable));
}

#[test]
fn statuses_without_content_are_left_alone() {
    for status in [101, 204, 205, 304] {
        let (headers, extensions) = (fields(&[HTML]), Extensions::new());
        let status = StatusCode::from_u16(status).unwrap();
        let head = ResponseHead::new(status, &headers, &extensions);
        let decision = policy().decide(&Asked::of(&Method::GET, &fields(&GZIP)), &head, None);
        assert_eq!(decision, Decision::Leave(Reason::NoContent), "{status}");
    }
}

#[test]
fn short_responses_are_left_alone_unless_the_plain_form_is_refused() {
    let of = |accept: &str, len| decide(&policy(), &[("accept-encoding", accept)], &[HTML], len);
    assert_eq!(of("gzip", Some(1023)), Decision::Leave(Reason::TooSmall));
    assert_eq!(of("gzip", Some(1024)), Decision::Encode(Encoding::Gzip));
    assert_eq!(of("gzip", None), Decision::Encode(Encoding::Gzip));
    assert_eq!(of("gzip, identity;q=0", Some(1)), Decision::Encode(Encoding::Gzip));
}

#[test]
fn all_that_depends_on_the_client_varies() {
    for (decision, varies) in [
        (Decision::Encode(Encoding::Gzip), true),
        (Decision::Leave(Reason::NotAccepted), true),
        (Decision::Leave(Reason::TooSmall), true),
        (Decision::Leave(Reason::NothingAcceptable), true),
        (Decision::Leave(Reason::MediaType), false),
        (Decision::Leave(Reason::AlreadyEncoded), false),
    ] {
        assert_eq!(decision.varies(), varies, "{decision:?}");
    }
}

#[test]
fn vary_is_said_once() {
    for (before, after) in [
        (vec![], vec!["accept-encoding"]),
        (vec![("vary", "Origin, Accept-Encoding")], vec!["Origin, Accept-Encoding"]),
        (vec![("vary", "*")], vec!["*"]),
        (vec![("vary", "x-accept-encoding")], vec!["x-accept-encoding", "accept-encoding"]),
    ] {
        let mut headers = fields(&before);
        add_vary(&mut headers);
        assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), after);
    }
}
