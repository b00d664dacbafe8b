//! Compression dictionaries (RFC 9842): what becomes one, for whom, and for how long.
#![cfg(all(feature = "dictionary", feature = "br", feature = "gzip", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod dictionaries;
    pub(crate) mod plain;
}

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use support::dictionaries::*;
use support::plain::field;
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_compress::{CompressLayer, Dictionaries, Dictionary, LeaveUncompressed};

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

/// What becomes of a response with these fields: whether the layer says that it is a dictionary.
async fn is_marked(layer: &CompressLayer, fields: &[(&str, &str)], content: Vec<u8>) -> bool {
    let fields: Vec<_> = fields.iter().copied().chain([KEPT]).collect();
    let answer = send(layer, get("/app/1.js", &[]), js(&fields, content)).await;
    field(&answer.headers, "use-as-dictionary").is_some()
}

#[tokio::test]
async fn only_what_becomes_one_is_called_a_dictionary() {
    let known = Dictionaries::builder().max_bytes(4 << 20).max_len(100_000).build().unwrap();
    let layer = layer(&known);
    for (why, fields, len) in [
        ("encoded", [("content-encoding", "x")], 5000),
        ("not to be changed", [("cache-control", "no-transform")], 5000),
        ("too short", [("x", "y")], 127),
        ("too long", [("x", "y")], 100_001),
    ] {
        assert!(!is_marked(&layer, &fields, script(len, 1)).await, "{why}");
    }
    let mut image = js(&[KEPT], script(5000, 1));
    image.headers_mut().insert("content-type", "image/png".parse().unwrap());
    let answer = send(&layer, get("/app/1.js", &[]), image).await;
    assert_eq!(field(&answer.headers, "use-as-dictionary"), None);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(known.is_empty());
    for len in [128, 100_000] {
        assert!(is_marked(&layer, &[("x", "y")], script(len, 1)).await, "{len}");
    }
    settled(&known, 2).await;
}

/// Whether a client that has this is sent a difference, who asks here.
async fn is_told_by(layer: &CompressLayer, uri: &str, content: &[u8]) -> bool {
    let has = name_of(content);
    let fields = [("accept-encoding", "br, dcz"), ("available-dictionary", &*has)];
    send(layer, get(uri, &fields), js(&[], script(20_000, 99))).await.coding() == "dcz"
}

