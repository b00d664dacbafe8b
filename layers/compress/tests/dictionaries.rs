//! Compression dictionaries (RFC 9842): who gets a difference, of what, and who must not. The decoders
//! are the reference one of zstd, and that of the `brotli` crate, which isn't what has encoded it.
#![cfg(all(feature = "dictionary", feature = "br", feature = "gzip", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod plain;
}

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use support::plain::{field, plain};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_keep_compress::{
    CompressLayer, Delta, Dictionaries, Dictionary, DictionaryCoding, LeaveUncompressed,
    encode_delta,
};

const KEPT: (&str, &str) = ("cache-control", "public, max-age=3600");
const YEAR: Duration = Duration::from_secs(31_536_000);

/// A script that is like no other, but for its versions.
fn script(len: usize, version: u32) -> Vec<u8> {
    let (mut text, mut seed) = (Vec::with_capacity(len + 40), 7_u32);
    while text.len() < len {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let version = if seed % 97 == 0 { version } else { 0 };
        text.extend_from_slice(format!("f({seed:x},{version});\n").as_bytes());
    }
    text.truncate(len);
    text
}

fn name_of(content: &[u8]) -> String {
    let item = sfv::Item::new(sfv::BareItem::ByteSequence(Sha256::digest(content).to_vec()));
    sfv::FieldType::serialize(&item)
}

/// Decodes by the dictionary; the head must name it.
fn decoded(coding: &str, encoded: &[u8], dictionary: &[u8]) -> Vec<u8> {
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

fn dictionaries() -> Dictionaries {
    Dictionaries::builder().build().unwrap()
}

fn layer(dictionaries: &Dictionaries) -> CompressLayer {
    CompressLayer::builder()
        .dictionaries(dictionaries.clone())
        .dictionary("/app/*.js")
        .build()
        .unwrap()
}

/// One that knows the first version.
fn knowing(content: &[u8]) -> CompressLayer {
    let known = dictionaries();
    known.add(Dictionary::new("example.com", "/app/*.js", content.to_vec(), YEAR).unwrap());
    layer(&known)
}

struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn coding(&self) -> &str {
        field(&self.headers, "content-encoding").unwrap_or("identity")
    }

    fn vary(&self) -> Vec<&str> {
        self.headers.get_all("vary").iter().map(|line| line.to_str().unwrap()).collect()
    }
}

