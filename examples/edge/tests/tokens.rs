//! Tokens: who gets through, what backends are told of them, and what the cache makes of it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for another process"
)]

mod support;

use std::io::Write as _;

use serde_json::json;
use support::tokens::{ISSUER, Issuer, key};
use support::{Client, Directory, Edge, Origin, Response, field};
use tower_keep::auth::{Grant, JwtManager};

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
const OURS: [&str; 5] = ["x-user", "x_user", "x-tenant", "x-roles", "authorization"];

/// One that says what it was told of the client, as the last word of the path has it.
fn echo() -> Origin {
    Origin::new(|head, stream| {
        let path = head.split(' ').nth(1).unwrap();
        let told = OURS.map(|name| field(head, name).unwrap_or("-"));
        let token = if told[4].starts_with("Bearer ") { "token" } else { told[4] };
        let body = format!("{} {} {} {} {token}", told[0], told[1], told[2], told[3]);
        let control = match path.rsplit('/').next().unwrap() {
            "public" => "public, max-age=60",
            "varied" => "public, max-age=60\r\nvary: X-User",
            "dynamic" => "no-cache",
            _ => "max-age=60",
        };
        let head = format!("HTTP/1.1 200 OK\r\ncache-control: {control}\r\n");
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).is_ok()
    })
}

fn config(origin: &Origin, rest: &str) -> String {
    format!("{LISTENER}[pool.app]\nbackends = [\"http://{}\"]\n{rest}", origin.address)
}

