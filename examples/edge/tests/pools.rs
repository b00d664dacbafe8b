//! Pools as the configuration has them: strategies, limits, discovery, and their end.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for another process"
)]

mod support;

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::{Edge, Origin, get};

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";

/// One that says its name, and is never cached.
fn named(name: &'static str) -> Origin {
    Origin::new(move |_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", name.len());
        stream.write_all(format!("{head}{name}").as_bytes()).is_ok()
    })
}

fn with_cookie(cookie: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: a=b; session={cookie}\r\n\r\n")
}

#[test]
fn every_strategy_serves_and_those_that_hash_are_true_to_it() {
    let origins = ["one", "two", "three"].map(named);
    let backends: Vec<_> = origins.iter().map(|it| format!("\"http://{}\"", it.address)).collect();
    let config = |strategy: &str| {
        format!("{LISTENER}[pool.app]\nbackends = [{}]\n{strategy}", backends.join(", "))
    };
    let edge = Edge::new(&config(""));
    let mut client = edge.client();
    let mut ask = |request: &str| {
        client.send(request);
        let response = client.response();
        assert_eq!(response.status(), "200");
        response.body
    };
    for strategy in ["peak-ewma", "round-robin", "random", "least-connections", "two-choices"] {
        edge.reload(&config(&format!("strategy = \"{strategy}\"\n")));
        let mut shares = HashMap::<_, usize>::new();
        for _ in 0..60 {
            *shares.entry(ask(&get("/"))).or_default() += 1;
        }
        assert_eq!(shares.len(), 3, "{strategy}: {shares:?}");
    }
    for bound in ["", "bounded_load = 300\n"] {
        let strategy = "strategy = \"hash\"\nhash_on = [\"cookie:session\", \"client\"]\n";
        edge.reload(&config(&format!("{strategy}{bound}")));
        let first: Vec<_> = (0..30).map(|n| ask(&with_cookie(&n.to_string()))).collect();
        let again: Vec<_> = (0..30).map(|n| ask(&with_cookie(&n.to_string()))).collect();
        assert_eq!(first, again);
        assert!(first.iter().any(|name| *name != first[0]), "{first:?}");
        // Without the cookie, by the client.
        let own = ask(&get("/"));
        assert!((0..10).all(|_| ask(&get("/")) == own));
    }
}

#[test]
fn what_a_backend_has_no_room_for_waits_and_is_refused_beyond_that() {
    let (asked, is_asked) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |_, stream| {
        asked.send(()).unwrap();
        let _ = wait.lock().unwrap().recv();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let edge = Edge::new(&format!(
        "{LISTENER}[pool.app]\nbackends = [{{ url = \"http://{}\", max_in_flight = 1 }}]\n\
        [pool.app.queue]\nrequests = 1\ntime = \"1m\"\n",
        origin.address
    ));
    let mut first = edge.client();
    first.send(&get("/first"));
    is_asked.recv().unwrap();
    // Of two more, one waits, and for the other there is no room.
    let (answered, answers) = mpsc::channel();
    for path in ["/second", "/third"] {
        let (mut client, answered) = (edge.client(), answered.clone());
        thread::spawn(move || {
            client.send(&get(path));
            answered.send(client.response()).unwrap();
        });
    }
    let refused = answers.recv().unwrap();
    assert_eq!((refused.status(), refused.field("retry-after")), ("503", Some("1")));
    assert!(refused.field("proxy-status").unwrap().contains("; error="), "{}", refused.head);
    assert!(answers.try_recv().is_err());
    go.send(()).unwrap();
    assert_eq!(first.response().status(), "200");
    go.send(()).unwrap();
    assert_eq!(answers.recv().unwrap().status(), "200");
}

#[test]
fn backends_come_from_a_file_that_is_watched() {
    let (one, two) = (named("one"), named("two"));
    let directory = support::Directory::new();
    let list = |origins: &[&Origin]| {
        let instance = |(n, it): (usize, &&Origin)| {
            format!("{{ \"id\": \"{n}\", \"address\": \"{}\" }}", it.address)
        };
        let instances: Vec<_> = origins.iter().enumerate().map(instance).collect();
        format!("{{ \"shop\": [{}] }}", instances.join(", "))
    };
    directory.write("backends.json", list(&[&one]));
    let config = format!(
        "{LISTENER}[pool.app]\n[pool.app.queue]\ntime = \"10s\"\n\
        [pool.app.discovery]\nkind = \"file\"\npath = \"backends.json\"\nservice = \"shop\"\n"
    );
    let edge = Edge::within(directory, &config);
    assert_eq!(edge.get("/").body, "one");
    edge.directory.write("backends.json", list(&[&two]));
    let start = Instant::now();
    while edge.get("/").body != "two" {
        assert!(start.elapsed() < support::PATIENCE);
    }
    // What it knows stays over a reload, while the file can't be read.
    edge.directory.write("backends.json", "nothing");
    edge.reload(&format!("[log]\naccess = false\n{config}"));
    assert_eq!(edge.get("/").body, "two");
}

#[test]
fn a_pool_that_is_gone_is_not_checked_any_more_though_clients_stay() {
    let checks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&checks);
    let old = Origin::new(move |head, stream| {
        if head.starts_with("GET /health") {
            counted.fetch_add(1, SeqCst);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold").is_ok()
    });
    let new = named("new");
    let pool = |name: &str, origin: &Origin, more: &str| {
        format!("{LISTENER}[pool.{name}]\nbackends = [\"http://{}\"]\n{more}", origin.address)
    };
    let health = "[pool.old.health]\npath = \"/health\"\ninterval = \"20ms\"\n";
    let edge = Edge::new(&pool("old", &old, health));
    let mut client = edge.client();
    client.send(&get("/"));
    assert_eq!(client.response().body, "old");
    while checks.load(SeqCst) < 3 {
        thread::sleep(Duration::from_millis(5));
    }
    edge.reload(&pool("new", &new, ""));
    client.send(&get("/"));
    assert_eq!(client.response().body, "new");
    let start = Instant::now();
    loop {
        let before = checks.load(SeqCst);
        thread::sleep(Duration::from_millis(500));
        if checks.load(SeqCst) == before {
            break;
        }
        assert!(start.elapsed() < support::PATIENCE, "it is still checked");
    }
    client.send(&get("/"));
    assert_eq!(client.response().body, "new");
}
