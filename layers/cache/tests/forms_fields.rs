//! What the fields of a response say in each of its forms, whichever way the answer came, and which
//! conditions and ranges of requests are about which form.
#![cfg(all(feature = "br", feature = "gzip"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/forms.rs"]
mod kept;
#[path = "support/origin.rs"]
mod origin;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::time::sleep;
use tower::Layer;
use tower_keep_cache::CacheLayer;
use tower_keep_compress::{Encoding, encode_all};
use tower_keep_store::{L1, Redis, Store};
use tower_keep_testing::RedisServer;

use kept::*;
use origin::*;

#[tokio::test]
async fn trailers_follow_a_form_without_what_is_true_of_the_plain_one_alone() {
    let origin = Origin::new(|_, _| async {
        let trailers = [("x-checked", "yes"), ("content-digest", "sha-256=::")];
        let trailers =
            trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let frames = [
            Ok(Frame::data(Bytes::from(page(1)))),
            Ok(Frame::trailers(HeaderMap::from_iter(trailers))),
        ];
        answer(PAGE, "")
            .map(|_| BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames))))
    });
    let (cache, _) = compressing(&origin);
    let plain = accepting(&cache, "gzip").await;
    assert_eq!(plain.trailers.unwrap().len(), 2);
    let got = encoded(&cache, "gzip").await;
    let trailers = got.trailers.clone().unwrap();
    assert_eq!((trailers.len(), &trailers["x-checked"]), (1, &"yes".parse().unwrap()));
    // HTTP/1.1 has no trailers behind a body of announced length.
    assert_eq!(field(&got, "content-length"), None);
    assert_eq!(decoded(&got), page(1).as_bytes());
}

/// What came encoded, as if the origin read no `Accept-Encoding`.
fn in_brotli(fields: &'static [(&'static str, &'static str)]) -> Origin {
    let body = Bytes::from(encode_all(page(1).as_bytes(), Encoding::Brotli, 5).unwrap());
    Origin::new(move |_, _| {
        let mut response = answer(fields, body.clone());
        response.headers_mut().insert("content-encoding", "br".parse().unwrap());
        async move { response }
    })
}

#[tokio::test]
async fn what_must_not_be_transformed_is_not_decoded_either() {
    let control = [("cache-control", "max-age=600, no-transform"), PAGE[1]];
    let (cache, _) = compressing(&in_brotli(Box::leak(Box::new(control))));
    for _ in 0..3 {
        let got = accepting(&cache, "gzip").await;
        assert_eq!(field(&got, "content-encoding"), Some("br"));
    }
    // Or the client says so.
    let (cache, _) = compressing(&in_brotli(PAGE));
    for _ in 0..3 {
        let wish = [("accept-encoding", "gzip"), ("cache-control", "no-transform")];
        assert_eq!(field(&send(&cache, get(&wish)).await, "content-encoding"), Some("br"));
        let got = accepting(&cache, "gzip").await;
        if got.is_hit() {
            assert_eq!(field(&got, "content-encoding"), None);
        }
    }
}

#[tokio::test]
async fn a_range_by_date_never_continues_an_encoded_form() {
    let fields: &[_] = &[
        ("cache-control", "max-age=600"),
        ("content-type", "text/plain"),
        ("last-modified", "Mon, 02 Nov 2020 10:00:00 GMT"),
    ];
    let origin = Origin::new(move |n, _| async move { answer(fields, page(n)) });
    let (cache, _) = compressing(&origin);
    send(&cache, get(&[])).await;
    let rest = [("range", "bytes=100-"), ("if-range", fields[2].1), ("accept-encoding", "br")];
    for _ in 0..2 {
        let got = send(&cache, get(&rest)).await;
        assert_eq!((got.status, decoded(&got)), (200, page(1).into_bytes()));
        // Who accepts no form has the plain one.
        let got = send(&cache, get(&rest[..2])).await;
        assert_eq!((got.status, got.text()), (206, &page(1)[100..]));
        encoded(&cache, "br").await;
    }
}

/// An origin that has to be asked each time, and has nothing new to say.
fn validating() -> Origin {
    Origin::new(|n, request| async move {
        let control = ("cache-control", "max-age=0, must-revalidate");
        let mut response = answer(&[PAGE[1], PAGE[2], control], page(1));
        if n > 1 && request.headers().contains_key("if-none-match") {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response
    })
}

#[tokio::test]
async fn every_answer_says_that_there_are_other_forms() {
    let origin = validating();
    let (cache, _) = compressing(&origin);
    for n in 1..4 {
        let got = send(&cache, get(&[])).await;
        assert_eq!((got.status, origin.calls()), (200, n), "{}", got.cache());
        assert_eq!(field(&got, "vary"), Some("accept-encoding"), "{}", got.cache());
    }
}

#[tokio::test]
async fn who_has_a_form_is_told_so_also_when_the_origin_is_asked() {
    let origin = validating();
    let (cache, _) = compressing(&origin);
    let has = [("accept-encoding", "br"), ("if-none-match", "\"v1--br\"")];
    // As it arrives, and after it was validated.
    for n in 1..4 {
        let got = send(&cache, get(&has)).await;
        assert_eq!((got.status, field(&got, "etag")), (304, Some("\"v1--br\"")), "{}", got.cache());
        assert_eq!(field(&got, "vary"), Some("accept-encoding"));
        assert_eq!(origin.calls(), n);
    }
}

#[tokio::test]
async fn who_has_a_form_is_told_so_by_a_node_that_finds_the_response_in_the_second_tier() {
    let server = RedisServer::start().await;
    let origin = Origin::new(|_, _| async move { answer(PAGE, page(1)) });
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let redis = Redis::connect(&server.url()).await.unwrap();
        let store = Store::builder().l1(L1::bytes(16 << 20)).l2(redis).build().unwrap();
        while !store.is_synced() {
            sleep(Duration::from_millis(2)).await;
        }
        let layer = CacheLayer::builder(store).compress(forms()).build().unwrap();
        nodes.push(layer.layer(origin.clone()));
    }
    send(&nodes[0], get(&[])).await;
    sleep(Duration::from_millis(100)).await;
    let has = [("accept-encoding", "br"), ("if-none-match", "\"v1--br\"")];
    let got = send(&nodes[1], get(&has)).await;
    assert_eq!((got.status, field(&got, "etag")), (304, Some("\"v1--br\"")), "{}", got.cache());
    assert_eq!(field(&got, "vary"), Some("accept-encoding"));
    assert_eq!(origin.calls(), 1);
}
