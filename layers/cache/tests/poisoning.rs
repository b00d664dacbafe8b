//! The classic ways to poison a cache, or to make it give away what is somebody's. Each test begins
//! with the attack.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/origin.rs"]
mod origin;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_cache::{CacheLayer, Heuristic, KeyPolicy};

use origin::{Origin, answer, cached, cached_with, get, request, send, store};

const FRESH: &[(&str, &str)] = &[("cache-control", "public, max-age=60")];
const EVIL: &str = "evil.example";

/// Builds its answer from a field of the request, and says nothing of that in `Vary`.
fn reflecting(name: &'static str) -> Origin {
    Origin::new(move |_, request| async move {
        let said = request.headers().get(name).map_or("nothing", |value| value.to_str().unwrap());
        answer(FRESH, said.to_owned())
    })
}

/// Attack: the origin builds links from a field that isn't in the key, and the first who asks
/// chooses it.
#[tokio::test]
async fn a_reflected_host_reaches_only_who_sent_it() {
    for name in
        ["x-forwarded-host", "x-host", "x-forwarded-server", "x-original-url", "x-rewrite-url"]
    {
        let (cache, _) = cached(&reflecting(name));
        assert_eq!(send(&cache, get(&[(name, EVIL)])).await.text(), EVIL);
        assert_eq!(send(&cache, get(&[])).await.text(), "nothing", "{name}");
        // Told apart, both are stored.
        let again = send(&cache, get(&[(name, EVIL)])).await;
        assert!(again.is_hit() && again.text() == EVIL, "{name}");
        assert!(send(&cache, get(&[])).await.is_hit(), "{name}");
    }
}

/// Attack: a redirect to `https` that the origin sends for `X-Forwarded-Proto: http` sends everybody
/// in circles.
#[tokio::test]
async fn a_forged_scheme_redirects_nobody_else() {
    for (name, http, https) in [
        ("x-forwarded-proto", "http", "https"),
        ("x-forwarded-scheme", "http", "https"),
        ("forwarded", "for=1.2.3.4;proto=http", "for=5.6.7.8;proto=https"),
    ] {
        let origin = Origin::new(move |_, request| async move {
            let mut response = answer(FRESH, "page");
            let says = request.headers().get(name).map_or("", |value| value.to_str().unwrap());
            if says.ends_with("http") {
                *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            }
            response
        });
        let (cache, _) = cached(&origin);
        assert_eq!(send(&cache, get(&[(name, http)])).await.status, 301);
        assert_eq!(send(&cache, get(&[(name, https)])).await.status, 200, "{name}");
        assert_eq!(send(&cache, get(&[])).await.status, 200, "{name}");
    }
}

