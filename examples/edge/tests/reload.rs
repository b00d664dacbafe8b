//! The configuration is loaded again under load, and nothing is lost.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for another process"
)]

mod support;

use std::collections::HashMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use support::{Client, Edge, Origin, get};

/// One that says its name, and is never cached.
fn named(name: &'static str) -> Origin {
    Origin::new(move |_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", name.len());
        stream.write_all(format!("{head}{name}").as_bytes()).is_ok()
    })
}

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"0123456789abcdef\"\n";

fn backends(origins: &[(&Origin, u16)]) -> String {
    let backend = |(origin, weight): &(&Origin, u16)| {
        format!("{{ url = \"http://{}\", weight = {weight} }}", origin.address)
    };
    let backends: Vec<_> = origins.iter().map(backend).collect();
    format!("[pool.app]\nstrategy = \"round-robin\"\nbackends = [{}]\n", backends.join(", "))
}

/// How often each origin answers, of `count` requests.
fn shares(client: &mut Client, count: usize) -> HashMap<String, usize> {
    let mut shares = HashMap::new();
    for _ in 0..count {
        client.send(&get("/"));
        *shares.entry(client.response().body).or_default() += 1;
    }
    shares
}

fn pools(edge: &Edge) -> String {
    let mut client = Client::connect(edge.at_name("admin"));
    client.send("GET /pools HTTP/1.1\r\nhost: a\r\nauthorization: Bearer 0123456789abcdef\r\n\r\n");
    client.response().body
}

#[test]
fn no_request_and_no_connection_is_lost_by_reloads_under_load() {
    const CLIENTS: usize = 8;
    const RELOADS: usize = 20;
    let (one, two, three) = (named("one"), named("two"), named("three"));
    let configs = [
        format!("{LISTENER}{}", backends(&[(&one, 1), (&two, 1)])),
        // Other weights, other backends, another strategy (so another pool), other routes.
        format!("{LISTENER}{}", backends(&[(&one, 3), (&two, 1)])),
        format!("{LISTENER}{}", backends(&[(&two, 1), (&three, 1)])),
        format!("{LISTENER}{}", backends(&[(&three, 1)]).replace("round-robin", "random")),
        format!("{LISTENER}{}[[route]]\npool = \"app\"\ncache = false\n", backends(&[(&one, 1)])),
    ];
    let edge = Edge::new(&configs[0]);
    let is_over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = edge.client();
            let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
            // Each by one connection from the beginning to the end.
            thread::spawn(move || {
                let mut count = 0;
                while !is_over.load(SeqCst) {
                    client.send(&get("/"));
                    let response = client.response();
                    assert_eq!(response.status(), "200", "{}", response.head);
                    assert_eq!(response.field("connection"), None);
                    answered.fetch_add(1, SeqCst);
                    count += 1;
                }
                count
            })
        })
        .collect();
    for config in configs.iter().cycle().skip(1).take(RELOADS) {
        edge.reload(config);
        let before = answered.load(SeqCst);
        while answered.load(SeqCst) < before + 20 && clients.iter().all(|it| !it.is_finished()) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    is_over.store(true, SeqCst);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
    assert!(answered.load(SeqCst) >= RELOADS * 20);
}

#[test]
fn a_response_that_is_under_way_goes_on_from_the_backend_that_is_gone() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let old = Origin::new(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n").unwrap();
        for _ in 0..3 {
            stream.write_all(b"ol").unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
        true
    });
    let new = named("new");
    let edge = Edge::new(&format!("{LISTENER}{}", backends(&[(&old, 1)])));
    let mut client = edge.client();
    client.send(&get("/"));
    client.head();
    assert_eq!(client.bytes(2), b"ol");
    // The backend goes; then the pool; then, with its socket, the listener.
    edge.reload(&format!("{LISTENER}{}", backends(&[(&new, 1)])));
    assert_eq!(edge.get("/").body, "new");
    go.send(()).unwrap();
    assert_eq!(client.bytes(2), b"ol");
    edge.reload(&format!("{LISTENER}{}", backends(&[(&new, 1)]).replace("app", "other")));
    edge.reload(&format!("[[listener]]\naddress = \"127.0.0.2:0\"\n{}", backends(&[(&new, 1)])));
    go.send(()).unwrap();
    assert_eq!(client.bytes(2), b"ol");
    go.send(()).unwrap();
    // What it was for is no more.
    assert_eq!(client.rest(), "");
    assert!(TcpStream::connect(edge.address).is_err());
}

