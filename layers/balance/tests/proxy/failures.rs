//! What a client gets when an upstream gives nothing, or not all.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tower::Layer;
use tower::util::MapResponseLayer;
use tower_keep_balance::proxy::{Failure, Proxy, Upstream};
use tower_keep_balance::{Backend, Pool};

use super::support::{Client, Origin, get, pool, pool_of, proxy, serve, until};

fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn answer(pool: Pool<Upstream>) -> (String, String, String) {
    let proxy = Proxy::builder(pool).name("p").build().unwrap();
    let mut client = Client::connect(serve(proxy).await);
    client.send(&get("/"));
    let response = client.response();
    let status = response.field("proxy-status").unwrap_or_default().to_owned();
    (response.status().to_owned(), status, response.body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_has_its_status_and_tells_nothing_more() {
    let upstream = |url: &str| Upstream::builder(url).response_timeout(Duration::from_millis(200));
    let silent = Origin::new(|_, stream| stream.read_to_end(&mut Vec::new()).is_err());
    let closing = Origin::new(|_, _| false);
    let noisy = Origin::saying("SSH-2.0-OpenSSH_9.2\r\n\r\n");
    // A name that is never there (RFC 6761).
    let unknown = "http://nobody.invalid".to_owned();
    let cases = [
        (format!("http://{}", nobody()), "502", "connection_refused"),
        (format!("http://{}", silent.address), "504", "http_response_timeout"),
        (format!("http://{}", closing.address), "502", "connection_terminated"),
        (format!("http://{}", noisy.address), "502", "http_protocol_error"),
        (unknown, "502", "dns_error"),
    ];
    for (url, status, error) in cases {
        let (got, said, body) = answer(pool_of([upstream(&url).build().unwrap()])).await;
        assert_eq!((&*got, &*said), (status, &*format!("p; error={error}")), "{url}");
        assert!(!body.contains("127.0.0.1") && !body.contains("invalid"), "{body}");
    }
    let (status, said, _) = answer(pool(&[])).await;
    assert_eq!((&*status, &*said), ("503", "p; error=destination_unavailable"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_never_accepts_is_given_up_in_time() {
    // Its queue of connections is full, so that it takes no more.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || {
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address))
    };
    let mut held = Vec::new();
    while let Ok(connection) = connect().await {
        held.push(connection.unwrap());
    }
    let upstream = Upstream::builder(&format!("http://{address}"));
    let upstream = upstream.connect_timeout(Duration::from_millis(300)).build().unwrap();
    let (status, said, _) = answer(pool_of([upstream])).await;
    assert_eq!((&*status, &*said), ("504", "p; error=connection_timeout"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_can_not_be_connected_to_costs_no_request_of_any_kind() {
    let origin = Origin::new(|_, stream| {
        let mut content = [0; 5];
        stream.read_exact(&mut content).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").unwrap();
        stream.write_all(&content).is_ok()
    });
    let pool = pool(&[nobody(), origin.address, nobody()]);
    let address = serve(Proxy::new(pool.clone())).await;
    let mut client = Client::connect(address);
    for _ in 0..30 {
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
        let response = client.response();
        assert_eq!((response.status(), response.body.as_str()), ("200", "hello"));
    }
    until("nothing is counted", || async { pool.status().iter().all(|it| it.in_flight == 0) })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_sent_is_not_sent_again() {
    let closing = Origin::new(|_, _| false);
    let pool = pool(&[closing.address, closing.address, closing.address]);
    let mut client = Client::connect(serve(Proxy::new(pool)).await);
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(client.response().status(), "502");
    assert_eq!(closing.heads().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_breaks_off_is_not_made_whole() {
    for said in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let origin = Origin::new(move |_, stream| {
            stream.write_all(said.as_bytes()).unwrap();
            false
        });
        let mut client = Client::connect(serve(proxy(origin.address)).await);
        client.send(&get("/"));
        let rest = client.rest();
        assert!(rest.contains("half") && !rest.contains("\r\n0\r\n"), "{rest}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_falls_silent_is_given_up() {
    let is_closed = Arc::new(AtomicBool::new(false));
    let closed = Arc::clone(&is_closed);
    let origin = Origin::new(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        closed.store(true, SeqCst);
        false
    });
    let upstream = Upstream::builder(&format!("http://{}", origin.address));
    let pool = pool_of([upstream.body_timeout(Duration::from_millis(100)).build().unwrap()]);
    let mut client = Client::connect(serve(Proxy::new(pool.clone())).await);
    client.send(&get("/"));
    assert!(client.rest().ends_with("\r\n\r\nhalf"));
    until("it isn't counted", || async { pool.status()[0].in_flight == 0 }).await;
    until("its connection is closed", || async { is_closed.load(SeqCst) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_may_take_longer_than_an_answer() {
    let origin = Origin::new(|_, stream| {
        let mut content = [0; 10];
        stream.read_exact(&mut content).unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_ok()
    });
    let upstream = Upstream::builder(&format!("http://{}", origin.address));
    let upstream = upstream.response_timeout(Duration::from_millis(400)).build().unwrap();
    let mut client = Client::connect(serve(Proxy::new(pool_of([upstream]))).await);
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n");
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send("x");
    }
    assert_eq!(client.response().status(), "204");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_is_malformed_is_the_clients_fault() {
    let origin = Origin::new(|_, stream| stream.read_to_end(&mut Vec::new()).is_err());
    let mut client = Client::connect(serve(proxy(origin.address)).await);
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(client.response().status(), "400");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_is_told_to_the_program() {
    let url = format!("http://{}", nobody());
    let pool = Pool::builder().backend(Backend::http(&url).unwrap()).build().unwrap();
    let told = MapResponseLayer::new(|mut response: http::Response<_>| {
        let failure = response.extensions().get::<Failure>().unwrap();
        let name = failure.error().unwrap().to_string();
        response.headers_mut().insert("x-name", name.try_into().unwrap());
        response
    });
    let mut client = Client::connect(serve(told.layer(Proxy::new(pool))).await);
    client.send(&get("/"));
    assert_eq!(
        client.response().field("x-name"),
        Some(&*format!("upstream {}: it refused the connection", &url["http://".len()..]))
    );
}