/// Not an attack: a proxy adds the fields to every request, and what it adds is the same for all.
#[tokio::test]
async fn behind_a_proxy_that_adds_the_fields_responses_are_shared() {
    let (cache, _) = cached(&reflecting("x-forwarded-host"));
    let by_proxy = async |client: &str| {
        let forwarded = format!("for={client};host=www.example.com;proto=https");
        let fields: [(&str, &str); 6] = [
            ("host", "example.com"),
            ("x-forwarded-for", client),
            ("x-forwarded-host", "www.example.com"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("forwarded", &forwarded),
        ];
        send(&cache, request("GET", "/a", &fields)).await
    };
    by_proxy("1.2.3.4").await;
    assert!(by_proxy("5.6.7.8").await.is_hit());
    // And a change drops them, by whichever way it comes.
    send(&cache, request("DELETE", "/a", &[("host", "example.com")])).await;
    assert!(!by_proxy("1.2.3.4").await.is_hit());
}

/// Attack: as the first, by a field that the cache can't know of.
#[tokio::test]
async fn a_field_of_the_origins_own_has_to_be_named() {
    let name = HeaderName::from_static("x-site");
    // It varies nothing: what a cache isn't told, it can't know.
    let (cache, _) = cached(&reflecting("x-site"));
    send(&cache, get(&[("x-site", EVIL)])).await;
    assert_eq!(send(&cache, get(&[])).await.text(), EVIL);
    let policy = KeyPolicy::new().header(name.clone());
    let (by_key, _) = cached_with(&reflecting("x-site"), |builder| builder.key(policy));
    let (untrusted, _) =
        cached_with(&reflecting("x-site"), |builder| builder.untrusted_headers([name]));
    for cache in [by_key, untrusted] {
        send(&cache, get(&[("x-site", EVIL)])).await;
        assert_eq!(send(&cache, get(&[])).await.text(), "nothing");
        assert!(send(&cache, get(&[("x-site", EVIL)])).await.is_hit());
    }
}

/// A body that tells nothing of its length, as one of HTTP/2 may come.
struct Unannounced(Option<Bytes>);

impl Body for Unannounced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

/// Attack: a GET with content that the origin takes for parameters ("fat GET").
#[tokio::test]
async fn what_a_fat_get_asks_for_is_not_the_answer_to_a_lean_one() {
    let origin = service_fn(|_: Request<Unannounced>| async {
        Ok::<_, Infallible>(answer(FRESH, "what the content asked for"))
    });
    let cache = CacheLayer::builder(store()).build().unwrap().layer(origin);
    let bodies = [
        (Some(("content-length", "3")), Some("a=b")),
        (Some(("transfer-encoding", "chunked")), Some("a=b")),
        (None, Some("a=b")),
        // It isn't known before it is read.
        (None, None),
    ];
    for (field, body) in bodies {
        let mut request = Request::get("http://example.com/a");
        if let Some((name, value)) = field {
            request = request.header(name, value);
        }
        let request = request.body(Unannounced(body.map(Bytes::from))).unwrap();
        let response = cache.clone().oneshot(request).await.unwrap();
        let status = &response.headers()["cache-status"];
        assert_eq!(status, "tower-keep; fwd=bypass; detail=request-content");
    }
    let origin = service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Infallible>(answer(FRESH, "what the content asked for"))
    });
    let cache = CacheLayer::builder(store()).build().unwrap().layer(origin);
    let request = Request::get("http://example.com/a").body(Full::from("a=b")).unwrap();
    let response = cache.oneshot(request).await.unwrap();
    assert!(response.headers()["cache-status"].to_str().unwrap().ends_with("=request-content"));
}

/// Attack: a parameter that the cache ignores and the origin reads, by another spelling of its name
/// ("parameter cloaking").
#[tokio::test]
async fn a_cloaked_parameter_is_a_part_of_the_key() {
    let origin = Origin::new(|_, request| async move {
        answer(FRESH, request.uri().query().unwrap_or("nothing").to_owned())
    });
    let ignoring = KeyPolicy::new().ignore_params(["utm_*", "callback"]).sort_params();
    let keeping = KeyPolicy::new().keep_params(["q", "callback"]);
    for (policy, innocent, cloaked) in [
        (&ignoring, "q=1", "q=1&utm_content=x;q=evil"),
        (&ignoring, "q=1", "q=1&%75tm_x=evil"),
        (&ignoring, "q=1", "utm_x=1;q=evil&q=1"),
        (&ignoring, "q=1&q=2", "q=2&q=1"),
        (&ignoring, "q=1&q=2", "q=2&%71=1"),
        (&keeping, "q=1", "q=1&%71=evil"),
        (&keeping, "q=1", "q=1&Q=evil"),
        (&keeping, "q=1", "q=1&q[]=evil"),
        (&keeping, "q=1", "q=1&x;callback=evil"),
        (&keeping, "q=1", "q=1&call%62ack=evil"),
    ] {
        let (cache, _) = cached_with(&origin, |builder| builder.key(policy.clone()));
        let ask = async |query: &str| {
            send(&cache, request("GET", &format!("http://example.com/a?{query}"), &[])).await
        };
        ask(cloaked).await;
        let got = ask(innocent).await;
        assert!(!got.is_hit() && got.text() == innocent, "{cloaked}");
    }
}