#[test]
fn other_weights_and_backends_take_effect_and_the_connections_to_those_that_stay_are_kept() {
    let (one, two) = (named("one"), named("two"));
    let config = |origins: &[(&Origin, u16)], more: &str| {
        format!("{ADMIN}{LISTENER}{}{more}", backends(origins))
    };
    let edge = Edge::new(&config(&[(&one, 1), (&two, 1)], ""));
    let mut client = edge.client();
    let even = shares(&mut client, 40);
    assert_eq!((even["one"], even["two"]), (20, 20));
    let connections = (one.connections(), two.connections());

    edge.reload(&config(&[(&one, 3), (&two, 1)], ""));
    let uneven = shares(&mut client, 40);
    assert_eq!((uneven["one"], uneven["two"]), (30, 10));
    edge.reload(&config(&[(&two, 1)], ""));
    assert_eq!(shares(&mut client, 10)["two"], 10);
    // A route is none of the pool's business.
    edge.reload(&config(&[(&two, 1)], "[[route]]\npool = \"app\"\nname = \"all\"\n"));
    assert_eq!(shares(&mut client, 10)["two"], 10);
    assert_eq!((one.connections(), two.connections()), connections);
}

#[test]
fn a_pool_that_stays_the_same_keeps_its_health() {
    let checks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&checks);
    let sick = Origin::new(move |head, stream| {
        let status = if head.starts_with("GET /health") {
            counted.fetch_add(1, SeqCst);
            "500 Internal Server Error"
        } else {
            "200 OK"
        };
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nsick").is_ok()
    });
    let well = named("well");
    let health = "[pool.app.health]\npath = \"/health\"\ninterval = \"1s\"\nfall = 2\n";
    let config = |more: &str| {
        format!("{ADMIN}{LISTENER}{}{health}{more}", backends(&[(&sick, 1), (&well, 1)]))
    };
    let edge = Edge::new(&config(""));
    while !pools(&edge).contains("\"unhealthy\"") {
        thread::sleep(Duration::from_millis(5));
    }
    for n in 0..5 {
        edge.reload(&config(&format!("[log]\naccess = {}\n", n % 2 == 0)));
        let pools = pools(&edge);
        assert!(pools.contains("\"unhealthy\""), "{pools}");
        assert_eq!(edge.get("/").body, "well");
    }
    // And it is still checked.
    let before = checks.load(SeqCst);
    while checks.load(SeqCst) < before + 1 {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_file_that_can_not_be_used_changes_nothing_and_is_told_where() {
    let origin = named("one");
    let good = format!("{LISTENER}{}", backends(&[(&origin, 1)]));
    let edge = Edge::new(&good);
    let mut client = edge.client();
    assert_eq!(shares(&mut client, 1)["one"], 1);
    edge.reload_in_vain(&good.replace("strategy", "stratgy"));
    edge.wait_for_log("did you mean `strategy`?", 1);
    let log = edge.log();
    assert!(log.contains("edge.toml:4:1"), "{log}");
    edge.reload_in_vain("nothing of the kind");
    // It is valid, but the address of the new listener is taken.
    let taken = format!("[[listener]]\naddress = \"{}\"\n", origin.address);
    edge.reload_in_vain(&format!("{taken}{good}"));
    assert_eq!(shares(&mut client, 5)["one"], 5);
    assert_eq!(edge.get("/").body, "one");
    edge.reload(&good);
    assert_eq!(shares(&mut client, 5)["one"], 5);
}

#[test]
fn listeners_come_and_go() {
    let origin = named("one");
    let pool = backends(&[(&origin, 1)]);
    let edge = Edge::new(&format!("{LISTENER}{pool}"));
    let (mut kept, free) = (edge.client(), origin_free());
    let added = format!("[[listener]]\naddress = \"{free}\"\n");
    edge.reload(&format!("{LISTENER}{added}{pool}"));
    let mut other = Client::connect(free);
    assert_eq!(shares(&mut other, 1)["one"], 1);
    edge.reload(&format!("{LISTENER}{pool}"));
    // An idle connection of the one that went is closed, and no other is accepted.
    assert_eq!(other.rest(), "");
    assert!(TcpStream::connect(free).is_err());
    assert_eq!(shares(&mut kept, 1)["one"], 1);
}

#[test]
fn a_listener_can_move_to_all_addresses_of_its_port_and_back() {
    let origin = named("one");
    let pool = backends(&[(&origin, 1)]);
    let one = origin_free();
    let all = std::net::SocketAddr::from(([0; 4], one.port()));
    let at =
        |address: std::net::SocketAddr| format!("[[listener]]\naddress = \"{address}\"\n{pool}");
    let edge = Edge::new(&at(one));
    for address in [all, one, all] {
        edge.reload(&at(address));
        for _ in 0..20 {
            assert_eq!(edge.get("/").body, "one", "{address}");
        }
        let other = std::net::SocketAddr::from(([127, 0, 0, 2], one.port()));
        assert_eq!(TcpStream::connect(other).is_ok(), address == all, "{address}");
    }
    // Both would not begin, so they aren't taken either.
    edge.reload_in_vain(&format!("[[listener]]\naddress = \"{one}\"\n{}", at(all)));
    assert_eq!(edge.get("/").body, "one");
}

/// An address at which nobody listens.
fn origin_free() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
