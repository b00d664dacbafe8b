//! What is tried again, when, where, and how often; in paused time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::time::{Instant, sleep};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_balance::retry::{Backoff, Budget, Fate, Hedge, ReplayBody, RetryBuilder};
use tower_keep_balance::{Attempt, Backend, Balance, BuildError, Pool, RetryLayer, Strategy};

type Client<B> = BoxCloneSyncService<Request<ReplayBody<B>>, Response<Full<Bytes>>, io::Error>;
type Script = Arc<dyn Fn(usize) -> Step + Send + Sync>;

/// What a backend does at one call.
#[derive(Clone, Copy, Debug)]
enum Step {
    Status(u16),
    RetryAfter(u64),
    Pushback(&'static str),
    Grpc(u16),
    /// Reads nothing, and answers as one who couldn't connect.
    Unsent,
    /// The same, by its own response.
    MarkedUnsent,
    /// Reads all, and breaks off.
    Reset,
    /// Reads so many frames, and breaks off.
    ResetAfter(usize),
    /// Answers after so many milliseconds.
    Slow(u64),
}

/// Every call: which backend, the body that it saw, and when.
type Log = Arc<Mutex<Vec<(usize, Bytes, Duration)>>>;

async fn play<B>(
    step: Step,
    request: Request<ReplayBody<B>>,
    seen: &mut Vec<u8>,
) -> Result<Response<Full<Bytes>>, io::Error>
where
    B: Body + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, mut body) = request.into_parts();
    let frames = match step {
        Step::Unsent | Step::MarkedUnsent => 0,
        Step::ResetAfter(frames) => frames,
        _ => usize::MAX,
    };
    for _ in 0..frames {
        let Some(frame) = body.frame().await else { break };
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            seen.extend_from_slice(&data);
        }
    }
    let answer = |status: u16| Response::builder().status(status);
    let grpc = || answer(200).header("content-type", "application/grpc");
    let answer = match step {
        Step::Status(status) => answer(status),
        Step::RetryAfter(seconds) => answer(503).header("retry-after", seconds),
        Step::Pushback(text) => {
            grpc().header("grpc-status", 14).header("grpc-retry-pushback-ms", text)
        }
        Step::Grpc(code) => grpc().header("grpc-status", code),
        Step::Unsent => return Err(io::ErrorKind::ConnectionRefused.into()),
        Step::MarkedUnsent => {
            head.extensions.get::<Attempt>().unwrap().mark_unsent();
            answer(502)
        }
        Step::Reset | Step::ResetAfter(_) => return Err(io::ErrorKind::ConnectionReset.into()),
        Step::Slow(millis) => {
            sleep(Duration::from_millis(millis)).await;
            answer(200)
        }
    };
    Ok(answer.body(Full::default()).unwrap())
}

/// Backends that do what `script` says of their number, and what they have seen.
fn backends<B>(
    count: usize,
    script: impl Fn(usize) -> Step + Send + Sync + 'static,
) -> (Pool<Client<B>>, Log)
where
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    backends_by(Strategy::RoundRobin, count, script)
}

fn backends_by<B>(
    strategy: Strategy,
    count: usize,
    script: impl Fn(usize) -> Step + Send + Sync + 'static,
) -> (Pool<Client<B>>, Log)
where
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let log = Log::default();
    let script: Script = Arc::new(script);
    let began = Instant::now();
    let client = |at: usize| {
        let (log, script) = (Arc::clone(&log), Arc::clone(&script));
        let serve = service_fn(move |request| {
            let (log, script) = (Arc::clone(&log), Arc::clone(&script));
            let play: BoxFuture<'static, _> = Box::pin(async move {
                let index = {
                    let mut log = log.lock().unwrap();
                    log.push((at, Bytes::new(), began.elapsed()));
                    log.len() - 1
                };
                let mut seen = Vec::new();
                let result = play(script(at), request, &mut seen).await;
                log.lock().unwrap()[index].1 = seen.into();
                result
            });
            play
        });
        Backend::new(at.to_string(), Client::new(serve))
    };
    let backends = (0..count).map(client);
    let pool = Pool::builder().strategy(strategy).backends(backends);
    (pool.build().unwrap(), log)
}

