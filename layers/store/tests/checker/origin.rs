//! The origin that all nodes share: it runs in the test, and keeps the version of each key.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tower_keep_testing::monotonic;

use super::record::{Instant, KEYS};

pub fn now() -> Instant {
    u64::try_from(monotonic().as_nanos()).unwrap()
}

/// Which version of each key came when, in order.
pub type Versions = [Vec<(Instant, u32)>; KEYS];

/// The origin itself.
pub struct Origin {
    pub port: u16,
    versions: Arc<Mutex<Versions>>,
}

impl Origin {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let first = std::array::from_fn(|_| vec![(0, 1)]);
        let versions = Arc::new(Mutex::new(first));
        let shared = Arc::clone(&versions);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { port, versions }
    }

    /// Which version of each key came when.
    pub fn versions(&self) -> Versions {
        self.versions.lock().unwrap().clone()
    }
}

/// Answers "get 3" and "bump 3" with a version.
async fn serve(stream: TcpStream, versions: Arc<Mutex<Versions>>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while let Ok(1..) = stream.read_line(&mut line).await {
        let (verb, key) = line.trim_end().split_once(' ').unwrap();
        let version = {
            let versions = &mut versions.lock().unwrap()[key.parse::<usize>().unwrap()];
            let mut version = versions.last().unwrap().1;
            if verb == "bump" {
                version += 1;
                versions.push((now(), version));
            }
            version
        };
        stream.write_all(format!("{version}\n").as_bytes()).await.unwrap();
        line.clear();
    }
}

/// A node's connection to the origin.
#[derive(Clone)]
pub struct Client(mpsc::UnboundedSender<(String, oneshot::Sender<u32>)>);

impl Client {
    pub async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, mut questions) = mpsc::unbounded_channel::<(String, oneshot::Sender<u32>)>();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            while let Some((question, answer)) = questions.recv().await {
                stream.write_all(question.as_bytes()).await.unwrap();
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                // One who gave up doesn't listen any more.
                let _ = answer.send(line.trim_end().parse().unwrap());
            }
        });
        Self(sender)
    }

    pub async fn get(&self, key: usize) -> u32 {
        self.ask("get", key).await
    }

    /// Changes `key`, and returns its new version.
    pub async fn bump(&self, key: usize) -> u32 {
        self.ask("bump", key).await
    }

    async fn ask(&self, verb: &str, key: usize) -> u32 {
        let (sender, answer) = oneshot::channel();
        self.0.send((format!("{verb} {key}\n"), sender)).unwrap();
        answer.await.unwrap()
    }
}
