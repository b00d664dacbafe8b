//! Handlers that are slow, fail, hang, panic and break off, and clients that leave and dawdle, all
//! at random: nobody gets what isn't theirs, half of something, or nothing at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;
use tower_keep_cache::{Cache, CacheBody};

use origin::{Answer, Body, Origin, answer, cached_with, request, settle};

const CLIENTS: usize = 40;
const REQUESTS: usize = 60;
const MS: Duration = Duration::from_millis(1);
/// What a handler with a bug says.
const BUG: &str = "this handler has a bug";
/// More than any client waits for anything, if it isn't forgotten.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// What the origin has said, by the number of its answer, and what became of it.
#[derive(Default)]
struct Record {
    said: Mutex<HashMap<usize, Said>>,
    running: AtomicUsize,
}

struct Said {
    path: String,
    /// The request field by which it varies.
    language: Option<String>,
    /// Whose request it was.
    user: Option<String>,
    /// For its own request alone.
    is_private: bool,
    body: Bytes,
    heard_by: usize,
}

/// Counts itself among what is running.
struct Running(Arc<Record>);

impl Running {
    fn new(record: &Arc<Record>) -> Self {
        record.running.fetch_add(1, SeqCst);
        Self(Arc::clone(record))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

fn chance(percent: u32) -> bool {
    fastrand::u32(..100) < percent
}

fn field(request: &Request<Empty<Bytes>>, name: &str) -> Option<String> {
    request.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

fn origin(record: &Arc<Record>) -> Origin {
    let record = Arc::clone(record);
    Origin::new(move |n, request| {
        let record = Arc::clone(&record);
        async move {
            let running = Running::new(&record);
            sleep(MS * fastrand::u32(..50)).await;
            match fastrand::u32(..100) {
                0..2 => std::panic::panic_any(BUG),
                2..4 => sleep(5000 * MS).await,
                4..14 => {
                    let mut failed = answer(&[], "down");
                    *failed.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    return failed;
                }
                _ => {}
            }
            if request.headers().contains_key("if-none-match") && chance(50) {
                let etag = field(&request, "if-none-match").unwrap();
                let mut valid = answer(&[("etag", &etag), ("cache-control", "max-age=1")], "");
                *valid.status_mut() = StatusCode::NOT_MODIFIED;
                return valid;
            }
            speak(n, &request, &record, running)
        }
    })
}

/// The origin's answer number `n`.
fn speak(n: usize, request: &Request<Empty<Bytes>>, record: &Record, running: Running) -> Answer {
    let path = request.uri().path().to_owned();
    let varies = path.starts_with("/v");
    let is_private = chance(15);
    let control = match (is_private, fastrand::u32(..4)) {
        (true, 0) => "no-store",
        (true, _) => "private, max-age=60",
        (_, 0) => "max-age=1, stale-while-revalidate=2",
        (_, 1) => "max-age=1, stale-if-error=5",
        (_, 2) => "max-age=0",
        _ => "max-age=2",
    };
    let (etag, cookie) = (format!("\"{n}\""), format!("answer={n}"));
    let mut fields = vec![("cache-control", control), ("etag", &etag)];
    if varies {
        fields.push(("vary", "x-language"));
    }
    if chance(10) {
        fields.push(("set-cookie", &cookie));
    }
    let chunks: Vec<Bytes> = (0..fastrand::usize(..8))
        .map(|_| Bytes::from(vec![b'a' + u8::try_from(n % 26).unwrap(); fastrand::usize(..3000)]))
        .collect();
    let chunks: Vec<Bytes> = [Bytes::from(format!("{n} "))].into_iter().chain(chunks).collect();
    let body: Bytes = chunks.concat().into();
    let length = body.len().to_string();
    if chance(40) {
        fields.push(("content-length", &length));
    }
    record.said.lock().unwrap().insert(
        n,
        Said {
            path,
            language: varies.then(|| field(request, "x-language").unwrap()),
            user: field(request, "authorization"),
            is_private,
            body,
            heard_by: 0,
        },
    );
    let breaks_off = chance(5).then(|| fastrand::usize(..=chunks.len()));
    let pause = MS * fastrand::u32(..20);
    let frames = chunks.into_iter().map(|chunk| Ok(Frame::data(chunk)));
    let frames: Vec<_> = match breaks_off {
        Some(at) => frames.take(at).chain([Err(std::io::Error::other("broken off"))]).collect(),
        None => frames.collect(),
    };
    let frames = stream::iter(frames).then(move |frame| {
        let _running = &running;
        async move {
            sleep(pause).await;
            frame
        }
    });
    answer(&fields, "").map(|_| BodyExt::boxed(StreamBody::new(Box::pin(frames))))
}

async fn client(cache: Cache<Origin>, record: Arc<Record>, name: usize) {
    let user = format!("user {name}");
    for _ in 0..REQUESTS {
        sleep(MS * fastrand::u32(..80)).await;
        let path = ["/a", "/b", "/v1", "/v2"][fastrand::usize(..4)];
        let language = ["de", "en", "fr"][fastrand::usize(..3)];
        let mut fields = vec![("x-language", language)];
        if chance(20) {
            fields.push(("authorization", &user));
        }
        match fastrand::u32(..100) {
            0..5 => fields.push(("cache-control", "no-cache")),
            5..8 => fields.push(("cache-control", "only-if-cached")),
            8..12 => fields.push(("if-none-match", "\"1\"")),
            _ => {}
        }
        let method = match fastrand::u32(..100) {
            0..3 => "POST",
            3..8 => "HEAD",
            _ => "GET",
        };
        let asked = request(method, &format!("http://example.com{path}"), &fields);
        let is_mine = |said: &Said| {
            said.path == path
                && said.language.as_deref().is_none_or(|said| said == language)
                && said.user.as_deref().is_none_or(|said| said == user)
        };
        let patience = if chance(15) { MS * fastrand::u32(..100) } else { FORGOTTEN };
        // Where a handler panics, so does the request, as it would without a cache.
        let answered = AssertUnwindSafe(cache.clone().oneshot(asked)).catch_unwind();
        let response = match timeout(patience, answered).await {
            Ok(Ok(response)) => response.unwrap(),
            Ok(Err(panic)) if panic.downcast_ref() == Some(&BUG) => continue,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(elapsed) => {
                assert!(patience < FORGOTTEN, "{method} {path} was forgotten: {elapsed}");
                continue;
            }
        };
        let cookie = response.headers().get("set-cookie").cloned();
        let status = response.status();
        let cache_status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        let body = timeout(FORGOTTEN, listen(response)).await.expect("bodies end");
        let Some(body) = body.filter(|_| status == StatusCode::OK && method != "HEAD") else {
            continue;
        };
        let n = std::str::from_utf8(&body).unwrap().split(' ').next().unwrap().parse().unwrap();
        let mut all = record.said.lock().unwrap();
        let said = all.get_mut(&n).unwrap();
        assert!(said.body == body, "answer {n} is whole: {cache_status}");
        assert!(
            is_mine(said),
            "{user}, {method} {path} {language}, got answer {n}: {cache_status}"
        );
        said.heard_by += 1;
        assert!(!said.is_private || said.heard_by == 1, "answer {n} was private: {cache_status}");
        assert!(
            cookie.is_none() || cookie.unwrap() == format!("answer={n}").as_str(),
            "a cookie comes with its own answer"
        );
    }
}

/// The whole body; nothing if it broke off or the client lost interest.
async fn listen(response: Response<CacheBody<Body>>) -> Option<Bytes> {
    let mut body = response.into_body();
    let (leaves, dawdles) = (chance(15), chance(10));
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        whole.extend_from_slice(&frame.ok()?.into_data().ok()?);
        if leaves && chance(30) {
            return None;
        }
        if dawdles {
            sleep(MS * fastrand::u32(..400)).await;
        }
    }
    Some(whole.into())
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_what_is_not_theirs_or_nothing_at_all() {
    std::panic::set_hook(Box::new(|panic| {
        if panic.payload().downcast_ref() != Some(&BUG) {
            eprintln!("{panic}");
        }
    }));
    let seed = fastrand::u64(..);
    for (round, finish) in [true, false].into_iter().enumerate() {
        let seed = seed.wrapping_add(round as u64);
        fastrand::seed(seed);
        let record = Arc::new(Record::default());
        let (cache, store) = cached_with(&origin(&record), |builder| {
            builder
                .max_body(12 << 10)
                .max_in_flight(64 << 10)
                .max_wait(300 * MS)
                .max_lag(500 * MS)
                .max_fill(2000 * MS)
                .hit_for_miss(500 * MS)
                .finish_abandoned(finish)
        });
        let mut clients = JoinSet::new();
        for name in 0..CLIENTS {
            clients.spawn({
                let (cache, record) = (cache.clone(), Arc::clone(&record));
                async move {
                    client(cache, record, name).await;
                }
            });
        }
        while let Some(ended) = clients.join_next().await {
            assert!(ended.is_ok(), "seed {seed}, finish_abandoned({finish})");
        }
        sleep(FORGOTTEN).await;
        settle().await;
        assert_eq!(record.running.load(SeqCst), 0, "nothing goes on (seed {seed})");
        let stats = store.stats();
        assert!(stats.l1_hits > 100 && stats.coalesced > 100, "{stats:?} (seed {seed})");
    }
}
