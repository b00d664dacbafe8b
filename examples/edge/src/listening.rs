//! A socket that takes connections, until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::connection::{Life, Phase, serve};
use crate::face::Face;

/// One that is open. Its face can change at any time.
pub(crate) struct Listening {
    /// As the configuration has it, where port 0 stands for any.
    pub(crate) configured: SocketAddr,
    pub(crate) local: SocketAddr,
    face: Arc<ArcSwap<Face>>,
    phase: watch::Sender<Phase>,
    /// One task, which ends when this is dropped.
    accepting: JoinSet<()>,
}

impl Listening {
    pub(crate) async fn open(face: Face) -> io::Result<Self> {
        let configured = face.settings.address;
        let socket = TcpListener::bind(configured).await?;
        let local = socket.local_addr()?;
        let face = Arc::new(ArcSwap::from_pointee(face));
        let (phase, watched) = watch::channel(Phase::Serving);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(socket, Arc::clone(&face), watched));
        Ok(Self { configured, local, face, phase, accepting })
    }

    pub(crate) fn show(&self, face: Face) {
        self.face.store(Arc::new(face));
    }

    pub(crate) fn face(&self) -> Arc<Face> {
        self.face.load_full()
    }

    /// Takes no more connections, and waits until the open ones have finished what they have; those
    /// that take longer than `patience` are cut off.
    pub(crate) async fn close(self, patience: Duration) {
        let Self { phase, mut accepting, configured, .. } = self;
        accepting.shutdown().await;
        phase.send_replace(Phase::Draining);
        if timeout(patience, phase.closed()).await.is_err() {
            let left = phase.receiver_count();
            tracing::warn!(%configured, left, "some clients have not taken their responses, and are left");
            phase.send_replace(Phase::Over);
            // But for WebSockets and their like, which end with the process.
            let _ = timeout(Duration::from_secs(1), phase.closed()).await;
        }
    }
}

async fn accept(socket: TcpListener, face: Arc<ArcSwap<Face>>, phase: watch::Receiver<Phase>) {
    let room = Room::default();
    loop {
        // While there is none, clients wait in the socket's backlog.
        let place = room.enter(&face).await;
        match socket.accept().await {
            Ok((stream, client)) => {
                let life = Life { phase: phase.clone(), _place: place };
                tokio::spawn(serve(stream, client, Arc::clone(&face), life));
            }
            // Such as too many open files: others may close theirs, which takes a moment.
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// How many connections there are.
#[derive(Clone, Debug, Default)]
struct Room(Arc<(AtomicUsize, Notify)>);

/// A connection's, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Room);

impl Room {
    /// Waits until there are less than `face` allows.
    async fn enter(&self, face: &ArcSwap<Face>) -> Place {
        let (open, left) = &*self.0;
        loop {
            let mut told = pin!(left.notified());
            // Before looking: who leaves from here on is not missed.
            told.as_mut().enable();
            if open.load(Relaxed) < face.load().settings.max_connections {
                open.fetch_add(1, Relaxed);
                return Place(self.clone());
            }
            // The limit may change, too.
            let _ = timeout(Duration::from_secs(1), told).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (open, left) = &*self.0.0;
        open.fetch_sub(1, Relaxed);
        left.notify_one();
    }
}
