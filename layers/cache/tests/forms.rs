//! Compressed forms: made once, sent as they are, and never of anything else than what is stored.
#![cfg(all(feature = "br", feature = "gzip"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/forms.rs"]
mod kept;
#[path = "support/origin.rs"]
mod origin;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};
use tower_keep_cache::{CacheLayer, CompressedForms};
use tower_keep_compress::{
    CompressLayer, Encoding, EntityTags, LeaveUncompressed, Levels, Limits, decode_all, encode_all,
};
use tower_keep_store::{L1, Redis, Store};
use tower_keep_testing::RedisServer;

use kept::*;
use origin::*;

#[tokio::test]
async fn a_stored_response_is_sent_compressed_once_its_form_is_made() {
    let origin = Origin::new(|n, _| async move { answer(PAGE, page(n)) });
    let (cache, _) = compressing(&origin);
    for coding in ["br", "gzip"] {
        let plain = accepting(&cache, coding).await;
        assert_eq!((field(&plain, "content-encoding"), plain.text()), (None, page(1).as_str()));
        let got = encoded(&cache, coding).await;
        assert_eq!(decoded(&got), page(1).as_bytes());
        assert!(got.is_hit());
        assert_eq!(field(&got, "vary"), Some("accept-encoding"));
        assert_eq!(field(&got, "etag"), Some(format!("\"v1--{coding}\"").as_str()));
        assert_eq!(field(&got, "content-length"), Some(got.body.len().to_string().as_str()));
        assert!(got.body.len() < page(1).len() / 10);
        let head = request("HEAD", "http://example.com/a", &[("accept-encoding", coding)]);
        let head = send(&cache, head).await;
        assert_eq!(head.body.len(), 0);
        for name in ["content-encoding", "etag", "content-length", "vary", "content-type"] {
            assert_eq!(field(&head, name), field(&got, name), "{name}");
        }
    }
    let plain = send(&cache, get(&[])).await;
    assert_eq!((field(&plain, "vary"), plain.text()), (Some("accept-encoding"), page(1).as_str()));
    assert_eq!(field(&plain, "etag"), Some("\"v1\""));
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn who_has_a_form_is_told_that_it_is_unchanged() {
    let origin = Origin::new(|n, _| async move { answer(PAGE, page(n)) });
    let (cache, _) = compressing(&origin);
    send(&cache, get(&[])).await;
    // Before it is made here, and after.
    for _ in 0..2 {
        let has = |tag: &'static str| get(&[("accept-encoding", "br"), ("if-none-match", tag)]);
        let got = send(&cache, has("\"v1--br\"")).await;
        assert_eq!((got.status, field(&got, "etag")), (304, Some("\"v1--br\"")));
        assert_eq!(field(&got, "vary"), Some("accept-encoding"));
        let got = send(&cache, has("\"v1\"")).await;
        assert_eq!((got.status, field(&got, "etag")), (304, Some("\"v1\"")));
        assert_eq!(send(&cache, has("\"v1--gzip\"")).await.status, 200);
        assert_eq!(send(&cache, has("\"v2--br\"")).await.status, 200);
        encoded(&cache, "br").await;
    }
}

#[tokio::test]
async fn a_range_is_one_of_the_plain_form() {
    let origin = Origin::new(|n, _| async move { answer(PAGE, page(n)) });
    let (cache, _) = compressing(&origin);
    send(&cache, get(&[])).await;
    encoded(&cache, "br").await;
    let range = [("accept-encoding", "br"), ("range", "bytes=3-9")];
    let part = send(&cache, get(&range)).await;
    assert_eq!((part.status, part.text()), (206, &page(1)[3..10]));
    assert_eq!((field(&part, "content-encoding"), field(&part, "etag")), (None, Some("\"v1\"")));
    assert_eq!(field(&part, "vary"), Some("accept-encoding"));
    // One with a part of another form gets all of this one.
    let of_another = [range[0], range[1], ("if-range", "\"v1--br\"")];
    let whole = send(&cache, get(&of_another)).await;
    assert_eq!((whole.status, decoded(&whole)), (200, page(1).into_bytes()));
}

#[tokio::test]
async fn with_the_same_layer_outside_every_answer_is_compressed_and_none_twice() {
    let origin = Origin::new(|n, _| async move { answer(PAGE, page(n)) });
    let compress = CompressLayer::builder().build().unwrap();
    let (cache, store) = cached_with(&origin, |builder| {
        builder.compress(CompressedForms::from(&compress).dense_up_to(0))
    });
    let service = compress.layer(cache);
    let send = async |fields: &[(&str, &str)]| {
        let (parts, body) = service.clone().oneshot(get(fields)).await.unwrap().into_parts();
        (parts, body.collect().await.unwrap().to_bytes())
    };
    let start = Instant::now();
    let mut made = false;
    while !made {
        made = store.l1_size().0 == 2;
        let (head, body) = send(&[("accept-encoding", "gzip")]).await;
        let plain = decode_all(&body, &[Encoding::Gzip], Limits::none()).unwrap();
        assert_eq!(plain, page(1).as_bytes());
        for (name, value) in
            [("content-encoding", "gzip"), ("vary", "accept-encoding"), ("etag", "\"v1--gzip\"")]
        {
            assert!(head.headers.get_all(name).iter().eq([value]), "{name}: {head:?}");
        }
        let known = [("accept-encoding", "gzip"), ("if-none-match", "\"v1--gzip\"")];
        let (head, body) = send(&known).await;
        assert_eq!(
            (head.status, head.headers["etag"].as_bytes()),
            (StatusCode::NOT_MODIFIED, &b"\"v1--gzip\""[..])
        );
        assert!(body.is_empty() && head.headers.get_all("vary").iter().eq(["accept-encoding"]));
        assert!(start.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn what_is_not_to_be_compressed_is_sent_as_it_is() {
    let fields = |kind: &'static str, control: &'static str| {
        [("cache-control", control), ("content-type", kind)]
    };
    let cases = [
        (fields("image/png", "max-age=600"), page(1), false),
        (fields("application/json", "max-age=600, no-transform"), page(1), false),
        (fields("application/json", "max-age=600"), page(1), true),
    ];
    for (fields, body, marked) in cases {
        let origin = Origin::new(move |_, _| {
            let mut response = answer(&fields, body.clone());
            if marked {
                response.extensions_mut().insert(LeaveUncompressed);
            }
            async move { response }
        });
        let (cache, _) = compressing(&origin);
        for _ in 0..20 {
            let got = accepting(&cache, "br").await;
            assert_eq!((field(&got, "content-encoding"), field(&got, "vary")), (None, None));
            sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test]
async fn what_does_not_get_smaller_is_tried_once_and_sent_as_it_is() {
    let noise: Bytes =
        std::iter::repeat_with(|| fastrand::u8(..)).take(4096).collect::<Vec<_>>().into();
    let body = noise.clone();
    let origin = Origin::new(move |_, _| {
        let response = answer(PAGE, body.clone());
        async move { response }
    });
    let (cache, store) = compressing(&origin);
    for _ in 0..50 {
        let got = accepting(&cache, "gzip").await;
        assert_eq!((field(&got, "content-encoding"), &got.body), (None, &noise));
        sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(store.l1_size().0, 2, "the response, and that it has no form");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_form_of_an_earlier_response_is_ever_sent() {
    let version = Arc::new(AtomicUsize::new(0));
    let origin = Origin::new({
        let version = Arc::clone(&version);
        move |_, _| {
            let body = page(version.load(SeqCst));
            async move { answer(PAGE, body) }
        }
    });
    let (cache, store) = compressing(&origin);
    let (mut plain, mut compressed) = (0, 0);
    for n in 1..60 {
        version.store(n, SeqCst);
        store.invalidate_tag("pages").await.unwrap();
        for _ in 0..fastrand::u32(1..12) {
            let got = accepting(&cache, "gzip").await;
            assert_eq!(decoded(&got), page(n).as_bytes());
            *(if field(&got, "content-encoding").is_some() {
                &mut compressed
            } else {
                &mut plain
            }) += 1;
            sleep(Duration::from_micros(fastrand::u64(..1500))).await;
        }
    }
    assert!(plain > 0 && compressed > 0, "{plain} {compressed}");
}

#[tokio::test]
async fn a_form_outlives_the_validation_of_its_response() {
    let origin = Origin::new(|n, request| async move {
        let etag = ("etag", "\"v1\"");
        let control = if n == 1 { "max-age=0, stale-while-revalidate=600" } else { "max-age=600" };
        let kind = ("content-type", "text/html");
        let mut response = answer(&[etag, kind, ("cache-control", control)], page(1));
        if request.headers().contains_key("if-none-match") {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response
    });
    let (cache, store) = compressing(&origin);
    send(&cache, get(&[])).await;
    encoded(&cache, "gzip").await;
    let start = Instant::now();
    loop {
        let got = accepting(&cache, "gzip").await;
        assert_eq!(field(&got, "content-encoding"), Some("gzip"), "made once");
        if field(&got, "cache-control") == Some("max-age=600") {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(store.l1_size().0, 2);
}

#[tokio::test]
async fn what_is_asked_for_again_and_again_is_compressed_more() {
    let origin = Origin::new(|n, _| async move { answer(PAGE, page(n)) });
    let layer = CompressLayer::builder().levels(Levels::dynamic().with(Encoding::Gzip, 1));
    let forms = CompressedForms::from(&layer.build().unwrap());
    let (cache, _) = cached_with(&origin, |builder| builder.compress(forms));
    send(&cache, get(&[])).await;
    let [fast, dense] =
        [1, 9].map(|level| encode_all(page(1).as_bytes(), Encoding::Gzip, level).unwrap());
    assert!(dense.len() < fast.len());
    assert_eq!(encoded(&cache, "gzip").await.body, fast);
    let start = Instant::now();
    while encoded(&cache, "gzip").await.body != dense {
        assert!(start.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_response_that_came_encoded_is_decoded_for_who_cannot_read_it() {
    let body = Bytes::from(encode_all(page(1).as_bytes(), Encoding::Brotli, 5).unwrap());
    let sent = body.clone();
    let origin = Origin::new(move |_, _| {
        let mut response = answer(PAGE, sent.clone());
        response.headers_mut().insert("content-encoding", "br".parse().unwrap());
        async move { response }
    });
    let (cache, _) = compressing(&origin);
    assert_eq!(accepting(&cache, "br").await.body, body);
    for _ in 0..2 {
        assert_eq!(accepting(&cache, "gzip, br").await.body, body, "as it is for who can");
        let got = accepting(&cache, "gzip").await;
        assert_eq!((field(&got, "content-encoding"), got.text()), (None, page(1).as_str()));
        assert_eq!(
            (field(&got, "etag"), field(&got, "vary")),
            (Some("W/\"v1\""), Some("accept-encoding"))
        );
        assert_eq!(field(&got, "content-length"), Some(page(1).len().to_string().as_str()));
        let part = [("accept-encoding", "gzip"), ("range", "bytes=3-9")];
        assert_eq!(send(&cache, get(&part)).await.text(), &page(1)[3..10]);
        let known = [("accept-encoding", "gzip"), ("if-none-match", "W/\"v1\"")];
        assert_eq!(send(&cache, get(&known)).await.status, 304);
    }
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn what_swells_beyond_the_largest_body_is_left_as_it_is() {
    let bomb = Bytes::from(encode_all(&vec![0; 8 << 20], Encoding::Gzip, 9).unwrap());
    let sent = bomb.clone();
    let origin = Origin::new(move |_, _| {
        let mut response = answer(PAGE, sent.clone());
        response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        async move { response }
    });
    let (cache, _) = compressing(&origin);
    accepting(&cache, "gzip").await;
    let got = send(&cache, get(&[])).await;
    assert_eq!((field(&got, "content-encoding"), &got.body), (Some("gzip"), &bomb));
}

#[tokio::test]
async fn another_node_finds_the_form_in_the_second_tier() {
    let server = RedisServer::start().await;
    let origin = Origin::new(|_, _| async move { answer(PAGE, page(1)) });
    let mut nodes = Vec::new();
    for level in [9, 1] {
        let redis = Redis::connect(&server.url()).await.unwrap();
        let store = Store::builder().l1(L1::bytes(16 << 20)).l2(redis).build().unwrap();
        while !store.is_synced() {
            sleep(Duration::from_millis(2)).await;
        }
        let layer = CompressLayer::builder().levels(Levels::dynamic().with(Encoding::Gzip, level));
        let forms = CompressedForms::from(&layer.build().unwrap()).dense_up_to(0);
        let layer = CacheLayer::builder(store).compress(forms).build().unwrap();
        nodes.push(layer.layer(origin.clone()));
    }
    send(&nodes[0], get(&[])).await;
    let made = encoded(&nodes[0], "gzip").await.body;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(encoded(&nodes[1], "gzip").await.body, made, "at the other one's level");
    assert_eq!(origin.calls(), 1);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let built = |forms: CompressedForms| {
        let store = Store::builder().l1(L1::bytes(1 << 20)).build().unwrap();
        CacheLayer::builder(store).compress(forms).build().map(|_| ()).unwrap_err().to_string()
    };
    assert!(built(forms().at_once(0)).contains("1 or more"));
    let levels = Levels::stored().with(Encoding::Brotli, 12);
    assert!(built(forms().dense_levels(levels)).contains("br is 12: it has 0 to 11"));
}

#[tokio::test]
async fn each_layer_over_the_same_entries_goes_by_its_own_settings() {
    for first_keeps_forms in [true, false] {
        let origin = Origin::new(|n, _| async move { answer(PAGE, page(n)) });
        let store = store();
        let cache = |compresses: bool, weak: bool| {
            let tags = if weak { EntityTags::Weaken } else { EntityTags::Suffix };
            let layer = CompressLayer::builder().entity_tags(tags);
            let layer = if compresses { layer } else { layer.leave_type("application/json") };
            let forms = CompressedForms::from(&layer.build().unwrap()).dense_up_to(0);
            let layer = CacheLayer::builder(store.clone()).compress(forms).build().unwrap();
            layer.layer(origin.clone())
        };
        let (keeps, has_none, weak) = (cache(true, false), cache(false, false), cache(true, true));
        send(if first_keeps_forms { &keeps } else { &has_none }, get(&[])).await;
        if !first_keeps_forms {
            send(&has_none, get(&[])).await;
        }
        for _ in 0..2 {
            assert_eq!(field(&encoded(&keeps, "gzip").await, "etag"), Some("\"v1--gzip\""));
            let got = accepting(&has_none, "gzip").await;
            assert_eq!((field(&got, "content-encoding"), field(&got, "vary")), (None, None));
            assert_eq!(got.text(), page(1));
            assert_eq!(field(&encoded(&weak, "gzip").await, "etag"), Some("W/\"v1\""));
        }
        assert_eq!(origin.calls(), 1);
    }
}

/// Text that takes long to compress well.
fn long_page() -> String {
    let words = (0..30_000_u64).map(|n| format!("{:x} ", n * n * 7919 % 100_003));
    words.collect()
}

#[tokio::test]
async fn a_first_form_does_not_wait_for_a_dense_one() {
    let origin = Origin::new(|_, request| {
        let is_long = request.uri().path() == "/long";
        let body = if is_long { long_page() } else { page(1) };
        async move { answer(PAGE, body) }
    });
    let forms = CompressedForms::from(&CompressLayer::builder().build().unwrap()).at_once(1);
    let (cache, _) = cached_with(&origin, |builder| builder.compress(forms));
    let ask = async |path: &str| {
        let uri = format!("http://example.com{path}");
        send(&cache, request("GET", &uri, &[("accept-encoding", "br")])).await
    };
    let start = Instant::now();
    while field(&ask("/long").await, "content-encoding").is_none() {
        assert!(start.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(1)).await;
    }
    let fast = ask("/long").await.body.len();
    // One of these many has the denser one made.
    for _ in 0..200 {
        ask("/long").await;
    }
    let start = Instant::now();
    while field(&ask("/short").await, "content-encoding").is_none() {
        assert!(start.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(1)).await;
    }
    settle().await;
    assert_eq!(ask("/long").await.body.len(), fast, "the dense one is still being made");
}

#[tokio::test]
async fn what_is_fresh_for_a_short_time_is_made_no_denser() {
    let origin = Origin::new(|n, _| {
        let fields = [("cache-control", "max-age=29"), PAGE[1], PAGE[2]];
        async move { answer(&fields, page(n)) }
    });
    let layer = CompressLayer::builder().levels(Levels::dynamic().with(Encoding::Gzip, 1));
    let forms = CompressedForms::from(&layer.build().unwrap());
    let (cache, _) = cached_with(&origin, |builder| builder.compress(forms));
    let fast = encode_all(page(1).as_bytes(), Encoding::Gzip, 1).unwrap();
    send(&cache, get(&[])).await;
    for _ in 0..300 {
        assert_eq!(encoded(&cache, "gzip").await.body, fast);
        sleep(Duration::from_millis(1)).await;
    }
}
