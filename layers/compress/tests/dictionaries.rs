//! Compression dictionaries (RFC 9842): who gets a difference, of what, and who must not. The decoders
//! are the reference one of zstd, and that of the `brotli` crate, which isn't what has encoded it.
#![cfg(all(feature = "dictionary", feature = "br", feature = "gzip", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod dictionaries;
    pub(crate) mod plain;
}

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use support::dictionaries::*;
use support::plain::field;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_keep_compress::{
    CompressLayer, Delta, Dictionaries, Dictionary, DictionaryCoding, LeaveUncompressed,
    encode_delta,
};

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
    assert!(tag.starts_with("\"abc--dcz-") && tag.len() == 27, "{tag}");
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
        let first = u64::from_be_bytes(hash[..8].try_into().unwrap());
        let tag = format!("\"abc--dcz-{first:016x}\"");
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
            let coding = field(response.headers(), "content-encoding").unwrap().to_owned();
            (coding, response.into_body().collect().await.unwrap().to_bytes())
        });
        // Brotli must know how long it is, and that the dictionary is short.
        let is_known = announced || content.len() < 16 * 1024;
        let expected = match accept {
            "dcz" => "dcz",
            _ if is_known && old_len <= 64 * 1024 => "dcb",
            _ => "br",
        };
        prop_assert_eq!(&coding, expected);
        prop_assert_eq!(decoded(&coding, &body, &old), content);
    }
}

#[tokio::test]
async fn a_length_that_is_announced_is_relied_on_and_enforced() {
    let (old, new) = (script(50_000, 1), script(100_000, 2));
    let layer = knowing(&old);
    let has = name_of(&old);
    let ask = async |accept: &str, announced: usize| {
        let part = Ok::<_, std::io::Error>(Frame::data(Bytes::from(new.clone())));
        let response = Response::builder().header("content-type", "text/javascript");
        let response = response.header("content-length", announced);
        let mut response = Some(response.body(StreamBody::new(stream::iter([part]))).unwrap());
        let service = service_fn(move |_: Request<()>| {
            let response = response.take().unwrap();
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        let fields = [("accept-encoding", accept), ("available-dictionary", &*has)];
        let response = layer.layer(service).oneshot(get("/app/2.js", &fields)).await.unwrap();
        let coding = field(response.headers(), "content-encoding").unwrap().to_owned();
        (coding, response.into_body().collect().await.map(http_body_util::Collected::to_bytes))
    };
    for accept in ["dcb", "dcz"] {
        let (coding, body) = ask(accept, new.len()).await;
        assert_eq!(coding, accept);
        let body = body.unwrap();
        assert_eq!(decoded(accept, &body, &old), new);
        for wrong in [new.len() - 1, new.len() + 1] {
            assert!(ask(accept, wrong).await.1.is_err(), "{accept} {wrong}");
        }
    }
}

#[tokio::test]
async fn what_would_take_too_much_memory_is_sent_without_a_dictionary() {
    let mib = 1 << 20;
    for (accept, dictionary, len, coding) in [
        ("dcz, zstd", 1000, 2 * mib, "dcz"),
        ("dcz, zstd", 1000, 2 * mib + 1, "zstd"),
        ("dcb, br", 64 * 1024, 100_000, "dcb"),
        ("dcb, br", 64 * 1024 + 1, 100_000, "br"),
        ("dcb, br", 1000, mib / 2 - 16 - 1000, "dcb"),
        ("dcb, br", 1000, mib / 2 - 16 - 1000 + 1, "br"),
    ] {
        let old = script(dictionary, 1);
        let has = name_of(&old);
        let fields = [("accept-encoding", accept), ("available-dictionary", &*has)];
        let mut request = get("/app/2.js", &fields);
        // Its head says what comes, and nothing is compressed.
        *request.method_mut() = http::Method::HEAD;
        let response = js(&[("content-length", &len.to_string())], Vec::new());
        let answer = send(&knowing(&old), request, response).await;
        assert_eq!(answer.coding(), coding, "{len} bytes by {dictionary}");
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
