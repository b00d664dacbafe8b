//! What a proxy does with a pool: another attempt, limits, affinity, outliers.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tower::ServiceExt;
use tower_keep_balance::proxy::{Failure, Protocol, Proxy, Upstream};
use tower_keep_balance::{
    Backend, ByCookie, Hash, HttpFailures, OutlierDetection, Pool, PoolBuilder, Queue, Refusal,
    RetryLayer, State, Strategy,
};

use super::support::{Client, Origin, get, pool, serve, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";

fn origin(said: &'static str) -> Origin {
    Origin::new(move |head, stream| {
        if head.starts_with("POST") {
            stream.read_exact(&mut [0; 5]).unwrap();
        }
        stream.write_all(said.as_bytes()).is_ok()
    })
}

fn of(origins: &[&Origin]) -> PoolBuilder<Upstream> {
    let backends = origins.iter().enumerate().map(|(at, origin)| {
        let upstream = Upstream::new(&format!("http://{}", origin.address)).unwrap();
        Backend::new(at.to_string(), upstream)
    });
    Pool::builder().strategy(Strategy::RoundRobin).backends(backends)
}

fn name(proxy: &Proxy<impl Sized>) -> String {
    proxy.pseudonym().as_str().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_idempotent_is_asked_elsewhere_and_the_rest_is_not() {
    let (busy, good) = (origin(BUSY), origin(OK));
    let proxy = Proxy::new(of(&[&busy, &good]).outlier_detection(None).build().unwrap());
    let mut client = Client::connect(serve(proxy).await);
    for _ in 0..10 {
        client.send(&get("/"));
        assert_eq!(client.response().status(), "200");
    }
    let before = busy.heads().len() + good.heads().len();
    let mut busy_posts = 0;
    for _ in 0..10 {
        client.send(POST);
        busy_posts += usize::from(client.response().status() == "503");
    }
    assert_eq!(busy.heads().len() + good.heads().len(), before + 10, "each came once");
    assert!(busy_posts > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_comes_whole_to_the_one_that_is_asked_again() {
    let breaks = Origin::new(|_, stream| {
        stream.read_exact(&mut [0; 3]).unwrap();
        false
    });
    let echoes = Origin::new(|head, stream| {
        assert!(head.contains("content-length: 5\r\n"), "{head}");
        let mut content = [0; 5];
        stream.read_exact(&mut content).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").unwrap();
        stream.write_all(&content).is_ok()
    });
    let pool = of(&[&breaks, &echoes]).outlier_detection(None).build().unwrap();
    let mut client = Client::connect(serve(Proxy::new(pool)).await);
    for _ in 0..6 {
        client.send(&POST.replace("POST", "PUT"));
        let response = client.response();
        assert_eq!((response.status(), &*response.body), ("200", "hello"));
    }
    assert!(breaks.heads().len() >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fails_is_left_alone_unless_the_pool_was_told_otherwise() {
    for is_on in [true, false] {
        let (busy, good) = (origin(BUSY), origin(OK));
        let builder = of(&[&busy, &good]);
        let builder = if is_on { builder } else { builder.outlier_detection(None) };
        let pool = builder.build().unwrap();
        let mut client = Client::connect(serve(Proxy::new(pool.clone())).await);
        let mut ask = || {
            client.send(&get("/"));
            assert_eq!(client.response().status(), "200");
        };
        if !is_on {
            (0..60).for_each(|_| ask());
            assert_eq!(pool.stats().ejections, 0);
            assert!(busy.heads().len() >= 30);
            continue;
        }
        let mut asked = 0;
        while pool.stats().ejections == 0 {
            ask();
            asked += 1;
            assert!(asked < 10_000, "it is never ejected");
        }
        assert!(matches!(pool.status()[0].state, State::Ejected { .. }));
        let before = busy.heads().len();
        assert!(before >= 5);
        (0..20).for_each(|_| ask());
        assert_eq!(busy.heads().len(), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outlier_detection_begins_beside_health_checks_that_were_there_before() {
    use tower_keep_balance::HealthCheck;
    let bad = Origin::new(|head, stream| {
        let said = if head.starts_with("GET /health") { OK } else { BUSY };
        stream.write_all(said.as_bytes()).is_ok()
    });
    let good = origin(OK);
    // Long enough for a busy machine: a check that takes longer has failed.
    let check = HealthCheck::http("/health").interval(Duration::from_millis(500));
    let pool = of(&[&bad, &good]).health_check(check).build().unwrap();
    // Its keeper sleeps.
    until("it was checked", || async { pool.stats().checks >= 4 }).await;
    assert_eq!(pool.stats().failed_checks, 0);
    let mut client = Client::connect(serve(Proxy::new(pool.clone())).await);
    until("it is ejected", || {
        client.send(&get("/"));
        assert_eq!(client.response().status(), "200");
        async { pool.stats().ejections == 1 }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn which_responses_are_failures_can_be_said() {
    let failing = origin("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n");
    let good = origin(OK);
    let pool = of(&[&failing, &good]).build().unwrap();
    let proxy = Proxy::builder(pool.clone()).failures(HttpFailures::strict()).build().unwrap();
    let mut client = Client::connect(serve(proxy).await);
    until("it is ejected", || {
        client.send(&get("/"));
        client.response();
        async { pool.stats().ejections == 1 }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_off_at_the_client_says_nothing_of_the_upstream() {
    let origin = Origin::new(|_, stream| stream.read_to_end(&mut Vec::new()).is_err());
    let settings = OutlierDetection::new().consecutive_failures(1);
    let pool = of(&[&origin, &origin]).outlier_detection(settings).build().unwrap();
    let address = serve(Proxy::new(pool.clone())).await;
    for _ in 0..5 {
        let mut client = Client::connect(address);
        client.send("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\nzz");
        client.send("\r\n");
        assert_eq!(client.response().status(), "400");
    }
    until("nothing is counted", || async { pool.status().iter().all(|it| it.in_flight == 0) })
        .await;
    assert_eq!(pool.stats().ejections, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_all_limits_it_says_when_to_come_again() {
    let origin = Origin::new(|_, stream| stream.read_to_end(&mut Vec::new()).is_err());
    let upstream = Upstream::new(&format!("http://{}", origin.address)).unwrap();
    let backend = Backend::new("one", upstream).max_in_flight(1);
    let pool = Pool::builder().backend(backend).build().unwrap();
    let proxy = Proxy::builder(pool.clone()).queue(Queue::none()).build().unwrap();
    let name = name(&proxy);
    let address = serve(proxy.clone()).await;
    let mut first = Client::connect(address);
    first.send(&get("/"));
    until("it is in flight", || async { pool.status()[0].in_flight == 1 }).await;
    let mut second = Client::connect(address);
    second.send(&get("/"));
    let response = second.response();
    assert_eq!((response.status(), response.field("retry-after")), ("503", Some("1")));
    let said = format!("{name}; error=connection_limit_reached");
    assert_eq!(response.field("proxy-status"), Some(&*said));
    assert_eq!(response.body, "No origin can take the request.\n");

    let grpc = Request::post("http://a/b.C/D").header("content-type", "application/grpc");
    let response = proxy.oneshot(grpc.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["grpc-status"]),
        (StatusCode::OK, &"8".parse().unwrap())
    );
    assert_eq!(response.headers()["proxy-status"], said);
    assert!(response.extensions().get::<Failure>().is_some());
    assert!(matches!(response.extensions().get(), Some(Refusal::Pick(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_waits_for_room_gets_it() {
    let origin = origin(OK);
    let upstream = Upstream::new(&format!("http://{}", origin.address)).unwrap();
    let backend = Backend::new("one", upstream).max_in_flight(1);
    let proxy = Proxy::builder(Pool::builder().backend(backend).build().unwrap());
    let proxy = proxy.queue(Queue::new(100, Duration::from_secs(20))).build().unwrap();
    let asks = (0..50).map(|_| {
        let request = Request::get("http://a/").body(Full::<Bytes>::default()).unwrap();
        let asked = proxy.clone().oneshot(request);
        tokio::spawn(async move { asked.await.unwrap().status() })
    });
    for status in asks.collect::<Vec<_>>() {
        assert_eq!(status.await.unwrap(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_attempts_together_take_too_long_it_says_so() {
    let silent = Origin::new(|_, stream| stream.read_to_end(&mut Vec::new()).is_err());
    let retry = RetryLayer::builder().deadline(Duration::from_millis(300));
    let proxy = Proxy::builder(pool(&[silent.address])).retry(retry).name("p").build().unwrap();
    let mut client = Client::connect(serve(proxy).await);
    client.send(&get("/"));
    let response = client.response();
    assert_eq!(response.status(), "504");
    assert_eq!(response.field("proxy-status"), Some("p; error=http_response_timeout"));
    assert_eq!(response.body, "The origin does not answer in time.\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_with_the_same_cookie_go_to_the_same_upstream() {
    let origins = [origin(OK), origin(OK), origin(OK)];
    let pool = of(&[&origins[0], &origins[1], &origins[2]]);
    let pool = pool.strategy(Strategy::Hash(Hash::default())).build().unwrap();
    let proxy = Proxy::builder(pool).affinity(ByCookie::new("session")).build().unwrap();
    let mut client = Client::connect(serve(proxy).await);
    let counts = || origins.each_ref().map(|origin| origin.heads().len());
    let mut used = HashSet::new();
    for session in 0..20 {
        let before = counts();
        for _ in 0..3 {
            client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: session={session}\r\n\r\n"));
            assert_eq!(client.response().status(), "200");
        }
        let after = counts();
        let took: Vec<_> = (0..3).filter(|at| after[*at] > before[*at]).collect();
        assert_eq!(took.len(), 1, "{before:?} {after:?}");
        used.extend(took);
    }
    assert!(used.len() > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_an_upstream_refuses_goes_to_another_whatever_it_is() {
    let (address, refused) = tower_keep_testing::http2::refusing().await;
    let refusing =
        Upstream::builder(&format!("http://{address}")).protocol(Protocol::Http2).build().unwrap();
    let good = origin(OK);
    let pool = of(&[&good]).backend(Backend::new("refuses", refusing));
    let pool = pool.outlier_detection(None).build().unwrap();
    let mut client = Client::connect(serve(Proxy::new(pool)).await);
    for _ in 0..10 {
        client.send(POST);
        assert_eq!(client.response().status(), "200");
    }
    assert!(refused.load(SeqCst) >= 5);
    assert_eq!(good.heads().len(), 10);
}
