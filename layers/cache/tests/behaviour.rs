//! What the layer does with requests and responses, seen from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{advance, sleep, timeout};
use tower::{Layer, ServiceExt};
use tower_keep_cache::{CacheLayer, CacheStatusField, CacheTags, Heuristic, SetCookie};
use tower_keep_store::{L1, Store};

use origin::{Answer, Got, Origin, answer, cached, cached_with, get, read, request, send, trickle};

const SECOND: Duration = Duration::from_secs(1);
type Fields = &'static [(&'static str, &'static str)];

const FRESH: Fields = &[("cache-control", "max-age=60")];

fn streamed(fields: &[(&str, &str)], frames: Vec<Result<Frame<Bytes>, io::Error>>) -> Answer {
    answer(fields, "").map(|_| BodyExt::boxed(StreamBody::new(stream::iter(frames))))
}

#[tokio::test(start_paused = true)]
async fn a_fresh_response_is_a_hit_with_its_age_and_ttl() {
    let origin = Origin::with(FRESH);
    let (cache, _) = cached(&origin);
    let first = send(&cache, get(&[])).await;
    assert_eq!((first.text(), first.cache()), ("1", "fwd=uri-miss; fwd-status=200; stored"));
    assert!(!first.headers.contains_key("age"));
    advance(SECOND * 20).await;
    let second = send(&cache, get(&[])).await;
    assert_eq!((second.text(), second.cache(), second.field("age")), ("1", "hit; ttl=40", "20"));
    advance(SECOND * 40).await;
    let third = send(&cache, get(&[])).await;
    assert_eq!(third.text(), "2");
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn what_may_not_be_stored_is_not() {
    let cases: &[(&str, Fields, Fields)] = &[
        ("no-store", &[], &[("cache-control", "no-store, max-age=60")]),
        ("private", &[], &[("cache-control", "private, max-age=60")]),
        ("set-cookie", &[], &[("cache-control", "max-age=60"), ("set-cookie", "id=1")]),
        ("vary", &[], &[("cache-control", "max-age=60"), ("vary", "*")]),
        ("no-freshness", &[], &[("content-type", "text/plain")]),
        ("authorization", &[("authorization", "Bearer x")], &[("cache-control", "max-age=60")]),
        ("cookie", &[("cookie", "id=1")], &[("cache-control", "max-age=60")]),
        ("tags", &[], &[("cache-control", "max-age=60"), ("surrogate-key", "*all")]),
    ];
    for (detail, asked, answered) in cases {
        let origin = Origin::with(answered);
        let (cache, _) = cached(&origin);
        for call in 1..=2 {
            let got = send(&cache, get(asked)).await;
            assert_eq!(got.text(), call.to_string(), "{detail}");
            assert_eq!(got.cache(), format!("fwd=uri-miss; fwd-status=200; detail={detail}"));
        }
    }
}

#[tokio::test]
async fn what_is_for_everybody_is_stored_whoever_asked() {
    for public in ["public, max-age=60", "s-maxage=60"] {
        let fields: &'static [_] = Box::leak(Box::new([("cache-control", public)]));
        let origin = Origin::with(fields);
        let (cache, _) = cached(&origin);
        send(&cache, get(&[("authorization", "Bearer x"), ("cookie", "id=1")])).await;
        assert!(send(&cache, get(&[])).await.is_hit(), "{public}");
    }
}

#[tokio::test]
async fn cookies_can_be_told_apart_by_vary_or_left_out_of_the_store() {
    let origin = Origin::with(&[("cache-control", "max-age=60"), ("vary", "cookie")]);
    let (cache, _) = cached(&origin);
    let of = async |cookie: &str| send(&cache, get(&[("cookie", cookie)])).await.text().to_owned();
    assert_eq!([of("a").await, of("b").await, of("a").await, of("b").await], ["1", "2", "1", "2"]);

    let origin = Origin::with(&[
        ("cache-control", "max-age=60"),
        ("set-cookie", "id=1"),
        ("set-cookie", "x=2"),
    ]);
    let (cache, _) = cached_with(&origin, |builder| builder.set_cookie(SetCookie::Strip));
    let first = send(&cache, get(&[])).await;
    assert_eq!(
        first.headers.get_all("set-cookie").iter().count(),
        2,
        "who caused the fill gets them"
    );
    let second = send(&cache, get(&[])).await;
    assert!(second.is_hit() && !second.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn some_requests_pass_through_and_say_why() {
    let cases: &[(&str, Fields, &str)] = &[
        ("GET", &[("range", "items=0-1")], "fwd=bypass; detail=range-unit"),
        ("GET", &[("upgrade", "websocket")], "fwd=bypass; detail=upgrade"),
        ("GET", &[("if-match", "\"a\"")], "fwd=bypass; detail=precondition"),
        ("GET", &[("content-length", "5")], "fwd=bypass; detail=request-content"),
        ("GET", &[("cache-control", "no-store")], "fwd=request; detail=request-no-store"),
        ("GET", &[("host", "a"), ("host", "b")], "fwd=bypass; detail=host"),
        ("OPTIONS", &[], "fwd=method"),
    ];
    for (method, fields, status) in cases {
        let origin = Origin::with(FRESH);
        let (cache, _) = cached(&origin);
        send(&cache, get(&[])).await;
        let got = send(&cache, request(method, "http://example.com/a", fields)).await;
        assert_eq!((got.text(), got.cache()), ("2", *status), "{method} {fields:?}");
        assert!(send(&cache, get(&[])).await.is_hit(), "what is stored stays: {method} {fields:?}");
    }
}

#[tokio::test]
async fn variants_are_stored_side_by_side_and_dropped_together() {
    let origin = Origin::new(|n, request| async move {
        let language = request
            .headers()
            .get("accept-language")
            .map_or("none", |value| value.to_str().unwrap());
        answer(
            &[("cache-control", "max-age=60"), ("vary", "Accept-Language")],
            format!("{language} {n}"),
        )
    });
    let (cache, _) = cached(&origin);
    let of = async |language: &str| send(&cache, get(&[("accept-language", language)])).await;
    assert_eq!(of("en").await.text(), "en 1");
    assert_eq!(of("fr").await.text(), "fr 2");
    assert!(of("fr").await.cache().starts_with("hit"));
    assert_eq!((of("en").await.text(), of("fr").await.text()), ("en 1", "fr 2"));
    assert_eq!(of("de").await.cache(), "fwd=vary-miss; fwd-status=200; stored");
    assert_eq!(send(&cache, get(&[])).await.text(), "none 4");
    send(&cache, request("DELETE", "http://example.com/a", &[])).await;
    for language in ["en", "fr", "de"] {
        assert!(!of(language).await.is_hit(), "{language}");
    }
}

#[tokio::test]
async fn cold_variants_are_fetched_side_by_side() {
    let go = Arc::new(Semaphore::new(0));
    let origin = Origin::new({
        let go = Arc::clone(&go);
        move |_, request| {
            let go = Arc::clone(&go);
            async move {
                go.acquire().await.unwrap().forget();
                let language = request.headers()["accept-language"].to_str().unwrap().to_owned();
                answer(&[("cache-control", "max-age=60"), ("vary", "accept-language")], language)
            }
        }
    });
    let (cache, _) = cached(&origin);
    let mut requests = JoinSet::new();
    for i in 0..60 {
        let cache = cache.clone();
        requests.spawn(async move {
            let language = ["en", "fr", "de"][i % 3];
            (language, send(&cache, get(&[("accept-language", language)])).await)
        });
    }
    tokio::task::yield_now().await;
    go.add_permits(100);
    while let Some(done) = requests.join_next().await {
        let (language, got) = done.unwrap();
        assert_eq!(got.text(), language);
    }
    assert_eq!(origin.calls(), 3, "one for each variant");
}

#[tokio::test]
async fn a_client_that_has_it_gets_304() {
    let modified = "Mon, 02 Nov 2026 10:00:00 GMT";
    let origin = Origin::new(move |n, request| async move {
        assert!(!request.headers().contains_key("if-none-match"), "the fill is for everybody");
        let fields = [
            ("cache-control", "max-age=60"),
            ("etag", "\"v1\""),
            ("last-modified", modified),
            ("x-own", "1"),
        ];
        answer(&fields, n.to_string())
    });
    let (cache, _) = cached(&origin);
    let conditions = [
        ("if-none-match", "\"v1\""),
        ("if-none-match", "\"v0\", W/\"v1\""),
        ("if-modified-since", modified),
    ];
    for condition in conditions {
        let got = send(&cache, get(&[condition])).await;
        assert_eq!((got.status, got.text()), (304, ""), "{condition:?}");
        assert_eq!((got.field("etag"), got.field("cache-control")), ("\"v1\"", "max-age=60"));
        assert!(!got.headers.contains_key("x-own"));
    }
    let got = send(&cache, get(&[("if-none-match", "\"v2\"")])).await;
    assert_eq!((got.status, got.text()), (200, "1"));
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_stale_is_validated() {
    let origin = Origin::new(|n, request| async move {
        let fields = [
            ("cache-control", "max-age=10"),
            ("etag", "\"v1\""),
            ("x-count", if n == 1 { "a" } else { "b" }),
        ];
        let condition = request.headers().get("if-none-match");
        let mut response = answer(&fields, "body");
        if condition.is_some_and(|etag| etag == "\"v1\"") {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Full::default().map_err(|never| match never {}).boxed();
        }
        response
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 11).await;
    let validated = send(&cache, get(&[])).await;
    assert_eq!((validated.status, validated.text()), (200, "body"));
    assert_eq!(
        (validated.cache(), validated.field("x-count")),
        ("fwd=stale; fwd-status=304; stored", "b")
    );
    let hit = send(&cache, get(&[])).await;
    assert_eq!((hit.cache(), hit.text(), hit.field("x-count")), ("hit; ttl=10", "body", "b"));
    // A client may ask for the same at any time.
    let reloaded = send(&cache, get(&[("cache-control", "no-cache")])).await;
    assert_eq!(
        (reloaded.cache(), reloaded.text()),
        ("fwd=request; fwd-status=304; stored", "body")
    );
    assert_eq!(origin.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_validated_response_keeps_its_tags() {
    let origin = Origin::new(|n, request| async move {
        let mut response =
            answer(&[("cache-control", "max-age=10"), ("etag", "\"v1\"")], n.to_string());
        if request.headers().contains_key("if-none-match") {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.extensions_mut().insert(CacheTags::from(["new"]));
        } else {
            response.extensions_mut().insert(CacheTags::from(["old"]));
        }
        response
    });
    for tag in ["old", "new"] {
        let (cache, store) = cached(&origin);
        send(&cache, get(&[])).await;
        advance(SECOND * 11).await;
        assert_eq!(send(&cache, get(&[])).await.cache(), "fwd=stale; fwd-status=304; stored");
        assert!(send(&cache, get(&[])).await.is_hit());
        store.invalidate_tag(tag).await.unwrap();
        assert!(!send(&cache, get(&[])).await.is_hit(), "{tag}");
    }
}

#[tokio::test]
async fn a_cookie_that_comes_with_a_validation_is_for_one() {
    let origin = Origin::new(|n, _| async move {
        let mut answer = answer(&[("cache-control", "public, max-age=60"), ("etag", "\"a\"")], "");
        if n == 2 {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            answer.headers_mut().insert("set-cookie", "id=alice".parse().unwrap());
        }
        answer
    });
    for policy in [SetCookie::Refuse, SetCookie::Strip] {
        origin.restart_at(1);
        let (cache, _) = cached_with(&origin, |builder| builder.set_cookie(policy));
        send(&cache, get(&[])).await;
        let alice = send(&cache, get(&[("cache-control", "no-cache")])).await;
        assert_eq!((alice.status, alice.field("set-cookie")), (200, "id=alice"));
        let bob = send(&cache, get(&[])).await;
        assert!(bob.is_hit() && bob.field("set-cookie").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_validation_without_a_date_counts_from_when_it_came() {
    let origin = Origin::new(|n, _| async move {
        let mut answer = answer(&[("cache-control", "max-age=60"), ("etag", "\"a\"")], "");
        if n == 1 {
            let date = httpdate::fmt_http_date(std::time::SystemTime::now());
            answer.headers_mut().insert("date", date.parse().unwrap());
        } else {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
        }
        answer
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 100).await;
    send(&cache, get(&[])).await;
    assert!(send(&cache, get(&[])).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn what_must_be_validated_for_each_is_not_shared_while_it_arrives() {
    for (control, calls) in [("no-cache", 2), ("max-age=0", 2), ("max-age=60", 1)] {
        let origin = Origin::new(move |n, _| async move {
            sleep(SECOND).await;
            answer(&[("cache-control", control), ("etag", "\"a\"")], n.to_string())
        });
        let (cache, _) = cached(&origin);
        let (first, second) =
            tokio::join!(send(&cache, get(&[])), send(&cache, get(&[("cookie", "id=1")])));
        assert_eq!(origin.calls(), calls, "{control}");
        assert_eq!(first.text() == second.text(), calls == 1, "{control}");
    }
}

#[tokio::test(start_paused = true)]
async fn stale_while_revalidate_and_stale_if_error() {
    let origin = Origin::new(|n, _| async move {
        sleep(SECOND).await;
        let mut response = answer(
            &[("cache-control", "max-age=10, stale-while-revalidate=10, stale-if-error=100")],
            n.to_string(),
        );
        if n > 2 {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(SECOND * 11).await;
    let stale = timeout(Duration::from_millis(1), send(&cache, get(&[]))).await.unwrap();
    assert_eq!((stale.text(), stale.cache()), ("1", "hit; ttl=-2"));
    sleep(SECOND * 2).await;
    assert_eq!(send(&cache, get(&[])).await.text(), "2", "refreshed behind the client's back");
    advance(SECOND * 50).await;
    let fallback = send(&cache, get(&[])).await;
    assert_eq!((fallback.status, fallback.text()), (200, "2"));
    assert_eq!(fallback.cache(), "fwd=stale; fwd-status=503; detail=stale-if-error");
    advance(SECOND * 100).await;
    assert_eq!(send(&cache, get(&[])).await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn directives_of_a_request_are_heeded() {
    let origin = Origin::with(&[("cache-control", "max-age=60")]);
    let (cache, _) = cached(&origin);
    let asked = async |control: &str| send(&cache, get(&[("cache-control", control)])).await;
    assert_eq!(asked("only-if-cached").await.status, 504);
    assert_eq!(origin.calls(), 0);
    send(&cache, get(&[])).await;
    advance(SECOND * 30).await;
    assert!(asked("only-if-cached").await.is_hit());
    assert!(asked("max-age=31").await.is_hit());
    assert!(asked("min-fresh=30").await.is_hit());
    assert_eq!(asked("max-age=29").await.text(), "2");
    advance(SECOND * 30).await;
    assert_eq!(asked("min-fresh=31").await.text(), "3");
    advance(SECOND * 61).await;
    assert_eq!(send(&cache, get(&[])).await.text(), "4");
}

#[tokio::test]
async fn head_is_answered_from_a_stored_get() {
    let origin = Origin::with(&[("cache-control", "max-age=60"), ("content-length", "1")]);
    let (cache, _) = cached(&origin);
    let head = || request("HEAD", "http://example.com/a", &[]);
    assert!(!send(&cache, head()).await.is_hit());
    send(&cache, get(&[])).await;
    let got = send(&cache, head()).await;
    assert!(got.is_hit() && got.body.is_empty());
    assert_eq!(got.field("content-length"), "1");
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn tags_from_every_source_drop_responses() {
    let origin = Origin::new(|n, request| async move {
        let mut response = answer(FRESH, n.to_string());
        match request.uri().path() {
            "/extension" => drop(response.extensions_mut().insert(CacheTags::from(["t", "u"]))),
            "/surrogate-key" => {
                drop(response.headers_mut().insert("surrogate-key", "s t".parse().unwrap()));
            }
            "/cache-tag" => {
                drop(response.headers_mut().insert("cache-tag", "s,t".parse().unwrap()));
            }
            _ => {}
        }
        response
    });
    let (cache, store) = cached(&origin);
    let paths = ["/extension", "/surrogate-key", "/cache-tag", "/none"];
    let of =
        async |path: &str| send(&cache, request("GET", path, &[("host", "example.com")])).await;
    for path in paths {
        of(path).await;
        assert!(of(path).await.is_hit(), "{path}");
    }
    store.invalidate_tag("t").await.unwrap();
    for path in paths {
        assert_eq!(of(path).await.is_hit(), path == "/none", "{path}");
    }
    store.expire_tag("t").await.unwrap();
    assert_eq!(
        of("/cache-tag").await.cache(),
        "hit; ttl=60",
        "soft: served once more, and refreshed"
    );
    assert_ne!(of("/cache-tag").await.text(), "7");
}

#[tokio::test]
async fn unsafe_methods_drop_their_target_unless_they_fail() {
    let origin = Origin::new(|n, request| async move {
        let mut response = answer(FRESH, n.to_string());
        if request.headers().contains_key("x-fail") {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        response
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    for method in ["POST", "PUT", "PATCH", "DELETE", "MKCOL"] {
        send(&cache, request(method, "http://example.com/a", &[("x-fail", "1")])).await;
        assert!(send(&cache, get(&[])).await.is_hit(), "{method} failed");
        send(&cache, request(method, "http://example.com/other", &[])).await;
        assert!(send(&cache, get(&[])).await.is_hit(), "{method} elsewhere");
        send(&cache, request(method, "http://example.com/a", &[])).await;
        assert!(!send(&cache, get(&[])).await.is_hit(), "{method}");
    }
}

#[tokio::test]
async fn unsafe_methods_drop_what_their_response_names() {
    let origin = Origin::new(|n, request| async move {
        let name = request.headers().get("x-name").cloned();
        let mut response = answer(FRESH, n.to_string());
        if let Some(name) = name {
            response.headers_mut().insert("content-location", name);
        }
        response
    });
    for (named, dropped) in
        [("/a", true), ("http://example.com/a", true), ("http://other.com/a", false)]
    {
        let (cache, _) = cached(&origin);
        send(&cache, get(&[])).await;
        send(&cache, request("POST", "http://example.com/new", &[("x-name", named)])).await;
        assert_eq!(send(&cache, get(&[])).await.is_hit(), !dropped, "{named}");
    }
}

#[tokio::test]
async fn a_thousand_concurrent_misses_make_one_call() {
    let go = Arc::new(Notify::new());
    let origin = Origin::new({
        let go = Arc::clone(&go);
        move |n, _| {
            let go = Arc::clone(&go);
            async move {
                go.notified().await;
                answer(FRESH, n.to_string())
            }
        }
    });
    let (cache, _) = cached(&origin);
    let mut requests = JoinSet::new();
    for _ in 0..1000 {
        let cache = cache.clone();
        requests.spawn(async move { send(&cache, get(&[])).await });
    }
    tokio::task::yield_now().await;
    go.notify_one();
    let all = requests.join_all().await;
    assert_eq!(origin.calls(), 1);
    assert!(all.iter().all(|got| got.text() == "1"));
    let collapsed = all.iter().filter(|got| got.cache().ends_with("stored; collapsed")).count();
    assert_eq!(collapsed, 999);
}

#[tokio::test]
async fn an_invalidation_splits_those_who_asked_before_from_those_who_asked_after() {
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let origin = Origin::new({
        let (started, go) = (Arc::clone(&started), Arc::clone(&go));
        move |n, _| {
            let (started, go) = (Arc::clone(&started), Arc::clone(&go));
            async move {
                if n == 1 {
                    started.notify_one();
                    go.notified().await;
                }
                answer(&[("cache-control", "max-age=60"), ("cache-tag", "t")], n.to_string())
            }
        }
    });
    for by_tag in [true, false] {
        let (cache, store) = cached(&origin);
        let before = tokio::spawn({
            let cache = cache.clone();
            async move { send(&cache, get(&[])).await.text().to_owned() }
        });
        started.notified().await;
        if by_tag {
            store.invalidate_tag("t").await.unwrap();
        } else {
            send(&cache, request("PUT", "http://example.com/a", &[])).await;
        }
        let after = tokio::spawn({
            let cache = cache.clone();
            async move { send(&cache, get(&[])).await.text().to_owned() }
        });
        tokio::task::yield_now().await;
        go.notify_one();
        assert_eq!(before.await.unwrap(), "1");
        assert_ne!(after.await.unwrap(), "1", "by tag: {by_tag}");
        assert_ne!(send(&cache, get(&[])).await.text(), "1", "by tag: {by_tag}");
        origin.restart_at(1);
    }
}

#[tokio::test]
async fn everybody_reads_a_body_as_it_arrives() {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let receiver = Arc::new(std::sync::Mutex::new(Some(receiver)));
    let origin = Origin::new(move |_, _| {
        let mut receiver = receiver.lock().unwrap().take().unwrap();
        async move {
            let chunks = stream::poll_fn(move |cx| receiver.poll_recv(cx))
                .map(|chunk| Ok::<_, io::Error>(Frame::data(chunk)));
            answer(FRESH, "").map(|_| BodyExt::boxed(StreamBody::new(chunks)))
        }
    });
    let (cache, _) = cached(&origin);
    let mut leader = cache.clone().oneshot(get(&[])).await.unwrap().into_body();
    sender.send("first ".into()).unwrap();
    assert_eq!(leader.frame().await.unwrap().unwrap().into_data().unwrap(), "first ");
    // It joins late, and begins at the first byte all the same.
    let joined = cache.clone().oneshot(get(&[])).await.unwrap();
    assert!(joined.headers()["cache-status"].to_str().unwrap().ends_with("collapsed"));
    drop(leader);
    sender.send("second".into()).unwrap();
    drop(sender);
    assert_eq!(read(joined).await.text(), "first second");
    let hit = send(&cache, get(&[])).await;
    assert!(hit.is_hit());
    assert_eq!(hit.text(), "first second");
}

#[tokio::test]
async fn too_large_bodies_stream_through_and_are_not_stored() {
    const CHUNKS: usize = 64;
    let origin = Origin::new(|_, request| async move {
        let frames =
            (0..CHUNKS).map(|_| Ok(Frame::data(Bytes::from(vec![7; 64 * 1024])))).collect();
        let mut response = streamed(FRESH, frames);
        if request.uri().path() == "/announced" {
            let length = (CHUNKS * 64 * 1024).to_string();
            response.headers_mut().insert("content-length", length.parse().unwrap());
        }
        response
    });
    let (cache, _) = cached_with(&origin, |builder| builder.max_body(1 << 20));
    for (round, path) in
        [(1, "/announced"), (2, "/announced"), (3, "/unannounced"), (4, "/unannounced")]
    {
        let got = send(&cache, request("GET", path, &[("host", "a")])).await;
        assert_eq!(got.body.len(), CHUNKS * 64 * 1024);
        assert_eq!(origin.calls(), round);
    }
}

#[tokio::test]
async fn broken_and_truncated_bodies_are_not_stored() {
    let broken: fn() -> Answer = || {
        streamed(
            FRESH,
            vec![Ok(Frame::data("half".into())), Err(io::Error::other("connection reset"))],
        )
    };
    let truncated: fn() -> Answer = || {
        streamed(
            &[("cache-control", "max-age=60"), ("content-length", "9")],
            vec![Ok(Frame::data("half".into()))],
        )
    };
    for (what, make) in [("broken", broken), ("truncated", truncated)] {
        let origin = Origin::new(move |_, _| async move { make() });
        let (cache, _) = cached(&origin);
        for call in 1..=2 {
            let response = cache.clone().oneshot(get(&[])).await.unwrap();
            let collected = response.into_body().collect().await;
            if what == "broken" {
                assert!(collected.unwrap_err().to_string().contains("connection reset"));
            }
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            assert_eq!(origin.calls(), call, "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn too_slow_bodies_reach_their_reader_and_are_not_stored() {
    let origin = Origin::new(|_, _| async {
        trickle(FRESH, SECOND * 10, ["0", "1", "2", "3"].map(Bytes::from))
    });
    let (cache, _) = cached_with(&origin, |builder| builder.max_fill(SECOND * 15));
    assert_eq!(send(&cache, get(&[])).await.text(), "0123");
    assert_eq!(send(&cache, get(&[])).await.text(), "0123");
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn trailers_are_stored_with_the_body() {
    let origin = Origin::new(|_, _| async {
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "42".parse().unwrap())]);
        streamed(FRESH, vec![Ok(Frame::data("body".into())), Ok(Frame::trailers(trailers))])
    });
    let (cache, _) = cached(&origin);
    for hit in [false, true] {
        let got = send(&cache, get(&[])).await;
        assert_eq!((got.is_hit(), got.text()), (hit, "body"));
        assert_eq!(got.trailers.unwrap()["x-sum"], "42");
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_nothing() {
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let origin = Origin::new({
        let (started, go) = (Arc::clone(&started), Arc::clone(&go));
        move |n, _| {
            let (started, go) = (Arc::clone(&started), Arc::clone(&go));
            async move {
                started.notify_one();
                go.notified().await;
                answer(FRESH, n.to_string())
            }
        }
    });
    let (cache, _) = cached(&origin);
    let leader = tokio::spawn(cache.clone().oneshot(get(&[])));
    started.notified().await;
    let follower = tokio::spawn({
        let cache = cache.clone();
        async move { send(&cache, get(&[])).await }
    });
    tokio::task::yield_now().await;
    leader.abort();
    let _ = leader.await;
    go.notify_one();
    assert_eq!(follower.await.unwrap().text(), "1");
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn a_panicking_handler_panics_its_own_client_and_no_other() {
    let go = Arc::new(Notify::new());
    let origin = Origin::new({
        let go = Arc::clone(&go);
        move |n, _| {
            let go = Arc::clone(&go);
            async move {
                if n == 1 {
                    go.notified().await;
                    panic!("a bug in the handler");
                }
                answer(FRESH, n.to_string())
            }
        }
    });
    let (cache, _) = cached(&origin);
    let leader = tokio::spawn(cache.clone().oneshot(get(&[])));
    tokio::task::yield_now().await;
    let follower = tokio::spawn({
        let cache = cache.clone();
        async move { send(&cache, get(&[])).await }
    });
    tokio::task::yield_now().await;
    go.notify_one();
    assert!(leader.await.unwrap_err().is_panic());
    assert_eq!(follower.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_body_that_panics_or_is_abandoned_leaves_no_reader_waiting() {
    let origin = Origin::new(|_, _| async {
        let frames = stream::iter(0..2).map(|i| {
            assert!(i == 0, "a bug in the body");
            Ok::<_, io::Error>(Frame::data(Bytes::from("half")))
        });
        answer(FRESH, "").map(|_| BodyExt::boxed(StreamBody::new(frames)))
    });
    let (cache, _) = cached(&origin);
    let response = cache.clone().oneshot(get(&[])).await.unwrap();
    let read = timeout(SECOND * 5, response.into_body().collect()).await.expect("it ends");
    assert!(read.unwrap_err().to_string().contains("abandoned"));
}

#[tokio::test]
async fn the_length_of_a_body_is_known_on_a_miss_as_on_a_hit() {
    let origin = Origin::with(FRESH);
    let (cache, _) = cached(&origin);
    for _ in 0..2 {
        let response = cache.clone().oneshot(get(&[])).await.unwrap();
        assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(1));
        read(response).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_somebody_elses_response() {
    let origin = Origin::new(|n, _| async move {
        if n == 1 {
            std::future::pending::<()>().await;
        }
        answer(FRESH, n.to_string())
    });
    let (cache, _) = cached_with(&origin, |builder| builder.max_wait(SECOND * 3));
    let stuck = tokio::spawn(cache.clone().oneshot(get(&[])));
    tokio::task::yield_now().await;
    let got = send(&cache, get(&[])).await;
    assert_eq!((got.text(), got.cache()), ("2", "fwd=uri-miss; fwd-status=200; stored"));
    let again = send(&cache, get(&[])).await;
    assert!(again.is_hit(), "who takes over stores it: {}", again.cache());
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn settings_give_lifetimes_to_responses_that_have_none() {
    let origin = Origin::with(&[]);
    let (cache, _) = cached_with(&origin, |builder| builder.default_ttl(SECOND * 60));
    send(&cache, get(&[])).await;
    assert!(send(&cache, get(&[])).await.is_hit());

    let origin = Origin::with(&[("last-modified", "Mon, 02 Nov 2020 10:00:00 GMT")]);
    let heuristic = Heuristic::Fraction { percent: 10, cap: SECOND * 30 };
    let (cache, _) = cached_with(&origin, |builder| builder.heuristic(heuristic));
    send(&cache, get(&[])).await;
    assert_eq!(send(&cache, get(&[])).await.cache(), "hit; ttl=30");
}

#[tokio::test(start_paused = true)]
async fn an_earlier_caches_status_comes_first() {
    let origin = Origin::with(&[
        ("cache-control", "max-age=60"),
        ("cache-status", "origin; hit"),
        ("age", "5"),
    ]);
    let (cache, _) = cached(&origin);
    for (ours, age) in [
        ("tower-keep; fwd=uri-miss; fwd-status=200; stored", "5"),
        ("tower-keep; hit; ttl=55", "5"),
    ] {
        let got = send(&cache, get(&[])).await;
        let members: Vec<_> = got.headers.get_all("cache-status").iter().collect();
        assert_eq!(members, ["origin; hit", ours]);
        assert_eq!(got.field("age"), age);
    }
}

#[test]
fn configurations_that_cannot_work_say_what_to_change() {
    let builder = || CacheLayer::builder(origin::store());
    let text = |built: Result<_, tower_keep_cache::ConfigError>| {
        built.map(|_: CacheLayer| ()).unwrap_err().to_string()
    };
    assert!(text(builder().name("é").build()).contains("name"));
    assert!(text(builder().space("").build()).contains("space"));
    assert!(text(builder().max_body(0).build()).contains("max_body"));
    assert!(text(builder().max_in_flight(1).build()).contains("max_in_flight"));
    assert!(text(builder().max_lag(Duration::ZERO).build()).contains("max_lag"));
}

#[tokio::test]
async fn a_call_of_grpc_is_one_if_its_response_says_so() {
    for (content_type, stays) in
        [("application/grpc", true), ("application/grpc+proto", true), ("text/html", false)]
    {
        let origin = Origin::new(move |n, _| async move {
            let fields = [("cache-control", "max-age=60"), ("content-type", content_type)];
            answer(&fields, n.to_string())
        });
        let (cache, _) = cached(&origin);
        send(&cache, get(&[])).await;
        let call = [("content-type", "application/grpc")];
        let got = send(&cache, request("POST", "http://example.com/a", &call)).await;
        assert_eq!((got.text(), got.cache()), ("2", "fwd=method"));
        assert_eq!(send(&cache, get(&[])).await.is_hit(), stays, "{content_type}");
    }
}

#[tokio::test]
async fn cache_status_can_show_the_key_or_be_silent() {
    let origin = Origin::with(&[
        ("cache-control", "max-age=60"),
        ("vary", "accept-language"),
        ("cache-status", "earlier; hit"),
    ]);
    let lines = |got: &Got| -> Vec<String> {
        let lines = got.headers.get_all("cache-status").iter();
        lines.map(|line| line.to_str().unwrap().to_owned()).collect()
    };
    let asked = || get(&[("accept-language", "de")]);
    let (cache, _) = cached_with(&origin, |it| it.cache_status(CacheStatusField::WithKey));
    let miss = r#"tower-keep; fwd=uri-miss; fwd-status=200; stored; key="http example.com/a""#;
    assert_eq!(lines(&send(&cache, asked()).await), ["earlier; hit", miss]);
    let hit = &lines(&send(&cache, asked()).await)[1];
    let key = r#"; key="http example.com/a accept-language:de%0A""#;
    assert!(hit.starts_with("tower-keep; hit; ttl=") && hit.ends_with(key), "{hit}");

    let (cache, _) = cached_with(&origin, |it| it.cache_status(CacheStatusField::Off));
    for _ in 0..2 {
        assert_eq!(lines(&send(&cache, asked()).await), ["earlier; hit"]);
    }
    let post = send(&cache, request("POST", "http://example.com/a", &[])).await;
    assert_eq!(lines(&post), ["earlier; hit"]);
}

#[tokio::test]
async fn what_the_store_cannot_keep_is_not_called_stored() {
    let origin = Origin::new(|_, _| async {
        answer(&[("cache-control", "max-age=60"), ("content-length", "2048")], vec![7; 2048])
    });
    let store = Store::builder().l1(L1::bytes(1 << 20).max_entry(1024)).build().unwrap();
    let cache = CacheLayer::builder(store).build().unwrap().layer(origin);
    let got = send(&cache, get(&[])).await;
    assert_eq!(got.cache(), "fwd=uri-miss; fwd-status=200; detail=too-large");
}
