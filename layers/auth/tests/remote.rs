//! Keys that are fetched from real servers, good and bad.
#![allow(clippy::unwrap_used)]

#[path = "support/tokens.rs"]
mod support;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderName, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use support::site::{Server, Site};
use support::{fresh, jwks, keys, trusting, until};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tower_keep_auth::{
    FetchError, HttpsClient, KeySource, Refusal, RemoteKeys, RemoteKeysBuilder, SigningKey,
};
use tower_keep_testing::http::Origin;
use tower_keep_testing::{Traffic, Way};

const SHORT: Duration = Duration::from_millis(20);

/// Keys that are fetched often, from a server of the tests.
fn often(url: String) -> RemoteKeysBuilder {
    RemoteKeys::jwks(url)
        .allow_http()
        .refresh(SHORT)
        .refresh_between(SHORT, SHORT)
        .retry(SHORT, SHORT)
        .look_interval(SHORT)
}

/// Keys that are fetched when a token needs it, and else never.
fn seldom(url: String) -> RemoteKeysBuilder {
    RemoteKeys::jwks(url).allow_http().look_interval(SHORT)
}

/// Starts with good keys, and then gets what `answer` answers.
async fn keeps_its_keys(answer: impl IntoResponse + Clone + Send + Sync + 'static) -> FetchError {
    let [key] = keys();
    let set = jwks(&[&key]);
    let is_bad = Arc::new(AtomicBool::new(false));
    let turns = Arc::clone(&is_bad);
    let answer = move || async move {
        if turns.load(SeqCst) { answer.into_response() } else { set.into_response() }
    };
    let server = Server::start(Router::new().route("/jwks", get(answer))).await;
    let source = often(server.url("/jwks")).max_size(4096).build().unwrap();
    source.ready().await.unwrap();
    is_bad.store(true, SeqCst);
    until("it fails", || source.error().is_some()).await;
    assert!(trusting(source.clone()).verify_now(&fresh(&key)).is_ok());
    assert!(source.health().is_usable());
    source.error().unwrap()
}

/// A way to the set of a server, that can be cut.
async fn way_to(server: &Server) -> (Way, String) {
    let way = Way::open(server.address.port()).await;
    let url = way.url().replace("redis://", "http://");
    (way, format!("{url}/jwks"))
}

#[tokio::test]
async fn keys_come_over_tls_from_whom_is_trusted() {
    let [key] = keys();
    let (server, authority) = Server::start_tls(Site::of(&[&key]).router()).await;
    let url = server.https_url("/jwks");
    let trusting_it = HttpsClient::trusting(&authority).unwrap();
    let source = RemoteKeys::jwks(&url).client(trusting_it.clone()).build().unwrap();
    source.ready().await.unwrap();
    assert!(trusting(source).verify(&fresh(&key)).await.is_ok());

    // Somebody else's certificate, and one for another host.
    let (_, other) = Server::start_tls(Router::new()).await;
    let by_address = url.replace("localhost", "127.0.0.1");
    for (url, client) in [(&url, HttpsClient::trusting(other).unwrap()), (&by_address, trusting_it)]
    {
        let source = RemoteKeys::jwks(url).client(client).build().unwrap();
        let error = source.ready().await.unwrap_err();
        assert!(error.to_string().contains("no TLS") && error.to_string().contains("certificate"));
        assert_eq!(
            trusting(source).verify(&fresh(&key)).await.unwrap_err(),
            Refusal::KeysUnavailable
        );
    }
    assert!(HttpsClient::trusting("no PEM").is_err());
}

#[tokio::test]
async fn answers_that_are_no_set_leave_the_keys_as_they_are() {
    let page = ([(CONTENT_TYPE, "text/html")], "<html>sign in to the network</html>");
    for (text, why) in [("", "JSON"), ("{}", "`keys`"), ("{\"keys\":[", "JSON"), (page.1, "JSON")] {
        let error = keeps_its_keys(text).await;
        assert_eq!(error.as_str(), "keys");
        assert!(error.to_string().contains(why), "{text}: {error}");
    }
    assert_eq!(keeps_its_keys(page).await.as_str(), "keys");
    for status in [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND, StatusCode::NOT_MODIFIED] {
        assert!(matches!(keeps_its_keys(status).await, FetchError::Status(it) if it == status));
    }
    let elsewhere = (StatusCode::FOUND, [(LOCATION, "https://elsewhere.example/jwks")]);
    assert_eq!(keeps_its_keys(elsewhere).await.as_str(), "redirect");
    assert_eq!(keeps_its_keys([(CONTENT_ENCODING, "gzip")]).await.as_str(), "encoded");
    let large = " ".repeat(4097);
    assert_eq!(keeps_its_keys(large).await.as_str(), "too_large");
}

