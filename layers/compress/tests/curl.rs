//! A real client reads what a real server sends: curl, whose decoders are zlib's, Google's Brotli and
//! the reference one of zstd.
#![cfg(all(feature = "br", feature = "deflate", feature = "gzip", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/text.rs"]
mod text;

use std::net::SocketAddr;

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_util::stream;
use tokio::net::TcpListener;
use tower_keep_compress::{
    CompressLayer, DecompressLayer, Encoding, LeaveUncompressed, encode_all,
};

/// Sizes around all that decides: nothing, the least size, what is compressed at once, blocks.
const SIZES: [usize; 7] = [0, 1023, 1024, 16 * 1024, 16 * 1024 + 1, 131_073, 1_000_000];

fn text(len: usize) -> Vec<u8> {
    text::text(len, 1)
}

async fn whole(Path(len): Path<usize>) -> impl IntoResponse {
    ([("content-type", "application/json"), ("etag", "\"abc\"")], text(len))
}

async fn streamed(Path(len): Path<usize>) -> impl IntoResponse {
    let parts: Vec<_> = text(len).chunks(10_000).map(Bytes::copy_from_slice).collect();
    let parts = stream::unfold(parts.into_iter(), |mut parts| async {
        let part = parts.next()?;
        // As if it came from elsewhere.
        tokio::task::yield_now().await;
        Some((Ok::<_, std::convert::Infallible>(part), parts))
    });
    ([("content-type", "text/plain")], Body::from_stream(parts))
}

async fn secret() -> impl IntoResponse {
    (Extension(LeaveUncompressed), String::from_utf8(text(5000)).unwrap())
}

async fn server() -> SocketAddr {
    let decompress = DecompressLayer::builder().build().unwrap();
    let router = Router::new()
        .route("/whole/{len}", get(whole))
        .route("/streamed/{len}", get(streamed))
        .route("/secret", get(secret))
        .route("/echo", post(|content: Bytes| async { content }).layer(decompress))
        .layer(CompressLayer::builder().build().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// What curl prints: the content, and on the last line the status, the coding and the length.
async fn curl(arguments: &[&str], url: &str) -> (Vec<u8>, String) {
    let told = "%{http_code} %header{content-encoding} %header{vary}";
    tower_keep_testing::curl(told, arguments, url).await
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reads_every_coding_of_every_size() {
    let address = server().await;
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        for coding in ["zstd", "br", "gzip", "deflate"] {
            for len in SIZES {
                for kind in ["whole", "streamed"] {
                    let accept = format!("accept-encoding: {coding}");
                    // `--compressed` decodes, and the field says in which one it comes.
                    let arguments = [protocol, "--compressed", "--header", &accept];
                    let url = format!("http://{address}/{kind}/{len}");
                    let (content, line) = curl(&arguments, &url).await;
                    // What pauses is a stream, however short it turns out to be.
                    let is_short = if kind == "whole" { len < 1024 } else { len == 0 };
                    let coded = if is_short { "" } else { coding };
                    assert_eq!(line, format!("200 {coded} accept-encoding"), "{url} {coding}");
                    assert_eq!(content, text(len), "{url} {coding}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_what_it_accepts() {
    let address = server().await;
    let url = format!("http://{address}/whole/5000");
    let (content, line) = curl(&["--compressed"], &url).await;
    assert!(["200 zstd accept-encoding", "200 br accept-encoding"].contains(&&*line), "{line}");
    assert_eq!(content, text(5000));
    let (content, line) = curl(&[], &url).await;
    assert_eq!((content, &*line), (text(5000), "200  accept-encoding"));

    let secret = curl(&["--compressed"], &format!("http://{address}/secret")).await;
    assert_eq!(secret, (text(5000), "200  ".to_owned()));

    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let arguments = [protocol, "--head", "--header", "accept-encoding: br"];
        let head = String::from_utf8(curl(&arguments, &url).await.0).unwrap().to_ascii_lowercase();
        assert!(head.contains("content-encoding: br\r\n"), "{head}");
        assert!(head.contains("etag: \"abc--br\"\r\n"), "{head}");
        // That of the plain form would be wrong, and that of the compressed one isn't known.
        assert!(!head.contains("content-length"), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_sends_every_coding() {
    let address = server().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    for encoding in Encoding::ALL {
        let content = text(100_000);
        std::fs::write(file.path(), encode_all(&content, encoding, 5).unwrap()).unwrap();
        let named = format!("content-encoding: {encoding}");
        let data = format!("@{}", file.path().display());
        let arguments = ["--header", &*named, "--data-binary", &data];
        let (read, line) = curl(&arguments, &format!("http://{address}/echo")).await;
        assert!(line.starts_with("200"), "{encoding}: {line}");
        assert_eq!(read, content);
    }
    std::fs::write(file.path(), encode_all(&vec![0; 20 << 20], Encoding::Gzip, 1).unwrap())
        .unwrap();
    let data = format!("@{}", file.path().display());
    let arguments = ["--header", "content-encoding: gzip", "--data-binary", &data];
    let (_, line) = curl(&arguments, &format!("http://{address}/echo")).await;
    assert!(line.starts_with("413"), "{line}");
}