fn ask(edge: &Edge, path: &str, fields: &[(&str, &str)]) -> Response {
    let fields = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let fields = fields.collect::<Vec<_>>().concat();
    edge.ask(&format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n{fields}\r\n"))
}

fn with(edge: &Edge, path: &str, token: &str) -> Response {
    ask(edge, path, &[("authorization", &format!("Bearer {token}"))])
}

#[test]
fn those_whose_token_is_right_get_through_and_the_others_are_told_why_not() {
    let (issuer, origin) = (Issuer::new(), echo());
    let routes = "[[route]]\npool = \"app\"\njwt = \"users\"\n\
        [[route]]\npath = \"/open\"\npool = \"app\"\n\
        [[route]]\npath = \"/optional\"\npool = \"app\"\njwt = \"users\"\ntoken = \"optional\"\n\
        [[route]]\npath = \"/lenient\"\npool = \"app\"\njwt = \"users\"\ntoken = \"ignored-if-invalid\"\n\
        [[route]]\npath = \"/admin\"\njwt = \"users\"\nrespond = { body = \"in\" }\n\
        require = { scope = [\"orders:read\", \"orders:write\"], any_role = [\"admin\", \"boss\"], \
        claims = { tenant = 42 } }\n";
    let jwt = format!(
        "[jwt.users]\nrealm = \"shop\"\ncookie = \"session\"\nquery = \"token\"\n{}",
        issuer.section()
    );
    let edge = Edge::new(&config(&origin, &format!("{jwt}{routes}")));
    let token = issuer.token("user:1");
    let (claims, signature) = token.rsplit_once('.').unwrap();
    let wrong = format!("{claims}.{}", signature.replace(|it: char| it.is_ascii_digit(), "x"));

    let none = ask(&edge, "/", &[]);
    let challenge = none.field("www-authenticate");
    assert_eq!((none.status(), challenge), ("401", Some("Bearer realm=\"shop\"")));
    let refused = with(&edge, "/", &wrong);
    assert_eq!(refused.status(), "401");
    assert!(refused.field("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    let told = format!("- - - - {}", "token");
    assert_eq!(with(&edge, "/dynamic", &token).body, told);
    let cookie = format!("a=b; session={token}");
    assert_eq!(ask(&edge, "/dynamic", &[("cookie", &cookie)]).body, told);
    assert_eq!(ask(&edge, &format!("/dynamic?token={token}"), &[]).body, told);
    assert!(
        origin.heads().iter().all(|head| !head.contains("session=") && !head.contains("?token"))
    );

    assert_eq!(ask(&edge, "/open", &[]).status(), "200");
    for (path, expected) in [("/optional", ["200", "401", "200"]), ("/lenient", ["200"; 3])] {
        let answers = [ask(&edge, path, &[]), with(&edge, path, &wrong), with(&edge, path, &token)];
        assert_eq!(answers.map(|it| it.status().to_owned()), expected, "{path}");
    }

    let grant = || Grant::new("user:1").scope("orders:read orders:write");
    let cases = [
        ("200", grant().claims(&json!({"tenant": 42, "roles": ["boss"]}))),
        ("403", grant().claims(&json!({"tenant": 41, "roles": ["boss"]}))),
        ("403", grant().claims(&json!({"tenant": 42, "roles": ["clerk"]}))),
        (
            "403",
            Grant::new("user:1")
                .scope("orders:read")
                .claims(&json!({"tenant": 42, "roles": "boss"})),
        ),
    ];
    for (status, grant) in cases {
        let answer = with(&edge, "/admin", &issuer.issue(grant));
        assert_eq!(answer.status(), status, "{}", answer.head);
        assert_eq!(answer.body, if status == "200" { "in" } else { "" });
    }
    let call = "POST /admin HTTP/1.1\r\nhost: a.test\r\ncontent-length: 0\r\n\
        content-type: application/grpc\r\nte: trailers\r\n\r\n";
    assert_eq!(edge.ask(call).field("grpc-status"), Some("16"));
}

#[test]
fn what_is_guarded_is_so_however_a_backend_reads_the_path() {
    let (issuer, origin) = (Issuer::new(), echo());
    let jwt = format!("[jwt.users]\n{}", issuer.section());
    let routes = "[[route]]\npath_prefix = \"/dynamic\"\npool = \"app\"\njwt = \"users\"\n\
        [[route]]\npool = \"app\"\n";
    let edge = Edge::new(&config(&origin, &format!("{jwt}{routes}")));
    assert_eq!(ask(&edge, "/dynamic/x", &[]).status(), "401");
    for path in ["//dynamic/x", "/dynamic%2fx", "/dynamic%5Cx", "/dynamic;a=b/x", "/dynamic\\x"] {
        assert_eq!(ask(&edge, path, &[]).status(), "400", "{path}");
    }
    for path in ["/other//x", "/other%2fx", "/other;a"] {
        assert_ne!(ask(&edge, path, &[]).status(), "400", "{path}");
    }
}

#[test]
fn what_is_guarded_is_so_however_its_letters_are_escaped() {
    let (issuer, origin) = (Issuer::new(), echo());
    let guard = |path: &str| format!("[[route]]\n{path}\npool = \"app\"\njwt = \"users\"\n");
    let routes = [
        guard("path = \"/users:export\""),
        guard("path_prefix = \"/données\""),
        guard("path_prefix = \"/caf%c3%a9\""),
        guard("path = \"/a%2Fb\""),
        guard("path = \"/x;y\""),
        "[[route]]\npath_prefix = \"/shut\"\nrespond = { status = 403 }\n".to_owned(),
        "[[route]]\npool = \"app\"\n".to_owned(),
    ];
    let jwt = format!("[jwt.users]\n{}", issuer.section());
    let edge = Edge::new(&config(&origin, &format!("{jwt}{}", routes.concat())));
    for (path, status) in [
        ("/users:export", "401"),
        ("/users%3Aexport", "400"),
        ("/users%3aexport", "400"),
        ("/users%253aexport", "400"),
        ("/données", "401"),
        ("/donn%C3%A9es/x", "401"),
        ("/donn%c3%a9es/x", "401"),
        ("/donn%25c3%25a9es/x", "400"),
        ("/café/x", "401"),
        ("/caf%C3%A9", "401"),
        ("/%63af%C3%a9", "401"),
        ("/a%2fb", "401"),
        ("/a/b", "400"),
        ("/x;y", "401"),
        ("/x%3By", "400"),
        ("/shut/x", "403"),
        ("/shut%2fx", "400"),
        ("//shut", "400"),
        // They are something else, whoever reads them.
        ("/users%3Bexport", "200"),
        ("/donn%C3%A8es", "200"),
        ("/donn%E9es", "200"),
        ("/caf%C3%A9s", "200"),
        ("/a", "200"),
        ("/x", "200"),
        ("/100%25", "200"),
    ] {
        assert_eq!(ask(&edge, path, &[]).status(), status, "{path}");
    }
}

#[test]
fn what_is_guarded_is_so_in_any_case_where_the_route_says_so() {
    let (issuer, origin) = (Issuer::new(), echo());
    let config = |more: &str| {
        let jwt = format!("[jwt.users]\n{}", issuer.section());
        let routes = format!(
            "[[route]]\npath_prefix = \"/Dynamic\"\npool = \"app\"\njwt = \"users\"\n\
            strip_prefix = true\n{more}[[route]]\npool = \"app\"\n"
        );
        config(&origin, &format!("{jwt}{routes}"))
    };
    let edge = Edge::new(&config(""));
    assert_eq!(ask(&edge, "/dynamic/x", &[]).status(), "200");
    edge.reload(&config("ignore_case = true\n"));
    for path in ["/Dynamic/x", "/dynamic/x", "/DYNAMIC/x", "/%64ynamic"] {
        assert_eq!(ask(&edge, path, &[]).status(), "401", "{path}");
    }
    assert_eq!(ask(&edge, "//dynamic/x", &[]).status(), "400");
    assert_eq!(with(&edge, "/DYNAMIC/Public", &issuer.token("a")).status(), "200");
    let heads = origin.heads();
    assert!(heads.last().unwrap().starts_with("GET /Public "), "{heads:?}");
}

#[test]
fn backends_are_told_claims_and_believe_no_client() {
    let (issuer, origin) = (Issuer::new(), echo());
    let routes = "[[route]]\npool = \"app\"\njwt = \"users\"\ntoken = \"optional\"\n\
        [[route]]\npath_prefix = \"/open\"\npool = \"app\"\ncache = false\n";
    let jwt = format!(
        "[jwt.users]\nforward_token = false\n\
        claims = {{ x-user = \"sub\", x-tenant = \"tenant\", x-roles = \"roles\" }}\n{}",
        issuer.section()
    );
    let edge = Edge::new(&config(&origin, &format!("{jwt}{routes}")));
    let grant = Grant::new("user:1").claims(&json!({"tenant": 42, "roles": ["a", "b,c"]}));
    let token = format!("Bearer {}", issuer.issue(grant));
    let spoofed = [("x-user", "evil"), ("X_USER", "evil"), ("X-Tenant", "0"), ("x-roles", "admin")];
    let spoofed_and = |more: &[(&'static str, &str)]| {
        let all: Vec<_> = spoofed.iter().copied().chain(more.iter().copied()).collect();
        all.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>()
    };
    let body = |path: &str, fields: Vec<(String, String)>| {
        let fields: Vec<_> = fields.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        ask(&edge, path, &fields).body
    };
    let told = "user:1 - 42 [\"a\",\"b,c\"] -";
    assert_eq!(body("/dynamic", spoofed_and(&[("authorization", &token)])), told);
    // Neither by routes that ask for no token, nor by taking away what is said.
    assert_eq!(body("/dynamic", spoofed_and(&[])), "- - - - -");
    assert_eq!(body("/open/dynamic", spoofed_and(&[])), "- - - - -");
    let close = [("authorization", &*token), ("connection", "x-user, x-tenant, x-roles")];
    assert_eq!(body("/dynamic", spoofed_and(&close)), told);
    // Credentials of another kind are none of ours.
    let basic = [("authorization", "Basic YTpi")];
    assert_eq!(body("/dynamic", spoofed_and(&basic)), "- - - - Basic YTpi");
}

#[test]
fn what_is_set_for_backends_can_not_be_taken_away_by_connection() {
    let origin = echo();
    let routes = "[[route]]\npool = \"app\"\nrequest_headers = { x-user = \"edge\" }\n\
        [[route]]\npath_prefix = \"/bare\"\npool = \"app\"\ncache = false\n\
        request_headers = { x-user = \"edge\" }\n";
    let edge = Edge::new(&config(&origin, routes));
    for path in ["/dynamic", "/bare/dynamic"] {
        for name in ["x-user", "x_user"] {
            let answer = ask(&edge, path, &[(name, "evil"), ("connection", name)]);
            assert_eq!(answer.body, "edge - - - -", "{path} {name}");
            assert_eq!(ask(&edge, path, &[(name, "evil")]).body, "edge - - - -", "{path} {name}");
        }
    }
    let upgrade = [("connection", "upgrade, x-user"), ("upgrade", "websocket")];
    assert_eq!(ask(&edge, "/dynamic", &upgrade).body, "edge - - - -");
}

#[test]
fn no_user_gets_what_is_another_s_from_the_cache() {
    let (issuer, origin) = (Issuer::new(), echo());
    let config = |policy: &str| {
        let routes = "[[route]]\npool = \"app\"\njwt = \"users\"\n\
            [[route]]\npath_prefix = \"/optional\"\npool = \"app\"\njwt = \"users\"\n\
            token = \"optional\"\n";
        let jwt = format!(
            "[jwt.users]\nforward_token = false\nclaims = {{ x-user = \"sub\" }}\n{}",
            issuer.section()
        );
        // Whatever could be stored by mistake, would be.
        let policy = format!("[cache.policy.default]\ndefault_ttl = \"1m\"\n{policy}");
        config(&origin, &format!("{policy}{jwt}{routes}"))
    };
    let [one, two] = ["one", "two"].map(|it| issuer.token(it));
    let edge = Edge::new(&config(""));
    for _ in 0..3 {
        for (name, token) in [("one", &one), ("two", &two)] {
            let told = format!("{name} - - - -");
            let answer = with(&edge, "/mine", token);
            assert_eq!((&*answer.body, answer.is_hit()), (&*told, false));
            // The cache must not take it for nobody's.
            let fields = [("authorization", format!("Bearer {token}"))];
            let close = [("authorization", &*fields[0].1), ("connection", "authorization")];
            assert_eq!(ask(&edge, "/mine", &close).status(), "401");
            assert_eq!(ask(&edge, "/optional/mine", &close).body, "- - - - -");
            assert_eq!(with(&edge, "/optional/mine", token).body, told);
            assert_eq!(ask(&edge, "/optional/mine", &[]).body, "- - - - -");
            assert_eq!(ask(&edge, "/mine", &[]).status(), "401");
        }
    }
    // What is public is shared, and nevertheless only with those who have a token.
    assert_eq!(with(&edge, "/public", &one).body, "one - - - -");
    while !with(&edge, "/public", &two).is_hit() {}
    assert_eq!(with(&edge, "/public", &two).body, "one - - - -");
    assert_eq!(ask(&edge, "/public", &[]).status(), "401");

    // What differs by what backends were told of the token differs by the token.
    for _ in 0..3 {
        for (name, token) in [("one", &one), ("two", &two)] {
            assert_eq!(with(&edge, "/varied", token).body, format!("{name} - - - -"));
        }
    }
    while !with(&edge, "/varied", &two).is_hit() {}

    edge.reload(&config("identity = \"subject\"\n"));
    for (name, token) in [("one", &one), ("two", &two)] {
        with(&edge, "/mine", token);
        while !with(&edge, "/mine", token).is_hit() {}
        assert_eq!(with(&edge, "/mine", token).body, format!("{name} - - - -"));
    }
    // Who changes something changes it for all.
    let post = "POST /mine HTTP/1.1\r\nhost: a.test\r\ncontent-length: 0\r\n";
    assert_eq!(edge.ask(&format!("{post}authorization: Bearer {one}\r\n\r\n")).status(), "200");
    assert!(!with(&edge, "/mine", &two).is_hit());
}

#[test]
fn a_reload_asks_for_no_keys_that_are_there_and_survives_an_outage_of_their_issuer() {
    let (issuer, origin) = (Issuer::new(), echo());
    let config = |jwt: &str, issuers: &str, more: &str| {
        let routes = "[[route]]\npool = \"app\"\njwt = \"users\"\n";
        config(&origin, &format!("[jwt.users]\n{jwt}{issuers}{more}{routes}"))
    };
    let keys = issuer.section();
    let edge = Edge::new(&config("", &keys, ""));
    assert_eq!(with(&edge, "/dynamic", &issuer.token("a")).status(), "200");
    issuer.publish(None);
    let asked = issuer.asked();
    // Nothing, what isn't about keys, and what is about tokens.
    let reloads =
        [("", ""), ("realm = \"b\"\n", ""), ("max_len = \"4KiB\"\n", "leeway = \"5s\"\n")];
    for (jwt, more) in reloads {
        edge.reload(&config(jwt, &keys, more));
        assert_eq!(with(&edge, "/dynamic", &issuer.token("a")).status(), "200");
    }
    // One that can't be used asks nobody either.
    edge.reload_in_vain(&config("", &keys, "leeway = \"1h\"\n"));
    assert_eq!(issuer.asked(), asked);
    edge.reload(&config("", &keys, "require = [\"tenant\"]\n"));
    assert_eq!(with(&edge, "/dynamic", &issuer.token("a")).status(), "401");
    assert_eq!(issuer.asked(), asked);
    // Other ones are not known yet, which is nobody's fault.
    edge.reload(&config("", &keys, "timeout = \"1s\"\nretry = [\"10ms\", \"10ms\"]\n"));
    let answer = with(&edge, "/dynamic", &issuer.token("a"));
    assert_eq!((answer.status(), answer.field("retry-after")), ("503", Some("5")));
    issuer.publish(Some(issuer.manager.jwks()));
    while with(&edge, "/dynamic", &issuer.token("a")).status() != "200" {}
}

#[test]
fn keys_are_found_by_discovery_and_over_tls_from_whom_is_trusted() {
    let (issuer, origin) = (Issuer::new(), echo());
    let name = format!("http://{}", issuer.site.address);
    let found = JwtManager::builder(&name).key(key()).audience("orders").build().unwrap();
    issuer.publish(Some(found.jwks()));
    // Another edge publishes the keys of another issuer.
    let directory = Directory::new();
    let pem = support::tls::certificate(&directory, "one", &["localhost"]);
    let over_tls = JwtManager::builder(ISSUER).key(key()).audience("orders").build().unwrap();
    let publisher = Edge::within(
        directory,
        &format!(
            "{LISTENER}certificates = [{{ chain = \"one.pem\", key = \"one.key\" }}]\n\
            [[route]]\nrespond = {{ content_type = \"application/json\", body = '{}' }}\n\
            [pool.app]\nbackends = [\"http://{}\"]\n",
            over_tls.jwks(),
            origin.address
        ),
    );
    let directory = Directory::new();
    directory.write("ca.pem", pem);
    let port = publisher.address.port();
    let jwt = format!(
        "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"0123456789abcdef\"\n[jwt.users]\n\
        [[jwt.users.issuer]]\nname = \"{name}\"\naudiences = [\"orders\"]\nallow_http = true\n\
        [[jwt.users.issuer]]\nname = \"{ISSUER}\"\naudiences = [\"orders\"]\n\
        jwks = \"https://localhost:{port}/\"\nauthority = \"ca.pem\"\n\
        [[route]]\npool = \"app\"\njwt = \"users\"\n"
    );
    let edge = Edge::within(directory, &config(&origin, &jwt));
    for manager in [&found, &over_tls] {
        let token = manager.issue(Grant::new("a")).unwrap().token;
        let answer = with(&edge, "/dynamic", &token);
        assert_eq!(answer.status(), "200", "{}", answer.head);
    }
    let mut client = Client::connect(edge.at_name("admin"));
    client.send("GET /jwt HTTP/1.1\r\nhost: a\r\nauthorization: Bearer 0123456789abcdef\r\n\r\n");
    let health: serde_json::Value = serde_json::from_str(&client.response().body).unwrap();
    assert_eq!(health["users"][ISSUER]["keys"], 1, "{health}");
    assert_eq!(health["users"][&name]["failure"], json!(null), "{health}");
}

#[test]
fn keys_in_a_file_are_followed_without_a_reload() {
    let origin = echo();
    let manager = |key| JwtManager::builder(ISSUER).key(key).audience("orders").build().unwrap();
    let (old, new) = (manager(key()), manager(key()));
    let directory = Directory::new();
    directory.write("keys.json", old.jwks());
    let jwt = format!(
        "[jwt.users]\n[[jwt.users.issuer]]\nname = \"{ISSUER}\"\naudiences = [\"orders\"]\n\
        file = \"keys.json\"\ninterval = \"10ms\"\n[[route]]\npool = \"app\"\njwt = \"users\"\n"
    );
    let edge = Edge::within(directory, &config(&origin, &jwt));
    let status = |manager: &JwtManager| {
        let token = manager.issue(Grant::new("a")).unwrap().token;
        with(&edge, "/dynamic", &token).status().to_owned()
    };
    assert_eq!((status(&old).as_str(), status(&new).as_str()), ("200", "401"));
    edge.directory.write("keys.json", new.jwks());
    while status(&new) != "200" {}
    assert_eq!(status(&old), "401");
    // What is being written counts for nothing, also where the configuration is loaded again.
    edge.directory.write("keys.json", &new.jwks()[..20]);
    edge.reload_in_vain(&config(&origin, &jwt));
    edge.wait_for_log("`jwt.users.issuer.file` can't be used", 1);
    assert_eq!(status(&new), "200");
}
