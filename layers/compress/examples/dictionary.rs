//! What a dictionary saves, and what it costs: a text, and the same with twenty small changes, which is
//! sent to clients that have the first and to such that don't.
//!
//! `cargo run --release -p tower-keep-compress --all-features --example dictionary`
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "it measures, and tells")]

use std::convert::Infallible;
use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use sha2::{Digest, Sha256};
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_compress::{CompressLayer, Dictionaries, Dictionary};

/// Of so many, the fastest counts.
const TRIES: usize = 30;

/// Words in no order.
fn text(len: usize, seed: &mut u32) -> Vec<u8> {
    let mut random = || {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *seed >> 16
    };
    let mut text = Vec::with_capacity(len + 16);
    while text.len() < len {
        let word = u64::from(random() % 3000).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let letters = usize::try_from(word % 7).unwrap_or(0) + 3;
        let word =
            (0..letters).map(|at| b'a' + u8::try_from((word >> (8 + 5 * at)) % 26).unwrap_or(0));
        text.extend(word);
        text.push(*b" (;=".get(random() as usize % 4).unwrap_or(&b' '));
    }
    text.truncate(len);
    text
}

fn changed(old: &[u8], seed: &mut u32) -> Vec<u8> {
    let mut new = old.to_vec();
    for change in 1..=20 {
        let at = new.len() / 21 * change;
        let piece = text(10 * change, seed);
        new.splice(at..at + 20, piece);
    }
    new
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut seed = 1;
    for len in [10_000, 100_000, 1_000_000] {
        let old = text(len, &mut seed);
        let new = Bytes::from(changed(&old, &mut seed));
        let hash = sfv::BareItem::ByteSequence(Sha256::digest(&old).to_vec());
        let hash = sfv::FieldType::serialize(&sfv::Item::new(hash));
        let dictionaries = Dictionaries::builder().build()?;
        dictionaries.add(Dictionary::new("a", "/*", old, Duration::from_secs(60))?);
        println!("{len} bytes; the dictionary takes {}", dictionaries.weight());
        let layer = CompressLayer::builder().dictionaries(dictionaries).build()?;
        for coding in ["zstd", "dcz", "br", "dcb"] {
            let (mut fastest, mut sent) = (Duration::MAX, (String::new(), 0));
            for _ in 0..TRIES {
                let content = new.clone();
                let service = layer.layer(service_fn(move |_: Request<()>| {
                    let response = Response::builder().header("content-type", "text/javascript");
                    let response = response.body(Full::new(content.clone()));
                    async move { Ok::<_, Infallible>(response.unwrap_or_default()) }
                }));
                let request = Request::get("http://a/x").header("accept-encoding", coding);
                let request = request.header("available-dictionary", &hash).body(())?;
                let started = Instant::now();
                let (head, body) = service.oneshot(request).await?.into_parts();
                let body = body.collect().await?.to_bytes();
                fastest = fastest.min(started.elapsed());
                let coding = head
                    .headers
                    .get("content-encoding")
                    .map_or("none", |value| value.to_str().unwrap_or("none"));
                sent = (coding.to_owned(), body.len());
            }
            println!("  asked for {coding}: {} bytes of {}, {fastest:?}", sent.1, sent.0);
        }
    }
    Ok(())
}
