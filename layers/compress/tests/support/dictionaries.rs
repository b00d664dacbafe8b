//! Scripts, versions of which are told by each other, and a layer around a service that answers with them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test binary uses its own part, and a test may panic"
)]

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use sha2::{Digest, Sha256};
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_compress::{CompressLayer, Dictionaries, Dictionary};

use crate::support::plain::{field, plain};

pub(crate) const KEPT: (&str, &str) = ("cache-control", "public, max-age=3600");
pub(crate) const YEAR: Duration = Duration::from_secs(31_536_000);

/// A script that is like no other, but for its versions.
pub(crate) fn script(len: usize, version: u32) -> Vec<u8> {
    let (mut text, mut seed) = (Vec::with_capacity(len + 40), 7_u32);
    while text.len() < len {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let version = if seed % 97 == 0 { version } else { 0 };
        text.extend_from_slice(format!("f({seed:x},{version});\n").as_bytes());
    }
    text.truncate(len);
    text
}

pub(crate) fn name_of(content: &[u8]) -> String {
    let item = sfv::Item::new(sfv::BareItem::ByteSequence(Sha256::digest(content).to_vec()));
    sfv::FieldType::serialize(&item)
}

/// Decodes by the dictionary; the head must name it.
pub(crate) fn decoded(coding: &str, encoded: &[u8], dictionary: &[u8]) -> Vec<u8> {
    let (magic, rest) = match coding {
        "dcz" => (&[0x5e, 0x2a, 0x4d, 0x18, 0x20, 0, 0, 0][..], &encoded[40..]),
        "dcb" => (&[0xff, 0x44, 0x43, 0x42][..], &encoded[36..]),
        other => return plain(other, encoded),
    };
    assert_eq!(
        &encoded[..encoded.len() - rest.len()],
        [magic, &Sha256::digest(dictionary)].concat()
    );
    let mut plain = Vec::new();
    if coding == "dcz" {
        // All of it, skippable frame included, is what a decoder of zstd reads.
        let mut reader = zstd::stream::read::Decoder::with_dictionary(encoded, dictionary).unwrap();
        reader.window_log_max(23).unwrap();
        reader.read_to_end(&mut plain).unwrap();
    } else {
        let reader =
            brotli::Decompressor::new_with_custom_dict(rest, 4096, dictionary.to_vec().into());
        { reader }.read_to_end(&mut plain).unwrap();
    }
    plain
}

pub(crate) fn dictionaries() -> Dictionaries {
    Dictionaries::builder().build().unwrap()
}

pub(crate) fn layer(dictionaries: &Dictionaries) -> CompressLayer {
    CompressLayer::builder()
        .dictionaries(dictionaries.clone())
        .dictionary("/app/*.js")
        .build()
        .unwrap()
}

/// One that knows the first version.
pub(crate) fn knowing(content: &[u8]) -> CompressLayer {
    let known = dictionaries();
    known.add(Dictionary::new("example.com", "/app/*.js", content.to_vec(), YEAR).unwrap());
    layer(&known)
}

pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn coding(&self) -> &str {
        field(&self.headers, "content-encoding").unwrap_or("identity")
    }

    pub(crate) fn vary(&self) -> Vec<&str> {
        self.headers.get_all("vary").iter().map(|line| line.to_str().unwrap()).collect()
    }
}

pub(crate) async fn send(
    layer: &CompressLayer,
    request: Request<()>,
    response: Response<Vec<u8>>,
) -> Answer {
    let response = response.map(Full::<Bytes>::from);
    let mut response = Some(response);
    let service = service_fn(move |_: Request<()>| {
        let response = response.take().unwrap();
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let response = layer.layer(service).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer { headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}

pub(crate) fn get(path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::get(path).header("host", "example.com");
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

pub(crate) fn js(fields: &[(&str, &str)], content: Vec<u8>) -> Response<Vec<u8>> {
    let mut builder = Response::builder().header("content-type", "text/javascript");
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(content).unwrap()
}

/// Waits until what passed has become a dictionary: that happens on another thread.
pub(crate) async fn settled(dictionaries: &Dictionaries, len: usize) {
    for _ in 0..500 {
        if dictionaries.len() >= len {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no dictionary was made");
}