#[tokio::test]
async fn what_a_set_is_called_does_not_matter() {
    let [key] = keys();
    let set = jwks(&[&key]);
    for content_type in ["application/octet-stream", "text/plain", "application/jwk-set+json"] {
        let set = set.clone();
        let answer = move || async move { ([(CONTENT_TYPE, content_type)], set) };
        let server = Server::start(Router::new().route("/jwks", get(answer))).await;
        let source = seldom(server.url("/jwks")).build().unwrap();
        source.ready().await.unwrap();
        assert!(trusting(source).verify_now(&fresh(&key)).is_ok());
    }
}

/// What becomes of bytes that a server sends instead of a whole answer.
async fn fails(answer: impl Fn(&mut std::net::TcpStream) + Send + Sync + 'static) -> FetchError {
    let origin = Origin::new(move |_, stream| {
        answer(stream);
        false
    });
    let url = format!("http://{}/jwks", origin.address);
    let source = seldom(url).max_size(4096).timeout(Duration::from_millis(300)).build().unwrap();
    source.ready().await.unwrap_err()
}

#[tokio::test]
async fn answers_that_break_off_or_never_end_are_given_up() {
    let head = "HTTP/1.1 200 OK\r\n";
    let error = fails(move |stream| {
        let _ = write!(stream, "{head}content-length: 1000\r\n\r\n{{\"keys\":[]}}");
    });
    assert_eq!(error.await.as_str(), "body");
    let error = fails(move |stream| {
        let _ = write!(stream, "{head}transfer-encoding: chunked\r\n\r\n5\r\n{{\"keys");
    });
    assert_eq!(error.await.as_str(), "body");
    // More than is allowed, and nothing says so beforehand; it would go on for ever.
    let error = fails(move |stream| {
        let _ = write!(stream, "{head}transfer-encoding: chunked\r\n\r\n");
        while write!(stream, "400\r\n{}\r\n", " ".repeat(1024)).is_ok() {}
    });
    assert_eq!(error.await.as_str(), "too_large");
    // What says so is not even read.
    let error = fails(move |stream| {
        let _ = write!(stream, "{head}content-length: 1000000000000\r\n\r\n");
        std::thread::park_timeout(Duration::from_secs(2));
    });
    assert_eq!(error.await.as_str(), "too_large");
    // Drop by drop.
    let error = fails(move |stream| {
        let _ = write!(stream, "{head}content-length: 1000\r\n\r\n");
        while write!(stream, " ").is_ok() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    });
    assert_eq!(error.await.as_str(), "timeout");
    let error = fails(|_| std::thread::park_timeout(Duration::from_secs(2)));
    assert_eq!(error.await.as_str(), "timeout");
    let error = fails(|stream| drop(stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n")));
    assert_eq!(error.await.as_str(), "client");
}

#[tokio::test]
async fn the_request_asks_for_json_and_says_what_is_known() {
    let [key] = keys();
    let set = jwks(&[&key]);
    let origin = Origin::new(move |_, stream| {
        let len = set.len();
        write!(stream, "HTTP/1.1 200 OK\r\netag: \"7\"\r\ncontent-length: {len}\r\n\r\n{set}")
            .is_ok()
    });
    let source = often(format!("http://{}/jwks?v=1", origin.address)).build().unwrap();
    source.ready().await.unwrap();
    until("a second request", || origin.heads().len() > 1).await;
    let heads = origin.heads();
    assert!(heads[0].starts_with("GET /jwks?v=1 HTTP/1.1\r\n"), "{}", heads[0]);
    let host = format!("host: {}\r\n", origin.address);
    for line in [&*host, "accept: application/json", "accept-encoding: identity"] {
        assert!(heads[0].contains(line), "{}", heads[0]);
    }
    assert!(!heads[0].contains("if-none-match") && heads[1].contains("if-none-match: \"7\"\r\n"));
}

#[tokio::test]
async fn an_unchanged_set_is_not_sent_again() {
    let [old, new] = keys();
    let site = Site::of(&[&old]);
    site.published().validates = true;
    let server = Server::start(site.router()).await;
    let source = often(server.url("/jwks")).build().unwrap();
    let verifier = trusting(source.clone());
    let token = fresh(&old);
    assert!(verifier.verify(&token).await.is_ok());
    until("some are answered with 304", || source.stats().not_modified > 3).await;
    assert_eq!(source.stats().changes, 1);
    assert!(verifier.verify_now(&token).is_ok());
    site.publish(&[&new]);
    until("the change is seen", || source.stats().changes == 2).await;
    assert_eq!(verifier.verify_now(&token).unwrap_err(), Refusal::UnknownKey);
}

#[tokio::test]
async fn a_service_starts_before_its_issuer() {
    let [key] = keys();
    let site = Site::of(&[&key]);
    let server = Server::start(site.router()).await;
    let (way, url) = way_to(&server).await;
    way.set(Traffic::Ends);
    let source = often(url).build().unwrap();
    let verifier = trusting(source.clone());
    assert_eq!(source.ready().await.unwrap_err().as_str(), "client");
    let token = fresh(&key);
    assert_eq!(verifier.verify(&token).await.unwrap_err(), Refusal::KeysUnavailable);
    let health: Vec<_> = verifier.health().collect();
    assert!(!health[0].1.is_usable() && health[0].1.age.is_none(), "{health:?}");
    way.set(Traffic::Flows);
    while source.ready().await.is_err() {
        sleep(SHORT).await;
    }
    assert!(verifier.verify(&token).await.is_ok());
    until("all is well", || verifier.health().all(|(_, it)| it.failure.is_none())).await;
    assert_eq!(source.health().keys, Some(1));
}

#[tokio::test]
async fn an_outage_of_the_server_changes_nothing_and_it_is_found_when_it_is_back() {
    let [old, new] = keys();
    let site = Site::of(&[&old]);
    let server = Server::start(site.router()).await;
    let (way, url) = way_to(&server).await;
    let source = often(url).build().unwrap();
    let verifier = trusting(source.clone());
    assert!(verifier.verify(&fresh(&old)).await.is_ok());
    way.set(Traffic::Ends);
    until("the outage is noticed", || source.stats().failures > 3).await;
    for _ in 0..100 {
        assert!(verifier.verify(&fresh(&old)).await.is_ok());
    }
    // The issuer rotates meanwhile, and may have issued this one: nobody knows.
    site.publish(&[&new]);
    let unknown = fresh(&new);
    assert_eq!(verifier.verify(&unknown).await.unwrap_err(), Refusal::KeysUnavailable);
    way.set(Traffic::Flows);
    until("it is back", || source.error().is_none()).await;
    assert!(verifier.verify(&unknown).await.is_ok());
    assert_eq!(verifier.verify(&fresh(&old)).await.unwrap_err(), Refusal::UnknownKey);
}

#[tokio::test]
async fn a_slow_server_holds_up_nobody_whose_key_is_known() {
    let [old, new] = keys();
    let site = Site::of(&[&old]);
    let server = Server::start(site.router()).await;
    let source = seldom(server.url("/jwks")).max_wait(Duration::from_millis(300)).build().unwrap();
    let verifier = trusting(source.clone());
    assert!(verifier.verify(&fresh(&old)).await.is_ok());
    site.published().delay = Duration::from_secs(60);
    sleep(SHORT).await;
    let start = Instant::now();
    let waiting = tokio::spawn({
        let (verifier, token) = (verifier.clone(), fresh(&new));
        async move { verifier.verify(&token).await.unwrap_err() }
    });
    until("it is asked", || site.asked() == 2).await;
    for _ in 0..100 {
        // The very first poll is enough.
        let verified = futures_now(verifier.verify(&fresh(&old)));
        assert!(verified.is_some_and(|verified| verified.is_ok()));
    }
    assert_eq!(waiting.await.unwrap(), Refusal::KeysUnavailable);
    assert!(start.elapsed() < Duration::from_secs(30));
}

/// What a future gives without waiting.
fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_wait_cause_one_request() {
    let [old, new] = keys();
    let (before, after) = (jwks(&[&old]), jwks(&[&old, &new]));
    let asked = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Semaphore::new(0));
    let (counter, opens) = (Arc::clone(&asked), Arc::clone(&gate));
    let answer = move || async move {
        if counter.fetch_add(1, SeqCst) == 0 {
            return before;
        }
        let _open = opens.acquire().await;
        after
    };
    let server = Server::start(Router::new().route("/jwks", get(answer))).await;
    let minute = Duration::from_secs(60);
    let source = seldom(server.url("/jwks")).max_wait(minute).timeout(minute).build().unwrap();
    source.ready().await.unwrap();
    let verifier = trusting(source.clone());
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), fresh(&new));
            tokio::spawn(async move { verifier.verify(&token).await.map(|_| ()) })
        })
        .collect();
    until("all wait", || source.stats().waited == 1000).await;
    gate.add_permits(1);
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(()));
    }
    assert_eq!(asked.load(SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_names_that_are_no_keys_reaches_the_issuer_at_a_bounded_rate() {
    let [key, stranger] = keys();
    let site = Site::of(&[&key]);
    let server = Server::start(site.router()).await;
    let interval = Duration::from_millis(500);
    let source =
        RemoteKeys::jwks(server.url("/jwks")).allow_http().look_interval(interval).build().unwrap();
    source.ready().await.unwrap();
    let verifier = trusting(source.clone());
    let start = Instant::now();
    let stranger = move |n: usize| -> SigningKey { stranger.clone().with_kid(n.to_string()) };
    let floods: Vec<_> = (0..50)
        .map(|task| {
            let (verifier, stranger) = (verifier.clone(), stranger.clone());
            tokio::spawn(async move {
                let mut sent = 0;
                while start.elapsed() < Duration::from_secs(3) {
                    let token = fresh(&stranger(task * 1_000_000 + sent));
                    let looking = verifier.verify(&token);
                    // Most hang up at once; some wait.
                    if sent % 10 == 0 {
                        assert_eq!(looking.await.unwrap_err(), Refusal::UnknownKey);
                    } else {
                        let _ = tokio::time::timeout(Duration::from_millis(2), looking).await;
                    }
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    let mut sent = 0;
    for flood in floods {
        sent += flood.await.unwrap();
    }
    let most = start.elapsed().as_millis() / interval.as_millis() + 2;
    assert!(site.asked() as u128 <= most, "{} of {sent} in {:?}", site.asked(), start.elapsed());
    assert!(sent > 200 && site.asked() > 2, "{sent}");
    assert!(verifier.verify(&fresh(&key)).await.is_ok());
}

#[tokio::test]
async fn no_redirect_is_followed_to_a_set_that_could_be_read() {
    let [key] = keys();
    let site = Site::of(&[&key]);
    for status in [StatusCode::MOVED_PERMANENTLY, StatusCode::TEMPORARY_REDIRECT] {
        let fields: [(HeaderName, &str); 1] = [(LOCATION, "/jwks")];
        let router = site.router().route("/moved", get(move || async move { (status, fields) }));
        let server = Server::start(router).await;
        let source = seldom(server.url("/moved")).build().unwrap();
        let error = source.ready().await.unwrap_err();
        assert!(error.to_string().contains("give that one"), "{error}");
    }
    assert_eq!(site.asked(), 0);
}

#[tokio::test]
async fn an_issuer_that_takes_out_all_its_keys_is_believed() {
    let [key] = keys();
    let site = Site::of(&[&key]);
    let server = Server::start(site.router()).await;
    let source = often(server.url("/jwks")).build().unwrap();
    let verifier = trusting(source.clone());
    let token = fresh(&key);
    assert!(verifier.verify(&token).await.is_ok());
    site.publish(&[]);
    until("it is seen", || source.health().keys == Some(0)).await;
    assert_eq!(verifier.verify_now(&token).unwrap_err(), Refusal::UnknownKey);
    assert!(!source.health().is_usable());
}
