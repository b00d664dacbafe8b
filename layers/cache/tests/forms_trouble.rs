//! Forms when something goes wrong: clients that leave, content that can't be decoded, memory that is
//! short, a second tier that is gone.
#![cfg(all(feature = "br", feature = "gzip"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/forms.rs"]
mod kept;
#[path = "support/origin.rs"]
mod origin;

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};
use tower_keep_cache::CacheLayer;
use tower_keep_compress::{Encoding, encode_all};
use tower_keep_store::{L1, Redis, Store};
use tower_keep_testing::RedisServer;

use kept::*;
use origin::*;

fn encoded_by(encoding: Encoding, content: &[u8]) -> Origin {
    let body = Bytes::from(encode_all(content, encoding, 3).unwrap());
    Origin::new(move |_, _| {
        let mut response = answer(PAGE, body.clone());
        response.headers_mut().insert("content-encoding", encoding.to_header_value());
        async move { response }
    })
}

#[tokio::test]
async fn a_client_that_leaves_takes_no_decoded_form_from_others() {
    let text = "All work and no play. ".repeat(100_000);
    let (cache, _) = compressing(&encoded_by(Encoding::Gzip, text.as_bytes()));
    accepting(&cache, "gzip").await;
    let mut leaves = Box::pin(cache.clone().oneshot(get(&[])));
    assert!(leaves.as_mut().now_or_never().is_none(), "it is being decoded");
    let waits = tokio::spawn({
        let cache = cache.clone();
        async move { send(&cache, get(&[])).await }
    });
    tokio::task::yield_now().await;
    drop(leaves);
    let got = waits.await.unwrap();
    assert_eq!(field(&got, "content-encoding"), None);
    assert_eq!(got.text(), text);
}

/// A runtime with one thread for blocking work, which is busy until something is sent.
fn with_a_busy_thread<F: Future>(test: impl FnOnce(Sender<()>) -> F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    let (free, until) = channel();
    runtime.spawn_blocking(move || until.recv());
    runtime.block_on(test(free))
}

#[test]
fn who_waits_for_a_decoded_form_gets_it_though_the_response_is_invalidated_meanwhile() {
    with_a_busy_thread(async |free| {
        let text = "All work and no play. ".repeat(1000);
        let (cache, store) = compressing(&encoded_by(Encoding::Gzip, text.as_bytes()));
        accepting(&cache, "gzip").await;
        let mut waits = Box::pin(send(&cache, get(&[])));
        assert!(waits.as_mut().now_or_never().is_none(), "it is being decoded");
        store.invalidate_tag("pages").await.unwrap();
        free.send(()).unwrap();
        let got = waits.await;
        assert_eq!((field(&got, "content-encoding"), got.text()), (None, &*text));
    });
}

#[test]
fn who_waits_for_what_was_there_before_gets_what_is_there_now() {
    with_a_busy_thread(async |free| {
        let origin = Origin::new(|n, _| {
            let body = encode_all(page(n).as_bytes(), Encoding::Gzip, 3).unwrap();
            let mut response = answer(PAGE, body);
            response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
            async move { response }
        });
        let (cache, store) = compressing(&origin);
        accepting(&cache, "gzip").await;
        let mut first = Box::pin(send(&cache, get(&[])));
        assert!(first.as_mut().now_or_never().is_none(), "it is being decoded");
        store.invalidate_tag("pages").await.unwrap();
        accepting(&cache, "gzip").await;
        let mut second = Box::pin(send(&cache, get(&[])));
        assert!(second.as_mut().now_or_never().is_none(), "it is being decoded");
        free.send(()).unwrap();
        for (got, n) in [(first.await, 1), (second.await, 2)] {
            assert_eq!((field(&got, "content-encoding"), got.text()), (None, &*page(n)));
        }
        assert_eq!(origin.calls(), 2);
    });
}

#[tokio::test]
async fn what_can_not_be_decoded_is_tried_once() {
    let (cache, store) = compressing(&encoded_by(Encoding::Gzip, &vec![0; 8 << 20]));
    accepting(&cache, "gzip").await;
    for _ in 0..3 {
        assert_eq!(field(&send(&cache, get(&[])).await, "content-encoding"), Some("gzip"));
    }
    assert_eq!(store.l1_size().0, 2, "the response, and that it has no plain form");
}

