//! Which requests go where, and what is changed of them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and take its time"
)]

mod support;

use std::io::{Read as _, Write as _};

use support::{Client, Edge, Origin, field, get};

/// One that says its name, the target it was asked for, and some fields.
fn echo(name: &'static str) -> Origin {
    Origin::new(move |head, stream| {
        let target = head.split(' ').nth(1).unwrap();
        let tenant = field(head, "x-tenant").unwrap_or("-");
        let cookie = field(head, "cookie").unwrap_or("-");
        let body = format!("{name} {target} {tenant} {cookie}");
        let head = "HTTP/1.1 200 OK\r\nserver: echo\r\ncache-control: max-age=60\r\n";
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).is_ok()
    })
}

fn pool(name: &str, origin: &Origin) -> String {
    format!("[pool.{name}]\nbackends = [\"http://{}\"]\n", origin.address)
}

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";

#[test]
fn the_most_specific_route_answers() {
    let (shop, api) = (echo("shop"), echo("api"));
    let routes = "
        [[route]]
        pool = \"shop\"
        [[route]]
        path_prefix = \"/api\"
        pool = \"api\"
        strip_prefix = true
        [[route]]
        path = \"/api/old\"
        pool = \"api\"
        rewrite = \"/v2/new\"
        [[route]]
        path_prefix = \"/v1\"
        pool = \"api\"
        rewrite = \"/legacy/\"
        [[route]]
        hosts = [\"*.api.test\"]
        pool = \"api\"
        [[route]]
        hosts = [\"gone.api.test\"]
        respond = { status = 410, body = \"gone\" }
        [[route]]
        path_prefix = \"/api\"
        headers = { x-canary = \"1\" }
        pool = \"shop\"
        [[route]]
        path_prefix = \"/api\"
        headers = { x-canary = \"2\" }
        pool = \"api\"
        rewrite = \"/next\"
        [[route]]
        path_prefix = \"/api\"
        headers = { x-canary = \"4\" }
        pool = \"api\"
        strip_prefix = true
        request_headers = { x-tenant = \"t\" }
        [[route]]
        path_prefix = \"/move\"
        redirect = { to = \"https://{host}/new{path}\", status = 302 }
    ";
    let config = format!("{LISTENER}{}{}{routes}", pool("shop", &shop), pool("api", &api));
    let edge = Edge::new(&config);
    let ask = |host: &str, target: &str, more: &str| {
        edge.ask(&format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n"))
    };
    let cases = [
        ("a.test", "/", "", "shop / - -"),
        ("a.test", "/apix?y", "", "shop /apix?y - -"),
        ("a.test", "/api", "", "api / - -"),
        ("a.test", "/api?q=1", "", "api /?q=1 - -"),
        ("a.test", "/api/x/y?q=1", "", "api /x/y?q=1 - -"),
        ("a.test", "/%61pi/x", "", "api /x - -"),
        ("a.test", "/api/old?q", "", "api /v2/new?q - -"),
        ("a.test", "/v1/x", "", "api /legacy/x - -"),
        ("a.test", "/v1", "", "api /legacy - -"),
        ("a.test", "/api/x", "x-canary: 1\r\n", "shop /api/x - -"),
        ("a.test", "/api/x", "x-canary: 2\r\n", "api /next/x - -"),
        ("a.test", "/api/x", "x-canary: 3\r\n", "api /x - -"),
        ("a.test", "/api/x", "x-canary: 4\r\n", "api /x t -"),
        ("X.Api.Test:8080", "/y", "", "api /y - -"),
        ("a.x.api.test.", "/y", "", "api /y - -"),
        ("api.test", "/y", "", "shop /y - -"),
    ];
    // And again, when what may be stored is.
    for _ in 0..2 {
        for (host, target, more, body) in cases {
            let response = ask(host, target, more);
            assert_eq!(
                (response.status(), &*response.body),
                ("200", body),
                "{host} {target} {more}"
            );
        }
    }
    let gone = ask("gone.api.test", "/", "");
    assert_eq!((gone.status(), &*gone.body), ("410", "gone"));
    let moved = ask("a.test:81", "/move/x?y", "");
    assert_eq!(
        (moved.status(), moved.field("location")),
        ("302", Some("https://a.test:81/new/move/x?y"))
    );
    // The target's host is the one that counts.
    let absolute = ask("a.test", "http://gone.api.test/", "");
    assert_eq!(absolute.status(), "410");
}

#[test]
fn what_has_no_route_or_no_clear_path_goes_nowhere() {
    let origin = echo("app");
    let routes = "[[route]]\npath_prefix = \"/api\"\npool = \"app\"\n";
    let edge = Edge::new(&format!("{LISTENER}{}{routes}", pool("app", &origin)));
    assert_eq!(edge.get("/").status(), "404");
    for path in ["/api/../admin", "/api/%2e%2E/admin", "/api/..%2fadmin", "/api/.;x/a"] {
        assert_eq!(edge.get(path).status(), "400", "{path}");
    }
    assert!(origin.heads().is_empty());
    assert_eq!(edge.get("/api/a..b").status(), "200");
}

#[test]
fn fields_are_set_and_removed_both_ways() {
    let origin = echo("app");
    let route = "[[route]]\npool = \"app\"\n\
        request_headers = { x-tenant = \"t1\", cookie = \"\" }\n\
        response_headers = { server = \"\", strict-transport-security = \"max-age=9\" }\n";
    let edge = Edge::new(&format!("{LISTENER}{}{route}", pool("app", &origin)));
    for _ in 0..2 {
        let response = edge.ask("GET / HTTP/1.1\r\nhost: a\r\nx-tenant: evil\r\n\r\n");
        assert_eq!(response.body, "app / t1 -");
        assert_eq!(response.field("server"), None);
        assert_eq!(response.field("strict-transport-security"), Some("max-age=9"));
    }
    let response = edge.ask("GET / HTTP/1.1\r\nhost: a\r\ncookie: a=1\r\n\r\n");
    assert_eq!(response.body, "app / t1 -");
}

#[test]
fn a_path_that_has_no_room_for_its_new_beginning_goes_nowhere() {
    let origin = echo("app");
    let routes = "[[route]]\npath_prefix = \"/a\"\nrewrite = \"/inner\"\npool = \"app\"\n";
    let listener = format!("{LISTENER}max_header_size = \"128KiB\"\n");
    let edge = Edge::new(&format!("{listener}{}{routes}", pool("app", &origin)));
    assert_eq!(edge.get("/a/é").body, "app /inner/%C3%A9 - -");
    // Escaped, it is three times as long.
    for path in [format!("/a/{}", "é".repeat(15_000)), format!("/a/{}", "x".repeat(65_530))] {
        assert_eq!(edge.get(&path).status(), "414");
    }
    assert_eq!(origin.heads().len(), 1);
}

#[test]
fn a_route_can_be_for_some_methods_and_listeners() {
    let (read, write) = (echo("read"), echo("write"));
    let config = format!(
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n\
        [[listener]]\nname = \"inner\"\naddress = \"127.0.0.1:0\"\n{}{}\
        [[route]]\npool = \"read\"\nmethods = [\"GET\", \"HEAD\"]\n\
        [[route]]\npool = \"write\"\nlisteners = [\"inner\"]\n",
        pool("read", &read),
        pool("write", &write)
    );
    let edge = Edge::new(&config);
    assert_eq!(edge.get("/").body, "read / - -");
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(edge.ask(post).status(), "404");
    let mut inner = Client::connect(edge.at_name("inner"));
    inner.send(post);
    assert_eq!(inner.response().body, "write / - -");
}

#[test]
fn content_that_is_too_long_is_refused_whether_or_not_it_says_so() {
    let origin = Origin::new(|head, stream| {
        let length = field(head, "content-length").map(|length| length.parse().unwrap());
        let mut content = Vec::new();
        match length {
            Some(length) => {
                content.resize(length, 0);
                stream.read_exact(&mut content).unwrap();
            }
            None => drop(stream.take(1 << 20).read_to_end(&mut content)),
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_ok()
    });
    let routes = "[[route]]\npool = \"app\"\n[[route]]\npath = \"/large\"\npool = \"app\"\nmax_body = \"none\"\n\
        [[route]]\npath = \"/small\"\npool = \"app\"\nmax_body = 4\n";
    let listener = format!("{LISTENER}max_body = \"1KiB\"\n");
    let edge = Edge::new(&format!("{listener}{}{routes}", pool("app", &origin)));
    let put = |path: &str, length: usize| {
        let head = format!("PUT {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        let mut client = edge.client();
        client.send(&format!("{head}{}", "x".repeat(length)));
        client.response().status().to_owned()
    };
    assert_eq!(put("/", 1024), "204");
    assert_eq!(put("/", 1025), "413");
    assert_eq!(put("/large", 4096), "204");
    assert_eq!(put("/small", 4), "204");
    assert_eq!(put("/small", 5), "413");
    let mut client = edge.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    client.send(&chunk.repeat(3));
    let response = client.response();
    assert_eq!((response.status(), response.field("connection")), ("413", Some("close")));
    // Nobody is blamed for it.
    assert_eq!(put("/", 1), "204");
}

#[test]
fn a_route_has_its_own_ideas_of_time_and_of_retries() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::new(move |head, stream| {
        if head.starts_with("GET /slow") {
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        let fails = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst).is_multiple_of(2);
        let status = if head.starts_with("GET /flaky") && fails { "503 No" } else { "200 OK" };
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").is_ok()
    });
    let config = "timeout = \"200ms\"\n[pool.app.retry]\nstatuses = [503]\nbackoff = \"0s\"\n\
        [[route]]\npool = \"app\"\n\
        [[route]]\npath = \"/slow/allowed\"\npool = \"app\"\ntimeout = \"none\"\n\
        [[route]]\npath = \"/flaky/once\"\npool = \"app\"\nattempts = 1\n";
    let edge = Edge::new(&format!("{LISTENER}{}{config}", pool("app", &origin)));
    assert_eq!(edge.get("/flaky").status(), "200");
    assert_eq!(edge.get("/flaky/once").status(), "503");
    assert_eq!(edge.get("/slow").status(), "504");
    assert_eq!(edge.get("/slow/allowed").status(), "200");
}

#[test]
fn each_request_is_logged_with_its_backend_and_what_the_cache_did() {
    let origin = echo("app");
    let log = "[log]\nformat = \"json\"\n";
    let edge = Edge::new(&format!("{log}{LISTENER}{}", pool("app", &origin)));
    edge.get("/a?b");
    edge.hit("/a?b");
    edge.wait_for_log("; hit; ttl=", 1);
    let lines = edge.log();
    let lines: Vec<_> = lines.lines().filter(|line| line.contains("\"uri\":\"/a?b\"")).collect();
    let (first, last) = (lines.first().unwrap(), lines.last().unwrap());
    let backend = format!("\"backend\":\"http://{}\"", origin.address);
    for part in [
        "\"status\":200",
        "\"method\":\"GET\"",
        "\"host\":\"example.com\"",
        "\"whole\":true",
        "\"bytes\":12",
        "\"client\":\"127.0.0.1\"",
        "fwd=uri-miss",
        &backend,
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    assert!(last.contains("; hit") && !last.contains("\"backend\""), "{last}");
    // Both the level and the access log can be changed.
    edge.reload(&format!(
        "[log]\nformat = \"json\"\naccess = false\n{LISTENER}{}",
        pool("app", &origin)
    ));
    let count = edge.log().lines().count();
    edge.ask(&get("/c"));
    edge.reload(&format!("[log]\nlevel = \"info\"\n{LISTENER}{}", pool("app", &origin)));
    assert_eq!(edge.log().lines().count(), count + 1);
}
