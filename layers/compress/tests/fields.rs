//! What the layer does to the fields of responses and of requests.
#![cfg(all(feature = "br", feature = "deflate", feature = "gzip", feature = "zstd"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/plain.rs"]
mod support;

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{Empty, Full};
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_compress::{CompressLayer, Encoding, EntityTags, LeaveUncompressed};

use support::{ask, ask_by, field, plain, read, response, text};

const ACCEPT: [(&str, &str); 1] = [("accept-encoding", "gzip, br, zstd")];

fn layer() -> CompressLayer {
    CompressLayer::builder().encodings([Encoding::Brotli, Encoding::Gzip]).build().unwrap()
}

#[tokio::test]
async fn an_encoded_response_says_so_and_nothing_that_is_true_of_the_plain_one_alone() {
    let inner = text(&[
        ("content-length", "2200"),
        ("accept-ranges", "bytes"),
        ("content-digest", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),
        ("repr-digest", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),
        ("digest", "sha-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="),
        ("content-md5", "Q2hlY2sgSW50ZWdyaXR5IQ=="),
        ("etag", "\"abc\""),
        ("last-modified", "Mon, 02 Nov 2026 10:00:00 GMT"),
        ("x-other", "stays"),
    ]);
    let (head, body) = ask(&layer(), &ACCEPT, inner).await.into_parts();
    let len = body.size_hint().exact().unwrap();
    let mut names: Vec<_> = head.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "content-encoding",
            "content-length",
            "content-type",
            "etag",
            "last-modified",
            "vary",
            "x-other"
        ]
    );
    assert_eq!(field(&head.headers, "content-encoding"), Some("br"));
    assert_eq!(field(&head.headers, "content-length"), Some(&*len.to_string()));
    assert_eq!(field(&head.headers, "etag"), Some("\"abc--br\""));
    assert_eq!(field(&head.headers, "vary"), Some("accept-encoding"));
    let (encoded, trailers) = read(body).await;
    assert_eq!(encoded.len() as u64, len);
    assert_eq!(plain("br", &encoded), "All work and no play. ".repeat(100).as_bytes());
    assert_eq!(trailers, None);
}

#[tokio::test]
async fn a_plain_response_that_others_get_encoded_varies_and_one_that_nobody_does_not() {
    let response = ask(&layer(), &[], text(&[("etag", "\"abc\"")])).await;
    assert_eq!(field(response.headers(), "vary"), Some("accept-encoding"));
    assert_eq!(field(response.headers(), "etag"), Some("\"abc\""));
    assert_eq!(field(response.headers(), "content-encoding"), None);

    let image = text(&[("content-type", "image/png"), ("accept-ranges", "bytes")]);
    let response = ask(&layer(), &ACCEPT, image).await;
    assert_eq!(field(response.headers(), "vary"), None);
    assert_eq!(field(response.headers(), "accept-ranges"), Some("bytes"));
    assert_eq!(read(response.into_body()).await.0.len(), 2200);
}

#[tokio::test]
async fn a_short_response_stays_plain_whether_its_length_is_announced_or_not() {
    let short = response(&[("content-type", "text/plain")], Full::<Bytes>::from("short"));
    let answer = ask(&layer(), &ACCEPT, short).await;
    assert_eq!(field(answer.headers(), "content-encoding"), None);
    assert_eq!(field(answer.headers(), "vary"), Some("accept-encoding"));
    assert_eq!(answer.body().size_hint().exact(), Some(5));
    assert_eq!(read(answer.into_body()).await.0, b"short");

    let refusing = [("accept-encoding", "br, identity;q=0")];
    let short = response(&[("content-type", "text/plain")], Full::<Bytes>::from("short"));
    let answer = ask(&layer(), &refusing, short).await;
    assert_eq!(field(answer.headers(), "content-encoding"), Some("br"));
    assert_eq!(plain("br", &read(answer.into_body()).await.0), b"short");
}

#[tokio::test]
async fn a_response_to_head_has_the_fields_of_the_one_to_get_without_its_length() {
    let fields = [("content-length", "2200"), ("etag", "\"abc\""), ("accept-ranges", "bytes")];
    let get = ask(&layer(), &ACCEPT, text(&fields)).await;
    let mut empty = response(&fields, Empty::<Bytes>::new());
    empty.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    let head = ask_by("HEAD", &layer(), &ACCEPT, empty).await;
    let mut expected = get.headers().clone();
    expected.remove("content-length");
    assert_eq!(head.headers(), &expected);
    assert!(head.body().is_end_stream());

    // A short one is plain for both.
    let short = [("content-type", "text/plain"), ("content-length", "5")];
    let head = ask_by("HEAD", &layer(), &ACCEPT, response(&short, Empty::<Bytes>::new())).await;
    assert_eq!(field(head.headers(), "content-length"), Some("5"));
    assert_eq!(field(head.headers(), "content-encoding"), None);
}