async fn send(layer: &CompressLayer, request: Request<()>, response: Response<Vec<u8>>) -> Answer {
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

fn get(path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::get(path).header("host", "example.com");
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

fn js(fields: &[(&str, &str)], content: Vec<u8>) -> Response<Vec<u8>> {
    let mut builder = Response::builder().header("content-type", "text/javascript");
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(content).unwrap()
}

/// Waits until what passed has become a dictionary: that happens on another thread.
async fn settled(dictionaries: &Dictionaries, len: usize) {
    for _ in 0..500 {
        if dictionaries.len() >= len {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no dictionary was made");
}

#[tokio::test]
async fn a_new_version_is_told_by_the_one_before() {
    let known = dictionaries();
    let layer = layer(&known);
    let (old, new) = (script(60_000, 1), script(61_000, 2));

    let accept = ("accept-encoding", "gzip, br, zstd, dcb, dcz");
    let first = send(&layer, get("/app/1.js", &[accept]), js(&[KEPT], old.clone())).await;
    assert_eq!(first.coding(), "zstd");
    assert_eq!(field(&first.headers, "use-as-dictionary"), Some("match=\"/app/*.js\""));
    assert_eq!(first.vary(), ["accept-encoding", "available-dictionary"]);
    settled(&known, 1).await;

    let has = name_of(&old);
    let fields = [accept, ("available-dictionary", &*has), ("dictionary-id", "\"any\"")];
    let tag = ("etag", "\"abc\"");
    let second = send(&layer, get("/app/2.js", &fields), js(&[KEPT, tag], new.clone())).await;
    assert_eq!(second.coding(), "dcz");
    assert_eq!(second.vary(), ["accept-encoding", "available-dictionary"]);
    assert_eq!(decoded("dcz", &second.body, &old), new);
    assert!(second.body.len() < first.body.len() / 10, "{}", second.body.len());
    // The new one is a dictionary, too.
    assert_eq!(field(&second.headers, "use-as-dictionary"), Some("match=\"/app/*.js\""));
    settled(&known, 2).await;

    // The tag tells which dictionary it was, and goes back as it came.
    let tag = field(&second.headers, "etag").unwrap();
    assert!(tag.starts_with("\"abc--dcz-") && tag.len() == 19, "{tag}");
}

#[tokio::test]
async fn the_entity_tag_of_a_difference_is_recognised() {
    let layer = knowing(&script(5000, 1));
    let of = |accept: &'static str, has: &str| {
        let service = service_fn(move |request: Request<()>| async move {
            let asked: Vec<_> =
                request.headers().get_all("if-none-match").iter().cloned().collect();
            let is_same = asked.iter().any(|tag| tag == "\"abc\"");
            let status = if is_same { 304 } else { 200 };
            let response = Response::builder().status(status).header("etag", "\"abc\"");
            Ok::<_, std::convert::Infallible>(response.body(Empty::<Bytes>::new()).unwrap())
        });
        let name = name_of(&script(5000, 1));
        let hash = Sha256::digest(script(5000, 1));
        let tag =
            format!("\"abc--dcz-{:02x}{:02x}{:02x}{:02x}\"", hash[0], hash[1], hash[2], hash[3]);
        let has = if has == "the same" { name } else { has.to_owned() };
        let fields = [
            ("accept-encoding", accept),
            ("available-dictionary", &*has),
            ("if-none-match", &*tag),
        ];
        (layer.layer(service).oneshot(get("/app/1.js", &fields)), tag)
    };
    let (response, tag) = of("dcz", "the same");
    let response = response.await.unwrap();
    assert_eq!(response.status(), 304);
    assert_eq!(response.headers()["etag"], tag);
    let vary: Vec<_> = response.headers().get_all("vary").iter().collect();
    assert_eq!(vary, ["available-dictionary", "accept-encoding"], "as 200 has it");
    assert_eq!(of("br", "the same").0.await.unwrap().status(), 200);
    // What a cache in between has of others can't be read by one who has another dictionary, or none.
    let other = name_of(&script(5000, 2));
    assert_eq!(of("dcz", &other).0.await.unwrap().status(), 200);
    assert_eq!(of("dcz", "").0.await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_client_s_weights_decide() {
    let (old, new) = (script(20_000, 1), script(20_000, 2));
    let layer = knowing(&old);
    for (accept, coding) in [
        ("gzip, br, zstd, dcb, dcz", "dcz"),
        ("dcb, br", "dcb"),
        ("dcb;q=0.9, dcz;q=0.8", "dcb"),
        ("DCZ", "dcz"),
        ("zstd, dcz;q=0.5", "zstd"),
        ("gzip, dcz;q=1", "dcz"),
        ("dcz;q=0, dcb;q=0, br", "br"),
        ("identity, dcz;q=0.5", "identity"),
        ("*", "zstd"),
        ("gzip", "gzip"),
        ("", "identity"),
    ] {
        let has = name_of(&old);
        let fields = [("accept-encoding", accept), ("available-dictionary", &*has)];
        let answer = send(&layer, get("/app/2.js", &fields), js(&[], new.clone())).await;
        assert_eq!(answer.coding(), coding, "{accept}");
        assert_eq!(decoded(coding, &answer.body, &old), new, "{accept}");
        assert_eq!(answer.vary(), ["accept-encoding", "available-dictionary"], "{accept}");
    }
}

#[tokio::test]
async fn who_has_another_dictionary_gets_no_difference() {
    let (old, new) = (script(20_000, 1), script(20_000, 2));
    let layer = knowing(&old);
    let (has, other) = (name_of(&old), name_of(&new));
    let accept = ("accept-encoding", "br, dcb, dcz");
    let cross = ("sec-fetch-site", "cross-site");
    for (why, path, fields) in [
        ("a hash that is unknown", "/app/2.js", vec![("available-dictionary", &*other)]),
        ("no hash", "/app/2.js", vec![("available-dictionary", ":AAAA:")]),
        (
            "two",
            "/app/2.js",
            vec![("available-dictionary", &*has), ("available-dictionary", &*has)],
        ),
        ("none", "/app/2.js", vec![]),
        ("another path", "/other/2.js", vec![("available-dictionary", &*has)]),
        ("another host", "http://example.org/app/2.js", vec![("available-dictionary", &*has)]),
        ("another port", "http://example.com:81/app/2.js", vec![("available-dictionary", &*has)]),
        (
            "another site that can't read it",
            "/app/2.js",
            vec![("available-dictionary", &*has), cross, ("sec-fetch-mode", "no-cors")],
        ),
        (
            "another site that isn't allowed to",
            "/app/2.js",
            vec![("available-dictionary", &*has), cross, ("sec-fetch-mode", "cors")],
        ),
    ] {
        let fields: Vec<_> = fields.into_iter().chain([accept]).collect();
        let answer = send(&layer, get(path, &fields), js(&[], new.clone())).await;
        assert_eq!(answer.coding(), "br", "{why}");
    }
    let fields = [accept, ("available-dictionary", &*has)];
    let yes = get("http://EXAMPLE.com/app/2.js?x", &fields);
    assert_eq!(send(&layer, yes, js(&[], new.clone())).await.coding(), "dcz");
    let own = [accept, fields[1], ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "no-cors")];
    assert_eq!(send(&layer, get("/app/2.js", &own), js(&[], new.clone())).await.coding(), "dcz");

    // What must be left alone is left alone by dictionaries, too.
    for (why, response) in [
        ("no-transform", js(&[("cache-control", "no-transform")], new.clone())),
        ("encoded already", js(&[("content-encoding", "x")], new.clone())),
        ("a short one", js(&[], new[..500].to_vec())),
    ] {
        let coding = send(&layer, get("/app/2.js", &fields), response).await;
        assert!(["identity", "x"].contains(&coding.coding()), "{why}");
    }
    let mut secret = js(&[], new.clone());
    secret.extensions_mut().insert(LeaveUncompressed);
    assert_eq!(send(&layer, get("/app/2.js", &fields), secret).await.coding(), "identity");
}

#[tokio::test]
async fn what_is_somebody_s_never_becomes_a_dictionary() {
    let known = dictionaries();
    let layer = layer(&known);
    let content = script(20_000, 1);
    let own = ("use-as-dictionary", "match=\"/app/*\"");
    let age = ("cache-control", "max-age=60");
    for (why, request, response) in [
        ("private", vec![], vec![("cache-control", "private, max-age=60"), own]),
        ("not stored", vec![], vec![("cache-control", "no-store"), own]),
        ("a cookie is set", vec![], vec![KEPT, own, ("set-cookie", "a=b")]),
        ("it varies by cookies", vec![], vec![KEPT, own, ("vary", "cookie")]),
        ("with a token", vec![("authorization", "Bearer x")], vec![age, own]),
        ("with a cookie", vec![("cookie", "a=b")], vec![age, own]),
        ("never fresh", vec![], vec![own]),
        ("encoded", vec![], vec![KEPT, own, ("content-encoding", "x")]),
        ("of another type", vec![], vec![KEPT, ("use-as-dictionary", "match=\"/*\", type=x")]),
        ("unreadable", vec![("sec-fetch-mode", "no-cors")], vec![KEPT, own]),
    ] {
        send(&layer, get("/app/1.js", &request), js(&response, content.clone())).await;
        // What was begun would be done by then.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(known.is_empty(), "{why}");
    }
    // Nor does the layer tell the client to keep it.
    let answer = send(&layer, get("/app/1.js", &[]), js(&[], content.clone())).await;
    assert_eq!(field(&answer.headers, "use-as-dictionary"), None);
    let mut secret = js(&[KEPT, own], content.clone());
    secret.extensions_mut().insert(LeaveUncompressed);
    send(&layer, get("/app/1.js", &[]), secret).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(known.is_empty());

    send(&layer, get("/app/1.js", &[("cookie", "a=b")]), js(&[KEPT, own], content)).await;
    settled(&known, 1).await;
}

#[tokio::test]
async fn a_body_becomes_a_dictionary_only_when_all_of_it_has_passed() {
    let known = dictionaries();
    let layer = layer(&known);
    let parts = [script(20_000, 1), script(20_000, 2)];
    let body = |fails: bool| {
        let [first, second] = parts.clone().map(|part| Ok(Frame::data(Bytes::from(part))));
        let last = if fails { Err("torn") } else { second };
        StreamBody::new(stream::iter([first, last]))
    };
    let ask = |fails| {
        let body = body(fails);
        let response = js(&[KEPT], Vec::new()).map(|_| body.boxed());
        let mut response = Some(response);
        let service = service_fn(move |_: Request<()>| {
            let response = response.take().unwrap();
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        layer.clone().layer(service).oneshot(get("/app/1.js", &[]))
    };
    assert!(ask(true).await.unwrap().into_body().collect().await.is_err());
    let mut left = ask(false).await.unwrap().into_body();
    left.frame().await.unwrap().unwrap();
    drop(left);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(known.is_empty());

    ask(false).await.unwrap().into_body().collect().await.unwrap();
    settled(&known, 1).await;
    let (has, new) = (name_of(&parts.concat()), script(30_000, 3));
    let fields = [("accept-encoding", "dcz"), ("available-dictionary", &*has)];
    let answer = send(&layer, get("/app/2.js", &fields), js(&[], new.clone())).await;
    assert_eq!(decoded(answer.coding(), &answer.body, &parts.concat()), new);
}

#[tokio::test]
async fn memory_is_bounded() {
    let known = Dictionaries::builder().max_bytes(4 << 20).max_len(1 << 20).build().unwrap();
    let layer = layer(&known);
    for version in 0..30 {
        let content = script(300_000, version);
        let path = format!("/app/{version}.js");
        send(&layer, get(&path, &[]), js(&[KEPT], content)).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(known.weight() <= 4 << 20, "{}", known.weight());
    }
    settled(&known, 1).await;
    let before = known.len();
    send(&layer, get("/app/long.js", &[]), js(&[KEPT], script((1 << 20) + 1, 1))).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(known.len(), before, "it is too long");
}

#[tokio::test(start_paused = true)]
async fn a_dictionary_is_used_for_as_long_as_clients_keep_it() {
    let (old, new) = (script(20_000, 1), script(20_000, 2));
    let known = dictionaries();
    let hour = Duration::from_secs(3600);
    known.add(Dictionary::new("example.com", "/app/*", old.clone(), hour).unwrap());
    let layer = layer(&known);
    let has = name_of(&old);
    let fields = [("accept-encoding", "br, dcz"), ("available-dictionary", &*has)];
    let ask = || send(&layer, get("/app/2.js", &fields), js(&[], new.clone()));
    tokio::time::advance(Duration::from_secs(3599)).await;
    assert_eq!(ask().await.coding(), "dcz");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(ask().await.coding(), "br");
}

#[tokio::test]
async fn a_version_that_is_known_is_not_taken_in_again() {
    let known = dictionaries();
    let layer = layer(&known);
    let tag = ("etag", "\"1\"");
    send(&layer, get("/app/1.js", &[]), js(&[KEPT, tag], script(20_000, 1))).await;
    settled(&known, 1).await;
    // Other content under the same tag would be another dictionary, if it were looked at.
    send(&layer, get("/app/1.js", &[]), js(&[KEPT, tag], script(20_000, 2))).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(known.len(), 1);
    let tag = ("etag", "\"2\"");
    send(&layer, get("/app/1.js", &[]), js(&[KEPT, tag], script(20_000, 2))).await;
    settled(&known, 2).await;
}

#[tokio::test]
async fn head_has_the_fields_of_get() {
    let (old, new) = (script(20_000, 1), script(20_000, 2));
    let layer = knowing(&old);
    let has = name_of(&old);
    let fields = [("accept-encoding", "dcz"), ("available-dictionary", &*has)];
    let of = async |method: &str| {
        let mut request = get("/app/2.js", &fields);
        *request.method_mut() = method.parse().unwrap();
        send(&layer, request, js(&[KEPT, ("etag", "\"a\"")], new.clone())).await
    };
    let (head, mut get) = (of("HEAD").await, of("GET").await);
    assert!(head.body.is_empty());
    get.headers.remove("content-length");
    assert_eq!(head.headers, get.headers);
}

#[tokio::test]
async fn what_many_ask_for_at_once_becomes_one_dictionary() {
    let known = dictionaries();
    let layer = layer(&known);
    // Without a version by which it could be known.
    let answers = async || {
        send(&layer, get("/app/1.js", &[]), js(&[KEPT], script(200_000, 1))).await;
    };
    futures_util::future::join_all((0..20).map(|_| answers())).await;
    settled(&known, 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(known.len(), 1);
    assert!(known.weight() < 2_000_000, "{}", known.weight());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_difference_is_read_back(
        old_len in prop_oneof![128_usize..300, 1000_usize..200_000],
        len in prop_oneof![0_usize..100, 1000_usize..300_000],
        version in 0_u32..3,
        is_related: bool,
        level in 1_i32..=9,
        coding in prop_oneof![Just(DictionaryCoding::Dcz), Just(DictionaryCoding::Dcb)],
    ) {
        let old = script(old_len, 0);
        let content = if is_related { script(len, version) } else { old.iter().rev().cycle().take(len).copied().collect() };
        let dictionary = Dictionary::new("a", "/*", old.clone(), YEAR).unwrap();
        let delta = Delta::new(coding, Arc::new(dictionary)).unwrap();
        let encoded = encode_delta(&content, &delta, level).unwrap();
        prop_assert_eq!(decoded(coding.name(), &encoded, &old), content);
    }

    #[test]
    fn every_streamed_difference_is_read_back(
        old_len in 1000_usize..100_000,
        parts in prop::collection::vec(0_usize..60_000, 0..6),
        announced: bool,
        accept in prop_oneof![Just("dcz"), Just("dcb, br")],
    ) {
        let old = script(old_len, 0);
        let layer = knowing(&old);
        let content = script(parts.iter().sum::<usize>() + 2000, 1);
        let mut rest = Bytes::from(content.clone());
        let frames: Vec<_> = parts.iter().map(|len| rest.split_to(*len)).collect();
        let frames: Vec<_> = frames.into_iter().chain([rest]).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (coding, body) = runtime.block_on(async {
            let frames = frames.into_iter().map(|part| Ok::<_, std::io::Error>(Frame::data(part)));
            let mut builder = Response::builder().header("content-type", "text/javascript");
            if announced {
                builder = builder.header("content-length", content.len());
            }
            let response = builder.body(StreamBody::new(stream::iter(frames))).unwrap();
            let mut response = Some(response);
            let mut service = layer.layer(service_fn(move |_: Request<()>| {
                let response = response.take().unwrap();
                async move { Ok::<_, std::convert::Infallible>(response) }
            }));
            let has = name_of(&old);
            let fields = [("accept-encoding", accept), ("available-dictionary", &*has)];
            let response = service.call(get("/app/2.js", &fields)).await.unwrap();
            let coding = field(response.headers(), "content-encoding").unwrap_or("identity").to_owned();
            (coding, response.into_body().collect().await.unwrap().to_bytes())
        });
        prop_assert_eq!(decoded(&coding, &body, &old), content);
    }
}

#[test]
fn settings_that_can_not_work_are_refused_with_the_fix() {
    let refused = |builder: tower_keep_compress::CompressLayerBuilder| {
        builder.build().unwrap_err().to_string()
    };
    let builder = CompressLayer::builder;
    let gzip = [tower_keep_compress::Encoding::Gzip];
    assert!(refused(builder().encodings(gzip).dictionary("/a/*")).contains("zstd and br"));
    assert!(refused(builder().dictionary("a/*")).contains("`/app/*.js`"));
    assert!(refused(builder().dictionary("/a/:id")).contains("`/app/*.js`"));
    let bounds = Dictionaries::builder().max_bytes(1000).build().unwrap_err().to_string();
    assert!(bounds.contains("four times"), "{bounds}");
    let short = Dictionary::new("a", "/*", "short", YEAR).unwrap_err().to_string();
    assert!(short.contains("leave it out"), "{short}");
}