/// Attack: a request that the origin refuses, though others like it are fine: its refusal is stored
/// in place of the page, for everybody.
#[tokio::test]
async fn a_refusal_is_stored_only_if_it_says_so() {
    for status in [400, 403, 405, 408, 411, 413, 421, 429, 431, 500, 501, 502, 503] {
        let origin = Origin::new(move |n, _| async move {
            let fields = [("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")];
            let mut response = answer(&fields, "");
            if n == 1 {
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
            }
            response
        });
        // With both ways to store what says nothing.
        let (cache, _) = cached_with(&origin, |builder| {
            let cap = Duration::from_secs(60);
            builder.heuristic(Heuristic::Fraction { percent: 10, cap }).default_ttl(cap)
        });
        let long = "x".repeat(64 * 1024);
        let refused = send(&cache, get(&[("x-oversized", &long)])).await;
        assert_eq!(refused.status, status);
        let next = send(&cache, get(&[])).await;
        // RFC 9110 §15.1: these are about the resource, not about the request.
        let heuristic = matches!(status, 405 | 501);
        assert_eq!(next.is_hit(), heuristic, "{status}");
    }
    // Control characters can't be in a field, but others can that an origin may not like.
    let origin = Origin::new(|_, request| async move {
        let mut response = answer(&[], "");
        if request.headers().contains_key("x-meta") {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        response
    });
    for value in [&b"\n"[..], b"\r", b"\0", b"\x07", b"\x7f"] {
        assert!(HeaderValue::from_bytes(value).is_err(), "{value:?}");
    }
    let (cache, _) = cached_with(&origin, |builder| builder.default_ttl(Duration::from_secs(60)));
    let mut odd = get(&[]);
    odd.headers_mut().insert("x-meta", HeaderValue::from_bytes(b"\t\x80\xff").unwrap());
    assert_eq!(send(&cache, odd).await.status, 400);
    assert_eq!(send(&cache, get(&[])).await.status, 200);
}

/// Attack: a link to a page of the victim's that looks like a file, so that a cache takes it for one
/// ("web cache deception"); and the same by the ways in which paths are read differently.
#[tokio::test]
async fn a_path_that_looks_like_a_file_makes_nothing_storable() {
    let paths = [
        "/account.php/x.css",
        "/account%2fx.css",
        "/account;x.css",
        "/account%0ax.css",
        "/account%00.css",
        "/account/..%2fstatic/x.css",
        "/static/..%2faccount",
        "/account.css",
        "/account%23/../x.css",
        "/robots.txt",
        "/account//x.js",
        "/account%3fx.css",
    ];
    let silent = Origin::new(|_, request| async move {
        // As for any page of somebody's, the origin says nothing of caches.
        let user = request.headers().get("cookie").map_or("", |cookie| cookie.to_str().unwrap());
        answer(&[], user.to_owned())
    });
    let careless = Origin::new(|_, request| async move {
        let user = request.headers().get("cookie").map_or("", |cookie| cookie.to_str().unwrap());
        answer(&[("cache-control", "max-age=60")], user.to_owned())
    });
    for origin in [silent, careless] {
        let (cache, _) = cached(&origin);
        for path in paths {
            let uri = format!("http://example.com{path}");
            send(&cache, request("GET", &uri, &[("cookie", "victim")])).await;
            let stolen = send(&cache, request("GET", &uri, &[])).await;
            assert!(!stolen.is_hit() && stolen.text().is_empty(), "{path}");
        }
    }
    // None of them is the same as another: what a path means is for the origin to say.
    let (cache, _) = cached(&Origin::with(FRESH));
    for path in paths {
        assert!(!send(&cache, request("GET", &format!("http://h{path}"), &[])).await.is_hit());
    }
}

/// Attack: a GET that the origin takes for another method, whose answer is then everybody's; or a
/// change that a stored answer swallows.
#[tokio::test]
async fn a_method_override_is_carried_out_alone() {
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        let (cache, _) = cached(&reflecting(name));
        for n in 1..3 {
            let got = send(&cache, get(&[(name, "DELETE")])).await;
            assert_eq!((got.text(), got.cache()), ("DELETE", "fwd=method"), "{name}, {n}");
        }
        assert_eq!(send(&cache, get(&[])).await.text(), "nothing");
        assert!(send(&cache, get(&[])).await.is_hit());
        // It may have changed the resource.
        send(&cache, get(&[(name, "DELETE")])).await;
        assert!(!send(&cache, get(&[])).await.is_hit());
    }
}

