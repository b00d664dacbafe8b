//! Cache policies of routes that lead to the same pool.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use support::{Edge, Origin, Response};

/// One that sets a cookie and counts.
fn origin() -> Origin {
    let count = AtomicUsize::new(0);
    Origin::new(move |_, stream| {
        let body = count.fetch_add(1, SeqCst).to_string();
        let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nset-cookie: a=b\r\n";
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).is_ok()
    })
}

/// With two routes for the same URLs, of which one is for requests with a field.
fn edge(origin: &Origin, default: &str, other: &str) -> Edge {
    Edge::new(&config(origin, default, other))
}

fn config(origin: &Origin, default: &str, other: &str) -> String {
    format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[pool.app]\nbackends = [\"http://{}\"]\n\
        [cache.policy.default]\n{default}[cache.policy.other]\n{other}\
        [[route]]\npool = \"app\"\n\
        [[route]]\npool = \"app\"\nheaders = {{ x-other = \"1\" }}\ncache = \"other\"\n",
        origin.address
    )
}

fn ask(edge: &Edge, method: &str, target: &str, fields: &str) -> Response {
    edge.ask(&format!("{method} {target} HTTP/1.1\r\nhost: a.test\r\n{fields}\r\n"))
}

const OTHER: &str = "x-other: 1\r\n";

/// The response from the store.
fn hit(edge: &Edge, target: &str, fields: &str) -> Response {
    let mut responses = (0..1000).map(|_| ask(edge, "GET", target, fields));
    responses.find(Response::is_hit).unwrap()
}

#[test]
fn what_one_policy_leaves_out_of_the_key_is_not_in_the_way_of_another() {
    let origin = origin();
    let edge = edge(
        &origin,
        "set_cookie = \"store\"\n",
        "set_cookie = \"store\"\nkeep_params = [\"id\"]\n",
    );
    let body = ask(&edge, "GET", "/?id=1&b=2", OTHER).body;
    assert_eq!(hit(&edge, "/?id=1&b=3", OTHER).body, body);
    // By this one, that is another page.
    let other = ask(&edge, "GET", "/?id=1", "");
    assert!(!other.is_hit(), "{}", other.head);
    hit(&edge, "/?id=1", "");
    // Who changes it changes it for both.
    assert_eq!(ask(&edge, "POST", "/?id=1", "content-length: 0\r\n").status(), "200");
    for fields in ["", OTHER] {
        assert!(!ask(&edge, "GET", "/?id=1", fields).is_hit(), "{fields}");
    }
}

#[test]
fn what_one_policy_would_not_store_it_does_not_serve() {
    let origin = origin();
    let edge = edge(&origin, "", "set_cookie = \"store\"\n");
    hit(&edge, "/", OTHER);
    for _ in 0..2 {
        assert!(!ask(&edge, "GET", "/", "").is_hit());
    }
}

#[test]
fn what_a_policy_would_not_store_any_more_is_not_served_after_a_reload() {
    let origin = origin();
    let store = "set_cookie = \"store\"\n";
    let edge = edge(&origin, store, store);
    let body = ask(&edge, "GET", "/", "").body;
    hit(&edge, "/", "");
    for refused in ["", "set_cookie = \"strip\"\n"] {
        edge.reload(&config(&origin, refused, refused));
        let now = ask(&edge, "GET", "/", "");
        assert!(!now.is_hit() && now.body != body, "{}", now.head);
    }
    // It is still there for those who would.
    edge.reload(&config(&origin, store, store));
    assert_eq!(hit(&edge, "/", "").body, body);
}

#[test]
fn policies_that_differ_in_times_alone_share_what_is_stored() {
    let origin = origin();
    let cookies = "set_cookie = \"store\"\n";
    let edge = edge(&origin, cookies, &format!("{cookies}stale_if_error = \"1h\"\n"));
    let stored = ask(&edge, "GET", "/", OTHER).body;
    assert_eq!(hit(&edge, "/", "").body, stored);
}
