//! Two hundred clients who ask for the same ten mebibytes at the same time, and an origin that takes
//! its time.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tower::{Layer, ServiceExt};
use tower_keep_cache::{Cache, CacheLayer};
use tower_keep_store::{L1, Store};

use crate::origin::{Origin, get, trickle};

pub const MIB: usize = 1 << 20;
const SIZE: usize = 10 * MIB;
const CHUNK: usize = 64 << 10;
const CLIENTS: usize = 200;

/// How long the origin takes for the head, and then for each chunk.
const HEAD: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(2);

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    Reads,
    /// Four times as slow as the origin.
    Slow,
    /// Reads no further after the first half, until the others are done.
    Stops,
    /// Leaves when it has read so much.
    Leaves(usize),
    /// Leaves before it has the head.
    LeavesAtOnce(Duration),
}

impl Manner {
    pub fn leaves(self) -> bool {
        matches!(self, Self::Leaves(_) | Self::LeavesAtOnce(_))
    }
}

/// What a client saw; whatever it was, it was the right bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saw {
    TheWhole,
    /// It left.
    ThePart,
    AnError,
}

/// What no two places of are alike.
pub fn content() -> Bytes {
    let mut random = fastrand::Rng::with_seed(7);
    let mut content = vec![0; SIZE];
    random.fill(&mut content);
    content.into()
}

/// Runs a future on this thread alone, where what it allocates can be counted.
pub fn alone<T>(paused: bool, future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(paused).build().unwrap().block_on(future)
}

#[derive(Clone)]
pub struct Crowd {
    cache: Cache<Origin>,
    origin: Origin,
    content: Bytes,
    seed: u64,
    /// Opened when all but those who stopped are done.
    done: Arc<Semaphore>,
}

impl Crowd {
    pub fn new(seed: u64, content: Bytes, max_body: usize) -> Self {
        let source = content.clone();
        let origin = Origin::new(move |_, _| {
            let source = source.clone();
            async move {
                sleep(HEAD).await;
                // Copied, so that whoever holds it is seen.
                let chunks = (0..SIZE / CHUNK)
                    .map(move |n| Bytes::copy_from_slice(&source[n * CHUNK..][..CHUNK]));
                trickle(&[("cache-control", "max-age=60")], PAUSE, chunks)
            }
        });
        // By default, a single entry takes no more than an eighth.
        let store = Store::builder().l1(L1::bytes(64 << 20).max_entry(16 << 20)).build().unwrap();
        let layer = CacheLayer::builder(store).max_body(max_body).build().unwrap();
        let cache = layer.layer(origin.clone());
        Self { cache, origin, content, seed, done: Arc::new(Semaphore::new(0)) }
    }

    pub fn calls(&self) -> usize {
        self.origin.calls()
    }

    /// Half of them leave at any point. The first to ask leads the fill: in every other seed it is
    /// among those who leave, in every fourth before it has the head.
    fn manners(&self) -> Vec<Manner> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut manners = vec![Manner::Reads; CLIENTS];
        for (n, manner) in manners.iter_mut().take(CLIENTS / 2).enumerate() {
            *manner = match n % 8 {
                0 => Manner::LeavesAtOnce(HEAD.mul_f64(random.f64() * 0.9)),
                _ => Manner::Leaves(random.usize(..SIZE)),
            };
        }
        random.shuffle(&mut manners);
        let first = manners.iter().position(|manner| match self.seed % 4 {
            0 => matches!(manner, Manner::LeavesAtOnce(_)),
            2 => matches!(manner, Manner::Leaves(_)),
            _ => !manner.leaves(),
        });
        manners.swap(0, first.unwrap());
        let mut staying = manners.iter_mut().skip(1).filter(|manner| !manner.leaves());
        *staying.next().unwrap() = Manner::Slow;
        *staying.next().unwrap() = Manner::Stops;
        manners
    }

    /// All ask, in the process.
    pub async fn join(&self) -> Vec<(Manner, Saw)> {
        let clients = self.manners().into_iter().map(|manner| {
            let crowd = self.clone();
            (manner, tokio::spawn(async move { crowd.client(manner).await }))
        });
        self.all(clients.collect()).await
    }

    async fn all(
        &self,
        clients: Vec<(Manner, tokio::task::JoinHandle<Saw>)>,
    ) -> Vec<(Manner, Saw)> {
        let (stopped, others): (Vec<_>, Vec<_>) =
            clients.into_iter().partition(|(manner, _)| matches!(manner, Manner::Stops));
        let wait = async |clients: Vec<(Manner, tokio::task::JoinHandle<Saw>)>| {
            join_all(
                clients
                    .into_iter()
                    .map(|(manner, task)| async move { (manner, task.await.unwrap()) }),
            )
            .await
        };
        let mut saw = wait(others).await;
        self.done.close();
        saw.extend(wait(stopped).await);
        saw
    }

    /// One asks.
    pub async fn client(&self, manner: Manner) -> Saw {
        let response = self.cache.clone().oneshot(get(&[]));
        let patience = match manner {
            Manner::LeavesAtOnce(patience) => patience,
            _ => Duration::MAX,
        };
        let Ok(response) = timeout(patience, response).await else { return Saw::ThePart };
        let mut body = response.unwrap().into_body();
        let mut at = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Saw::AnError };
            let data = frame.into_data().unwrap();
            assert!(data == self.content[at..][..data.len()], "{manner:?} at {at}");
            at += data.len();
            if self.read(manner, at, data.len()).await {
                return Saw::ThePart;
            }
        }
        assert_eq!(at, SIZE);
        Saw::TheWhole
    }

    /// What a client does that has read so far, `read` bytes just now; whether it leaves.
    async fn read(&self, manner: Manner, at: usize, read: usize) -> bool {
        match manner {
            Manner::Slow => {
                sleep(4 * PAUSE * u32::try_from(read).unwrap() / u32::try_from(CHUNK).unwrap())
                    .await;
            }
            Manner::Stops if at >= SIZE / 2 => drop(self.done.acquire().await),
            Manner::Leaves(limit) => return at >= limit,
            _ => {}
        }
        false
    }

    /// All ask, over sockets.
    pub async fn join_over_sockets(&self) -> Vec<(Manner, Saw)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cache = self.cache.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(cache.clone().map_request(
                    |request: http::Request<hyper::body::Incoming>| {
                        request.map(|_| http_body_util::Empty::new())
                    },
                ));
                // A client that leaves is no news.
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        let clients = self.manners().into_iter().map(|manner| {
            let crowd = self.clone();
            let client = async move {
                let stream = TcpStream::connect(address).await.unwrap();
                crowd.client_over_socket(manner, stream).await
            };
            (manner, tokio::spawn(client))
        });
        self.all(clients.collect()).await
    }

    async fn client_over_socket(&self, manner: Manner, mut stream: TcpStream) -> Saw {
        let ask = b"GET /a HTTP/1.0\r\nhost: example.com\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        if let Manner::LeavesAtOnce(patience) = manner {
            sleep(patience).await;
            return Saw::ThePart;
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.0 200 OK\r\n"));
        let mut buffer = vec![0; 16 << 10];
        let mut at = 0;
        loop {
            let read = stream.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            assert!(buffer[..read] == self.content[at..][..read], "{manner:?} at {at}");
            at += read;
            if self.read(manner, at, read).await {
                return Saw::ThePart;
            }
        }
        assert_eq!(at, SIZE, "{manner:?}");
        Saw::TheWhole
    }
}
