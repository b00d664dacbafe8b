//! A real browser reads what the layer sends: Chromium, headless, in a profile of its own.
//!
//! `scripts/browser` runs it; it isn't among the tests that always run, since Chromium is large. The
//! page reports to the server what it has seen, and the server knows what it has sent.
#![cfg(all(
    feature = "br",
    feature = "deflate",
    feature = "dictionary",
    feature = "gzip",
    feature = "zstd"
))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/text.rs"]
mod text;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use sha2::{Digest, Sha256};
use text::text;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tower_keep_compress::{CompressLayer, Encoding};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Around what decides: nothing, the least size, what is compressed at once, blocks.
const SIZES: [usize; 6] = [0, 1023, 1024, 16 * 1024 + 1, 131_073, 1_000_000];

const KINDS: [(&str, &str); 5] = [
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css"),
    ("js", "text/javascript"),
    ("svg", "image/svg+xml"),
    ("json", "application/json"),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// What one request said, and in which coding it was answered.
#[derive(Clone, Debug)]
struct Sent {
    path: String,
    available: bool,
    accept: String,
    coding: String,
    len: Option<usize>,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Sent>>>);

impl Log {
    async fn watch(self, request: Request, next: Next) -> Response {
        let of = |headers: &HeaderMap, name: &str| {
            headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let path = request.uri().path().to_owned();
        let available = request.headers().contains_key("available-dictionary");
        let accept = of(request.headers(), "accept-encoding");
        let response = next.run(request).await;
        let coding = of(response.headers(), "content-encoding");
        let len = of(response.headers(), "content-length").parse().ok();
        self.0.lock().unwrap().push(Sent { path, available, accept, coding, len });
        response
    }

    fn of(&self, path: &str) -> Vec<Sent> {
        self.0.lock().unwrap().iter().filter(|sent| sent.path == path).cloned().collect()
    }
}

/// Serves what `router` has, and gives what the page reports.
async fn serve(router: Router, log: &Log) -> (SocketAddr, mpsc::Receiver<String>) {
    let (report, reported) = mpsc::channel(1);
    let log = log.clone();
    let router =
        router.layer(from_fn(move |request, next| log.clone().watch(request, next))).route(
            "/report",
            post(move |text: String| async move { report.send(text).await.unwrap() }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, reported)
}

struct Browser {
    _process: Child,
    _profile: tempfile::TempDir,
}

fn browse(url: &str) -> Browser {
    let program = std::env::var("CHROMIUM").expect("CHROMIUM names it: run scripts/browser");
    let profile = tempfile::tempdir().unwrap();
    let process = Command::new(program)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg("--disable-dev-shm-usage")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    Browser { _process: process, _profile: profile }
}

async fn visit(router: Router, log: &Log, page: &str) -> String {
    let (address, mut reported) = serve(router, log).await;
    let _browser = browse(&format!("http://localhost:{}{page}", address.port()));
    timeout(PATIENCE, reported.recv()).await.expect("the page reports in time").unwrap()
}

async fn resource(Path((kind, len)): Path<(String, usize)>) -> impl IntoResponse {
    let (_, media_type) = KINDS.into_iter().find(|(name, _)| *name == kind).unwrap();
    ([("content-type", media_type), ("cache-control", "no-store")], text(len, 1))
}

async fn streamed(Path(len): Path<usize>) -> impl IntoResponse {
    let parts: Vec<_> = text(len, 1).chunks(10_000).map(Bytes::copy_from_slice).collect();
    let parts = stream::unfold(parts.into_iter(), |mut parts| async {
        tokio::task::yield_now().await;
        Some((Ok::<_, std::convert::Infallible>(parts.next()?), parts))
    });
    ([("content-type", "text/plain")], Body::from_stream(parts))
}

/// What a page is made of, each part of it compressed.
async fn site() -> Html<String> {
    let mut digests = String::new();
    for len in SIZES {
        write!(digests, "{len}:'{}',", hex(&Sha256::digest(text(len, 1)))).unwrap();
    }
    Html(format!(
        "<!doctype html><link rel=stylesheet href=style.css><body>\
         <img src=picture.svg><script src=script.js></script>\
         <script>const digests={{{digests}}}, kinds={:?};{}</script><!--{}-->",
        KINDS.map(|(kind, _)| kind),
        r"
        const hex = bytes => [...new Uint8Array(bytes)].map(b => b.toString(16).padStart(2, '0')).join('');
        addEventListener('load', async () => {
            const wrong = [];
            let right = 0;
            try {
                for (const [len, digest] of Object.entries(digests)) {
                    for (const path of [...kinds.map(kind => `whole/${kind}`), 'streamed']) {
                        const answer = await fetch(`${path}/${len}`);
                        const content = await answer.arrayBuffer();
                        const own = hex(await crypto.subtle.digest('SHA-256', content));
                        if (own === digest) right += 1; else wrong.push(`${path}/${len}`);
                    }
                }
                if (getComputedStyle(document.body).color !== 'rgb(1, 2, 3)') wrong.push('style');
                if (document.images[0].naturalWidth !== 321) wrong.push('picture');
                if (window.answer !== 42) wrong.push('script');
            } catch (error) { wrong.push(String(error)); }
            await fetch('/report', { method: 'POST', body: `${right} right, wrong: ${wrong}` });
        });
        ",
        " All work and no play.".repeat(1000),
    ))
}

fn padded(content_type: &'static str, content: &str) -> impl IntoResponse + use<> {
    let padding = format!("{content}\n/*{}*/\n", " All work and no play.".repeat(1000));
    ([("content-type", content_type)], padding)
}

async fn picture() -> impl IntoResponse {
    let dots = "<circle cx='1' cy='1' r='1'/>".repeat(1000);
    let picture =
        format!("<svg xmlns='http://www.w3.org/2000/svg' width='321' height='10'>{dots}</svg>");
    ([("content-type", "image/svg+xml")], picture)
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_loads_a_page_in_every_coding() {
    for encoding in Encoding::ALL {
        let log = Log::default();
        let router = Router::new()
            .route("/site", get(site))
            .route("/style.css", get(async || padded("text/css", "body { color: rgb(1, 2, 3) }")))
            .route("/script.js", get(async || padded("text/javascript", "window.answer = 42")))
            .route("/picture.svg", get(picture))
            .route("/whole/{kind}/{len}", get(resource))
            .route("/streamed/{len}", get(streamed))
            .layer(CompressLayer::builder().encodings([encoding]).build().unwrap());
        let report = visit(router, &log, "/site").await;
        let all = SIZES.len() * (KINDS.len() + 1);
        assert_eq!(report, format!("{all} right, wrong: "), "{encoding}");
        for path in ["/site", "/style.css", "/script.js", "/picture.svg", "/streamed/1023"] {
            let sent = log.of(path);
            assert!(sent.iter().all(|it| it.coding == encoding.name()), "{encoding} {sent:?}");
            assert!(!sent.is_empty(), "{path}");
        }
        for len in SIZES {
            for (kind, _) in KINDS {
                let sent = log.of(&format!("/whole/{kind}/{len}"));
                let coding = if len < 1024 { "" } else { encoding.name() };
                assert!(sent.iter().all(|it| it.coding == coding), "{encoding} {sent:?}");
                assert!(!sent.is_empty(), "{kind} {len}");
            }
        }
    }
}

/// A script whose versions differ by little, and that says which one it is.
async fn versioned(Path(name): Path<String>) -> impl IntoResponse {
    let version = name.trim_start_matches('v').trim_end_matches(".js");
    // Short enough for differences by Brotli while a client waits.
    let content = String::from_utf8(text(60_000, 5)).unwrap();
    let content = format!("window.version = {version};\nwindow.data = `{content}`;\n");
    ([("content-type", "text/javascript"), ("cache-control", "public, max-age=3600")], content)
}

const UPDATE: &str = r"<!doctype html><body><script>
    const load = source => new Promise((done, failed) => {
        const script = document.createElement('script');
        Object.assign(script, { src: source, onload: done, onerror: () => failed(source) });
        document.body.append(script);
    });
    addEventListener('load', async () => {
        const seen = [];
        try {
            for (let version = 1; version <= 4; version += 1) {
                await load(`/app/v${version}.js`);
                seen.push(`${window.version}:${window.data.length}`);
                // The browser takes its time to keep it.
                await new Promise(done => setTimeout(done, 1500));
            }
        } catch (error) { seen.push(String(error)); }
        await fetch('/report', { method: 'POST', body: seen.join(' ') });
    });
</script>";

#[tokio::test(flavor = "multi_thread")]
async fn chromium_runs_what_it_was_sent_as_a_difference() {
    for (encoding, coding) in [(Encoding::Zstd, "dcz"), (Encoding::Brotli, "dcb")] {
        let log = Log::default();
        let compress = CompressLayer::builder().encodings([encoding]).dictionary("/app/*.js");
        let router = Router::new()
            .route("/update", get(async || Html(UPDATE)))
            .route("/app/{version}", get(versioned))
            .layer(compress.build().unwrap());
        let report = visit(router, &log, "/update").await;
        let of = |version: usize| log.of(&format!("/app/v{version}.js"));
        let all: Vec<_> = (1..=4).flat_map(of).collect();
        assert_eq!(report, "1:60000 2:60000 3:60000 4:60000", "{all:#?}");
        let [first, rest @ ..] = &*all else { panic!("{all:?}") };
        assert_eq!((first.available, &*first.coding), (false, encoding.name()), "{all:#?}");
        assert!(rest.iter().all(|it| it.available && it.coding == coding), "{all:#?}");
        assert!(rest.iter().all(|it| it.accept.contains(coding)), "{all:#?}");
        println!("{coding}: {:?}", all.iter().map(|it| (&*it.coding, it.len)).collect::<Vec<_>>());
    }
}
