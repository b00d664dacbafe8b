//! Parts (206) beside all else that happens to what is stored.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{advance, sleep};
use tower::ServiceExt;
use tower_keep_cache::{CacheTags, SetCookie};

use origin::*;

fn part(fields: &[(&str, &str)], range: &str, body: &'static str) -> Answer {
    let mut a = answer(fields, body);
    a.headers_mut().insert("content-range", range.parse().unwrap());
    *a.status_mut() = StatusCode::PARTIAL_CONTENT;
    a
}

const F: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("etag", "\"v\"")];

async fn over_http1(length: bool) -> bool {
    let origin = Origin::new(move |_n, _request| async move {
        let mut a = streamed(F, [Bytes::from("aaaaa")]);
        a.headers_mut().insert("content-range", "bytes 0-4/10".parse().unwrap());
        if length {
            a.headers_mut().insert("content-length", "5".parse().unwrap());
        }
        *a.status_mut() = StatusCode::PARTIAL_CONTENT;
        a
    });
    let (cache, _) = cached(&origin);
    let cache2 = cache.clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let cache = cache2.clone();
            let svc = hyper::service::service_fn(move |r: Request<hyper::body::Incoming>| {
                let cache = cache.clone();
                async move { cache.oneshot(r.map(|_| Empty::<Bytes>::new())).await }
            });
            tokio::spawn(async move {
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(hyper_util::rt::TokioIo::new(io), svc)
                    .await
            });
        }
    });
    let mut last = String::new();
    for _ in 0..2 {
        let mut io = tokio::net::TcpStream::connect(addr).await.unwrap();
        io.write_all(
            b"GET /a HTTP/1.1\r\nhost: h\r\nrange: bytes=0-4\r\nconnection: close\r\n\r\n",
        )
        .await
        .unwrap();
        last.clear();
        io.read_to_string(&mut last).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    last.contains("hit")
}

#[tokio::test]
async fn a_part_that_is_completed_keeps_its_tags() {
    let origin = Origin::new(|n, request| async move {
        match n {
            1 => {
                let mut p = part(F, "bytes 0-4/10", "aaaaa");
                p.extensions_mut().insert(CacheTags::from(["product"]));
                p
            }
            2 => {
                assert_eq!(request.headers()["range"], "bytes=5-9");
                part(F, "bytes 5-9/10", "bbbbb")
            }
            _ => answer(F, "new"),
        }
    });
    let (cache, store) = cached(&origin);
    send(&cache, get(&[("range", "bytes=0-4")])).await;
    assert_eq!(send(&cache, get(&[])).await.text(), "aaaaabbbbb");
    store.invalidate_tag("product").await.unwrap();
    assert_eq!(send(&cache, get(&[])).await.text(), "new");
}

#[tokio::test]
async fn parts_that_are_united_keep_their_tags() {
    let origin = Origin::new(|n, _request| async move {
        match n {
            1 => part(&[F[0], F[1], ("surrogate-key", "chapter-1")], "bytes 0-4/10", "aaaaa"),
            2 => part(&[F[0], F[1], ("surrogate-key", "chapter-2")], "bytes 5-9/10", "bbbbb"),
            _ => answer(F, "new"),
        }
    });
    let (cache, store) = cached(&origin);
    send(&cache, get(&[("range", "bytes=0-4")])).await;
    send(&cache, get(&[("range", "bytes=5-9")])).await;
    store.invalidate_tag("chapter-1").await.unwrap();
    assert_eq!(send(&cache, get(&[])).await.text(), "new");
}