#[tokio::test]
async fn what_is_marked_or_excepted_is_left_alone() {
    let mut secret = text(&[]);
    secret.extensions_mut().insert(LeaveUncompressed);
    let answer = ask(&layer(), &ACCEPT, secret).await;
    assert_eq!(field(answer.headers(), "content-encoding"), None);

    let builder = CompressLayer::builder().when(|head| !head.headers().contains_key("set-cookie"));
    let careful = builder.build().unwrap();
    for (name, encoded) in [("set-cookie", false), ("x-other", true)] {
        let answer = ask(&careful, &ACCEPT, text(&[(name, "id=1")])).await;
        assert_eq!(answer.headers().contains_key("content-encoding"), encoded, "{name}");
    }
}

#[tokio::test]
async fn each_type_can_have_its_own_codings_and_be_added_or_left_out() {
    let layer = CompressLayer::builder()
        .encodings_for("text/html", [Encoding::Gzip])
        .compress_type("application/x-mine")
        .leave_type("text/csv")
        .event_streams(true)
        .build()
        .unwrap();
    for (kind, encoding) in [
        ("text/html; charset=utf-8", Some("gzip")),
        ("text/plain", Some("zstd")),
        ("application/x-mine", Some("zstd")),
        ("text/csv", None),
        ("text/event-stream", Some("zstd")),
        ("application/octet-stream", None),
    ] {
        let answer = ask(&layer, &ACCEPT, text(&[("content-type", kind)])).await;
        assert_eq!(field(answer.headers(), "content-encoding"), encoding, "{kind}");
    }
}

#[tokio::test]
async fn a_client_that_accepts_nothing_gets_the_plain_form_or_406() {
    let nothing = [("accept-encoding", "*;q=0")];
    let answer = ask(&layer(), &nothing, text(&[])).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(field(answer.headers(), "content-encoding"), None);

    let strict = CompressLayer::builder().refuse_unacceptable(true).build().unwrap();
    let answer = ask(&strict, &nothing, text(&[("etag", "\"abc\"")])).await;
    assert_eq!(answer.status(), StatusCode::NOT_ACCEPTABLE);
    assert_eq!(field(answer.headers(), "vary"), Some("accept-encoding"));
    assert_eq!(answer.headers().len(), 1);
    assert!(answer.body().is_end_stream());
}

/// A resource with an entity tag, as a careful service has it.
async fn resource(request: Request<Empty<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let listed = |name: &str| {
        let lines = request.headers().get_all(name).iter();
        lines.flat_map(|line| line.to_str().unwrap().split(',')).any(|tag| tag.trim() == "\"abc\"")
    };
    let headers = request.headers();
    if headers.contains_key("if-match") && !listed("if-match") {
        return Ok(Response::builder().status(412).body(Full::default()).unwrap());
    }
    if *request.method() == Method::PUT {
        return Ok(Response::builder().status(204).body(Full::default()).unwrap());
    }
    if listed("if-none-match") {
        let unchanged = Response::builder().status(304).header("etag", "\"abc\"");
        return Ok(unchanged.body(Full::default()).unwrap());
    }
    if headers.contains_key("range")
        && headers.get("if-range").is_none_or(|validator| validator == "\"abc\"")
    {
        let part = Response::builder().status(206).header("etag", "\"abc\"");
        let part =
            part.header("content-range", "bytes 0-1/2200").header("content-type", "text/plain");
        return Ok(part.body(Full::from("Al")).unwrap());
    }
    Ok(text(&[("etag", "\"abc\""), ("accept-ranges", "bytes")]))
}

async fn ask_resource(
    layer: &CompressLayer,
    method: &str,
    fields: &[(&str, &str)],
) -> (StatusCode, HeaderMap) {
    let mut request = Request::builder().method(method);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let service = layer.layer(service_fn(resource));
    let answer = service.oneshot(request.body(Empty::new()).unwrap()).await.unwrap();
    (answer.status(), answer.headers().clone())
}

