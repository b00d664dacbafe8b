//! What operators can ask, and do.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for another process"
)]

mod support;

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use tower_keep_testing::RedisServer;

use support::{Client, Edge, Origin, Response, field};

const TOKEN: &str = "0123456789abcdef";

fn edge(origin: &Origin) -> Edge {
    Edge::new(&format!(
        "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"\n\
        [[listener]]\naddress = \"127.0.0.1:0\"\n\
        [pool.app]\nbackends = [{{ url = \"http://{}\", name = \"one\", weight = 3 }}]\n\
        [[route]]\npool = \"app\"\n[[route]]\npath_prefix = \"/shop\"\npool = \"app\"\ntags = [\"shop\", \"a b\"]\n",
        origin.address
    ))
}

/// Each time another one, with the tag that is asked for.
fn counting() -> Origin {
    let count = AtomicUsize::new(0);
    Origin::new(move |head, stream| {
        let tag = field(head, "x-tag").unwrap_or("none");
        let body = count.fetch_add(1, SeqCst).to_string();
        let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60, stale-while-revalidate=60\r\n";
        write!(stream, "{head}cache-tag: {tag}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .is_ok()
    })
}

fn admin(edge: &Edge, request: &str, token: &str) -> Response {
    let mut client = Client::connect(edge.at_name("admin"));
    client.send(&format!("{request} HTTP/1.1\r\nhost: a\r\nauthorization: {token}\r\n\r\n"));
    client.response()
}

#[test]
fn what_carries_a_tag_is_not_served_once_that_is_purged() {
    let origin = counting();
    let edge = edge(&origin);
    let store = |path: &str, tag: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: example.com\r\nx-tag: {tag}\r\n\r\n");
        edge.ask(&request);
        edge.hit(path).body
    };
    let purge = |what: &str| {
        let response = admin(&edge, &format!("POST /purge/{what}"), &format!("Bearer {TOKEN}"));
        assert_eq!(response.status(), "200", "{}", response.body);
    };
    let (a, b, shop) = (store("/a", "one"), store("/b", "two"), store("/shop/x", "one"));
    purge("tag/one");
    assert_ne!(edge.get("/a").body, a);
    assert_ne!(edge.get("/shop/x").body, shop);
    assert_eq!(edge.hit("/b").body, b);
    // The route's own.
    for tag in ["shop", "a%20b"] {
        let shop = store("/shop/x", "one");
        purge(&format!("tag/{tag}"));
        assert_ne!(edge.get("/shop/x").body, shop);
    }
    // Softly, it is served once more, and refreshed.
    let stale = store("/b", "two");
    purge("tag/two?soft");
    assert_eq!(edge.get("/b").body, stale);
    while edge.get("/b").body == stale {}
    let (a, b) = (store("/a", "one"), store("/b", "two"));
    purge("all");
    assert_ne!(edge.get("/a").body, a);
    assert_ne!(edge.get("/b").body, b);
}

#[test]
fn only_who_knows_the_token_is_listened_to() {
    let origin = counting();
    let edge = edge(&origin);
    edge.get("/a");
    let a = edge.hit("/a").body;
    let right = format!("Bearer {TOKEN}");
    for token in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer 0123456789abcdeX",
        TOKEN,
        &format!("Basic {TOKEN}"),
        &format!("{right}0"),
    ] {
        for request in ["POST /purge/all", "GET /pools", "GET /nothing"] {
            let response = admin(&edge, request, token);
            assert_eq!(
                (response.status(), response.field("www-authenticate")),
                ("401", Some("Bearer")),
                "{request} {token:?}"
            );
        }
    }
    assert_eq!(edge.hit("/a").body, a);
    assert_eq!(admin(&edge, "GET /health", "").status(), "200");
    assert_eq!(admin(&edge, "GET /purge/all", &right).status(), "404");
    assert_eq!(admin(&edge, "POST /purge/tag/%ff", &right).status(), "400");
    assert_eq!(admin(&edge, "POST /purge/tag/", &right).status(), "400");
    let pools = admin(&edge, "GET /pools", &format!("bearer {TOKEN}"));
    assert_eq!(pools.status(), "200");
    for part in ["\"app\":{", "\"name\":\"one\"", "\"weight\":3", "\"state\":\"up\""] {
        assert!(pools.body.contains(part), "{part}: {}", pools.body);
    }
    // It is another listener: clients can't reach it.
    assert_eq!(edge.get("/pools").body, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_with_one_redis_share_what_is_stored_and_what_is_purged() {
    let redis = RedisServer::start().await;
    let origin = counting();
    let edge = || {
        Edge::new(&format!(
            "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"\n\
            [[listener]]\naddress = \"127.0.0.1:0\"\n\
            [cache]\nredis = \"{}\"\n\
            [pool.app]\nbackends = [\"http://{}\"]\n",
            redis.url(),
            origin.address
        ))
    };
    let (one, two) = (edge(), edge());
    let request = "GET /a HTTP/1.1\r\nhost: example.com\r\nx-tag: one\r\n\r\n";
    let start = Instant::now();
    // Until both have their connections to Redis, each stores for itself.
    let stored = loop {
        let (first, second) = (one.ask(request).body, two.ask(request).body);
        if first == second {
            break first;
        }
        assert!(start.elapsed() < support::PATIENCE);
        admin(&one, "POST /purge/all", &format!("Bearer {TOKEN}"));
    };
    let purged = admin(&one, "POST /purge/tag/one", &format!("Bearer {TOKEN}"));
    assert_eq!((purged.status(), &*purged.body), ("200", "It is done everywhere.\n"));
    assert_ne!(one.get("/a").body, stored);
    while two.get("/a").body == stored {
        assert!(start.elapsed() < support::PATIENCE);
    }
}
