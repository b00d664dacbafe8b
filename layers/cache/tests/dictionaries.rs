//! Forms of stored responses that are told by what clients have: made once, beside the other forms.
#![cfg(all(feature = "br", feature = "dictionary", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::io::Read;
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};
use tower_keep_cache::{Cache, CompressedForms};
use tower_keep_compress::{CompressLayer, Dictionaries, Dictionary, Encoding, Limits, decode_all};
use tower_keep_store::Store;

use origin::*;

const SCRIPT: &[(&str, &str)] = &[
    ("cache-control", "public, max-age=600"),
    ("content-type", "text/javascript"),
    ("etag", "\"v1\""),
    ("cache-tag", "scripts"),
];

fn script(version: usize) -> String {
    let lines =
        (0..2000_u64).map(|line| format!("f({}, {version});\n", line * line * 7919 % 10_007));
    lines.collect()
}

/// One that was served before, and what a client says who has it.
fn known(version: usize) -> (Dictionary, String) {
    let hour = Duration::from_secs(3600);
    let dictionary = Dictionary::new("example.com", "/*", script(version), hour).unwrap();
    let hash = sfv::BareItem::ByteSequence(dictionary.hash().to_vec());
    (dictionary, sfv::FieldType::serialize(&sfv::Item::new(hash)))
}

fn compress(dictionaries: &Dictionaries) -> CompressLayer {
    CompressLayer::builder().dictionaries(dictionaries.clone()).dictionary("/*").build().unwrap()
}

fn keeping(origin: &Origin, dictionaries: &Dictionaries) -> (Cache<Origin>, Store) {
    let forms = CompressedForms::from(&compress(dictionaries)).dense_up_to(0);
    cached_with(origin, |builder| builder.compress(forms))
}

fn decoded(got: &Got, dictionary: &str) -> String {
    let mut plain = Vec::new();
    match got.field("content-encoding") {
        "dcz" => {
            let dictionary = dictionary.as_bytes();
            zstd::stream::read::Decoder::with_dictionary(&*got.body, dictionary)
                .unwrap()
                .read_to_end(&mut plain)
                .unwrap();
        }
        "" => plain.extend_from_slice(&got.body),
        other => {
            let encoding = Encoding::from_name(other.as_bytes()).unwrap();
            plain = decode_all(&got.body, &[encoding], Limits::none()).unwrap();
        }
    }
    String::from_utf8(plain).unwrap()
}

