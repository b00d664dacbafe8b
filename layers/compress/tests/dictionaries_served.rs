//! Compression dictionaries over connections: what the layer sees of a body is what a server asks for.
#![cfg(all(feature = "dictionary", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::process::Command;
use tower_keep_compress::{CompressLayer, Dictionaries};

const LEN: usize = 50_000;

/// Its length is announced, and its parts don't tell which of them is the last.
async fn script() -> impl IntoResponse {
    let parts =
        (0..LEN / 1000).map(|_| Ok::<_, std::convert::Infallible>(Bytes::from(vec![b'a'; 1000])));
    let fields = [
        ("content-type", "text/javascript".to_owned()),
        ("cache-control", "max-age=600".to_owned()),
        ("content-length", LEN.to_string()),
    ];
    (fields, Body::from_stream(stream::iter(parts)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_with_its_length_becomes_a_dictionary() {
    for (protocol, accept) in [
        ("--http1.1", "identity"),
        ("--http1.1", "zstd"),
        ("--http2-prior-knowledge", "identity"),
        ("--http2-prior-knowledge", "zstd"),
    ] {
        let known = Dictionaries::builder().build().unwrap();
        let layer = CompressLayer::builder().dictionaries(known.clone()).dictionary("/*");
        let router = Router::new().route("/a.js", get(script)).layer(layer.build().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a.js", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "60", "--compressed", protocol])
            .args(["--header", &format!("accept-encoding: {accept}"), &url])
            .output()
            .await
            .unwrap();
        assert_eq!(output.stdout, vec![b'a'; LEN], "{protocol} {accept}");
        for _ in 0..500 {
            if !known.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(known.len(), 1, "{protocol} {accept}");
    }
}