#[tokio::test]
async fn a_416_that_no_client_asked_for_is_given_to_none() {
    let origin = Origin::new(|n, request| async move {
        match n {
            1 => part(F, "bytes 0-4/10", "aaaaa"),
            _ if request.headers().contains_key("range") => {
                let mut a = answer(F, "");
                *a.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                a
            }
            _ => answer(F, "new"),
        }
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[("range", "bytes=0-4")])).await;
    let got = send(&cache, get(&[])).await;
    println!("{} {}", got.status, got.cache());
    let got = send(&cache, get(&[])).await;
    println!("{} {}", got.status, got.cache());
    assert_eq!(got.status, 200);
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_makes_no_whole_of_a_part() {
    let origin = Origin::new(|n, _request| async move {
        match n {
            1 => part(F, "bytes 2-5/10", "cdef"),
            2 => {
                let mut a = answer(F, "");
                *a.status_mut() = StatusCode::NOT_MODIFIED;
                a
            }
            _ => answer(F, "abcdefghij"),
        }
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[("range", "bytes=2-5")])).await;
    let got = send(&cache, get(&[])).await;
    println!("{} {} {}", got.status, got.text(), got.cache());
    let got = send(&cache, get(&[])).await;
    println!("{} {} {}", got.status, got.text(), got.cache());
    assert_ne!(got.text(), "cdef");
}

#[tokio::test(start_paused = true)]
async fn a_part_that_takes_too_long_is_not_stored() {
    let origin = Origin::new(|_n, _request| async move {
        let mut a = trickle(F, Duration::from_secs(10), ["aaaa", "b"].map(Bytes::from));
        a.headers_mut().insert("content-range", "bytes 0-4/10".parse().unwrap());
        *a.status_mut() = StatusCode::PARTIAL_CONTENT;
        a
    });
    let (cache, _) = cached_with(&origin, |b| b.max_fill(Duration::from_secs(1)));
    send(&cache, get(&[("range", "bytes=0-4")])).await;
    let got = send(&cache, get(&[("range", "bytes=0-4")])).await;
    assert!(!got.is_hit());
}

#[tokio::test]
async fn a_part_that_is_not_read_keeps_nothing_from_being_stored() {
    let origin = Origin::new(|_n, request| async move {
        if request.headers().contains_key("range") {
            let mut a = streamed(F, [Bytes::from(vec![0u8; 90]), Bytes::from(vec![0u8; 10])]);
            a.headers_mut().insert("content-range", "bytes 0-99/200".parse().unwrap());
            *a.status_mut() = StatusCode::PARTIAL_CONTENT;
            return a;
        }
        answer(F, vec![1u8; 50])
    });
    let (cache, _) = cached_with(&origin, |b| b.max_body(100).max_in_flight(100));
    let mut slow = cache
        .clone()
        .oneshot(request("GET", "http://h/slow", &[("range", "bytes=0-99")]))
        .await
        .unwrap();
    slow.body_mut().frame().await;
    sleep(Duration::from_millis(10)).await;
    send(&cache, get(&[])).await;
    assert!(send(&cache, get(&[])).await.is_hit());
}

#[tokio::test]
async fn a_part_without_a_length_is_stored_over_http_1() {
    assert!(over_http1(false).await);
}

#[tokio::test]
async fn and_so_is_one_with_a_length() {
    assert!(over_http1(true).await);
}

#[tokio::test(start_paused = true)]
async fn a_part_does_not_replace_the_whole() {
    let origin = Origin::new(|_n, request| async move {
        if request.headers().contains_key("range") {
            let mut a = trickle(F, Duration::from_secs(2), ["aaaaa"].map(Bytes::from));
            a.headers_mut().insert("content-range", "bytes 0-4/10".parse().unwrap());
            *a.status_mut() = StatusCode::PARTIAL_CONTENT;
            return a;
        }
        trickle(F, Duration::from_secs(1), ["aaaaabbbbb"].map(Bytes::from))
    });
    let (cache, _) = cached(&origin);
    let c = cache.clone();
    let whole = tokio::spawn(async move { send(&c, get(&[])).await });
    settle().await;
    send(&cache, get(&[("range", "bytes=0-4")])).await;
    whole.await.unwrap();
    assert!(send(&cache, get(&[])).await.is_hit());
}

#[tokio::test]
async fn the_rest_for_one_user_leaves_no_field_to_others() {
    let origin = Origin::new(|n, request| async move {
        if request.headers().contains_key("range") {
            let first = n == 1;
            let mut a = answer(
                &[
                    ("cache-control", "max-age=60, private=\"x-user\""),
                    ("etag", "\"v\""),
                    ("x-user", if first { "alice" } else { "bob" }),
                    ("set-cookie", "s=1"),
                ],
                if first { "aaaaa" } else { "bbbbb" },
            );
            a.headers_mut().insert(
                "content-range",
                if first { "bytes 0-4/10" } else { "bytes 5-9/10" }.parse().unwrap(),
            );
            *a.status_mut() = StatusCode::PARTIAL_CONTENT;
            return a;
        }
        answer(F, "new")
    });
    let (cache, _) = cached_with(&origin, |b| b.set_cookie(SetCookie::Strip));
    send(&cache, get(&[("range", "bytes=0-4")])).await;
    let g = send(&cache, get(&[("range", "bytes=0-4")])).await;
    println!("{:?}", g.headers);
    assert!(g.is_hit() && !g.headers.contains_key("x-user"));
    let g = send(&cache, get(&[])).await;
    println!("{:?}", g.headers);
    assert_eq!(g.field("x-user"), "bob");
    let g = send(&cache, get(&[])).await;
    println!("{:?}", g.headers);
    assert!(
        g.is_hit() && !g.headers.contains_key("x-user") && !g.headers.contains_key("set-cookie")
    );
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_invalidated_while_the_rest_comes_is_not_stored() {
    let origin = Origin::new(|n, _request| async move {
        let f = &[F[0], F[1], ("surrogate-key", "t")];
        if n > 2 {
            return answer(f, "new");
        }
        let first = n == 1;
        let mut a = trickle(
            f,
            Duration::from_secs(if first { 0 } else { 2 }),
            [if first { "aaaaa" } else { "bbbbb" }].map(Bytes::from),
        );
        a.headers_mut().insert(
            "content-range",
            if first { "bytes 0-4/10" } else { "bytes 5-9/10" }.parse().unwrap(),
        );
        *a.status_mut() = StatusCode::PARTIAL_CONTENT;
        a
    });
    let (cache, store) = cached(&origin);
    send(&cache, get(&[("range", "bytes=0-4")])).await;
    let c = cache.clone();
    let whole = tokio::spawn(async move { send(&c, get(&[])).await });
    sleep(Duration::from_secs(1)).await;
    store.invalidate_tag("t").await.unwrap();
    let c = cache.clone();
    let other = tokio::spawn(async move { send(&c, get(&[])).await });
    println!("{:?}", whole.await.unwrap().text());
    assert_eq!(other.await.unwrap().text(), "new");
    assert_eq!(send(&cache, get(&[])).await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_removed_while_the_rest_comes_is_not_stored() {
    let origin = Origin::new(|n, request| async move {
        if request.method() == "DELETE" {
            return answer(&[], "");
        }
        if n > 2 {
            return answer(F, "new");
        }
        let first = n == 1;
        if !first {
            sleep(Duration::from_secs(3)).await;
        }
        let mut a = answer(F, if first { "aaaaa" } else { "bbbbb" });
        a.headers_mut().insert(
            "content-range",
            if first { "bytes 0-4/10" } else { "bytes 5-9/10" }.parse().unwrap(),
        );
        *a.status_mut() = StatusCode::PARTIAL_CONTENT;
        a
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[("range", "bytes=0-4")])).await;
    let c = cache.clone();
    let a = tokio::spawn(async move { send(&c, get(&[])).await });
    sleep(Duration::from_secs(1)).await;
    send(&cache, request("DELETE", "http://example.com/a", &[])).await;
    let b = send(&cache, get(&[])).await;
    println!("a {} b {} {}", a.await.unwrap().text(), b.text(), b.cache());
    assert_eq!(b.text(), "new");
    assert_eq!(send(&cache, get(&[])).await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn nor_is_one_whose_own_tag_is_invalidated() {
    let origin = Origin::new(|n, _request| async move {
        if n > 2 {
            return answer(F, "new");
        }
        let first = n == 1;
        let mut a = trickle(
            F,
            Duration::from_secs(if first { 0 } else { 3 }),
            [if first { "aaaaa" } else { "bbbbb" }].map(Bytes::from),
        );
        if first {
            a.extensions_mut().insert(CacheTags::from(["t"]));
        }
        a.headers_mut().insert(
            "content-range",
            if first { "bytes 0-4/10" } else { "bytes 5-9/10" }.parse().unwrap(),
        );
        *a.status_mut() = StatusCode::PARTIAL_CONTENT;
        a
    });
    let (cache, store) = cached(&origin);
    send(&cache, get(&[("range", "bytes=0-4")])).await;
    let c = cache.clone();
    let _a = tokio::spawn(async move { send(&c, get(&[])).await });
    sleep(Duration::from_secs(1)).await;
    store.invalidate_tag("t").await.unwrap();
    let b = send(&cache, get(&[])).await;
    println!("b {} {}", b.text(), b.cache());
    assert_eq!(b.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn nor_one_that_is_removed_before_its_end() {
    let origin = Origin::new(|n, request| async move {
        if request.method() == "DELETE" {
            return answer(&[], "");
        }
        let mut a = trickle(F, Duration::from_secs(2), [n.to_string().repeat(5)].map(Bytes::from));
        a.headers_mut().insert("content-range", "bytes 0-4/10".parse().unwrap());
        *a.status_mut() = StatusCode::PARTIAL_CONTENT;
        a
    });
    let (cache, _) = cached(&origin);
    let c = cache.clone();
    let a = tokio::spawn(async move { send(&c, get(&[("range", "bytes=0-4")])).await });
    sleep(Duration::from_secs(1)).await;
    send(&cache, request("DELETE", "http://example.com/a", &[])).await;
    a.await.unwrap();
    assert!(!send(&cache, get(&[("range", "bytes=0-4")])).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_stale_part_stands_in_for_itself_alone() {
    // HEAD updates: who asked, in a personal way
    let origin = Origin::new(|_n, request| async move {
        if request.method() == "HEAD" {
            return answer(&[("x-user", "alice"), ("etag", "\"v\"")], "");
        }
        answer(&[("cache-control", "max-age=1"), ("etag", "\"v\"")], "x")
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    advance(Duration::from_secs(2)).await;
    send(&cache, request("HEAD", "http://example.com/a", &[("cookie", "s=alice")])).await;
    let g = send(&cache, get(&[])).await;
    assert!(!g.headers.contains_key("x-user"));
}