#[tokio::test]
async fn one_content_is_for_all_patterns_and_hosts_that_it_is_served_by() {
    let known = dictionaries();
    let layer = layer(&known);
    let content = script(20_000, 1);
    for (uri, pattern) in [
        ("/app/1.js", "match=\"/x/*\""),
        ("/app/2.js", "match=\"/y/*\""),
        ("http://other.example/app/1.js", "match=\"/z/*\""),
    ] {
        let fields = [KEPT, ("use-as-dictionary", pattern)];
        send(&layer, get(uri, &[]), js(&fields, content.clone())).await;
        settled(&known, 1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(known.len(), 1);
    assert!(known.weight() < 1_000_000, "{}", known.weight());
    for (uri, is_told) in [
        ("/x/1", true),
        ("/y/1", true),
        ("/z/1", false),
        ("http://other.example/z/1", true),
        ("http://other.example/x/1", false),
        ("http://third.example/x/1", false),
    ] {
        assert_eq!(is_told_by(&layer, uri, &content).await, is_told, "{uri}");
    }
}

#[tokio::test]
async fn hosts_that_are_made_up_take_no_memory_from_others() {
    let known = Dictionaries::builder().max_bytes(4 << 20).max_len(1 << 20).build().unwrap();
    let layer = layer(&known);
    let content = script(200_000, 1);
    send(&layer, get("/app/1.js", &[]), js(&[KEPT], content.clone())).await;
    settled(&known, 1).await;
    assert!(is_told_by(&layer, "/app/2.js", &content).await);
    for n in 0..50 {
        let uri = format!("http://made-up-{n}.example/app/1.js");
        send(&layer, get(&uri, &[]), js(&[KEPT], content.clone())).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(known.len(), 1);
    assert!(is_told_by(&layer, "/app/2.js", &content).await);
}

async fn not_modified(layer: &CompressLayer, fields: &[(&str, &str)]) {
    let mut builder = Response::builder().status(304);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    let request = get("/app/1.js", &[("if-none-match", "\"1\"")]);
    send(layer, request, builder.body(Vec::new()).unwrap()).await;
}

/// It lets time pass that isn't there, so what is made on other threads must be there before.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_client_that_is_told_to_keep_it_has_it_for_longer() {
    let tag = ("etag", "\"1\"");
    let content = script(20_000, 1);
    for (why, fields, lasts) in [
        ("as it was", vec![tag], true),
        ("as it says", vec![tag, ("cache-control", "max-age=7200")], true),
        ("it isn't kept", vec![tag, ("cache-control", "no-store")], false),
        ("it is somebody's", vec![tag, ("set-cookie", "a=b")], false),
        ("another version", vec![("etag", "\"2\"")], false),
        ("of no version", vec![], false),
    ] {
        let known = dictionaries();
        let layer = layer(&known);
        send(&layer, get("/app/1.js", &[]), js(&[KEPT, tag], content.clone())).await;
        settled(&known, 1).await;
        pass(3000).await;
        not_modified(&layer, &fields).await;
        pass(3000).await;
        assert_eq!(is_told_by(&layer, "/app/2.js", &content).await, lasts, "{why}");
    }
}

#[tokio::test]
async fn a_version_that_is_sent_again_lasts_for_longer() {
    let known = dictionaries();
    let layer = layer(&known);
    let fields = [KEPT, ("etag", "\"1\"")];
    let content = script(20_000, 1);
    send(&layer, get("/app/1.js", &[]), js(&fields, content.clone())).await;
    settled(&known, 1).await;
    for _ in 0..4 {
        pass(3000).await;
        // It isn't looked at: else this would be another dictionary.
        send(&layer, get("/app/1.js", &[]), js(&fields, script(20_000, 2))).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(known.len(), 1);
        assert!(is_told_by(&layer, "/app/2.js", &content).await);
    }
}

#[tokio::test]
async fn what_has_no_version_is_looked_at_now_and_then() {
    let known = dictionaries();
    let layer = layer(&known);
    let ask = async |version, expected| {
        send(&layer, get("/app/1.js", &[]), js(&[KEPT], script(20_000, version))).await;
        settled(&known, expected).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(known.len(), expected, "{version}");
    };
    ask(1, 1).await;
    ask(2, 1).await;
    pass(11).await;
    ask(3, 2).await;
    // Another length is another version.
    send(&layer, get("/app/1.js", &[]), js(&[KEPT], script(20_001, 3))).await;
    settled(&known, 3).await;
}

#[tokio::test]
async fn clients_that_do_not_read_leave_room_for_others() {
    let known = Dictionaries::builder().max_bytes(4 << 20).max_len(1 << 20).build().unwrap();
    let layer = layer(&known);
    let begun = async |n: u32| {
        let parts = [script(900_000, n), script(100, n)]
            .map(|part| Ok::<_, std::io::Error>(Frame::data(Bytes::from(part))));
        let mut response =
            Some(js(&[KEPT], Vec::new()).map(|_| StreamBody::new(stream::iter(parts))));
        let service = service_fn(move |_: Request<()>| {
            let response = response.take().unwrap();
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        let response = layer.layer(service).oneshot(get(&format!("/app/slow-{n}.js"), &[])).await;
        let mut body = response.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        body
    };
    let mut slow = Vec::new();
    for n in 0..20 {
        slow.push(begun(n).await);
    }
    send(&layer, get("/app/1.js", &[]), js(&[KEPT], script(900_000, 50))).await;
    settled(&known, 1).await;
}
