//! Reading bodies by other means than those under test: `ruzstd`, `miniz_oxide`, and the reader of the
//! `brotli` crate.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test binary uses its own part, and a test may panic"
)]

use std::io::Read;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_keep_compress::{BoxError, CompressBody, CompressLayer, Encoding};

/// The plain form of all of a body.
pub(crate) fn plain(encoding: &str, encoded: &[u8]) -> Vec<u8> {
    match encoding {
        "zstd" => {
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(encoded).unwrap();
            let mut plain = Vec::new();
            decoder.read_to_end(&mut plain).unwrap();
            plain
        }
        "br" => {
            let mut plain = Vec::new();
            brotli::Decompressor::new(encoded, 4096).read_to_end(&mut plain).unwrap();
            plain
        }
        "gzip" => {
            // RFC 1952 §2.3, without optional fields.
            assert_eq!(&encoded[..4], [0x1f, 0x8b, 8, 0]);
            let (stream, footer) = encoded[10..].split_at(encoded.len() - 18);
            let plain = miniz_oxide::inflate::decompress_to_vec(stream).unwrap();
            assert_eq!(footer[4..], u32::try_from(plain.len()).unwrap().to_le_bytes());
            plain
        }
        "deflate" => miniz_oxide::inflate::decompress_to_vec_zlib(encoded).unwrap(),
        "identity" => encoded.to_vec(),
        other => panic!("unknown: {other}"),
    }
}

/// What can be read of the beginning of a body.
pub(crate) fn readable(encoding: Encoding, beginning: &[u8]) -> Vec<u8> {
    let mut plain = vec![0; 1 << 20];
    let len = match encoding {
        Encoding::Zstd => {
            // The other one keeps what is in its window.
            read_some(&mut zstd::stream::read::Decoder::new(beginning).unwrap(), &mut plain)
        }
        Encoding::Brotli => read_some(&mut brotli::Decompressor::new(beginning, 4096), &mut plain),
        Encoding::Gzip => inflated(&beginning[10..], 0, &mut plain),
        Encoding::Deflate => {
            let zlib = miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER;
            inflated(beginning, zlib, &mut plain)
        }
    };
    plain.truncate(len);
    plain
}

fn read_some(reader: &mut impl Read, plain: &mut [u8]) -> usize {
    let mut len = 0;
    while let Ok(more @ 1..) = reader.read(&mut plain[len..]) {
        len += more;
    }
    len
}

fn inflated(stream: &[u8], flags: u32, plain: &mut [u8]) -> usize {
    let flags = flags | miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
    let mut state = miniz_oxide::inflate::core::DecompressorOxide::new();
    miniz_oxide::inflate::core::decompress(&mut state, stream, plain, 0, flags).2
}

/// The answer of a service behind the layer that always says the same, with a body of any kind.
pub(crate) async fn ask<B>(
    layer: &CompressLayer,
    request: &[(&str, &str)],
    response: Response<B>,
) -> Response<CompressBody<B>>
where
    B: Body<Error: Into<BoxError>>,
{
    ask_by("GET", layer, request, response).await
}

pub(crate) async fn ask_by<B>(
    method: &str,
    layer: &CompressLayer,
    request: &[(&str, &str)],
    response: Response<B>,
) -> Response<CompressBody<B>>
where
    B: Body<Error: Into<BoxError>>,
{
    let mut response = Some(response);
    let service = service_fn(move |_: Request<Empty<Bytes>>| {
        let response = response.take().unwrap();
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let mut service = layer.layer(service);
    let mut builder = Request::builder().method(method);
    for (name, value) in request {
        builder = builder.header(*name, *value);
    }
    service.ready().await.unwrap().call(builder.body(Empty::new()).unwrap()).await.unwrap()
}

/// A response with these fields.
pub(crate) fn response<B>(fields: &[(&str, &str)], body: B) -> Response<B> {
    let mut builder = Response::builder();
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(body).unwrap()
}

/// One of `text/plain`, long enough to be compressed.
pub(crate) fn text(fields: &[(&str, &str)]) -> Response<Full<Bytes>> {
    let mut response = response(fields, Full::from("All work and no play. ".repeat(100)));
    response.headers_mut().entry("content-type").or_insert("text/plain".parse().unwrap());
    response
}

/// The field's value, if it is there once.
pub(crate) fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?.to_str().unwrap();
    assert!(lines.next().is_none(), "{name} is there twice");
    Some(line)
}

/// All data of a body, and its trailers.
pub(crate) async fn read<B>(body: B) -> (Vec<u8>, Option<HeaderMap>)
where
    B: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    (collected.to_bytes().to_vec(), trailers)
}