type Builder = RetryBuilder<fn(&io::Error) -> Fate>;

fn builder() -> Builder {
    let fate: fn(&io::Error) -> Fate = |error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Fate::Unsent,
        _ => Fate::Sent,
    };
    RetryLayer::builder().backoff(Backoff::none()).error_fate(fate)
}

fn request(method: Method, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri("/").body(Full::from(body)).unwrap()
}

/// Sends one request, and says its status (0 for an error) and which backends have seen it.
async fn send(
    builder: Builder,
    count: usize,
    method: Method,
    script: impl Fn(usize) -> Step + Send + Sync + 'static,
) -> (u16, Vec<usize>) {
    let (pool, log) = backends(count, script);
    let retry = builder.build().unwrap().layer(Balance::http(pool.clone()));
    let response = retry.oneshot(request(method, "content")).await;
    let status = response.map_or(0, |response| response.status().as_u16());
    let seen = log.lock().unwrap().iter().map(|(at, ..)| *at).collect();
    assert!(pool.status().iter().all(|backend| backend.in_flight == 0));
    (status, seen)
}

fn first(step: Step) -> impl Fn(usize) -> Step + Send + Sync {
    move |at| if at == 0 { step } else { Step::Status(200) }
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_sent_again_only_if_its_method_is_idempotent() {
    for step in
        [Step::Status(502), Step::Status(503), Step::Status(504), Step::Reset, Step::Grpc(14)]
    {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(
                send(builder(), 2, method, first(step)).await,
                (200, vec![0, 1]),
                "{step:?}"
            );
        }
        for method in
            [Method::POST, Method::PATCH, Method::CONNECT, Method::from_bytes(b"X").unwrap()]
        {
            let (_, seen) = send(builder(), 2, method, first(step)).await;
            assert_eq!(seen, [0], "{step:?}");
        }
        let posts = builder().retry_if(|head| head.uri.path() == "/");
        assert_eq!(send(posts, 2, Method::POST, first(step)).await.1, [0, 1]);
    }
    for step in [Step::Status(200), Step::Status(404), Step::Status(500), Step::Grpc(13)] {
        assert_eq!(send(builder(), 2, Method::GET, first(step)).await.1, [0], "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_sent_elsewhere_until_each_backend_was_tried() {
    for step in [Step::Unsent, Step::MarkedUnsent] {
        let last = move |at| if at < 4 { step } else { Step::Status(200) };
        let strict = || builder().max_attempts(1).budget(Budget::none());
        assert_eq!(send(strict(), 5, Method::POST, last).await, (200, vec![0, 1, 2, 3, 4]));
        let (_, seen) = send(strict(), 5, Method::POST, move |_| step).await;
        assert_eq!(seen.len(), 6, "{seen:?}: the last pick says that all were tried");
        assert_eq!(seen[..5].iter().collect::<HashSet<_>>().len(), 5, "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_counts_where_it_is_heeded() {
    for (builder, calls) in [(builder(), 1), (builder().idempotency_key(), 2)] {
        let (pool, log) = backends(2, first(Step::Reset));
        let retry = builder.build().unwrap().layer(Balance::http(pool));
        let mut request = request(Method::POST, "x");
        request.headers_mut().insert("idempotency-key", "\"8e03978e\"".parse().unwrap());
        let _ = retry.oneshot(request).await;
        assert_eq!(log.lock().unwrap().len(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_and_the_last_response_is_passed_on() {
    for attempts in 1..5 {
        let (status, seen) =
            send(builder().max_attempts(attempts), 8, Method::GET, |_| Step::Status(503)).await;
        assert_eq!((status, seen.len()), (503, attempts as usize));
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len(), "each elsewhere");
    }
    assert_eq!(send(builder(), 2, Method::GET, |_| Step::Reset).await.0, 0, "an error stays one");
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_what_is_sent_again() {
    let (pool, log) = backends(2, |_| Step::Status(503));
    let layer = builder().budget(Budget::new(20, 1)).build().unwrap();
    let retry = layer.layer(Balance::http(pool));
    for _ in 0..1_000 {
        let response = retry.clone().oneshot(request(Method::GET, "")).await.unwrap();
        assert_eq!(response.status(), 503);
    }
    assert_eq!(log.lock().unwrap().len(), 1_000 + 200 + 10);
}

#[tokio::test(start_paused = true)]
async fn a_body_is_sent_again_as_a_whole_up_to_the_limit() {
    for (limit, seen_is) in [(6, vec!["abcdef"; 2]), (5, vec!["abcdef"])] {
        let (pool, log) = backends(2, first(Step::Reset));
        let retry = builder().replay_limit(limit).build().unwrap().layer(Balance::http(pool));
        let chunks =
            ["ab", "cd", "ef"].map(|data| Ok::<_, io::Error>(Frame::data(Bytes::from(data))));
        let body = StreamBody::new(stream::iter(chunks));
        let _ = retry.oneshot(Request::put("/").body(body).unwrap()).await;
        let log = log.lock().unwrap();
        assert_eq!(log.iter().map(|(_, body, _)| body.clone()).collect::<Vec<_>>(), seen_is);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_read_in_part_goes_on_where_it_was() {
    let (pool, log) = backends(2, first(Step::ResetAfter(2)));
    let retry = builder().build().unwrap().layer(Balance::http(pool));
    let chunks = ["ab", "cd", "ef"].map(|data| Ok::<_, io::Error>(Frame::data(Bytes::from(data))));
    let body = StreamBody::new(
        stream::iter(chunks)
            .then(async |chunk| {
                tokio::task::yield_now().await;
                chunk
            })
            .boxed(),
    );
    let response = retry.oneshot(Request::put("/").body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let log = log.lock().unwrap();
    assert_eq!(log.iter().map(|(_, body, _)| body.clone()).collect::<Vec<_>>(), ["abcd", "abcdef"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_its_client_broke_off_is_not_tried_again() {
    let (pool, log) = backends(2, |_| Step::Status(200));
    let retry = builder().build().unwrap().layer(Balance::http(pool));
    let chunks = [Ok(Frame::data(Bytes::from("ab"))), Err(io::Error::other("gone"))];
    let body = StreamBody::new(stream::iter(chunks));
    assert!(retry.oneshot(Request::put("/").body(body).unwrap()).await.is_err());
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_given_up_for_another() {
    let times = || builder().per_try_timeout(Duration::from_millis(100));
    let slow = first(Step::Slow(60_000));
    assert_eq!(send(times(), 2, Method::GET, slow).await, (200, vec![0, 1]));
    let slow = first(Step::Slow(60_000));
    assert_eq!(send(times(), 2, Method::POST, slow).await, (504, vec![0]));
    let began = Instant::now();
    assert_eq!(send(times(), 2, Method::GET, |_| Step::Slow(60_000)).await, (504, vec![0, 1]));
    assert_eq!(began.elapsed().as_millis() / 10, 20);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_for_all_attempts_and_waits() {
    let deadline = Duration::from_millis(250);
    let times = || builder().deadline(deadline).max_attempts(9);
    let began = Instant::now();
    assert_eq!(send(times(), 2, Method::GET, |_| Step::Slow(60_000)).await.0, 504);
    assert_eq!(began.elapsed().as_millis() / 10, 25);
    let times = times().per_try_timeout(Duration::from_millis(100));
    assert_eq!(send(times, 5, Method::GET, |_| Step::Slow(60_000)).await, (504, vec![0, 1, 2]));
    let waits = builder().deadline(deadline).max_wait(Duration::from_secs(9));
    let began = Instant::now();
    assert_eq!(send(waits, 2, Method::GET, |_| Step::RetryAfter(1)).await, (503, vec![0]));
    assert!(began.elapsed().is_zero(), "a wait beyond the deadline isn't begun");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_grpc_client_holds_too() {
    let (pool, _) = backends(1, |_| Step::Slow(60_000));
    let retry =
        builder().deadline(Duration::from_secs(9)).build().unwrap().layer(Balance::http(pool));
    let mut request = request(Method::POST, "");
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request.headers_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let began = Instant::now();
    let response = retry.oneshot(request).await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["grpc-status"]),
        (StatusCode::OK, &"4".parse().unwrap())
    );
    assert_eq!(began.elapsed().as_millis() / 10, 30);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_asks_for_a_wait_gets_it_or_is_left_alone() {
    for (step, waits) in [
        (Step::RetryAfter(1), Some(1_000)),
        (Step::RetryAfter(2), None),
        (Step::Pushback("700"), Some(700)),
        (Step::Pushback("7000"), None),
        (Step::Pushback("-1"), None),
        (Step::Pushback("soon"), None),
    ] {
        let began = Instant::now();
        let (_, seen) = send(builder(), 2, Method::GET, first(step)).await;
        let waited = (seen == [0, 1]).then(|| began.elapsed().as_millis() / 10 * 10);
        assert_eq!(waited, waits, "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_grow_and_differ() {
    let mut all = Vec::new();
    for _ in 0..20 {
        let (pool, log) = backends(9, |_| Step::Status(503));
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
        let retry = RetryLayer::builder().backoff(backoff).max_attempts(5).build().unwrap();
        let _ = retry.layer(Balance::http(pool)).oneshot(request(Method::GET, "")).await;
        let log = log.lock().unwrap();
        let waits: Vec<_> =
            log.windows(2).map(|two| two[1].2.as_millis() - two[0].2.as_millis()).collect();
        for (wait, most) in waits.iter().zip([100, 200, 400, 400]) {
            assert!(*wait <= most + 2, "{waits:?}");
        }
        all.extend(waits);
    }
    assert!(all.iter().collect::<HashSet<_>>().len() > 40, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hedge_is_sent_when_the_first_is_slow_and_the_faster_one_wins() {
    let hedges = || builder().hedge(Hedge::after(Duration::from_millis(50)));
    let began = Instant::now();
    let slow = first(Step::Slow(60_000));
    assert_eq!(send(hedges(), 2, Method::GET, slow).await, (200, vec![0, 1]));
    assert_eq!(began.elapsed().as_millis() / 10, 5);
    // The hedge fails, the first one doesn't.
    let script = |at| if at == 0 { Step::Slow(200) } else { Step::Status(503) };
    assert_eq!(send(hedges(), 2, Method::GET, script).await, (200, vec![0, 1]));
    // One that is fast isn't hedged, one that may not be sent twice isn't, and none without budget.
    assert_eq!(send(hedges(), 2, Method::GET, first(Step::Slow(40))).await, (200, vec![0]));
    assert_eq!(send(hedges(), 2, Method::POST, first(Step::Slow(200))).await, (200, vec![0]));
    let poor = hedges().budget(Budget::none());
    assert_eq!(send(poor, 2, Method::GET, first(Step::Slow(200))).await, (200, vec![0]));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_by_percentile_follows_what_was_measured() {
    let (pool, log) = backends(1, |_| Step::Slow(10));
    let layer = builder().hedge(Hedge::percentile(95.0)).build().unwrap();
    let retry = layer.layer(Balance::http(pool.clone()));
    for _ in 0..100 {
        retry.clone().oneshot(request(Method::GET, "")).await.unwrap();
    }
    let (slow, _) = backends(2, first(Step::Slow(60_000)));
    assert_eq!(log.lock().unwrap().len(), 100);
    let began = Instant::now();
    layer.layer(Balance::http(slow)).oneshot(request(Method::GET, "")).await.unwrap();
    assert!((10..20).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_leaves_nothing_counted() {
    let (pool, _) = backends(2, |_| Step::Slow(60_000));
    let layer = builder().hedge(Hedge::after(Duration::from_millis(50))).build().unwrap();
    let retry = layer.layer(Balance::http(pool.clone()));
    let mut call = Box::pin(retry.oneshot(request(Method::GET, "")));
    assert!((&mut call).now_or_never().is_none());
    let _ = tokio::time::timeout(Duration::from_millis(100), &mut call).await;
    assert_eq!(pool.status().iter().map(|backend| backend.in_flight).sum::<u32>(), 2);
    drop(call);
    assert_eq!(pool.status().iter().map(|backend| backend.in_flight).sum::<u32>(), 0);
}

/// How many of a hundred picks are the backend `at`.
fn share<T>(pool: &Pool<T>, at: usize) -> usize {
    let picks = (0..100).map(|_| pool.pick().unwrap());
    picks.filter(|pick| pick.name() == at.to_string()).count()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_speaks_against_its_backend() {
    let (pool, log) = backends_by(Strategy::default(), 2, first(Step::Slow(60_000)));
    let times = builder().per_try_timeout(Duration::from_millis(100)).build().unwrap();
    let retry = times.layer(Balance::http(pool.clone()));
    sleep(Duration::from_secs(60)).await;
    assert!(share(&pool, 0) > 20);
    while log.lock().unwrap().iter().all(|(at, ..)| *at != 0) {
        retry.clone().oneshot(request(Method::GET, "")).await.unwrap();
    }
    assert_eq!(share(&pool, 0), 0);
}

#[tokio::test(start_paused = true)]
async fn what_its_client_broke_off_speaks_against_nobody() {
    let (pool, log) = backends_by(Strategy::default(), 2, |_| Step::Status(200));
    let retry = builder().build().unwrap().layer(Balance::http(pool.clone()));
    sleep(Duration::from_secs(60)).await;
    let broken = stream::iter([Err::<Frame<Bytes>, _>(io::Error::other("gone"))]);
    let request = Request::put("/").body(StreamBody::new(broken)).unwrap();
    retry.oneshot(request).await.unwrap_err();
    assert_eq!(log.lock().unwrap().len(), 1);
    assert!((20..80).contains(&share(&pool, 0)), "{}", share(&pool, 0));
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        Just(Step::Status(200)),
        Just(Step::Status(503)),
        Just(Step::Grpc(14)),
        Just(Step::Unsent),
        Just(Step::Reset),
        (0u64..80).prop_map(Step::Slow),
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// Requests that are dropped after some time, wherever they are then: in an attempt, in a hedge,
    /// in a wait.
    #[test]
    fn whoever_leaves_at_any_time_leaves_nothing_counted_and_no_post_comes_twice(
        steps in proptest::collection::vec(step(), 3),
        leave in proptest::collection::vec(0u64..120, 1..12),
        limit in 1u32..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (pool, log) = backends(3, move |at| steps[at]);
            let backoff = Backoff::new(Duration::from_millis(9), Duration::from_millis(20));
            let layer = builder()
                .backoff(backoff)
                .max_attempts(limit + 1)
                .per_try_timeout(Duration::from_millis(40))
                .deadline(Duration::from_millis(100))
                .hedge(Hedge::after(Duration::from_millis(15)))
                .build()
                .unwrap();
            let retry = layer.layer(Balance::http(pool.clone()));
            let posts = leave.len();
            let calls = leave.into_iter().map(|millis| {
                let get = retry.clone().oneshot(request(Method::GET, "content"));
                let post = retry.clone().oneshot(request(Method::POST, "x"));
                let both = async { futures_util::future::join(get, post).await };
                tokio::time::timeout(Duration::from_millis(millis), both)
            });
            futures_util::future::join_all(calls).await;
            let left: u32 = pool.status().iter().map(|backend| backend.in_flight).sum();
            proptest::prop_assert_eq!(left, 0);
            // Of those that were read; where nothing was sent, nothing was read.
            let read = log.lock().unwrap().iter().filter(|(_, body, _)| body == "x").count();
            proptest::prop_assert!(read <= posts, "{} of {}", read, posts);
            Ok(())
        })?;
    }
}

#[test]
fn settings_that_cannot_work_say_what_to_change() {
    let ms = Duration::from_millis;
    for (builder, says) in [
        (builder().max_attempts(0), "max_attempts(0)"),
        (builder().per_try_timeout(ms(0)), "per_try_timeout of zero"),
        (builder().deadline(ms(0)), "deadline of zero"),
        (builder().per_try_timeout(ms(9)).deadline(ms(9)), "shorter than deadline"),
        (builder().max_attempts(1).hedge(Hedge::after(ms(1))), "at least 2"),
        (builder().hedge(Hedge::percentile(100.0)), "from 50"),
        (builder().hedge(Hedge::percentile(f64::NAN)), "from 50"),
    ] {
        match builder.build() {
            Err(BuildError::Setting(text)) => assert!(text.contains(says), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
