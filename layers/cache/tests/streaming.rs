//! Large bodies stream: at once, to many, and in little memory. The allocations of a test are counted
//! on its thread, where all of it runs; so this is a binary of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/crowd.rs"]
mod crowd;
#[path = "support/origin.rs"]
mod origin;

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceExt};
use tower_keep_cache::CacheLayer;
use tower_keep_store::{L1, Store};

use crowd::{Crowd, MIB, Manner, Saw, alone, content};
use origin::{Origin, cached, request, streamed};

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];
const CHUNK: usize = 64 << 10;

/// Whether its length is announced, so that it passes, or not, so that it is kept until it turns out
/// to be too large.
#[test]
fn a_gibibyte_takes_no_more_memory_than_what_is_under_way() {
    const CHUNKS: usize = (1 << 30) / CHUNK;
    for announced in [true, false] {
        let origin = Origin::new(move |_, _| async move {
            // Each chunk is memory of its own, so that whoever holds it is seen.
            let mut response =
                streamed(FRESH, (0..CHUNKS).map(|n| Bytes::from(vec![n.to_le_bytes()[0]; CHUNK])));
            if announced {
                response.headers_mut().insert("content-length", (1 << 30).into());
            }
            response
        });
        let memory = measure(|| {
            alone(true, async move {
                let store = Store::builder().l1(L1::bytes(1 << 20)).build().unwrap();
                let cache = CacheLayer::builder(store).max_body(MIB).build().unwrap().layer(origin);
                let response = cache.oneshot(request("GET", "http://example.com/", &[])).await;
                let mut body = response.unwrap().into_body();
                for n in 0..CHUNKS {
                    let chunk = body.frame().await.unwrap().unwrap().into_data().unwrap();
                    assert_eq!((chunk.len(), chunk[CHUNK - 1]), (CHUNK, n.to_le_bytes()[0]));
                }
                assert!(body.frame().await.is_none());
            });
        });
        assert!(memory.bytes_max < 4 * MIB as u64, "{announced}: {memory:?}");
    }
}

/// On a clock that only moves when all wait, the layer must take no time at all.
#[tokio::test(start_paused = true)]
async fn the_first_bytes_are_there_while_the_origin_makes_the_next() {
    const PAUSE: Duration = Duration::from_millis(70);
    let go = Arc::new(Notify::new());
    let origin = Origin::new({
        let go = Arc::clone(&go);
        move |_, _| {
            let go = Arc::clone(&go);
            async move {
                sleep(PAUSE).await;
                let frames = futures_util::stream::unfold((0, go), |(n, go)| async move {
                    match n {
                        0 => sleep(PAUSE).await,
                        1 => go.notified().await,
                        _ => return None,
                    }
                    Some((Bytes::from_static(b"part"), (n + 1, go)))
                });
                origin::of_stream(FRESH, frames)
            }
        }
    });
    let (cache, _) = cached(&origin);

    let started = Instant::now();
    let response = origin.clone().oneshot(request("GET", "http://example.com/", &[])).await;
    response.unwrap().into_body().frame().await.unwrap().unwrap();
    let bare = started.elapsed();

    let started = Instant::now();
    let response = cache.oneshot(request("GET", "http://example.com/", &[])).await;
    assert_eq!(started.elapsed(), PAUSE);
    let mut body = response.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(started.elapsed(), bare);

    assert!(timeout(Duration::from_secs(1), body.frame()).await.is_err());
    go.notify_one();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "part");
}

/// How long the first bytes of responses take to come, in the median.
async fn first_byte<S, B>(service: &S, path: &str) -> Duration
where
    S: Service<http::Request<http_body_util::Empty<Bytes>>, Response = http::Response<B>> + Clone,
    S::Error: std::fmt::Debug,
    B: http_body::Body + Unpin,
    B::Error: std::fmt::Debug,
{
    let mut took = Vec::new();
    for n in 0..300 {
        let request = request("GET", &format!("http://example.com/{path}/{n}"), &[]);
        let started = Instant::now();
        let response = service.clone().oneshot(request).await.unwrap();
        response.into_body().frame().await.unwrap().unwrap();
        took.push(started.elapsed());
    }
    took.sort();
    took[took.len() / 2]
}

#[tokio::test]
async fn the_first_byte_costs_no_noticeable_time() {
    let chunk = Bytes::from(vec![0; CHUNK]);
    let origin = Origin::new(move |_, _| {
        let chunks = vec![chunk.clone(); 4];
        async move { streamed(FRESH, chunks) }
    });
    let (cache, _) = cached(&origin);
    let (bare, through) = (first_byte(&origin, "a").await, first_byte(&cache, "b").await);
    assert!(through < bare + Duration::from_millis(2), "{through:?} after {bare:?}");
}

/// The body is kept, to be stored: whoever is slow, stops or leaves is no matter to the others.
#[test]
fn many_join_one_fill_and_half_of_them_leave() {
    let content = content();
    for seed in 0..4 {
        let content = content.clone();
        let memory = measure(|| {
            alone(true, async move {
                let crowd = Crowd::new(seed, content.clone(), 16 * MIB);
                let saw = crowd.join().await;
                for (manner, saw) in saw {
                    let expected = if manner.leaves() { Saw::ThePart } else { Saw::TheWhole };
                    assert_eq!(saw, expected, "seed {seed}: {manner:?}");
                }
                assert_eq!(crowd.calls(), 1, "seed {seed}");
                // It is stored, from that one call.
                assert_eq!(crowd.client(Manner::Reads).await, Saw::TheWhole);
                assert_eq!(crowd.calls(), 1, "seed {seed}");
            });
        });
        // Once while it arrives; and once more, in one piece, for the store.
        assert!(memory.bytes_max < 25 * MIB as u64, "seed {seed}: {memory:?}");
    }
}

/// The body is too large to be stored: those who read it wait for the slowest, up to a bound.
#[test]
fn many_share_a_body_that_is_not_kept() {
    let content = content();
    for seed in 0..4 {
        let content = content.clone();
        let memory = measure(|| {
            alone(true, async move {
                let crowd = Crowd::new(seed, content.clone(), MIB);
                for (manner, saw) in crowd.join().await {
                    let expected = match manner {
                        Manner::Leaves(_) | Manner::LeavesAtOnce(_) => Saw::ThePart,
                        Manner::Stops => Saw::AnError,
                        Manner::Reads | Manner::Slow => Saw::TheWhole,
                    };
                    assert_eq!(saw, expected, "seed {seed}: {manner:?}");
                }
                assert_eq!(crowd.calls(), 1, "seed {seed}");
            });
        });
        assert!(memory.bytes_max < 5 * MIB as u64, "seed {seed}: {memory:?}");
    }
}

/// The same over sockets, whose buffers decide what a client that stops makes its server hold.
#[test]
fn many_join_one_fill_over_sockets() {
    let content = content();
    let memory = measure(|| {
        alone(false, async move {
            let crowd = Crowd::new(2, content.clone(), 16 * MIB);
            for (manner, saw) in crowd.join_over_sockets().await {
                let expected = if manner.leaves() { Saw::ThePart } else { Saw::TheWhole };
                assert_eq!(saw, expected, "{manner:?}");
            }
            assert_eq!(crowd.calls(), 1);
        });
    });
    assert!(memory.bytes_max < 30 * MIB as u64, "{memory:?}");
}
