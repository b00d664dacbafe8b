//! Backends that do what a script says, and what they have seen.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, sleep};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_balance::retry::{Backoff, Fate, ReplayBody, RetryBuilder};
use tower_keep_balance::{Attempt, Backend, Balance, Pool, RetryLayer, Strategy};

pub(crate) type Client<B> =
    BoxCloneSyncService<Request<ReplayBody<B>>, Response<Full<Bytes>>, io::Error>;
pub(crate) type Script = Arc<dyn Fn(usize) -> Step + Send + Sync>;

/// What a backend does at one call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
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
pub(crate) type Log = Arc<Mutex<Vec<(usize, Bytes, Duration)>>>;

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
pub(crate) fn backends<B>(
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

pub(crate) fn backends_by<B>(
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

pub(crate) type Builder = RetryBuilder<fn(&io::Error) -> Fate>;

pub(crate) fn builder() -> Builder {
    let fate: fn(&io::Error) -> Fate = |error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Fate::Unsent,
        _ => Fate::Sent,
    };
    RetryLayer::builder().backoff(Backoff::none()).error_fate(fate)
}

pub(crate) fn request(method: Method, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri("/").body(Full::from(body)).unwrap()
}

/// Sends one request, and says its status (0 for an error) and which backends have seen it.
pub(crate) async fn send(
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

pub(crate) fn first(step: Step) -> impl Fn(usize) -> Step + Send + Sync {
    move |at| if at == 0 { step } else { Step::Status(200) }
}
