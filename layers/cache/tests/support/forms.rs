//! A page that compresses well, a cache that keeps its forms, and clients that accept them.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses its own part, and a test may panic"
)]

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_keep_cache::{Cache, CompressedForms};
use tower_keep_compress::{CompressLayer, Encoding, Limits, decode_all};
use tower_keep_store::Store;

use crate::origin::*;

pub const PAGE: &[(&str, &str)] = &[
    ("cache-control", "max-age=600"),
    ("content-type", "application/json"),
    ("etag", "\"v1\""),
    ("cache-tag", "pages"),
];

pub fn page(n: usize) -> String {
    format!("{{\"page\": {n}}}, ").repeat(500)
}

pub fn forms() -> CompressedForms {
    CompressedForms::from(&CompressLayer::builder().build().unwrap()).dense_up_to(0)
}

pub fn compressing(origin: &Origin) -> (Cache<Origin>, Store) {
    cached_with(origin, |builder| builder.compress(forms()))
}

/// What a client gets who accepts this coding.
pub async fn accepting(cache: &Cache<Origin>, coding: &'static str) -> Got {
    send(cache, get(&[("accept-encoding", coding)])).await
}

/// Asks until the answer is in this coding.
pub async fn encoded(cache: &Cache<Origin>, coding: &'static str) -> Got {
    let start = Instant::now();
    loop {
        let got = accepting(cache, coding).await;
        if field(&got, "content-encoding") == Some(coding) {
            return got;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "not within 20 s: {coding}");
        sleep(Duration::from_millis(2)).await;
    }
}

pub fn field<'a>(got: &'a Got, name: &str) -> Option<&'a str> {
    got.headers.get(name).map(|value| value.to_str().unwrap())
}

pub fn decoded(got: &Got) -> Vec<u8> {
    let coding =
        field(got, "content-encoding").map(|name| Encoding::from_name(name.as_bytes()).unwrap());
    decode_all(&got.body, coding.as_slice(), Limits::none()).unwrap()
}
