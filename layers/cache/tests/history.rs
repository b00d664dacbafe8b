//! Requests, writes and invalidations at random, on several threads: no response to a request that
//! begins after a write has been answered is older than that write.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};
use tower_keep_cache::Cache;
use tower_keep_store::Store;

use origin::{Origin, answer, cached, request, send};

const PATHS: usize = 6;
const LASTS: Duration = Duration::from_secs(2);

/// The version of each resource, and the one that every response must at least be of.
#[derive(Default)]
struct Truth {
    versions: [AtomicU64; PATHS],
    floors: [AtomicU64; PATHS],
}

async fn pause() {
    match fastrand::u8(..8) {
        0 => sleep(Duration::from_micros(fastrand::u64(..300))).await,
        1..4 => yield_now().await,
        _ => {}
    }
}

/// Half of the resources vary.
fn origin(truth: &Arc<Truth>) -> Origin {
    let truth = Arc::clone(truth);
    Origin::new(move |_, request| {
        let truth = Arc::clone(&truth);
        async move {
            let path: usize = request.uri().path()[1..].parse().unwrap();
            if request.method() == "POST" {
                return answer(&[], (truth.versions[path].fetch_add(1, SeqCst) + 1).to_string());
            }
            pause().await;
            let version = truth.versions[path].load(SeqCst);
            pause().await;
            let tag = format!("group-{}", path % 3);
            let vary = if path < PATHS / 2 { "" } else { "x-variant" };
            let fields = [
                ("cache-control", "max-age=60, stale-while-revalidate=60"),
                ("cache-tag", tag.as_str()),
                ("vary", vary),
            ];
            answer(&fields, version.to_string())
        }
    })
}

fn target(path: usize) -> String {
    format!("http://example.com/{path}")
}

async fn write(cache: &Cache<Origin>, store: &Store, truth: &Truth, path: usize) {
    let version = if fastrand::bool() {
        let answered = send(cache, request("POST", &target(path), &[])).await;
        answered.text().parse().unwrap()
    } else {
        let version = truth.versions[path].fetch_add(1, SeqCst) + 1;
        pause().await;
        store.invalidate_tag(format!("group-{}", path % 3)).await.unwrap();
        version
    };
    truth.floors[path].fetch_max(version, SeqCst);
}

async fn read(cache: &Cache<Origin>, truth: &Truth, path: usize) -> bool {
    let floor = truth.floors[path].load(SeqCst);
    let variant = ["a", "b"][fastrand::usize(..2)];
    let got = send(cache, request("GET", &target(path), &[("x-variant", variant)])).await;
    let version: u64 = got.text().parse().unwrap();
    assert!(version >= floor, "{path} {variant}: {version} when {floor} was due: {}", got.cache());
    got.is_hit()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_response_is_older_than_the_last_write() {
    let truth = Arc::new(Truth::default());
    let (cache, store) = cached(&origin(&truth));
    let end = Instant::now() + LASTS;
    let hits = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..9 {
        let (cache, store, truth) = (cache.clone(), store.clone(), Arc::clone(&truth));
        let hits = Arc::clone(&hits);
        tasks.spawn(async move {
            while Instant::now() < end {
                let path = fastrand::usize(..PATHS);
                if task < 6 {
                    hits.fetch_add(read(&cache, &truth, path).await.into(), SeqCst);
                } else {
                    write(&cache, &store, &truth, path).await;
                    sleep(Duration::from_millis(fastrand::u64(..6))).await;
                }
                pause().await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no response was too old");
    }
    assert!(hits.load(SeqCst) > 1_000, "it was a history of hits, too: {hits:?}");
}
