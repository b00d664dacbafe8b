//! What a body takes while it is compressed as it is sent: no more than the guide says.
//!
//! Each case has a process of its own, since allocators keep what they have had. With `--nocapture`, the
//! figures are shown.
#![cfg(all(feature = "br", feature = "dictionary", feature = "gzip", feature = "zstd"))]
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/text.rs"]
mod text;

use std::convert::Infallible;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_compress::{CompressLayer, Dictionaries, Dictionary};

const KIB: usize = 1024;

/// So many are open at the same time.
const BODIES: usize = 12;

/// Tells a process of its own which case it has.
const CASE: &str = "TOWER_KEEP_STREAM";

/// What the process has in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// In which coding it comes, and what each of them takes, in KiB, when nearly all of it was sent.
async fn measure(
    accept: &str,
    len: usize,
    is_announced: bool,
    dictionary: usize,
) -> (String, usize) {
    let dictionary = text::text(dictionary * KIB, 7);
    let dictionary = Dictionary::new("a", "/*", dictionary, Duration::from_secs(3600)).unwrap();
    let hash = sfv::BareItem::ByteSequence(dictionary.hash().to_vec());
    let name = sfv::FieldType::serialize(&sfv::Item::new(hash));
    let known = Dictionaries::builder().build().unwrap();
    known.add(dictionary);
    let layer = CompressLayer::builder().dictionaries(known).build().unwrap();
    let content = Bytes::from(text::text(len * KIB, 9));
    let (mut open, mut coding) = (Vec::new(), String::new());
    let before = resident();
    for _ in 0..BODIES {
        let (content, is_last) = (content.clone(), Arc::new(AtomicBool::new(false)));
        let asks = Arc::clone(&is_last);
        let service = service_fn(move |_: Request<()>| {
            let first = content.slice(..content.len() - 1);
            // The last byte never comes.
            let asks = Arc::clone(&asks);
            let last = stream::poll_fn(move |_| {
                asks.store(true, Relaxed);
                Poll::Pending
            });
            let parts = stream::iter([Ok::<_, Infallible>(Frame::data(first))]).chain(last);
            let mut response = Response::builder().header("content-type", "text/javascript");
            if is_announced {
                response = response.header("content-length", content.len());
            }
            let response = response.body(StreamBody::new(parts)).unwrap();
            async move { Ok::<_, Infallible>(response) }
        });
        let request = Request::get("/app.js").header("host", "a").header("accept-encoding", accept);
        let request = request.header("available-dictionary", &name).body(()).unwrap();
        let response = layer.layer(service).oneshot(request).await.unwrap();
        let told = response.headers().get("content-encoding");
        told.map_or("identity", |it| it.to_str().unwrap()).clone_into(&mut coding);
        let mut body = Box::pin(response.into_body());
        while !is_last.load(Relaxed) {
            let _ = tokio::time::timeout(Duration::from_millis(5), body.frame()).await;
        }
        let _ = tokio::time::timeout(Duration::from_millis(5), body.frame()).await;
        open.push(body);
    }
    (coding, resident().saturating_sub(before) / BODIES / KIB)
}

/// What the client accepts, the length of the content in KiB and whether it is announced, that of the
/// dictionary, in which coding it comes, and how much memory that takes at the most.
type Case = (&'static str, usize, bool, usize, &'static str, usize);

const CASES: [Case; 15] = [
    ("br", 100, true, 1, "br", 1600),
    ("br", 1024, true, 1, "br", 2700),
    ("br", 1024, false, 1, "br", 2700),
    ("zstd", 100, true, 1, "zstd", 700),
    ("zstd", 1024, true, 1, "zstd", 1400),
    ("zstd", 1024, false, 1, "zstd", 1400),
    ("gzip", 1024, false, 1, "gzip", 400),
    ("dcb, br", 100, true, 64, "dcb", 1700),
    ("dcb, br", 447, true, 64, "dcb", 2700),
    ("dcb, br", 448, true, 64, "br", 2700),
    ("dcz, zstd", 100, true, 2000, "dcz", 1100),
    ("dcz, zstd", 1024, true, 1000, "dcz", 2000),
    ("dcz, zstd", 2048, true, 2000, "dcz", 3000),
    ("dcz, zstd", 2049, true, 2000, "zstd", 1400),
    ("dcz, zstd", 1024, false, 2000, "dcz", 1400),
];

#[test]
fn a_stream_takes_what_the_guide_says() {
    if let Ok(case) = std::env::var(CASE) {
        let (accept, len, is_announced, dictionary, ..) = CASES[case.parse::<usize>().unwrap()];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (coding, each) = runtime.block_on(measure(accept, len, is_announced, dictionary));
        println!("\n{CASE} {coding} {each}");
        return;
    }
    for (case, (accept, len, is_announced, dictionary, expected, most)) in CASES.iter().enumerate()
    {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_stream_takes_what_the_guide_says", "--nocapture"])
            .env(CASE, case.to_string())
            .output()
            .unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let line = output.lines().find_map(|line| line.strip_prefix(CASE)).unwrap().trim();
        let what = format!(
            "{accept}, {len} KiB, announced: {is_announced}, by {dictionary} KiB: {line} KiB"
        );
        println!("{what}");
        let (coding, each) = line.split_once(' ').unwrap();
        assert_eq!(coding, *expected, "{what}");
        assert!(each.parse::<usize>().unwrap() <= *most, "{what}");
    }
}