#[tokio::test]
async fn a_client_that_comes_back_with_the_tag_it_was_given_is_told_that_nothing_changed() {
    for tags in [EntityTags::Suffix, EntityTags::Weaken] {
        for accept in ["br", "gzip", "identity", "zstd, gzip"] {
            let layer = CompressLayer::builder().entity_tags(tags).build().unwrap();
            let accept = ("accept-encoding", accept);
            let (_, first) = ask_resource(&layer, "GET", &[accept]).await;
            let etag = field(&first, "etag").unwrap();
            let again = [accept, ("if-none-match", etag)];
            let (status, second) = ask_resource(&layer, "GET", &again).await;
            assert_eq!(status, StatusCode::NOT_MODIFIED, "{accept:?} {etag}");
            assert_eq!(field(&second, "etag"), Some(etag));
            assert_eq!(field(&second, "content-encoding"), None);
            if etag != "\"abc\"" {
                assert_eq!(field(&second, "vary"), Some("accept-encoding"));
            }
        }
    }
}

#[tokio::test]
async fn a_tag_in_a_coding_that_the_client_does_not_accept_any_more_is_not_known() {
    let fields = [("accept-encoding", "gzip"), ("if-none-match", "\"abc--br\"")];
    let (status, headers) = ask_resource(&layer(), "GET", &fields).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(field(&headers, "etag"), Some("\"abc--gzip\""));
}

#[tokio::test]
async fn an_edit_of_the_encoded_form_is_an_edit_of_the_resource() {
    for (tag, status) in [("\"abc--br\"", 204), ("\"abc\"", 204), ("\"old--br\"", 412)] {
        let fields = [("accept-encoding", "br"), ("if-match", tag)];
        assert_eq!(ask_resource(&layer(), "PUT", &fields).await.0, status, "{tag}");
    }
}

#[tokio::test]
async fn a_range_is_one_of_the_plain_form_and_never_continues_an_encoded_one() {
    let accept = ("accept-encoding", "br");
    let (status, headers) =
        ask_resource(&layer(), "GET", &[accept, ("range", "bytes=0-1"), ("if-range", "\"abc\"")])
            .await;
    assert_eq!(status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(field(&headers, "etag"), Some("\"abc\""));
    assert_eq!(field(&headers, "content-encoding"), None);

    let continued = [accept, ("range", "bytes=0-1"), ("if-range", "\"abc--br\"")];
    let (status, headers) = ask_resource(&layer(), "GET", &continued).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(field(&headers, "etag"), Some("\"abc--br\""));
    assert_eq!(field(&headers, "accept-ranges"), None);
}

#[tokio::test]
async fn a_part_of_what_has_other_forms_says_so() {
    let part = |kind| {
        let fields = [("content-type", kind), ("content-range", "bytes 0-1/2200")];
        let mut part = text(&fields);
        *part.status_mut() = StatusCode::PARTIAL_CONTENT;
        part
    };
    // RFC 9110 §15.3.7: as the whole would.
    let answer = ask(&layer(), &ACCEPT, part("text/plain")).await;
    assert_eq!(field(answer.headers(), "vary"), Some("accept-encoding"));
    assert_eq!(field(answer.headers(), "content-encoding"), None);
    let answer = ask(&layer(), &ACCEPT, part("image/png")).await;
    assert_eq!(field(answer.headers(), "vary"), None);
}

#[tokio::test]
async fn a_date_does_not_continue_an_encoded_form() {
    let seen = async |fields: &[(&str, &str)]| {
        let service = service_fn(|request: Request<Empty<Bytes>>| async move {
            let asked = request.headers().contains_key("range");
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(asked.to_string())))
        });
        let mut request = Request::get("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let service = layer().layer(service);
        let answer = service.oneshot(request.body(Empty::new()).unwrap()).await.unwrap();
        read(answer.into_body()).await.0
    };
    let range: (&str, &str) = ("range", "bytes=5-");
    let date: (&str, &str) = ("if-range", "Mon, 02 Nov 2026 10:00:00 GMT");
    // It is that of both forms, and the client may have the beginning of either.
    assert_eq!(seen(&[range, date, ("accept-encoding", "br")]).await, b"false");
    assert_eq!(seen(&[range, date]).await, b"true");
    assert_eq!(seen(&[range, date, ("accept-encoding", "zstd")]).await, b"true");
    assert_eq!(seen(&[range, ("accept-encoding", "br")]).await, b"true");
    let tag = &[range, ("if-range", "\"abc\""), ("accept-encoding", "br")];
    assert_eq!(seen(tag).await, b"true");
}