#[tokio::test]
async fn what_comes_from_the_second_tier_is_decoded_once_for_all_who_wait() {
    let server = RedisServer::start().await;
    let node = async || {
        let redis = Redis::connect(&server.url()).await.unwrap();
        let store = Store::builder().l1(L1::bytes(64 << 20)).l2(redis).build().unwrap();
        while !store.is_synced() {
            sleep(Duration::from_millis(2)).await;
        }
        store
    };
    let text = "All work and no play. ".repeat(10_000);
    let origin = encoded_by(Encoding::Gzip, text.as_bytes());
    let layer = CacheLayer::builder(node().await).compress(forms()).build().unwrap();
    accepting(&layer.layer(origin.clone()), "gzip").await;
    let store = node().await;
    let layer = CacheLayer::builder(store.clone()).compress(forms()).build().unwrap();
    let cache = layer.layer(origin.clone());
    let all = (0..20).map(|_| send(&cache, get(&[])));
    for got in futures_util::future::join_all(all).await {
        assert_eq!((field(&got, "content-encoding"), got.text()), (None, &*text));
    }
    assert_eq!(origin.calls(), 1);
    // Nobody waits for it to be stored.
    let start = Instant::now();
    while store.l1_size().0 < 2 {
        assert!(start.elapsed() < Duration::from_secs(20), "the response, and its plain form");
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn where_there_is_no_room_for_both_the_response_stays() {
    let text: String = (0..40_000).map(|_| fastrand::alphanumeric()).collect();
    let origin = Origin::new(move |_, _| {
        let response = answer(PAGE, text.clone());
        async move { response }
    });
    let store = Store::builder().l1(L1::bytes(64 << 10).max_entry(50 << 10)).build().unwrap();
    let cache = CacheLayer::builder(store).compress(forms()).build().unwrap().layer(origin.clone());
    for _ in 0..400 {
        accepting(&cache, "gzip").await;
        sleep(Duration::from_millis(1)).await;
    }
    assert!(origin.calls() < 20, "{} calls", origin.calls());
}

#[tokio::test]
async fn a_form_that_memory_is_taken_from_is_made_again() {
    let text = |n: usize| -> String {
        let lines = (0..2000).map(|line| format!("{{\"id\":{}}},\n", (line * line + n) % 7919));
        lines.collect()
    };
    let origin = Origin::new(move |_, request| {
        let n = request.uri().path().trim_start_matches('/').parse().unwrap();
        async move { answer(PAGE, text(n)) }
    });
    let store = Store::builder().l1(L1::bytes(256 << 10).max_entry(64 << 10)).build().unwrap();
    let cache = CacheLayer::builder(store).compress(forms()).build().unwrap().layer(origin);
    let ask = async |n: usize| {
        let uri = format!("http://example.com/{n}");
        let got = send(&cache, request("GET", &uri, &[("accept-encoding", "gzip")])).await;
        assert_eq!(decoded(&got), text(n).as_bytes());
        field(&got, "content-encoding").is_some()
    };
    for round in 0..5 {
        let mut times = 0;
        // So often that the form is sent as it is at hand.
        for _ in 0..20_000 {
            times += u32::from(ask(0).await);
            if times > 20 {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        assert!(times > 20, "{round}");
        for n in 1..30 {
            ask(n).await;
            sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn forms_are_made_while_the_second_tier_is_gone() {
    let server = RedisServer::start().await;
    let redis = Redis::connect(&server.url()).await.unwrap();
    let store = Store::builder().l1(L1::bytes(16 << 20)).l2(redis).build().unwrap();
    while !store.is_synced() {
        sleep(Duration::from_millis(2)).await;
    }
    let origin = Origin::new(|n, _| async move { answer(PAGE, page(n)) });
    let layer = CacheLayer::builder(store.clone()).compress(forms()).build().unwrap();
    let cache = layer.layer(origin.clone());
    send(&cache, get(&[])).await;
    drop(server);
    let got = encoded(&cache, "gzip").await;
    assert_eq!(decoded(&got), page(1).as_bytes());
    // What holds at once for responses does for forms.
    let _ = store.invalidate_tag("pages").await;
    let got = accepting(&cache, "gzip").await;
    assert_eq!((decoded(&got), origin.calls()), (page(2).into_bytes(), 2));
}
