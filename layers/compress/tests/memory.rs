//! A bomb is refused before it takes memory.
#![cfg(all(feature = "br", feature = "deflate", feature = "gzip", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, service_fn};
use tower_keep_compress::{DecodeBody, DecompressLayer, Encoding, Limits, encode_all};

const MIB: usize = 1024 * 1024;

/// Reads all of the content, and forgets it.
async fn read(
    request: Request<DecodeBody<Full<Bytes>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut body = request.into_body();
    loop {
        match body.frame().await {
            Some(Ok(_)) => {}
            None => return Ok(Response::default()),
            Some(Err(_)) => {
                return Ok(Response::builder().status(500).body(Full::default()).unwrap());
            }
        }
    }
}

/// What zstd allocates isn't counted, as it comes from C.
#[test]
fn a_bomb_is_refused_at_bounded_memory() {
    for encoding in Encoding::ALL {
        // A gigabyte within a gigabyte would take long to make: 32 MiB, twice.
        let once = encode_all(&vec![0; 32 * MIB], encoding, 1).unwrap();
        let twice = encode_all(&once, encoding, 1).unwrap();
        for (codings, bomb) in [(1, once), (2, twice)] {
            for limits in [
                Limits::none().max_len(8 * MIB as u64),
                Limits::none().max_ratio(100),
                Limits::default(),
            ] {
                let layer = DecompressLayer::builder().limits(limits).build().unwrap();
                let mut service = layer.layer(service_fn(read));
                let names = vec![encoding.name(); codings].join(",");
                let request = Request::post("/").header("content-encoding", names);
                let request = request.body(Full::from(bomb.clone())).unwrap();
                let mut answer = None;
                let memory = allocation_counter::measure(|| {
                    let mut call = Box::pin(service.call(request));
                    // It gives others their turn, and there are none.
                    answer = (0..10_000).find_map(|_| call.as_mut().now_or_never());
                });
                let status = answer.unwrap().unwrap().status();
                assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{encoding} {limits:?}");
                // A window of Brotli is 16 MiB at the most, and doubled while it grows.
                let most = if encoding == Encoding::Brotli { 40 * MIB } else { MIB };
                let peak = usize::try_from(memory.bytes_max).unwrap();
                assert!(peak < most, "{encoding}, {codings}: {peak} bytes");
            }
        }
    }
}