/// Asks until the answer is in this coding; all answers on the way must be right.
async fn until(
    cache: &Cache<Origin>,
    coding: &str,
    fields: &[(&str, &str)],
    dictionary: &str,
    content: &str,
) -> Got {
    let start = Instant::now();
    loop {
        let got = send(cache, get(fields)).await;
        assert_eq!(decoded(&got, dictionary), content);
        if got.field("content-encoding") == coding {
            return got;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "not within 20 s: {coding}");
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_difference_is_made_once_and_belongs_to_its_dictionary() {
    let origin = Origin::new(|_, _| async { answer(SCRIPT, script(9)) });
    let dictionaries = Dictionaries::builder().build().unwrap();
    let ((first, has_first), (second, has_second)) = (known(1), known(2));
    dictionaries.add(first);
    dictionaries.add(second);
    let (cache, store) = keeping(&origin, &dictionaries);
    let accept = ("accept-encoding", "br, zstd, dcz");

    let mut sizes = Vec::new();
    for (version, has) in [(1, &has_first), (2, &has_second)] {
        let fields = [accept, ("available-dictionary", &**has)];
        let got = until(&cache, "dcz", &fields, &script(version), &script(9)).await;
        assert!(got.is_hit());
        assert!(got.headers.get_all("vary").iter().eq(["accept-encoding", "available-dictionary"]));
        assert_eq!(got.field("content-length"), got.body.len().to_string());
        assert!(got.body.len() < script(9).len() / 10, "{}", got.body.len());
        let tag = got.field("etag").to_owned();
        assert!(tag.starts_with("\"v1--dcz-"), "{tag}");
        // Who has it already is told so.
        let known = [accept, fields[1], ("if-none-match", &*tag)];
        let got = send(&cache, get(&known)).await;
        assert_eq!((got.status, got.field("etag")), (304, &*tag));
        sizes.push(store.l1_size().0);
    }
    assert!(sizes[0] < sizes[1], "each dictionary has a form of its own: {sizes:?}");
    let has_other = known(3).1;
    for other in [vec![accept], vec![accept, ("available-dictionary", &*has_other)]] {
        let got = until(&cache, "zstd", &other, "", &script(9)).await;
        assert_eq!(got.field("etag"), "\"v1--zstd\"");
    }
    // A range is one of the plain form.
    let range = [accept, ("available-dictionary", &*has_first), ("range", "bytes=3-9")];
    let part = send(&cache, get(&range)).await;
    assert_eq!((part.status, part.text()), (206, &script(9)[3..10]));
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn a_difference_is_never_of_anything_else_than_what_is_stored() {
    let origin = Origin::new(|call, _| async move { answer(SCRIPT, script(10 + call)) });
    let dictionaries = Dictionaries::builder().build().unwrap();
    let (dictionary, has) = known(1);
    dictionaries.add(dictionary);
    let (cache, store) = keeping(&origin, &dictionaries);
    let fields = [("accept-encoding", "dcz"), ("available-dictionary", &*has)];
    for version in 11..14 {
        until(&cache, "dcz", &fields, &script(1), &script(version)).await;
        store.invalidate_tag("scripts").await.unwrap();
    }
}

#[tokio::test]
async fn with_the_same_layer_outside_what_passes_is_the_dictionary_of_what_comes() {
    let versions = |path: &str| path.trim_start_matches("/v").parse().unwrap();
    let origin = Origin::new(move |_, request| {
        let version = versions(request.uri().path());
        async move { answer(SCRIPT, script(version)) }
    });
    let dictionaries = Dictionaries::builder().build().unwrap();
    let compress = compress(&dictionaries);
    let (cache, _) = cached_with(&origin, |builder| {
        builder.compress(CompressedForms::from(&compress).dense_up_to(0))
    });
    let service = compress.layer(cache);
    let send = async |version: usize, fields: &[(&str, &str)]| {
        let uri = format!("http://example.com/v{version}");
        let response = service.clone().oneshot(request("GET", &uri, fields)).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Got { status: parts.status.as_u16(), headers: parts.headers, body, trailers: None }
    };
    let accept = ("accept-encoding", "zstd, dcz");
    let has = known(1).1;
    let start = Instant::now();
    let (mut codings, mut is_made) = (Vec::new(), false);
    for version in [1, 2] {
        send(version, &[accept]).await;
        // What comes encoded from the cache is called a dictionary if it has passed before.
        while dictionaries.len() < version {
            assert!(start.elapsed() < Duration::from_secs(20), "{version}");
            sleep(Duration::from_millis(1)).await;
        }
    }
    while !is_made {
        let got = send(2, &[accept, ("available-dictionary", &*has)]).await;
        assert_eq!(decoded(&got, &script(1)), script(2));
        assert_eq!(got.field("use-as-dictionary"), "match=\"/*\"");
        let coding = got.field("content-encoding").to_owned();
        // What the layer outside makes has no length.
        is_made = coding == "dcz" && got.headers.contains_key("content-length");
        codings.push(coding);
        assert!(start.elapsed() < Duration::from_secs(20), "{codings:?}");
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn all_forms_of_a_dictionary_vary_by_what_clients_have() {
    let fields = [SCRIPT, &[("use-as-dictionary", "match=\"/*\"")]].concat();
    let origin = Origin::new(move |_, _| {
        let response = answer(&fields, script(1));
        async move { response }
    });
    let (cache, _) = keeping(&origin, &Dictionaries::builder().build().unwrap());
    let both = ["accept-encoding", "available-dictionary"];
    until(&cache, "zstd", &[("accept-encoding", "zstd")], "", &script(1)).await;
    for (status, fields) in [
        (200, vec![]),
        (200, vec![("accept-encoding", "zstd")]),
        (206, vec![("range", "bytes=0-9")]),
        (304, vec![("if-none-match", "\"v1\"")]),
    ] {
        let got = send(&cache, get(&fields)).await;
        assert_eq!(got.status, status);
        assert!(got.headers.get_all("vary").iter().eq(both), "{status}: {:?}", got.headers);
    }
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn a_difference_that_saves_nothing_is_not_sent_where_there_is_another_form() {
    let origin = Origin::new(|_, _| async { answer(SCRIPT, script(9)) });
    let dictionaries = Dictionaries::builder().build().unwrap();
    let other: String = (0..20_000).map(|_| fastrand::alphanumeric()).collect();
    let hour = Duration::from_secs(3600);
    let dictionary = Dictionary::new("example.com", "/*", other.clone(), hour).unwrap();
    let hash = sfv::BareItem::ByteSequence(dictionary.hash().to_vec());
    let has = sfv::FieldType::serialize(&sfv::Item::new(hash));
    dictionaries.add(dictionary);
    let (cache, store) = keeping(&origin, &dictionaries);
    let accept = ("accept-encoding", "zstd, dcz");
    until(&cache, "zstd", &[accept], "", &script(9)).await;
    let sizes = store.l1_size().0;
    let start = Instant::now();
    while store.l1_size().0 == sizes {
        send(&cache, get(&[accept, ("available-dictionary", &*has)])).await;
        assert!(start.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..20 {
        let got = send(&cache, get(&[accept, ("available-dictionary", &*has)])).await;
        assert_eq!(got.field("content-encoding"), "zstd");
        assert_eq!(decoded(&got, &other), script(9));
    }
}
