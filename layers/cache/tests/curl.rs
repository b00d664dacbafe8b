//! A real client reads what a real server sends from the cache: curl, whose decoders are zlib's, Google's
//! Brotli and the reference one of zstd.
#![cfg(all(feature = "br", feature = "deflate", feature = "gzip", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tower::{Layer, service_fn};
use tower_keep_cache::{CacheLayer, CompressedForms};
use tower_keep_compress::{CompressLayer, Levels};
use tower_keep_store::{L1, Store};

/// The length is the path.
fn content(path: &str) -> Vec<u8> {
    let len = path.trim_start_matches('/').parse().unwrap();
    let mut text = Vec::new();
    for n in 0_u64.. {
        text.extend_from_slice(
            format!("{{\"id\":{},\"name\":\"chair\"}},\n", n * n % 7919).as_bytes(),
        );
        if text.len() >= len {
            break;
        }
    }
    text.truncate(len);
    text
}

/// A server whose cache makes forms at these levels, and how often its handler was asked.
async fn server(dense_up_to: usize) -> (String, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = service_fn({
        let calls = Arc::clone(&calls);
        move |request: Request<Incoming>| {
            calls.fetch_add(1, Relaxed);
            let response = Response::builder()
                .header("content-type", "application/json")
                .header("cache-control", "max-age=600")
                .header("etag", "\"v1\"")
                .body(Full::<Bytes>::from(content(request.uri().path())));
            async move { Ok::<_, Infallible>(response.unwrap()) }
        }
    });
    let store = Store::builder().l1(L1::bytes(64 << 20)).build().unwrap();
    let forms = CompressedForms::from(&CompressLayer::builder().build().unwrap());
    // Brotli takes long at its densest, more so where nothing is optimized.
    let dense = Levels::stored().with(tower_keep_compress::Encoding::Brotli, 7);
    let forms = forms.dense_up_to(dense_up_to).dense_levels(dense);
    let cache = CacheLayer::builder(store).compress(forms).build().unwrap().layer(handler);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(cache.clone());
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move { drop(connection.await) });
        }
    });
    (url, calls)
}

/// What curl reads, and the status, the coding and the entity tag that it was told.
async fn curl(arguments: &[&str], url: &str) -> (Vec<u8>, String) {
    let arguments = [&["--compressed"], arguments].concat();
    let told = "%{http_code} %header{content-encoding} %header{etag}";
    tower_keep_testing::curl(told, &arguments, url).await
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reads_every_form_of_every_size() {
    for dense_up_to in [0, 1 << 20] {
        let (url, calls) = server(dense_up_to).await;
        let sizes = [1024, 16 * 1024 + 1, 300_000];
        for size in sizes {
            let (url, plain) = (format!("{url}/{size}"), content(&size.to_string()));
            for coding in ["zstd", "br", "gzip", "deflate"] {
                let accept = format!("accept-encoding: {coding}");
                let expected = format!("200 {coding} \"v1--{coding}\"");
                let start = Instant::now();
                // Denser ones are made of what is asked for again and again.
                let mut times = 0;
                while times < 5 {
                    let (read, line) = curl(&["--header", &accept], &url).await;
                    assert_eq!(read, plain, "{url} {line}");
                    if line == expected {
                        times += 1;
                    } else {
                        assert_eq!((line.as_str(), times), ("200  \"v1\"", 0), "{url}");
                    }
                    assert!(start.elapsed() < Duration::from_secs(60), "no {coding} of {size}");
                }
                let tag = format!("if-none-match: \"v1--{coding}\"");
                let (read, line) = curl(&["--header", &accept, "--header", &tag], &url).await;
                assert_eq!((read.len(), line), (0, format!("304  \"v1--{coding}\"")));
            }
            let (read, line) = curl(&["--header", "accept-encoding: identity"], &url).await;
            assert_eq!((read, &*line), (plain.clone(), "200  \"v1\""));
            // As curl asks by itself: for all that it reads.
            assert_eq!(curl(&[], &url).await.0, plain);
            let range = curl(&["--range", "3-9"], &url).await;
            assert_eq!((&*range.0, &*range.1), (&plain[3..10], "206  \"v1\""));
        }
        assert_eq!(calls.load(Relaxed), sizes.len());
    }
}
