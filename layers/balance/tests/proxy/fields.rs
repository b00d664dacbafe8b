//! What becomes of the fields of messages.

use std::io::Write;

use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use tower_keep_balance::BuildError;
use tower_keep_balance::proxy::{Forwarding, HostPolicy, Proxy, Upstream};

use super::support::{Client, Origin, field, get, pool, pool_of, proxy, serve};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn ask(address: std::net::SocketAddr, request: &str) -> tower_keep_testing::http::Response {
    let mut client = Client::connect(address);
    client.send(request);
    client.response()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_about_one_connection_stays_on_it() {
    let origin = Origin::saying(
        "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nkeep-alive: timeout=9\r\nx-hop: 1\r\n\
         proxy-authenticate: Basic\r\nproxy-authentication-info: x\r\nx-end: 1\r\n\
         content-length: 2\r\n\r\nok",
    );
    let address = serve(proxy(origin.address)).await;
    let response = ask(
        address,
        "GET / HTTP/1.1\r\nhost: example.com\r\nconnection: x-hop, close\r\nx-hop: 1\r\n\
         keep-alive: 1\r\nte: gzip, trailers\r\nproxy-authorization: Basic eA==\r\nupgrade: h2c\r\n\
         proxy-connection: x\r\nx-end: 1\r\n\r\n",
    );
    for gone in ["keep-alive", "x-hop", "proxy-authenticate", "proxy-authentication-info"] {
        assert_eq!(response.field(gone), None, "{gone}: {}", response.head);
    }
    assert_eq!(response.field("x-end"), Some("1"));
    let head = &origin.heads()[0];
    for gone in ["keep-alive", "x-hop", "proxy-authorization", "upgrade", "proxy-connection"] {
        assert_eq!(field(head, gone), None, "{gone}: {head}");
    }
    assert_eq!((field(head, "x-end"), field(head, "te")), (Some("1"), Some("trailers")));
    assert_eq!(field(head, "connection"), Some("te"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_are_told_of_the_way() {
    let origin = Origin::saying("HTTP/1.0 200 OK\r\nvia: 1.0 inner\r\ncontent-length: 0\r\n\r\n");
    let settings = Proxy::builder(pool(&[origin.address])).name("outer");
    let address = serve(settings.build().unwrap()).await;
    let response = ask(address, "GET / HTTP/1.1\r\nhost: a:81\r\nvia: 1.1 x\r\n\r\n");
    assert!(response.head.contains("via: 1.0 inner\r\nvia: 1.0 outer\r\n"), "{}", response.head);
    assert!(response.field("date").is_some());
    let head = &origin.heads()[0];
    assert!(head.contains("via: 1.1 x\r\nvia: 1.1 outer\r\n"), "{head}");
    assert_eq!(field(head, "host"), Some("a:81"));
    assert_eq!(field(head, "forwarded"), Some("for=127.0.0.1;proto=http"));
    assert_eq!(field(head, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(field(head, "x-forwarded-host"), Some("a:81"));
    assert_eq!(field(head, "x-forwarded-proto"), Some("http"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trusted_proxies_are_believed_and_others_are_not() {
    let origin = Origin::saying(OK);
    let request = "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 1.1.1.1\r\n\
        x-forwarded-proto: https\r\nforwarded: for=1.1.1.1\r\nx-real-ip: 1.1.1.1\r\n\r\n";
    let trusting = Forwarding::new().trust(["127.0.0.0/8".parse().unwrap()]);
    for forwarding in [trusting, Forwarding::new()] {
        let settings = Proxy::builder(pool(&[origin.address])).forwarding(forwarding);
        ask(serve(settings.build().unwrap()).await, request);
    }
    let heads = origin.heads();
    let told = ["x-forwarded-for", "x-forwarded-proto", "forwarded", "x-real-ip"];
    assert_eq!(
        told.map(|name| field(&heads[0], name).unwrap_or_default()),
        ["1.1.1.1, 127.0.0.1", "https", "for=1.1.1.1, for=127.0.0.1;proto=http", "1.1.1.1"]
    );
    assert_eq!(
        told.map(|name| field(&heads[1], name).unwrap_or_default()),
        ["127.0.0.1", "http", "for=127.0.0.1;proto=http", ""]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_is_the_clients_the_upstreams_or_a_fixed_one() {
    let origin = Origin::saying(OK);
    let url = format!("http://{}/base", origin.address);
    let own = origin.address.to_string();
    let fixed = HostPolicy::Fixed("fixed.example".parse().unwrap());
    let expected = [
        (HostPolicy::Client, "a.example", "for=127.0.0.1;proto=http"),
        (HostPolicy::Upstream, &*own, "for=127.0.0.1;host=\"a.example\";proto=http"),
        (fixed, "fixed.example", "for=127.0.0.1;host=\"a.example\";proto=http"),
    ];
    for (policy, host, forwarded) in expected {
        let pool = pool_of([Upstream::new(&url).unwrap()]);
        let proxy = Proxy::builder(pool).host(policy).build().unwrap();
        ask(serve(proxy).await, "GET /x?y HTTP/1.1\r\nhost: a.example\r\n\r\n");
        let heads = origin.heads();
        let head = heads.last().unwrap();
        assert!(head.starts_with("GET /base/x?y HTTP/1.1\r\n"), "{head}");
        assert_eq!(field(head, "host"), Some(host));
        assert_eq!(field(head, "x-forwarded-host"), Some("a.example"));
        assert_eq!(field(head, "forwarded"), Some(forwarded));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_http_2_becomes_a_sound_one_of_http_1_1() {
    let origin = Origin::new(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
            transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        stream.write_all(head.as_bytes()).is_ok()
    });
    let address = serve(proxy(origin.address)).await;
    let client = Http::builder(TokioExecutor::new()).http2_only(true).build_http();
    let mut request =
        Request::get(format!("http://{address}/x?y")).body(Empty::<Bytes>::new()).unwrap();
    for crumb in ["a=1", "b=2", "c=3"] {
        request.headers_mut().append("cookie", HeaderValue::from_static(crumb));
    }
    let response = client.request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.version(), http::Version::HTTP_2);
    assert!(!response.headers().contains_key("x-hop"));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    let head = &origin.heads()[0];
    assert!(head.starts_with("GET /x?y HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(head, "host"), Some(&*address.to_string()));
    assert_eq!(field(head, "cookie"), Some("a=1; b=2; c=3"));
    assert!(field(head, "via").unwrap().starts_with("2.0 tower-keep-"), "{head}");
    // It has no content, and doesn't say that it had.
    assert_eq!((field(head, "transfer-encoding"), field(head, "content-length")), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_and_trace_go_as_far_as_they_may_and_connect_nowhere() {
    let origin = Origin::saying("HTTP/1.1 204 No Content\r\n\r\n");
    let address = serve(proxy(origin.address)).await;
    let far = |method: &str, left: &str| {
        format!("{method} * HTTP/1.1\r\nhost: a\r\nmax-forwards: {left}\r\n\r\n")
    };
    let response = ask(address, &far("OPTIONS", "0"));
    assert!(response.field("allow").unwrap().contains("GET"));
    assert_eq!(ask(address, "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n").status(), "405");
    assert!(origin.heads().is_empty());
    assert_eq!(ask(address, &far("OPTIONS", "1")).status(), "204");
    let head = &origin.heads()[0];
    assert!(head.starts_with("OPTIONS * HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(head, "max-forwards"), Some("0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_is_noticed() {
    let origin = Origin::saying(OK);
    let proxy = Proxy::builder(pool(&[origin.address])).name("loop").build().unwrap();
    let address = serve(proxy).await;
    assert_eq!(ask(address, &get("/")).status(), "200");
    let response = ask(address, "GET / HTTP/1.1\r\nhost: a\r\nvia: 1.1 x, 1.1 loop (it)\r\n\r\n");
    assert_eq!(response.status(), "508");
    assert_eq!(response.field("proxy-status"), Some("loop; error=proxy_loop_detected"));
    assert_eq!(origin.heads().len(), 1);
}

#[test]
fn a_setting_that_can_not_work_is_named() {
    let origin = "127.0.0.1:1".parse().unwrap();
    let settings = || Proxy::builder(pool(&[origin]));
    let error = settings().name("a b").build().unwrap_err();
    assert_eq!(error, BuildError::Name("a b".to_owned()));
    let error = settings().upgrades(["h2c"]).build().unwrap_err();
    assert!(error.to_string().starts_with("\"h2c\" is no protocol"), "{error}");
}