/// Attack: spellings of a host that the origin reflects, and the cache takes for the same.
#[tokio::test]
async fn hosts_are_the_same_only_if_they_are_by_definition() {
    let (cache, _) = cached(&reflecting_host());
    let ask = async |host: &str| send(&cache, request("GET", "/a", &[("host", host)])).await;
    ask("example.com").await;
    // RFC 9110 §4.2.3: case means nothing; and HTTP/1.1 doesn't tell for which port it was.
    assert!(ask("EXAMPLE.com").await.is_hit());
    for host in ["example.com.", "example.com:80", "example.com:8080", "example.com:443", ""] {
        let got = ask(host).await;
        assert!(!got.is_hit() && got.text() == host, "{host}");
    }
    for host in ["example.com/x", "example.com?x", "evil@example.com", "a b", "a\tb", "\u{e9}"] {
        let mut request = request("GET", "/a", &[]);
        request.headers_mut().insert(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
        let got = send(&cache, request).await;
        assert_eq!(got.cache(), "fwd=bypass; detail=host", "{host}");
    }
}

fn reflecting_host() -> Origin {
    Origin::new(
        |_, request| async move { answer(FRESH, request.headers()[HOST].as_bytes().to_vec()) },
    )
}

/// Attack: two answers to the question for which host a request is: the cache reads the one, the
/// origin the other.
#[tokio::test]
async fn a_request_with_two_hosts_is_the_origins_alone() {
    let (cache, _) = cached(&Origin::with(FRESH));
    let hosts = |hosts: &[&str], uri: &str| {
        let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        request("GET", uri, &fields)
    };
    send(&cache, hosts(&["example.com"], "/a")).await;
    send(&cache, hosts(&[], "http://example.com/a")).await;
    for (named, uri) in [
        (&["example.com", EVIL][..], "/a"),
        (&[EVIL, "example.com"], "/a"),
        (&["example.com", "example.com"], "/a"),
        (&["example.com, evil.example"], "/a"),
        (&[EVIL], "http://example.com/a"),
        (&["example.com"], "http://evil.example/a"),
        (&["example.com:81"], "http://example.com/a"),
    ] {
        for _ in 0..2 {
            let got = send(&cache, hosts(named, uri)).await;
            assert_eq!(got.cache(), "fwd=bypass; detail=host", "{named:?} {uri}");
        }
    }
    assert!(send(&cache, hosts(&["example.com:80"], "http://EXAMPLE.com/a")).await.is_hit());
}

/// Attack: the field of the first test on a request that only has what is stored validated; what the
/// 304 reflects goes to all who wait for it.
#[tokio::test(start_paused = true)]
async fn a_validation_is_shared_with_nobody_whom_it_is_not_about() {
    let origin = Origin::new(|_, request| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let host = request.headers().get("x-forwarded-host").cloned();
        let mut response = answer(&[("cache-control", "max-age=10"), ("etag", "\"a\"")], "page");
        if let Some(host) = host {
            response.headers_mut().insert("link", host);
        }
        if request.headers().contains_key("if-none-match") {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response
    });
    let (cache, _) = cached(&origin);
    send(&cache, get(&[])).await;
    tokio::time::advance(Duration::from_secs(20)).await;
    let (evil, innocent) =
        tokio::join!(send(&cache, get(&[("x-forwarded-host", EVIL)])), send(&cache, get(&[])),);
    assert_eq!((evil.field("link"), innocent.field("link")), (EVIL, ""));
    assert_eq!(send(&cache, get(&[])).await.field("link"), "");
}
