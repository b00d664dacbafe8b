//! A socket that takes connections, until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
#[cfg(unix)]
use socket2::SockRef;
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::TcpSocket;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::connection::{Life, serve};
use crate::departure::Phase;
use crate::face::Face;

/// How many connections the system keeps until they are taken: as many as tokio has it keep.
#[cfg(unix)]
const BACKLOG: u32 = 1024;

/// One that is open. Its face can change at any time.
pub(crate) struct Listening {
    /// As the configuration has it, where port 0 stands for any.
    pub(crate) configured: SocketAddr,
    pub(crate) local: SocketAddr,
    socket: Arc<TcpListener>,
    face: Arc<ArcSwap<Face>>,
    phase: watch::Sender<Phase>,
    /// One task, which ends when this is dropped.
    accepting: JoinSet<()>,
}

impl Listening {
    /// Also where one of `leaving` still is, at another address that stands for the same: connections
    /// are taken by the one or the other all the time.
    pub(crate) async fn open(face: Face, leaving: &[&Self]) -> io::Result<Self> {
        let configured = face.settings.address;
        let mut before = leaving.iter().filter(|it| it.local.port() == configured.port());
        let socket = match (TcpListener::bind(configured).await, before.next()) {
            (Err(error), Some(before)) if error.kind() == io::ErrorKind::AddrInUse => {
                bind_beside(configured, &before.socket)?
            }
            (bound, _) => bound?,
        };
        let socket = Arc::new(socket);
        let local = socket.local_addr()?;
        let face = Arc::new(ArcSwap::from_pointee(face));
        let (phase, watched) = watch::channel(Phase::Serving);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(Arc::clone(&socket), Arc::clone(&face), watched));
        Ok(Self { configured, local, socket, face, phase, accepting })
    }

    /// Shows it to those who come, and to those who are here: they go if it would not let them in.
    pub(crate) fn show(&self, face: Face) {
        self.face.store(Arc::new(face));
        self.phase.send_replace(Phase::Serving);
    }

    pub(crate) fn face(&self) -> Arc<Face> {
        self.face.load_full()
    }

    /// Takes no more connections: its address is free then. What it gives waits until the open ones have
    /// finished what they have; those that take longer than `patience` are cut off.
    pub(crate) async fn close(self, patience: Duration) -> impl Future<Output = ()> + Send {
        let Self { phase, mut accepting, configured, socket, .. } = self;
        accepting.shutdown().await;
        drop(socket);
        phase.send_replace(Phase::Draining);
        async move {
            if timeout(patience, phase.closed()).await.is_err() {
                let left = phase.receiver_count();
                tracing::warn!(%configured, left, "some clients have not taken their responses, and are left");
                phase.send_replace(Phase::Over);
                let _ = timeout(Duration::from_secs(1), phase.closed()).await;
            }
        }
    }
}

async fn accept(socket: Arc<TcpListener>, face: Arc<ArcSwap<Face>>, phase: watch::Receiver<Phase>) {
    let room = Room::default();
    loop {
        // While there is none, clients wait in the socket's backlog.
        let place = room.enter(&face).await;
        match socket.accept().await {
            Ok((stream, client)) => {
                let life = Life { phase: phase.clone(), place };
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

/// The system lets two sockets have one port if both agree to it (`SO_REUSEPORT`).
#[cfg(unix)]
fn bind_beside(address: SocketAddr, other: &TcpListener) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    let other = SockRef::from(other);
    other.set_reuse_port(true)?;
    let bound = socket.bind(address).and_then(|()| socket.listen(BACKLOG));
    // If it stays, nobody else is to join it.
    other.set_reuse_port(false)?;
    let bound = bound?;
    SockRef::from(&bound).set_reuse_port(false)?;
    Ok(bound)
}

#[cfg(not(unix))]
fn bind_beside(_: SocketAddr, _: &TcpListener) -> io::Result<TcpListener> {
    Err(io::ErrorKind::AddrInUse.into())
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
